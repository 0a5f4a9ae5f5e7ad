"""`benchmarks/gpu.py`, as far as it goes without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    """The script as a module."""
    sys.path.insert(0, str(SCRIPT.parent))
    import gpu

    yield gpu
    sys.path.remove(str(SCRIPT.parent))


def start(out, *words):
    command = [sys.executable, str(SCRIPT), "--smoke", "--minutes", "60", "--out", str(out)]
    return subprocess.run([*command, "--work", str(out / "work"), *words], capture_output=True, text=True)


@pytest.mark.slow
def test_a_zoo_an_autoencoder_and_its_samplers_at_toy_scale(tmp_path):
    done = start(tmp_path, "--only", "c,d")
    assert done.returncode == 0, done.stdout + done.stderr
    zoo, samplers = (json.loads((tmp_path / f"{letter}.json").read_text()) for letter in "cd")
    assert zoo["damaged_files"] == []
    assert list(zoo["test accuracy by epoch, %"]) == ["0", "1", "2", "3", "4"]
    for name in ("published", "published_unnormalised"):
        assert set(samplers[f"{name}, samplers"]) == {"kde30", "kde_anchor30", "gaussian30"}
        for audit in samplers[f"{name}, samplers"].values():
            assert 0 <= audit["accuracy"] <= 1
            assert audit["models"] == 10
    page = (tmp_path / "gpu.md").read_text()
    assert "## c: " in page
    assert "kde_anchor30" in page


@pytest.mark.slow
def test_a_section_that_fails_is_told_and_the_others_go_on(tmp_path):
    """Section d has no zoo without section c; it comes first here."""
    done = start(tmp_path, "--only", "d,b")
    assert done.returncode == 1
    assert "section c made no zoo" in json.loads((tmp_path / "d.json").read_text())["failed"]
    rates = json.loads((tmp_path / "b.json").read_text())
    assert rates["cnn_s, 8 lanes"]["models × steps/s"] > 0
    assert "failed" not in rates
    assert "section c made no zoo" in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize(("words", "told"), [(["--only", "e"], "no section e"), (["--only", "a,,b"], "no section")])
def test_an_unknown_section_is_refused(tmp_path, words, told):
    done = start(tmp_path / "out", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("budget", "seconds", "plan"),
    [
        (100, {128: 2.0, 1000: 5.0}, (256, 128, 25)),  # 1000 lanes do not fit; two groups of 128 do
        (130, {128: 2.0, 1000: 5.0}, (1000, 1000, 25)),
        (10_000, {128: 2.0}, (1000, 128, 25)),  # never more models than the zoo has
        (30, {128: 2.0, 512: 3.0}, (512, 512, 10)),  # no 25 epochs of anything: as many of the most models × epochs
        (1, {128: 20.0}, (128, 128, 1)),
    ],
)
def test_the_zoo_is_planned_to_fit(gpu, budget, seconds, plan):
    assert gpu.plan(budget, seconds) == plan


def test_lanes_that_could_not_be_measured_are_not_planned_with(gpu):
    measured = {
        "cnn_s, 128 lanes": {"epoch, s": 3.0},
        "cnn_s, 512 lanes": {"trouble": "…"},
        "about": {},
        "seconds": 1.0,
    }
    assert gpu.epoch_seconds(measured) == {128: 3.0}


def test_outcomes_of_tests(gpu, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_fine(): pass\n"
        "def test_wrong(): assert 1 == 2, 'words'\n"
        "@pytest.mark.skip\n"
        "def test_not(): pass\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError('no device')\n"
        "def test_broken(broken): pass\n"
    )
    results = tmp_path / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    counts, failures = gpu.outcomes(results)
    assert counts == {"passed": 1, "failed": 2, "skipped": 1}
    assert "words" in failures["test_some::test_wrong"]
    assert "no device" in failures["test_some::test_broken"]


def test_a_command_that_takes_too_long_is_interrupted_and_told(gpu, tmp_path):
    options = gpu.Options(True, None, tmp_path, tmp_path)
    sleeper = "trap 'echo kept what it had; exit' INT; while :; do sleep 0.1; done"
    with pytest.raises(gpu.Failed, match="kept what it had"):
        gpu.call("sleeper", ["sh", "-c", sleeper], options, 2)
    with pytest.raises(gpu.Failed, match=r"exit code 3(.|\n)*oh"):
        gpu.call("wrong", ["sh", "-c", "echo oh; exit 3"], options, 60)
