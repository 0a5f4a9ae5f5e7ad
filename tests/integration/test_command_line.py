"""The command line as a user meets it: `python run.py …` in a process of its own."""

import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import run
import sweep
from tests.integration.test_train_zoo import hashes
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.config.command_line import command_line_problems
from zoo.config.reading import composing

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "run.py")]

# Two blocks, several epochs: about two seconds of training.
SMALL = [
    "zoo=digits_hyp10f", "zoo.models=6", "zoo.block_size=3", "zoo.epochs=5", "dataset.train_size=150", "logger=none",
]  # fmt: skip


def call(*words: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*PROGRAM, *words], cwd=folder, capture_output=True, text=True, timeout=300)


def problems(*overrides: str, multirun: bool = False) -> str:
    return "\n".join(command_line_problems(list(overrides), ROOT / "conf", multirun, run.Config))


def test_a_task_checks_only_what_it_uses():
    assert problems("task=zoo", "zoo=cifar10_resnet18_seed") == ""  # which has no tokens
    in_weights = (
        "task=sample",
        "zoo=mnist_seed",
        "zoo.name=res",
        "zoo.published=null",
        "arch=cnn_s_res",
        "sampler=soup",
    )
    assert problems(*in_weights, "autoencoder.align=none") == ""  # needs no tokens
    assert "or draw from weights in the order they come in (autoencoder.align=none)" in problems(*in_weights)
    assert problems("task=sample", "sampler=flow", "sampler.condition={epoch:5,activation:null}") == ""
    found = problems("task=sample", "autoencoder.heads=3", "+sampler.steps=3", "population.name=a/b")
    assert len(found.splitlines()) == 3


NORMED = ("arch.module=tests.populations.Normed", "autoencoder.align=none")


@pytest.mark.parametrize(
    "sampler", ["soup", "pca", "noise", "nearest", "kde"]
)  # those of weights, and one of embeddings
def test_networks_with_batchnorm_are_not_sampled_and_told_before_anything_starts(sampler):
    """They would lack the running statistics; in whatever order their neurons come."""
    found = problems("task=sample", "zoo=cifar10_resnet18_seed", f"sampler={sampler}", *NORMED)
    assert len(found.splitlines()) == 1
    assert "arch=resnet18: " in found


