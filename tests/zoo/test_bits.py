"""The same bits: whoever compiled the kernel, whichever processor, killed or not."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from numba.core.registry import cpu_target

from tests.integration.test_train_zoo import hashes
from zoo.engines import compilation, kernels
from zoo.networks.architecture import Architecture

ROOT = Path(__file__).resolve().parents[2]
# Everything that kernels are made of, small: it compiles in seconds.
LAYERS = [
    {"conv": 8, "kernel": 3}, {"pool": 2}, "activation", "dropout", {"conv": 5, "kernel": 2}, "activation", "flatten",
    {"linear": 12}, "activation", "dropout", {"linear": 10},
]  # fmt: skip
SHORTCUT = [
    {"residual": [{"conv": 8, "kernel": 2}, "activation"], "shortcut": [{"pool": 2, "stride": 1}, {"conv": 8, "kernel": 1}]},
]  # fmt: skip

TRAIN = """
import hashlib, sys
from tests.populations import *
from zoo.engines.engine import *; from zoo.engines.make import engine_class
layers, variational = eval(sys.argv[1]), sys.argv[2] == "variational"
arch, data = Architecture("small", (1, 12, 12), 10, layers, variational=variational), image_data((1, 12, 12), train=200)
rows = model_rows(init=["uniform", "kaiming_normal"], activation=["tanh", "sigmoid", "relu", "gelu"],
                  optimizer=["adam", "sgd"], dropout=[0.0, 0.3], lr=[3e-3])
engine = engine_class("fused")(arch, rows, data, Protocol(10, 3, "constant", 1e-3 * variational), threads=2)
engine.load(initial_population(arch, rows))
digest = hashlib.sha256()
for epoch in (1, 2, 3):
    engine.start_epoch(epoch)
    engine.train(0, 20)
    for scores in (engine.finish_epoch(), engine.evaluate(data.val)):
        digest.update(scores.loss.tobytes())
    for matrix in vars(engine.population()).values():
        digest.update(matrix.tobytes())
engine.close()
print(digest.hexdigest())
"""


def trained(cache: Path, layers=LAYERS, kind: str = "plain", **environment: str) -> str:
    """The hash of populations and losses of three epochs, trained in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", TRAIN, repr(layers), kind], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
    )  # fmt: skip
    return run.stdout.split()[-1]


PROCESSORS = {
    "SSE2, without fused multiply-add": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt"},
}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="imitates processors of this family")
@pytest.mark.parametrize(("layers", "kind"), [(SHORTCUT + LAYERS, "plain"), (LAYERS, "variational")])
def test_every_processor_trains_the_same_bits(tmp_path, layers, kind):
    """Vectors of 4, 8 and (where this processor has them) 16 lanes, with and without fused multiply-adds."""
    here = trained(tmp_path, layers, kind)
    for name, imitated in PROCESSORS.items():
        assert trained(tmp_path, layers, kind, **imitated) == here, name
    assert len(list((tmp_path / "hyperzoo/kernels").glob("kernel_*"))) == 3, "each has a kernel of its own"


@pytest.mark.slow
def test_cold_warm_mixed_and_killed_give_the_same_bytes(tmp_path):
    """A cold start compiles the kernel, a warm one finds it on the disk, a mixed zoo is begun with one cache and gone on with
    another that is empty, and a killed one was begun cold and is gone on with warm."""
    layers = str(LAYERS).replace("'", "")
    words = ["zoo=digits_hyp10f", f"arch.layers={layers}", "zoo.models=10", "zoo.epochs=60", "dataset.train_size=300"]

    def run(name: str, cache: str, *more: str, kill: bool = False) -> dict[str, str]:
        command = [sys.executable, str(ROOT / "run.py"), *words, *more, "logger=none", f"paths.root={tmp_path / name}"]
        process = subprocess.Popen(
            command, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / cache)}, stdout=subprocess.DEVNULL
        )
        if kill:
            while process.poll() is None and not list((tmp_path / name).rglob("epoch-0001.safetensors")):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.wait() == (-signal.SIGKILL if kill else 0)
        return hashes(tmp_path / name / "zoos") if not kill else {}

    cold = run("cold", "first")
    assert run("warm", "first") == cold
    run("mixed", "first", "zoo.epochs=20")
    assert run("mixed", "second") == cold
    run("killed", "third", kill=True)
    assert run("killed", "third") == cold


def damaged(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    file.write_bytes(data[: len(data) // 2] if how == "truncated" else b"" if how == "emptied" else data)


@pytest.mark.slow
def test_a_damaged_cache_is_compiled_again(tmp_path):
    """Files of the cache that are cut, altered or gone: found by their hash before anything of them runs."""
    tiny = [{"conv": 8, "kernel": 3}, "activation", "flatten", {"linear": 10}]
    expected = trained(tmp_path, tiny)
    (folder,) = (tmp_path / "hyperzoo/kernels").glob("kernel_*")
    assert compilation._intact(folder)
    pristine = shutil.copytree(folder, tmp_path / "pristine")
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".py", ".nbi", ".nbc", ".json"}
    for file in files:
        for how in ("flipped", "truncated", "emptied", "gone"):
            if how == "gone":
                (folder / file).unlink()
            else:
                damaged(folder / file, how)
            assert not compilation._intact(folder), (file, how)
            shutil.copy2(pristine / file, folder / file)
    assert compilation._intact(folder)
    for file in folder.rglob("*.nbc"):
        damaged(file, "flipped")
    assert trained(tmp_path, tiny) == expected
    assert compilation._intact(folder)
    shutil.rmtree(tmp_path / "hyperzoo")
    assert trained(tmp_path, tiny) == expected


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "hyperzoo").write_text("a file where a folder should be")
    tiny = [{"conv": 8, "kernel": 3}, "activation", "flatten", {"linear": 10}]
    assert trained(tmp_path, tiny)


def test_the_code_of_a_kernel_has_no_text_of_the_store():
    """An architecture's name may come from a stranger's zoo.json; it had been written into the code that is run."""
    names = ["small", 'small"""\nimport os; os.abort()\n"""']
    codes = {kernels.source(Architecture(name, (1, 12, 12), 10, LAYERS)) for name in names}
    assert len(codes) == 1


def test_the_processor_is_part_of_a_kernels_name(monkeypatch):
    code = kernels.source(Architecture("small", (1, 12, 12), 10, LAYERS))
    here = compilation._name(code)
    codegen = cpu_target.target_context.codegen()
    monkeypatch.setattr(type(codegen), "magic_tuple", lambda self: ("triple", "another", "+features"))
    assert compilation._name(code) != here
