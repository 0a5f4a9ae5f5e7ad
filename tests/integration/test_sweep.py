"""sweep.py: what is missing is done, whatever happens to jobs, launchers and the sweep itself."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import hydra
import pytest
from hydra import compose
from rich.console import Console

import sweep
from run import CONFIG_DIR
from tests.integration.test_train_zoo import configure, hashes, train
from zoo import Zoo
from zoo.config.reading import composing
from zoo.training.sparsify import sparsify_zoo

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(ROOT / "sweep.py")]
SMALL = ["zoo.models=6", "zoo.block_size=2", "zoo.epochs=2", "dataset.train_size=60", "logger=none"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]


def call(*words, timeout=300, **options):
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=timeout, **options)


@pytest.fixture
def here(in_process):
    """The same in this process."""
    return partial(in_process, sweep.main, "sweep.py")


def until(condition, seconds=120):
    """Wait for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def zoos(root: Path) -> dict[str, str]:
    return hashes(root / "zoos")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two zoos, each trained by one job."""
    root = tmp_path_factory.mktemp("whole")
    assert call("zoo=digits_hyp*", *SMALL, f"paths.root={root}").returncode == 0
    return root


# ------------------------------------------------------------------------------------------------ words


def test_words_of_the_command_line():
    words = [
        "zoo=mnist_hyp*,fmnist_seed",
        "shards=8",
        "stages=sparsify,zoo",
        "retries=0",
        "zoo.models=9",
        "hydra/launcher=x",
    ]
    asked, problems = sweep.read_words(words)
    assert problems == []
    assert asked.zoos == ["mnist_hyp10f", "mnist_hyp10r", "fmnist_seed"]
    assert (asked.shards, asked.stages, asked.retries) == (8, ["zoo", "sparsify"], 0)
    assert (asked.words, asked.hydra) == (["zoo.models=9"], ["hydra/launcher=x"])
    again, _ = sweep.read_words([*words[:1], "shards=3", *words[2:4], "zoo.models=9", "status"])
    assert again.name == asked.name, "however it is cut and launched, it is the same sweep"
    assert again.status
    other, _ = sweep.read_words([*words, "seed=1"])
    assert other.name != asked.name
    assert len(sweep.expand("all", [])) == 27


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shards=2"], "zoo: is missing"),
        (["zoo=mnist_sed"], "did you mean mnist_seed"),
        (["zoo=digits_*", "shards=0"], "shards: got '0', but it is a whole number of at least 1"),
        (["zoo=digits_*", "stages=zoo,plan"], "stages: got 'plan'"),
        (["zoo=digits_*", "zoo.modles=3"], "did you mean zoo.models"),
        (["zoo=digits_*", "task=report"], "task: sweep.py sets it itself"),
        (["zoo=digits_seed,svhn_seed", "zoo.models=2000"], "zoo.models: got 2000"),
        (["zoo=digits_seed", "hydra/launcher=slrm"], "slrm"),
        (["zoo=digits_seed", "retires=2", "shard=4", "--dryrun"], "retires=2: did you mean retries=?"),
        (["zoo=digits_seed", "launcher=slurm"], "launcher=slurm: did you mean hydra/launcher=?"),
        (["zoo=mnist_*", "dataset=digits"], "mnist_hyp10f stands for dataset=mnist arch=cnn_s"),
        (["zoo=digits_seed,mnist_sed,"], "zoo: got ''; "),
        (["zoo=digits_seed", "zoo.start.zoo=mnist_seed"], "fine-tune with run.py"),
        (
            ["zoo=digits_seed", "stages=zoo,analysis", "+analysis.features.w2=no.such.fn"],
            "analysis.features.w2: no.such.fn",
        ),
    ],
)
def test_mistakes_are_told_and_nothing_is_started(tmp_path, here, words, said):
    result = here(*words, f"paths.root={tmp_path / 'out'}")
    assert result.returncode == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_ten_thousand_jobs_are_composed_zoo_by_zoo_and_not_job_by_job(monkeypatch):
    composed = []
    monkeypatch.setattr(hydra, "compose", lambda name, words: composed.append(words) or compose(name, words))
    asked, _ = sweep.read_words(["zoo=all", "shards=400", "zoo.block_size=4", "stages=zoo,sparsify"])
    with composing(CONFIG_DIR):
        planned = sweep.Sweep(asked)
        jobs = [job for stage in asked.stages for job in planned.missing(stage)]
    assert len(jobs) > 10_000
    assert len({job.key for job in jobs}) == len(jobs)
    assert len(composed) == 2 * 27


def test_all_mistakes_are_told_at_once(here):
    """Of the sweep's own words, of run.py's, of Hydra's, and of each zoo and stage."""
    result = here(
        "zoo=digits_seed,mnist_sed", "shards=0", "zoo.modles=3", "zoo.epochs=-1", "hydra/launcher=slrm",
        "hydra.sweep.sbdir=x", "stages=zoo,analysis", "+analysis.features.w2=no.such.fn",
    )  # fmt: skip
    assert result.returncode == 2
    said = [
        "zoo: got 'mnist_sed'", "shards: got '0'", "did you mean zoo.models?", "zoo.epochs: got -1",
        "hydra/launcher: got 'slrm'; did you mean slurm?", "did you mean hydra.sweep.subdir?",
    ]  # fmt: skip
    for words in said:
        assert words in result.stderr, words
    assert result.stderr.startswith("6 mistakes")