def test_all_mistakes_are_told_at_once_before_anything_starts(tmp_path):
    result = call(
        "zoo=mnist_sed", "zoo.modles=3", "zoo.epochs=-1", "zoo.grid.dropout=[1.0]", "zoo.grid.optimizer=[adamm]",
        "dataset.train_size=abc", folder=tmp_path,
    )  # fmt: skip
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines[0] == "6 mistakes in the configuration; nothing was started:"
    expected = [
        "zoo: got 'mnist_sed'; did you mean mnist_seed?", "zoo.modles: unknown key; did you mean zoo.models?",
        "zoo.epochs: got -1", "zoo.grid.dropout: got 1.0, but it must be at least 0.0 and below 1.0",
        "zoo.grid.optimizer: got 'adamm'; did you mean adam?", "dataset.train_size: got 'abc', which is not a whole number",
    ]  # fmt: skip
    for words in expected:
        assert any(words in line for line in lines), words
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset=mnist", "arch=cnn_m"], "mnist is 28×28, the architecture wants 32×32"),
        (["dataset=cifar100"], "dataset=cifar100 has 100"),
        (["dataset=cifar10", "arch=resnet18", "zoo.grid.activation=[relu]", "engine=torch"], "use engine=loop"),
        (
            ["dataset=cifar10", "arch=resnet18", "zoo.grid.activation=[relu]", "zoo.grid.dropout=[0.5]"],
            "no dropout layer",
        ),
        (["dataset=mnist", "arch=resnet18"], "mnist has no 'augmented'"),
        (["zoo.schedule=onecycle"], "zoo.grid.optimizer must be [sgd]"),
        (["zoo.models=65"], "the spec has 64 models"),
        (["zoo.name=../elsewhere"], "zoo.name: got '../elsewhere'"),
        (["task=hyperrep", "autoencoder.name=../elsewhere"], "autoencoder.name: got '../elsewhere'"),
        (["task=sample", "population.name=a/b"], "population.name: got 'a/b'"),
        (["task=hyperrep", "autoencoder.d_model=100"], "longest token has 201 values"),
        (["task=hyperrep", "zoo=cifar10_resnet18_seed"], "a module class, whose neurons"),
        (["task=sample", "sampler=kde", "+sampler.steps=3"], "sampler.steps: sampler=kde has no such option"),
        (["task=sample", "sampler.name=kda"], "sampler.name: got 'kda'; did you mean kde?"),
        (["zoo.grid.lr=[]"], "at least one value"),
        (["zoo.grid.lr=[1e-3,1e-3]"], "none twice"),
        (["zoo.grid.lr=0.1"], "zoo.grid.lr: got 0.1, which is not a list; write [0.1]"),
        (["epochs=10"], "epochs: unknown key; did you mean "),
        (["zoo.lr=0.1"], "zoo.lr: unknown key; did you mean zoo.grid.lr"),
        (["zoo.learning_rate=0.1"], "zoo.learning_rate: unknown key; did you mean zoo.grid.lr "),
        (["zoo.wd=0.1"], "zoo.wd: unknown key; did you mean zoo.grid.weight_decay "),
        (["zoo.optimiser=adam"], "zoo.optimiser: unknown key; did you mean zoo.grid.optimizer "),
        (["zoo.epoch=3"], "zoo.epoch: unknown key; did you mean zoo.epochs?"),
        (["sampler=gam", "sampler.steps=30"], "sampler: got 'gam'; did you mean gan?"),
        (["task=analysis", "analysis.features.mine=a.b"], "to add one, write +analysis.features.mine=…"),
        (["=", "mnist_seed"], "'=' has no key: write KEY=VALUE, without blanks around ="),
        (["zoo=null"], "zoo: got 'null'"),
        (["paths.root="], "paths.root: is empty"),
        (["paths.data="], "paths.data: is empty"),
        (
            ["zoo=mnist_seed", "dataset=digits"],
            "mnist_seed stands for dataset=mnist arch=cnn_s, not for dataset=digits",
        ),
        (["zoo=mnist_seed", "dataset=digits", "zoo.name=mine"], "zoo.name=NAME zoo.published=null"),
        (["zoo=mnist_hyp10f", "zoo/kind=hyp10r"], "zoo/kind: got 'hyp10r', but a preset builds on its own"),
        (
            ["task=downstream", "zoo.epochs=10"],
            "autoencoder.states: got [21, 22, 23, 24, 25], but zoo digits_seed has the epochs 0 to 10; give some of these, "
            "e.g. autoencoder.states=[10], or more epochs (zoo.epochs=25)",
        ),
        (["zoo.batch_size=2.5"], "not a whole number"),
        (["zoo.grid.lr=[0]"], "above 0.0"),
        (["metrics.train_eval=perhaps"], "not true or false"),
        (["dataset.train_size=5000"], "1197 training images"),
        (["+zoo.extra=1"], "zoo.extra: unknown key"),
        (["engine=fusd"], "engine: got 'fusd'"),
        (["zoo="], "zoo"),
        (["zoo.models=4,5"], "add -m"),
        (["zoo.grid.lr=[inf]"], "must be finite"),
        (["paths.root=/dev/null"], "paths.root: got /dev/null"),
        (["zoo=cifar10_resnet18_seed", "zoo.epochs=0"], "at least 1, got 0"),
        (["nonsense"], "'nonsense' cannot be read: write KEY=VALUE, without blanks around ="),
        (["digits_seed"], "did you mean zoo=digits_seed?"),
        (["zoo=digits_seed,"], "did you mean zoo=digits_seed?"),
        (["zoo.name=a(b"], "stands in quotes: \"zoo.name='a(b'\""),
        (["arch.layers=[flatten,{linaer: 10}]"], "is no layer"),
        (["paths.root=/no/a=b"], "stands in quotes: \"paths.root='/no/a=b'\""),
        (["paths.root=/no/ü"], "stands in quotes: \"paths.root='/no/ü'\""),
        (["paths.root=/no/a[/x]b"], "stands in quotes: \"paths.root='/no/a[/x]b'\""),
        (["paths.root=/no/a,b"], "or one value with a comma in quotes: \"paths.root='/no/a,b'\""),
        (["task=import", "source=/no/it's"], "source: /no/it's is not a folder"),  # what was meant is checked
        (["paths.data='~/x'"], "paths.data: got '~/x', but only a shell knows what ~ is: write the folder out"),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(overrides, words):
    assert words in problems(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [], ["zoo=mnist_seed,fmnist_seed", "engine.threads=1,2"], ["zoo=cifar100_resnet18_seed"],
        ["zoo/kind=seed", "dataset=digits"], ["dataset=fmnist", "zoo.name=mine"], ["experiment=look"],
        ["hydra.verbose=true"], ["zoo.grid.lr=[1e-3,1e-4]"], ["paths.root='a=b, ü[/x]'", "paths.data='$~'"],
    ],
)  # fmt: skip
def test_what_is_right_passes(overrides):
    assert problems(*overrides, multirun=True) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "# @package _global_\ndefaults:\n  - _self_\nzoo:\n  name: mine\n epochs: 3\n",
            "a file in conf/ is no YAML: ",
        ),
        ("defaults:\n  - override /dataset: fmnist\n", "a file in conf/zoo/ begins with the line # @package _global_"),
    ],
)
def test_a_slip_in_a_preset_of_your_own_is_told(tmp_path, text, said):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "zoo" / "mine.yaml").write_text(text)
    told = command_line_problems(["zoo=mine"], tmp_path / "conf", kind=run.Config)
    assert len(told) == 1
    assert said in told[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "\ufeff# @package _global_\nzoo: {name: mine}\n".encode(),
            "begins with a byte order mark: save it as UTF-8 without",
        ),
        (
            "# @package _global_\n# für mich\nzoo: {name: mine}\n".encode("latin-1"),
            "its byte 24 is no UTF-8: save it as UTF-8",
        ),
    ],
)
def test_a_preset_in_another_encoding_is_named(tmp_path, data, said):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "mine.yaml").write_bytes(data)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "other.yaml").write_bytes(b"\xff")  # no preset
    (told,) = command_line_problems(["zoo=mine"], ROOT / "conf", kind=run.Config, folders=[f"file://{tmp_path}"])
    assert told.startswith(f"{tmp_path}/zoo/mine.yaml: ")
    assert said in told
    asked, _ = sweep.read_words(["zoo=mine", "--config-dir", str(tmp_path)])
    with pytest.raises(UserError, match=said), composing(ROOT / "conf", asked.folders):
        sweep.Sweep(asked)


