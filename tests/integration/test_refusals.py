"""The machine refuses: a full disk, a failing one, a missing permission, a terminal that knows no other letters."""

import errno
import io
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import numba
import pytest

import run
import sweep
from analysis.audit.novelty import audit_population
from analysis.zoo_analysis import analyse_zoo
from hyperrep.sampling import sample_population
from hyperrep.training import train_hyperrep
from tests.integration.test_train_zoo import configure, hashes
from zoo.base.console import RunLog, any_terminal, console
from zoo.base.errors import UserError, refusal
from zoo.base.files import locked, owner_of
from zoo.engines.compilation import compiled
from zoo.exchange.export import export_zoo
from zoo.training.train import train_zoo

ROOT = Path(__file__).parents[2]
SMALL = ["zoo.models=2", "zoo.epochs=1", "dataset.train_size=50", "logger=none"]


class Disk:
    """A disk whose n-th write fails."""

    def __init__(self):
        self.folder, self.fails_at, self.writes = None, None, 0
        sys.addaudithook(self.heard)  # for ever, so there is one for all tests

    def heard(self, event, arguments):
        if self.folder is None or event not in ("open", "os.rename", "os.mkdir", "os.link"):
            return
        path = arguments[0]
        writes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and isinstance(path, str | os.PathLike) and str(path).startswith(self.folder):
            self.count(str(path))

    def count(self, path=None):
        self.writes += 1
        if self.writes == self.fails_at:
            raise OSError(errno.ENOSPC, "No space left on device", *([path] if path else []))

    @contextmanager
    def failing(self, folder, at):
        self.folder, self.fails_at, self.writes = str(folder), at, 0
        try:
            yield
        finally:
            self.folder = None


@pytest.fixture(scope="module")
def disk():
    return Disk()


@pytest.fixture
def full_at(disk, monkeypatch):
    """Have the n-th write under a folder fail."""
    fsync = os.fsync

    def counted(fd):
        if disk.folder is not None:
            disk.count()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", counted)
    return disk.failing


def train(root):
    train_zoo(configure(root, *SMALL))


def export(root):
    export_zoo(configure(root, *SMALL, "format=csv"))


def export_trials(root):
    export_zoo(configure(root, *SMALL, "format=raw"))


def export_store(root):
    export_zoo(configure(root, *SMALL, "format=croissant"))


def analyse(root):
    analyse_zoo(configure(root, *SMALL))


def export_for_the_hub(root):
    export_zoo(configure(root, *SMALL, "format=hub"))


LEARNT = [
    "zoo.models=20", "autoencoder.states=[1]", "autoencoder.d_model=204", "autoencoder.heads=2", "autoencoder.feedforward=32",
    "autoencoder.latent=8", "autoencoder.optimizer.batch_size=8", "autoencoder.optimizer.epochs=2", "population.models=4",
    "autoencoder.align=weights", "sampler=kde30",
]  # fmt: skip


def learn(root):
    train_zoo(configure(root, *SMALL, "zoo.models=20"))
    train_hyperrep(configure(root, *SMALL, *LEARNT, "task=hyperrep"))