@pytest.mark.parametrize("words", [["--config-dir", "mine"], ["-cd=mine"], ["hydra.searchpath=[file://mine]"]])
def test_presets_of_ones_own_folder(tmp_path, monkeypatch, here, words):
    (tmp_path / "mine" / "zoo").mkdir(parents=True)
    preset = (CONFIG_DIR / "zoo" / "digits_seed.yaml").read_text().replace("digits_seed", "my_zoo")
    (tmp_path / "mine" / "zoo" / "my_zoo.yaml").write_text(preset)
    monkeypatch.chdir(tmp_path)
    result = here("zoo=my_*", *words, "status")
    assert "my_zoo" in result.stdout, result.stderr


# ------------------------------------------------------------------------------------------------ on this machine


def test_any_number_of_shards_gives_the_same_zoos(whole, tmp_path, here):
    words = ["zoo=digits_hyp*", *SMALL, f"paths.root={tmp_path}", "shards=3"]
    plan = here(*words, "--dry-run")
    assert plan.returncode == 0
    assert re.findall(r"digits_hyp10\w\s+│\s+3 │\s+6 │\s+18", plan.stdout), plan.stdout
    before = here(*words, "status")
    assert before.returncode == 1
    assert "0 of 3" in before.stdout
    assert not list(tmp_path.rglob("*.safetensors"))
    result = here(*words)
    assert result.returncode == 0, result.stderr
    assert "Stage zoo: 6 jobs to do" in result.stdout
    assert zoos(tmp_path) == zoos(whole)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "zoos").rglob("*")}
    assert "jobs to do" not in here(*words).stdout
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "zoos").rglob("*")} == written


def test_shards_side_by_side_in_processes_of_their_own(whole, tmp_path, here):
    words = ["zoo=digits_hyp*", *SMALL, f"paths.root={tmp_path}", "shards=2", "engine.threads=1"]
    result = here(*words, "hydra/launcher=local")
    assert result.returncode == 0, result.stderr
    assert zoos(tmp_path) == zoos(whole)