def test_every_value_of_a_sweep_is_checked():
    told = problems("zoo.models=4,abc", "zoo=digits_seed,mnist_sed", "zoo.epochs=1,-1", multirun=True)
    assert "mnist_sed" in told
    assert "zoo.models: got 'abc'" in told
    assert "zoo.epochs: got -1" in told


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=1,2"], "'zoo.name=digits_seed_${seed}'"),
        (["seed=1,2", "zoo.batch_size=10,20", "zoo.name=x"], "'zoo.name=x_${seed}_${zoo.batch_size}'"),
        (["zoo.grid.lr=[1e-3],[1e-4]"], "'zoo.name=digits_seed_${zoo.grid.lr[0]}'"),
        (["zoo.grid.lr=[1e-3,1e-2],[1e-4]"], "start them one by one, each with a zoo.name of its own"),
        (["zoo=digits_seed,digits_hyp10r", "zoo.name=x"], "leave zoo.name=… out"),
        (["seed=1,2", "task=hyperrep"], "'autoencoder.name=small_${seed}'"),
        (["sampler.bandwidth=0.1,0.2", "task=sample"], "'population.name=digits_seed_small_kde30_0_${sampler.bandwidth}'"),
        (["sparsify.share=0.1,0.2", "sparsify=magnitude", "task=sparsify"],
         "'sparsify.twin=digits_seed_magnitude_${sparsify.share}'"),
        (["sampler=gan,kde", "sampler.steps=30"], "sampler.steps: there is no such key with sampler=kde"),
        (["zoo=glob(digats_*)"], "zoo=glob(digats_*): no name is like that; did you mean digits_seed?"),
        (["zoo.epochs=interval(0,1)"], "zoo.epochs=interval(0,1): an interval has no end of values"),
        (["hydra/launcher=slrm", "hydra.launcher.partition=x"], "hydra/launcher: got 'slrm'; did you mean slurm?"),
        (["hydra/launcher=slurm", "hydra.launcher.partitoin=x"], "did you mean hydra.launcher.partition?"),
        (["hydra/launcher=slurm", "hydra.launcher.timeout_min=abc"], "Value 'abc' of type 'str' could not be converted"),
        (["hydra/launcher=local,joblib"], "what begins with hydra holds for all runs"),
    ],
)  # fmt: skip
def test_a_mistake_of_a_multirun_is_one_sentence(overrides, said):
    told = problems(*overrides, multirun=True)
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1,2", "zoo.name=x_${seed}"], ["seed=1,2", "task=plan"], ["zoo=glob(digits_*)"],
        ["zoo.epochs=1,2", "zoo.shard=1/2,2/2"], ["sampler=gan,flow", "sampler.steps=30", "task=sample"],
        ["trainer=gpu", "hydra/launcher=slurm_gpu"], ["hydra.sweep.subdir=x", "hydra.job.chdir=true"],
    ],
)  # fmt: skip
def test_what_is_right_in_a_multirun_passes(overrides):
    """Also what this machine lacks, where the job runs on another one."""
    assert problems(*overrides, multirun=True) == ""


