"""sweep.py on a real SLURM, started for these tests: what is missing is done, whatever happens to jobs and the sweep."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.test_sweep import PROGRAM, ROOT, SMALL, call, until, zoos
from zoo import Zoo

SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]


@pytest.fixture(scope="module")
def slurm():
    """The environment of jobs for a SLURM on loopback."""
    if os.geteuid() or not (shutil.which("slurmctld") or shutil.which("apt-get")):
        pytest.skip("SLURM is installed and started by root on Debian only")
    folder = Path(tempfile.mkdtemp())  # munged wants a path that everybody may enter, which pytest's are not
    scripts = ROOT / "tests" / "slurm"
    started = subprocess.run(
        ["bash", str(scripts / "start.sh"), str(folder)], capture_output=True, text=True, timeout=300
    )
    if started.returncode:
        subprocess.run(["bash", str(scripts / "stop.sh"), str(folder)], timeout=60)
        shutil.rmtree(folder)
        pytest.skip(f"SLURM does not start here: {started.stderr[-300:]}")
    paths = os.pathsep.join([str(scripts), os.environ["PATH"]])
    try:
        yield {**os.environ, "SLURM_CONF": str(folder / "etc" / "slurm.conf"), "PATH": paths}
    finally:
        subprocess.run(["bash", str(scripts / "stop.sh"), str(folder)], timeout=60)
        shutil.rmtree(folder)


def jobs(environment, what="%i %T") -> list[str]:
    return subprocess.run(
        ["squeue", "-h", "-r", "-o", what], env=environment, capture_output=True, text=True
    ).stdout.splitlines()


@pytest.mark.slow
def test_killed_jobs_and_a_killed_sweep_on_slurm(slurm, tmp_path):
    """A job array; a job is killed, then the sweep itself; the next call waits for what goes on, and does the rest."""
    long = [word for word in SMALL if not word.startswith("zoo.epochs")] + ["zoo.epochs=150", "engine.threads=1"]
    assert call("zoo=digits_hyp10f", *long, f"paths.root={tmp_path / 'whole'}").returncode == 0
    words = ["zoo=digits_hyp10f", *long, *SLURM, "shards=3", "retries=0", f"paths.root={tmp_path / 'out'}"]
    first = subprocess.Popen([*PROGRAM, *words], env=slurm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = tmp_path / "out" / "zoos" / "digits_hyp10f"
    until(lambda: list(store.glob("weights/*/epoch-0003.safetensors")))
    block = next(iter(store.glob("weights/*/epoch-0003.safetensors"))).parent
    owner = block.with_name(f"{block.name}.lock").read_text()
    os.kill(int(re.search(r"process (\d+) on", owner)[1]), signal.SIGKILL)
    first.kill()
    first.wait()
    assert jobs(slurm), "the others go on"
    status = call(*words, "status", env=slurm)
    assert "jobs wait or run" in status.stdout
    result = call(*words, env=slurm)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "wait or run" in result.stdout, "it waited for the jobs of the first call"
    assert "Stage zoo: 1 jobs to do" in result.stdout, "only the killed one is started again"
    assert zoos(tmp_path / "out") == zoos(tmp_path / "whole")


@pytest.mark.slow
def test_stages_follow_each_other_on_slurm_when_nobody_looks(slurm, tmp_path):
    """All stages are submitted at once: after that the sweep is not needed any more."""
    words = ["zoo=digits_hyp*", "stages=zoo,sparsify,analysis", *SMALL[1:], *SLURM, "shards=2", "zoo.models=8",
             "sparsify=magnitude", "sparsify.epochs=1", "analysis.map_states=0", f"paths.root={tmp_path}"]  # fmt: skip
    process = subprocess.Popen([*PROGRAM, *words], env=slurm, stdout=subprocess.PIPE, text=True)
    until(lambda: len([job for job in jobs(slurm, "%j") if job.endswith("analysis")]) == 2)
    waiting = [line for line in jobs(slurm, "%j %E") if "analysis" in line]
    assert all("afterany:" in line for line in waiting), waiting
    process.kill()
    assert process.communicate()[0].count("jobs to do") == 3
    until(lambda: not jobs(slurm), seconds=300)
    status = call(*words, "status", env=slurm)
    assert status.returncode == 0, status.stdout
    assert "jobs to do" not in call(*words, env=slurm).stdout
    for name in ("digits_hyp10f", "digits_hyp10r"):
        assert Zoo.open(tmp_path / "zoos" / name).finished
        assert Zoo.open(tmp_path / "zoos" / f"{name}_magnitude").finished
        assert (tmp_path / "analysis" / name / "card.html").exists()


@pytest.mark.slow
def test_a_stage_that_fails_on_slurm_is_told_and_stops_its_zoo_only(slurm, tmp_path):
    words = ["zoo=digits_hyp*", "stages=zoo,analysis", *SMALL, *SLURM, "shards=2", "analysis.map_states=0", "retries=0"]
    (tmp_path / "zoos" / "digits_hyp10f").mkdir(parents=True)
    (tmp_path / "zoos" / "digits_hyp10f" / "zoo.json").write_text("{")
    result = call(*words, f"paths.root={tmp_path}", env=slurm)
    assert result.returncode == 1
    assert "digits_hyp10f-zoo-1of2 failed" in result.stderr
    assert "digits_hyp10f-analysis failed" not in result.stderr, "it had nothing to analyse"
    assert (tmp_path / "analysis" / "digits_hyp10r" / "card.html").exists()


@pytest.mark.slow
def test_a_run_of_a_multirun_that_fails_on_slurm_is_told(slurm, tmp_path):
    (tmp_path / "zoos" / "digits_hyp10f").mkdir(parents=True)
    (tmp_path / "zoos" / "digits_hyp10f" / "zoo.json").write_text("{")
    words = ["-m", "zoo=digits_hyp10f,digits_seed", *SMALL, *SLURM, f"paths.root={tmp_path}"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    result = subprocess.run(command, env=slurm, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert "zoo=digits_hyp10f" in result.stderr
    assert "zoo.json is damaged" in result.stderr
    assert "1 of the runs failed" in result.stderr
    assert Zoo.open(tmp_path / "zoos" / "digits_seed").finished


LONG = [
    "zoo=digits_seed",
    "zoo.models=2",
    "zoo.epochs=1800",
    "dataset.train_size=300",
    "logger=none",
    "engine.threads=1",
]


@pytest.fixture(scope="module")
def long_zoo(tmp_path_factory) -> Path:
    """A zoo that takes a while, in one go."""
    root = tmp_path_factory.mktemp("long")
    assert call(*LONG, f"paths.root={root}").returncode == 0
    return root


def queued_again(environment, root: Path, *words) -> str:
    """Run a sweep of the long zoo to its end; its logs.

    SLURM lets a job that is queued again wait for two minutes. Here it starts at once, and with an hour: one stop is enough.
    """
    command = [*PROGRAM, *LONG, *SLURM, *words, "retries=0", f"paths.root={root}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    preempted = "hydra.launcher.partition=low" not in words
    while process.poll() is None:
        if not preempted and len(list(root.glob("zoos/*/weights/*/epoch-0003.safetensors"))):
            line = ["sbatch", "-p", "high", "-c", "4", "-o", os.devnull, "--wrap", "sleep 5"]
            subprocess.run(line, env=environment, check=True, capture_output=True)
            preempted = True
        for job in jobs(environment):
            if job.endswith("PENDING") and list(root.glob("zoos/*/zoo.json")):  # it has run before
                line = ["scontrol", "update", f"jobid={job.split()[0]}", "StartTime=now", "TimeLimit=60"]
                subprocess.run(line, env=environment, capture_output=True)
        time.sleep(0.5)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    return "".join(log.read_text() for log in (root / "sweeps").rglob("*_log.*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        # SLURM's shortest limit is a minute; told 38 s before, the job stops after 22 s.
        ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=38"],
        # A job of another partition takes the whole machine.
        ["hydra.launcher.partition=low", "hydra.launcher.timeout_min=60", "hydra.launcher.cpus_per_task=4"],
    ],
    ids=["at its time limit", "preempted"],
)
def test_a_job_that_must_stop_is_queued_again_and_goes_on(slurm, long_zoo, tmp_path, words):
    logs = queued_again(slurm, tmp_path, *words)
    assert "Caught signal" in logs, "it was never told to stop"
    assert "Requeued job" in logs or "requeue" in logs.lower()
    assert zoos(tmp_path) == zoos(long_zoo)