def test_what_fails_is_told_and_only_that_is_done_again(whole, tmp_path, here):
    """One zoo's name is taken by another one; once that is out of the way, the same command does the rest."""
    words = ["zoo=digits_hyp*", *SMALL, f"paths.root={tmp_path}", "shards=2"]
    other = tmp_path / "zoos" / "digits_hyp10f"
    shutil.copytree(whole / "zoos" / "digits_hyp10r", other)
    (other / "zoo.json").write_text((other / "zoo.json").read_text().replace("digits_hyp10r", "digits_hyp10f"))
    (other / "manifest.json").unlink()
    shutil.rmtree(other / "weights")
    result = here(*words)
    assert result.returncode == 1
    assert "2 jobs are not done; the same command tries again" in result.stderr
    assert result.stderr.count("digits_hyp10f-zoo-1of2 failed") == 1
    assert "was made with" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.count("Stage zoo: 2 jobs to do") == 1, "it was tried again"
    intact = {file: file.stat().st_mtime_ns for file in (tmp_path / "zoos" / "digits_hyp10r").rglob("*")}
    shutil.rmtree(other)
    result = here(*words)
    assert result.returncode == 0, result.stderr
    assert "Stage zoo: 2 jobs to do" in result.stdout
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "zoos" / "digits_hyp10r").rglob("*")} == intact
    assert zoos(tmp_path) == zoos(whole)


@pytest.mark.slow
def test_stages_follow_each_other_and_are_done_again_when_the_zoo_has_grown(tmp_path, here):
    words = ["zoo=digits_seed", *SMALL[1:], "stages=zoo,sparsify,analysis,hyperrep,sample", "shards=2", "retries=0",
             "sparsify.epochs=1", "analysis.map_states=0", "autoencoder.states=[1,2]", "autoencoder.d_model=204",
             "autoencoder.heads=2", "autoencoder.feedforward=32", "autoencoder.latent=8", "autoencoder.optimizer.epochs=1",
             "autoencoder.optimizer.batch_size=8", "population.models=4", f"paths.root={tmp_path}"]  # fmt: skip
    result = here(*words, "zoo.models=20")
    assert result.returncode == 0, result.stderr + result.stdout
    for name in ("digits_seed", "digits_seed_vd", "digits_seed_vd_masked", "digits_seed_small_kde30_0"):
        assert Zoo.open(tmp_path / "zoos" / name).finished
    card = tmp_path / "analysis" / "digits_seed" / "card.html"
    before = card.stat().st_mtime_ns
    assert here(*words, "zoo.models=14", "status").returncode == 1, "another sweep: its analysis was never made"
    fewer = [word for word in words if not word.startswith("stages")]
    assert "jobs to do" not in here(*fewer, "zoo.models=14", "stages=zoo,sparsify").stdout, (
        "there are more, and all are done"
    )
    assert "jobs to do" not in here(*words, "zoo.models=20").stdout
    assert card.stat().st_mtime_ns == before
    words[words.index("stages=zoo,sparsify,analysis,hyperrep,sample")] = "stages=zoo,analysis"
    result = here(*words, "zoo.models=24")
    assert result.returncode == 0, result.stderr
    assert card.stat().st_mtime_ns > before


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_sweep(tmp_path, how):
    words = [
        "zoo=digits_hyp*",
        *SMALL[:2],
        "zoo.epochs=5000",
        "dataset.train_size=60",
        "logger=none",
        f"paths.root={tmp_path}",
    ]
    process = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: list(tmp_path.glob("zoos/*/weights/*/epoch-0003.safetensors")))
    process.send_signal(how)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command" in errors
    assert output.count("jobs to do") == 1, "it did not begin again"


def test_how_far_a_zoo_is(tmp_path):
    """Models × epochs that are stored; the pace of blocks at work, by when their last epochs were stored."""
    words = ["zoo=digits_hyp10r", *SMALL[:4], f"paths.root={tmp_path}"]
    zoo = train(tmp_path, *words[:-1], "logger=none")
    with composing(CONFIG_DIR, [], "sweep"):
        half = sweep.Sweep(*sweep.read_words([*words[:3], "zoo.epochs=4", *words[4:]]))
        assert half.progress("digits_hyp10r") == ("12 of 24", "")
        for block in zoo.blocks(2):
            for epoch in range(3):
                os.utime(block.path / f"epoch-{epoch:04d}.safetensors", (0, 10 * epoch))
        with zoo.blocks(2)[0], zoo.blocks(2)[2]:  # each of 2 models: 2 × 2 models × epochs in 10 s
            assert half.progress("digits_hyp10r") == ("12 of 24", "30 s")
            console = Console(width=200, file=io.StringIO())
            half.folder.mkdir(parents=True)
            console.print(half.table())
    shown = console.file.getvalue()
    assert re.search(r"│ digits_hyp10r │ 12 of 24 │ 30 s │ 0 of 1 │", shown)
    assert re.search(r"logs: \S+/sweeps/hyperzoo-\w+/\*/sweep.log", shown)