def test_runs_of_several_samplers_take_an_option_that_the_default_has_not(here):
    """Each run is composed with its own sampler, and is told what it lacks."""
    told = here("-m", "task=sample", "sampler=gan,flow", "sampler.steps=30").stderr
    assert "2 of the runs failed" in told
    assert "there is no zoo 'digits_seed'" in told


def test_help_names_tasks_groups_and_overrides(tmp_path):
    text = call("--help", folder=tmp_path).stdout
    for word in ("task=plan", "zoo.models=64", "mnist_seed", "dataset: cifar10", "paths.root=DIR", "python run.py -sc"):
        assert word in text


def test_cfg_job_works_from_anywhere(tmp_path):
    result = call("zoo=svhn_hyp10f", "--cfg", "job", folder=tmp_path)
    assert result.returncode == 0
    assert "name: svhn_hyp10f" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_missing_images_are_one_sentence(tmp_path):
    overrides = [f"dataset.files.{key}.url=http://127.0.0.1:9/{key}" for key in ("train", "test")]
    result = call("zoo=usps_seed", "paths.system_data=[]", *overrides, folder=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Dataset usps: missing ")


def test_several_zoos_with_one_command(tmp_path):
    words = [w for w in SMALL if not w.startswith(("zoo=", "zoo.epochs"))]
    sweep = [sys.executable, str(ROOT / "sweep.py"), "zoo=digits_hyp*", "zoo.epochs=1", *words]
    result = subprocess.run(sweep, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    for name in ("digits_hyp10f", "digits_hyp10r"):
        assert Zoo.open(tmp_path / "outputs" / "zoos" / name).finished
    assert subprocess.run(sweep[:2], capture_output=True, text=True).returncode == 2


@pytest.fixture
def here(tmp_path, monkeypatch, in_process):
    """run.py in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(in_process, run.main, str(ROOT / "run.py"))


SLOW = pytest.mark.slow  # processes of their own


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=SLOW), pytest.param("local", marks=SLOW)])
def test_a_run_that_fails_is_told_by_every_launcher_and_does_not_stop_the_others(tmp_path, here, launcher):
    words = [word for word in SMALL if not word.startswith(("zoo=", "zoo.epochs"))]
    (tmp_path / "outputs" / "zoos" / "digits_hyp10f").mkdir(parents=True)
    (tmp_path / "outputs" / "zoos" / "digits_hyp10f" / "zoo.json").write_text("{")
    result = here("-m", "zoo=digits_hyp10f,digits_seed", "zoo.epochs=1", *words, f"hydra/launcher={launcher}")
    assert result.returncode == 2
    told = result.stderr.splitlines()
    assert told[-1].startswith("1 of the runs failed")
    assert told[-4].startswith("zoo=digits_hyp10f ")
    assert "zoo.json is damaged" in told[-3]
    assert "Traceback" not in result.stderr
    assert Zoo.open(tmp_path / "outputs" / "zoos" / "digits_seed").finished
    failed, done = (
        file.read_text(encoding="utf-8") for file in sorted((tmp_path / "outputs" / "multiruns").glob("*/*/run.log"))
    )
    assert "zoo.json is damaged" in failed
    assert "│ models " in done
    assert "Open it with: " in done


def test_a_fault_of_a_run_or_of_the_launcher_is_told(here, monkeypatch):
    monkeypatch.setattr("zoo.training.plan.plan_zoo", lambda config: 1 / 0)
    result = here("-m", "task=plan,analysis")
    assert result.returncode == 2
    assert "ZeroDivisionError" in result.stderr
    assert "2 of the runs failed" in result.stderr
    assert "there is no zoo" in result.stderr, "the other one is told too"
    result = here("-m", "task=plan", "hydra/launcher=local", "hydra.launcher.submitit_folder=/dev/null/no")
    assert result.returncode == 2
    assert "The launcher failed: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_of_ones_own_and_a_module_beside_it(tmp_path, here):
    """Presets and modules that lie where the command is started; and all goes there, whatever `hydra.job.chdir` says."""
    for group in ("zoo", "arch"):
        (tmp_path / "mine" / group).mkdir(parents=True)
    preset = (ROOT / "conf" / "zoo" / "digits_seed.yaml").read_text().replace("digits_seed", "my_zoo")
    (tmp_path / "mine" / "zoo" / "my_zoo.yaml").write_text(preset)
    arch = "{name: my_net, image_size: null, protocol: plain, classes: null, layers: null, module: module_of_mine.Net}"
    (tmp_path / "mine" / "arch" / "my_net.yaml").write_text(arch)
    (tmp_path / "module_of_mine.py").write_text(
        "import torch\n\nclass Net(torch.nn.Sequential):\n    def __init__(self, image, classes):\n"
        "        super().__init__(torch.nn.Flatten(), torch.nn.Linear(image[0] * image[1] * image[2], classes))\n"
    )
    words = ["zoo=my_zoo", "arch=my_net", "zoo.published=null", "zoo.name=a", "zoo.grid.activation=[relu]", "zoo.models=2",
             "zoo.epochs=1", "dataset.train_size=60", "logger=none", "paths.root=out"]  # fmt: skip
    result = here("--config-dir", "mine", *words, "hydra.job.chdir=true")
    assert result.returncode == 0, result.stderr
    assert Zoo.open(tmp_path / "out" / "zoos" / "a", "module_of_mine.Net").finished
    assert list(tmp_path.rglob("zoo.json")) == [tmp_path / "out" / "zoos" / "a" / "zoo.json"]
    result = here("-m", "hydra.searchpath=[file://mine]", "zoo=glob(my_*)", "task=plan,export", "paths.root=out")
    assert "1 of the runs failed" in result.stderr
    assert "there is no zoo 'my_zoo'" in result.stderr
    assert "unknown key; did you mean zoo.models?" in here("--config-dir", "mine", "zoo=my_zoo", "zoo.modles=1").stderr
    assert "--config-dir: got 'none', but there is no such folder" in here("--config-dir", "none").stderr


# SIGKILL at the n-th call of os.fsync or os.replace, or `delay` seconds after it: counted in writes, so that the
# moment is somewhere in the work on a machine of any speed.
KILL = """
import os, signal, sys, threading
sys.argv = [{program!r}, *{words!r}]
sys.path.insert(0, {root!r})
calls = 0
def deadly(function):
    def wrapper(*a, **k):
        global calls
        calls += 1
        if calls == {n}:
            if {delay}:
                threading.Timer({delay}, os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return function(*a, **k)
    return wrapper
os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)
import run
run.main()
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_gives_the_same_bytes(tmp_path):
    """Promise 1: SIGKILL inside writes and at random moments between them, then the same command, until it ends."""
    assert call(*SMALL, folder=tmp_path).returncode == 0
    expected = hashes(tmp_path / "outputs" / "zoos")
    folder = tmp_path / "killed"
    folder.mkdir()
    chance, kills = random.Random(0), {"inside": 0, "between": 0}
    for attempt in range(30):
        kind = ("inside", "between")[attempt % 2]
        delay = chance.uniform(0.0005, 0.01) if kind == "between" else 0
        code = KILL.format(
            program=str(ROOT / "run.py"), words=SMALL, root=str(ROOT), n=chance.randint(15, 40), delay=delay
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        kills[kind] += 1
    print(kills)
    assert min(kills.values()) >= 2, "it was not killed often enough to show anything"
    assert hashes(folder / "outputs" / "zoos") == expected


@pytest.mark.slow
def test_an_altered_file_costs_its_block_only(tmp_path):
    """Promise 3: truncated and altered files are found by the same command, and only their block is trained again."""
    assert call(*SMALL, folder=tmp_path).returncode == 0
    path = tmp_path / "outputs" / "zoos" / "digits_hyp10f"
    expected = hashes(path)
    intact = {file: file.stat().st_mtime_ns for file in (path / "weights" / "00000-00002").iterdir()}
    for damage in ("truncate", "flip"):
        file = path / "weights" / "00003-00005" / "epoch-0002.safetensors"
        data = bytearray(file.read_bytes())
        if damage == "truncate":
            data = data[: len(data) // 2]
        else:
            data[-100] ^= 1
        file.write_bytes(data)
        assert any("epoch-0002" in problem for problem in Zoo.open(path).verify())
        assert call(*SMALL, folder=tmp_path).returncode == 0
        assert hashes(path) == expected
        assert {f: f.stat().st_mtime_ns for f in intact} == intact


@pytest.mark.slow
def test_interrupt_stops_cleanly_and_goes_on(tmp_path):
    """Ctrl-C: a sentence instead of a traceback, an exit code, and a store that goes on."""
    words = [*SMALL, "zoo.epochs=5000"]  # more than it can do before the interrupt is heard
    process = subprocess.Popen([*PROGRAM, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    # A state's weights are written before it counts: those of epoch 4 on the disk, epoch 3 is safe.
    while process.poll() is None and not list((tmp_path / "outputs").rglob("epoch-0004.safetensors")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    zoo = Zoo.open(tmp_path / "outputs" / "zoos" / "digits_hyp10f")
    assert not zoo.finished
    assert zoo.metrics["epoch"].max() >= 3