def draw(root):
    learn(root)
    config = configure(root, *SMALL, *LEARNT, "task=sample")
    sample_population(config)
    audit_population(config)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A root with a zoo."""
    root = tmp_path_factory.mktemp("trained")
    train(root)
    return root


def said_of(error):
    """What a program tells of an error."""
    return str(error) if isinstance(error, UserError) else refusal(error, "no file at all")


@pytest.mark.parametrize("many", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize(
    "task",
    [train, export, export_trials]
    + [pytest.param(task, marks=pytest.mark.slow) for task in (export_store, export_for_the_hub, analyse, learn, draw)],
)
def test_any_write_may_fail_once(trained, tmp_path, disk, full_at, task, many):
    """One sentence with the path; and then the same command gives the bytes that it would have given."""

    def begin(name):
        root = tmp_path / name
        root.mkdir()
        if task is not train:
            shutil.copytree(trained, root, dirs_exist_ok=True)
        return root

    whole = begin("whole")
    with full_at(tmp_path, None):
        task(whole)
    writes = range(1, disk.writes + 1)
    assert len(writes) > 5
    step = max(1, len(writes) // 12)  # a dozen: all files are written by the same few functions
    for at in writes[::step] if many else writes[2 :: len(writes) // 2]:
        root, told = begin(str(at)), None
        try:
            with full_at(tmp_path, at):
                task(root)
        except (OSError, UserError) as error:
            told = said_of(error)
        assert told is None or ("No space left on device" in told and str(root) in told), told
        task(root)
        assert hashes(root) == hashes(whole), f"after write {at} failed"
        shutil.rmtree(root)


PLAN = [run.main, "run.py", "task=plan"], [sweep.main, "sweep.py", "zoo=digits_seed", "zoo.models=2", "zoo.epochs=0"]


@pytest.mark.parametrize("command", PLAN, ids=["run", "sweep"])
def test_what_a_program_cannot_write_is_one_sentence(tmp_path, full_at, disk, monkeypatch, in_process, command):
    """Whichever write fails: of Hydra's, of the log, of the zoo."""
    main, *words = command
    monkeypatch.setattr("zoo.training.plan.plan_zoo", lambda config: console.print("a plan"))

    def begin(name, at=None):
        with full_at(tmp_path, at):
            done = in_process(main, *words, f"paths.root={tmp_path / name}", *SMALL[-2:])
        return done.returncode, done.stderr

    assert begin("whole") == (0, "")
    for at in (1, disk.writes // 2, disk.writes - 1):
        code, told = begin(str(at), at)
        assert "Traceback" not in told
        assert "No space left on device" in told if told else code == 0  # run.log is done without
    assert begin(str(at)) == (0, "")


def test_a_full_run_log_is_told_once_and_done_without(tmp_path, capsys):
    log = RunLog("/dev/full")
    for _ in range(3):
        log.emit(logging.makeLogRecord({"msg": "said"}))
    with suppress(OSError):
        log.stream.close()
    assert capsys.readouterr().err == "/dev/full cannot be written (No space left on device): this run does without\n"
    RunLog(tmp_path / "no" / "run.log").close()
    assert "run.log cannot be written (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_letters_sees_them_written_out(monkeypatch, encoding):
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    with any_terminal():
        print("50 ± 2 %, α")
    text = shown.buffer.getvalue().decode(encoding)
    assert text == {"ascii": "50 \\xb1 2 %, \\u03b1\n", "latin-1": "50 ± 2 %, \\u03b1\n"}[encoding]


@pytest.mark.slow
def test_a_zoo_is_trained_where_the_language_has_no_letters_but_ascii(tmp_path):
    """Files are read and written as UTF-8 whatever the locale says."""
    language = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, ROOT / "run.py", *SMALL, f"paths.root={tmp_path}"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | language, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy" in done.stdout


@pytest.mark.parametrize("program", ["run.py", "sweep.py"])
def test_a_reader_that_leaves_early_ends_a_program_quietly(program):
    """As `python run.py --help | head -1` does."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, ROOT / program, "--help"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_no_jit_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    compiled.cache_clear()
    config = configure(tmp_path, *SMALL, "engine=fused")
    with pytest.raises(UserError, match="NUMBA_DISABLE_JIT is set in the environment"):
        train_zoo(config)


def test_a_lock_of_another_user_names_itself(tmp_path, monkeypatch):
    lock = tmp_path / ".lock"
    lock.write_text("process 1 on node1")
    opened = os.open

    def forbidden(path, flags, *rest, **options):
        if Path(path) == lock:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", forbidden)
    assert owner_of(lock) is None  # nobody that we know of: to look at a sweep needs no permission
    with (
        pytest.raises(
            UserError,
            match=r"\.lock is a lock that you may not open, of user .*: if nobody is at work there, remove it",
        ),
        locked(lock),
    ):
        pass
    assert lock.read_text() == "process 1 on node1"