def test_a_cancelled_job_is_told_as_slurm_tells_it(tmp_path):
    """And not what died of it; a job that SLURM queues again, for its own reasons, is told as it ended."""
    with composing(CONFIG_DIR, [], "sweep"):
        asked = sweep.Sweep(*sweep.read_words(["zoo=digits_hyp10r", *SMALL, f"paths.root={tmp_path}"]))
    (job,) = asked.jobs("digits_hyp10r", "zoo")
    launch = sweep.Launch(asked, [job], 0)
    (launch.logs / "7").mkdir(parents=True)
    (asked.folder / job.key).mkdir()
    (asked.folder / job.key / "failure.txt").write_text("Traceback …\nConnectionResetError: Connection lost")
    log = launch.logs / "7" / "7_0_log.err"
    line = "slurmstepd: error: *** JOB 7 ON node CANCELLED AT 2026-11-28T08:00:00 ***"
    log.write_text(f"a warning\n{line}\nsubmitit: bypassing signal\nConnectionResetError: Connection lost\n")
    assert launch.last_lines(job) == line
    log.write_text(line.removesuffix("***") + "DUE TO TIME LIMIT ***")
    assert launch.last_lines(job).endswith("ConnectionResetError: Connection lost")


def test_a_twin_is_done_that_has_all_models_of_its_source(tmp_path):
    """Also of one that has fewer than its preset, unless the rest is to be trained in the same sweep."""
    made_of = ["zoo=digits_seed", "zoo.epochs=0", "dataset.train_size=60", "sparsify.epochs=0"]
    train(tmp_path, *made_of, "zoo.models=4")
    config = configure(tmp_path, *made_of, "task=sparsify")
    config.overrides = [f"paths.root={tmp_path}", "logger=none", *made_of, "task=sparsify"]
    with composing(CONFIG_DIR):
        sparsify_zoo(config)
        for stages, undone in (("sparsify", 0), ("zoo,sparsify", 1)):
            asked, _ = sweep.read_words([*made_of, f"stages={stages}", f"paths.root={tmp_path}"])
            assert len(sweep.Sweep(asked).missing("sparsify")) == undone


def test_marks_that_cannot_be_read_count_for_nothing(tmp_path):
    asked, _ = sweep.read_words(["zoo=digits_seed", "stages=analysis", f"paths.root={tmp_path}"])
    with composing(CONFIG_DIR):
        planned = sweep.Sweep(asked)
        (job,) = planned.missing("analysis")
        planned.marker(job).parent.mkdir(parents=True)
        for text in ("", "{", '{"zoo": ""}'):
            planned.marker(job).write_text(text)
            assert planned.missing("analysis") == [job]


@pytest.mark.slow
def test_many_shards_at_once_lose_nothing(tmp_path, here):
    """Four processes that take one of 60 shards after the other, all of one zoo."""
    words = ["zoo=digits_hyp10f", "zoo.models=60", "zoo.block_size=1", "zoo.epochs=1", "dataset.train_size=20",
             "logger=none", "engine.threads=1", f"paths.root={tmp_path}"]  # fmt: skip
    result = here(*words, "shards=60", "retries=0", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4")
    assert result.returncode == 0, result.stderr
    zoo = Zoo.open(tmp_path / "zoos" / "digits_hyp10f")
    assert len(zoo.blocks(1)) == 60
    assert zoo.verify() == []
    assert zoo.models["status"].isin(["ok", "diverged"]).all()


def test_presets_of_launchers_say_how_they_are_used():
    for name in ("slurm", "slurm_gpu", "local"):
        assert f"hydra/launcher={name}" in (CONFIG_DIR / "hydra" / "launcher" / f"{name}.yaml").read_text()
