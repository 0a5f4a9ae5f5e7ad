"""Many zoos with one command: `python sweep.py zoo=mnist_*,fmnist_seed zoo.models=100 shards=8 hydra/launcher=slurm`.

Each zoo goes through stages, and its training is cut into shards: ranges of models that write disjoint blocks of one store.
Whatever is not there yet becomes jobs of `run.py`, which a Hydra launcher runs; on SLURM all of them are submitted at once, each
stage of a zoo dependent on the one before. What is there is read off the stores, never off a job's word; so the same command,
after whatever happened, does only what is missing.

    zoo=NAMES          names or globs separated by commas, or all: the 27 published zoos
    shards=8           jobs a zoo, at most as many as it has blocks (zoo.block_size); default 1
    stages=zoo,sparsify,analysis,hyperrep,sample,downstream    which, in this order; default zoo
    retries=2          how often what failed is tried again; default 1
    status             print how far it is, the time left and where logs are, and start nothing
    --dry-run          print what would be started: jobs, states, bytes, time
    --config-dir DIR   a folder of your own presets, beside those of conf/
    KEY=VALUE …        anything of run.py, for all of them
"""

from __future__ import annotations

import argparse
import copy
import difflib
import fnmatch
import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig, open_dict

import run
from zoo.base.files import locked, owner_of

STAGES = ("zoo", "sparsify", "analysis", "hyperrep", "sample", "downstream")
PRESETS = [f"hydra/launcher={name}" for name in ("slurm", "slurm_gpu", "local")]
PATIENCE = 600.0  # seconds that SLURM's controller may be silent
OWN = [
    "zoo=",
    "shards=",
    "stages=",
    "retries=",
    "status",
    "--dry-run",
    "--config-dir",
    "hydra/launcher=",
]  # words that run.py has not
POLL = 2.0  # seconds between looks at the queue or at locks
LOG_LINES = 5  # of a failed job that are shown
CANCELLED = r"slurmstepd: error: \*{3} .* CANCELLED AT \S+ \*{3}"  # for no reason of SLURM's own, after which it is queued again


# ------------------------------------------------------------------------------------------------ what is asked


def presets(folders: Sequence[str] = ()) -> list[str]:
    """The names of all zoos that have a preset, in `conf/` or in one of the user's own folders."""
    places = [run.CONFIG_DIR, *(Path(folder.removeprefix("file://")) for folder in folders)]
    return sorted({path.stem for place in places for path in (place / "zoo").glob("*.yaml")})


def published_zoos() -> list[str]:
    """The names of the 27 published zoos."""
    return [name for name in presets() if not name.startswith("digits_") and not name.endswith("_printed")]


def expand(patterns: str, names: Sequence[str]) -> list[str]:
    """Which of the names some names and globs, separated by commas, stand for; `all` are the published ones."""
    found: list[str] = []
    for pattern in patterns.split(","):
        matches = published_zoos() if pattern == "all" else fnmatch.filter(names, pattern)
        found += [name for name in matches or [pattern] if name not in found]  # an unknown name is told later
    return found


@dataclass
class Asked:
    """The command line.

    Attributes:
        zoos: names of presets.
        words: overrides of run.py that hold for all.
        hydra: overrides of Hydra, such as the launcher's.
        folders: the user's own, of presets.
        shards, stages, retries: see above.
        status, dry_run: whether only to print.
    """

    zoos: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    hydra: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    shards: int = 1
    stages: list[str] = field(default_factory=lambda: ["zoo"])
    retries: int = 1
    status: bool = False
    dry_run: bool = False

    @property
    def name(self) -> str:
        """Of the sweep: the same for the same zoos, stages and overrides, whoever runs it and however it is cut."""
        text = json.dumps([self.zoos, self.stages, sorted(self.words)])
        return f"hyperzoo-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def read_words(words: Sequence[str]) -> tuple[Asked, list[str]]:
    """The command line, and what is wrong with it, a sentence each."""
    from zoo.base.errors import UserError
    from zoo.config.reading import own_folders
    from zoo.config.typed import did_you_mean

    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config-dir", "-cd")
    given, words = options.parse_known_args(words)
    asked, problems = Asked(), []
    try:
        words, asked.folders = own_folders(words, given.config_dir)
    except UserError as error:
        problems.append(str(error))
    names = presets(asked.folders)
    for word in words:
        key, _, value = word.partition("=")
        match key:
            case "zoo":
                asked.zoos = expand(value, names)
                wrong = [name for name in asked.zoos if name not in names]
                problems += [f"zoo: got {name!r}{did_you_mean(name, names)}" for name in wrong]
                # What else is wrong is told of what was meant.
                asked.zoos = [near for name in asked.zoos for near in difflib.get_close_matches(name, names, 1)]
            case "shards" | "retries":
                least = 1 if key == "shards" else 0
                if value.isdecimal() and int(value) >= least:
                    setattr(asked, key, int(value))
                else:
                    problems.append(f"{key}: got {value!r}, but it is a whole number of at least {least}")
            case "stages":
                asked.stages = value.strip("[]").replace(" ", "").split(",")
                wrong = [stage for stage in asked.stages if stage not in STAGES]
                problems += [f"stages: got {stage!r}, but may be {', '.join(STAGES)}" for stage in wrong]
                asked.stages = [stage for stage in STAGES if stage in asked.stages]
            case "status" | "--dry-run":
                setattr(asked, key.strip("-").replace("-", "_"), True)
            case _ if key in ("task", "zoo.shard", "zoo.name"):
                problems.append(f"{key}: sweep.py sets it itself, for each job")
            case _ if key.startswith("zoo.start"):
                problems.append(f"{key}: sweep.py trains the zoos of presets; fine-tune with run.py")
            case _ if key.startswith("hydra"):
                asked.hydra.append(word)
            case _ if "." not in key and (near := difflib.get_close_matches(key, OWN, 1, 0.65)) and near != [key]:
                problems.append(f"{word}: did you mean {near[0]}?")
            case _:
                asked.words.append(word)
    if any(word in PRESETS for word in asked.hydra) and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        problems.append("hydra/launcher: this one needs the extra `slurm`; pip install 'hyperzoo[slurm]'")
    if on_slurm(asked) and not shutil.which("squeue"):
        problems.append("hydra/launcher: there is no SLURM here (no squeue): start the sweep where jobs are submitted")
    if not any(word.startswith("zoo=") for word in words):
        problems.append("zoo: is missing; names or globs separated by commas, or all; e.g. python sweep.py zoo=mnist_*")
    return asked, problems


# ------------------------------------------------------------------------------------------------ what is there


@dataclass(frozen=True)
class Job:
    """A command of run.py.

    Attributes:
        zoo: the name of its preset.
        stage: which.
        shard: "3/64", or None: the whole zoo.
        words: its overrides.
    """

    zoo: str
    stage: str
    shard: str | None
    words: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name of its folder."""
        return "-".join([self.zoo, self.stage, *([self.shard.replace("/", "of")] if self.shard else [])])


class Sweep:
    """What is asked, what is there of it, and what is left to do.

    Args:
        asked: the command line.
        problems: what is known to be wrong with it.

    Raises:
        UserError: with one line a mistake, of the command line and of all zoos.
    """

    def __init__(self, asked: Asked, problems: Sequence[str] = ()) -> None:
        from hydra import compose
        from hydra.errors import HydraException
        from yaml import YAMLError

        from zoo.base.errors import UserError
        from zoo.config.combinations import machine_problems
        from zoo.config.command_line import known_words
        from zoo.config.reading import encoding_problems, mistakes, read_config

        if unreadable := encoding_problems([str(run.CONFIG_DIR), *asked.folders]):
            raise UserError(mistakes([*problems, *unreadable]))
        self.asked = asked
        self.configs: dict[str, Any] = {}
        good, wrong = known_words([*[f"zoo={zoo}" for zoo in asked.zoos[:1]], *asked.words, *asked.hydra], run.Config)
        problems = [*problems, *wrong]
        for zoo in asked.zoos:
            for stage in ["zoo", *(stage for stage in asked.stages if stage != "zoo")]:
                words = [f"zoo={zoo}", *(word for word in asked.words if word in good), f"task={stage}"]
                if stage == "downstream" and (wrong or machine_problems(self.configs[zoo])):
                    continue  # its checks look at further configurations, for this machine
                found = []
                try:
                    config = read_config(compose("config", words), run.Config, words, elsewhere=True)
                except UserError as error:
                    found = error.problems
                except (HydraException, YAMLError) as error:
                    found = [" ".join(str(error).split())]
                else:
                    self.configs.setdefault(zoo, config)
                problems += [problem for problem in found if problem not in problems]
                if found:
                    break
        if problems:
            raise UserError(mistakes(problems), problems)
        root = next((Path(config.paths.root) for config in self.configs.values()), Path())
        self.root, self.folder = root, root / "sweeps" / asked.name
        try:
            self.multirun = self._multirun()
        except HydraException as error:
            raise UserError(mistakes([f"{' '.join(asked.hydra)}: {' '.join(str(error).split())}"])) from error
        # The beginning of the names of its SLURM jobs: the same command elsewhere has others.
        self.queue = f"{asked.name}-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:6]}"

    def _multirun(self) -> DictConfig:
        """Hydra's own configuration of a multirun, the launcher's among it."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.types import RunMode

        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        words = [*self.asked.hydra, f"hydra.sweep.dir={self.folder.absolute()}"]
        return hydra.compose_config("config", words, run_mode=RunMode.MULTIRUN, with_log_configuration=False)

    def jobs(self, zoo: str, stage: str) -> list[Job]:
        """All jobs of a stage of a zoo."""
        from zoo.training.train import shard_unit

        words = (f"zoo={zoo}", *self.asked.words, f"logger.sweep={self.asked.name}")
        words += (f"task={stage}",) if stage != "zoo" else ()
        if stage not in ("zoo", "sparsify"):
            return [Job(zoo, stage, None, words)]
        config = self.configs[zoo]
        parts = min(self.asked.shards, -(-self.models(zoo, stage) // shard_unit(config)))
        if parts == 1:
            return [Job(zoo, stage, None, words)]
        shards = [f"{part}/{parts}" for part in range(1, parts + 1)]
        return [Job(zoo, stage, shard, (*words, f"zoo.shard={shard}")) for shard in shards]

    def models(self, zoo: str, stage: str = "zoo") -> int:
        """How many models a zoo will have; a twin has as many as its source (will have, where that is trained in the same
        sweep) unless a number is asked for."""
        from zoo import Zoo
        from zoo.base.errors import UserError
        from zoo.config.spec import spec_size

        asked = self.configs[zoo].zoo
        if stage == "sparsify" and asked.models is None:
            with suppress(UserError):  # there is none yet, or it is damaged
                there = Zoo.open(self.root / "zoos" / asked.name).n_models
                return max(spec_size(asked), there) if "zoo" in self.asked.stages else there
        return asked.models or spec_size(asked)

    def missing(self, stage: str) -> list[Job]:
        """The jobs of a stage that are still to be done: all of them, where the zoo itself is still to be trained."""
        growing = {job.zoo for job in self.missing("zoo")} if stage != "zoo" and "zoo" in self.asked.stages else set()
        jobs = [self.jobs(zoo, stage) if zoo in growing else self.undone(zoo, stage) for zoo in self.asked.zoos]
        return [job for some in jobs for job in some]

    def undone(self, zoo: str, stage: str) -> list[Job]:
        """The jobs of a stage of a zoo whose results are not there; of what cannot be read, none is."""
        from zoo.base.errors import UserError

        try:
            return self._undone(zoo, stage)
        except (UserError, OSError, ValueError):
            return self.jobs(zoo, stage)  # run.py repairs it, or says what is wrong

    def _undone(self, zoo: str, stage: str) -> list[Job]:
        from zoo import Zoo
        from zoo.base.files import read_file
        from zoo.store.schema import parse_json
        from zoo.training.sparsify import twin_name
        from zoo.training.spec import shard_of
        from zoo.training.train import shard_unit

        config, jobs = self.configs[zoo], self.jobs(zoo, stage)
        path, epochs = self.root / "zoos" / config.zoo.name, config.zoo.epochs
        if stage not in ("zoo", "sparsify"):
            state = _state(path)
            return [job for job in jobs if not state["zoo"] or parse_json(read_file(self.marker(job))) != state]
        if stage == "sparsify":
            path, epochs = path.with_name(twin_name(config)), config.sparsify.epochs
        there, models = Zoo.open(path), self.models(zoo, stage)
        if there.n_models < models or there.epochs[-1] < epochs:
            return jobs
        if not there.finished:
            stored = {model for block in there.blocks(models) if not block.pending for model in block.models}
            left = [job for job in jobs if not stored.issuperset(shard_of(models, shard_unit(config), job.shard))]
            return left or jobs[-1:]  # one of them writes the tables
        if stage == "sparsify" and config.sparsify.name == "vd":
            masked = Zoo.open(path.with_name(f"{path.name}_masked"))
            if not masked.finished or (masked.n_models, masked.epochs) != (there.n_models, there.epochs):
                return jobs[:1]  # the first writes it
        return []

    def marker(self, job: Job) -> Path:
        """The file that a job without a store of its own leaves when it is done: the state of the zoo it was done for."""
        return self.folder / job.key / "done.json"

    def lock(self, job: Job) -> Path:
        """The lock of whoever does a job."""
        return self.folder / job.key / "lock"

    def at_work(self) -> list[str]:
        """The processes that do these jobs at the moment or train models of these zoos, here or on other machines."""
        from zoo import Zoo
        from zoo.base.errors import UserError
        from zoo.training.sparsify import twin_name

        jobs = [job for zoo in self.asked.zoos for stage in self.asked.stages for job in self.jobs(zoo, stage)]
        owners = [owner for job in jobs if (owner := owner_of(self.lock(job)))]
        names = [config.zoo.name for config in self.configs.values()]
        names += [twin_name(config) for config in self.configs.values()]
        for path in [self.root / "zoos" / name for name in names]:
            with suppress(UserError):  # there is none, or it is damaged: nobody is at work
                owners += Zoo.open(path).at_work()
        return owners

    def table(self) -> Any:
        """Zoo by stage: how many jobs are done; and how far each zoo is."""
        from rich.console import Group
        from rich.table import Table

        table = Table()
        for column in ("zoo", "epochs", "left", *self.asked.stages):
            table.add_column(column, no_wrap=column == "zoo")
        for zoo in self.asked.zoos:
            cells = []
            for stage in self.asked.stages:
                jobs = self.jobs(zoo, stage)
                done = len(jobs) - len(self.undone(zoo, stage))
                cells.append("done" if done == len(jobs) else f"{done} of {len(jobs)}")
            table.add_row(zoo, *self.progress(zoo), *cells)
        told: list[Any] = [
            f"Sweep {self.asked.name} under {self.root}",
            table,
            "epochs: models × epochs that are stored, of all",
        ]
        if self.folder.exists():
            told.append(f"logs: {self.folder}/*/sweep.log, and those of the launcher in {self.folder / 'logs'}")
        return Group(*told)

    def progress(self, zoo: str) -> tuple[str, str]:
        """How many models × epochs of a zoo are stored, of all; and, while some of its blocks are trained, the time left at
        their pace."""
        from zoo import Zoo
        from zoo.base.console import duration
        from zoo.base.errors import UserError

        config = self.configs[zoo]
        done, total, paces = 0, self.models(zoo) * config.zoo.epochs, []
        with suppress(UserError, OSError):  # there is none yet, or it is damaged
            there = Zoo.open(self.root / "zoos" / config.zoo.name)
            for block in there.blocks(there.n_models):
                done += len(block.models) * max(0, len(block.epochs) - 1)
                if block.at_work:
                    paces.append(len(block.models) * block.pace)
        known = [pace for pace in paces if pace == pace]  # a block that has just begun goes on like the others
        left = (total - done) / (sum(known) / len(known) * len(paces)) if known else float("nan")
        return f"{min(done, total):,} of {total:,}", duration(max(0.0, left)) if paces else ""


def _state(path: Path) -> dict[str, str]:
    """What the zoo in a folder holds, in a hash."""
    from zoo import Zoo

    return {"zoo": Zoo.open(path).content if (path / "zoo.json").exists() else ""}


# ------------------------------------------------------------------------------------------------ doing it


def work(composed: DictConfig) -> None:
    """A job, wherever the launcher runs it: run.py's tasks; a failure is told in failure.txt in the job's folder."""
    from hydra.core.hydra_config import HydraConfig

    from zoo.base.console import plain_output
    from zoo.base.files import write_file
    from zoo.config.reading import read_config

    plain_output()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    with locked(folder / "lock", "another process ({owner}) is doing this job"):
        (folder / "failure.txt").unlink(missing_ok=True)
        try:
            with run.where_it_was_typed():
                config = read_config(composed, run.Config, hydra.overrides.task)
                zoo = Path(config.paths.root) / "zoos" / config.zoo.name
                state = _state(zoo)
                for step in config.task.run:
                    resolve_name(step)(config)
                same = _state(zoo) == state
        except Exception as error:
            told = run.told_of(error, folder)
            with suppress(OSError):  # on a full disk the job ends without a word
                (folder / "failure.txt").write_text(told, encoding="utf-8")
            raise
        if same:  # it is done for what the zoo was when it began
            write_file(folder / "done.json", json.dumps(state).encode())


class Launch:
    """Jobs on their way through a Hydra launcher.

    Args:
        sweep: whose they are.
        jobs: at least one; on SLURM all of one zoo and stage.
        attempt: how often these have been tried in this process.
    """

    def __init__(self, sweep: Sweep, jobs: list[Job], attempt: int) -> None:
        self.sweep, self.jobs = sweep, jobs
        folder = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{attempt}"
        self.logs = sweep.folder / "logs" / folder / f"{jobs[0].zoo}-{jobs[0].stage}"
        self.name = f"{sweep.queue}-{jobs[0].zoo}-{jobs[0].stage}"

    def run(self, after: Sequence[str] = ()) -> None:
        """Start the jobs, and wait until they have ended, well or not.

        Args:
            after: SLURM jobs that must have ended, well or not, before these begin.
        """
        for job in self.jobs:
            (self.sweep.folder / job.key).mkdir(parents=True, exist_ok=True)
            (self.sweep.folder / job.key / "failure.txt").unlink(missing_ok=True)
        try:
            words = [[*job.words, f"hydra.sweep.subdir={job.key}"] for job in self.jobs]
            self._launcher(after).launch(words, initial_job_idx=0)
        except Exception:  # of one job, or of the submission: which jobs are not done turns out later
            self.logs.mkdir(parents=True, exist_ok=True)
            (self.logs / "launch.txt").write_text(traceback.format_exc(), encoding="utf-8")

    def submit(self, after: Sequence[str]) -> list[str]:
        """Start the jobs on SLURM, and go on: their ids in the queue. None, if they have ended or could not be submitted."""
        # submitit waits for ever for jobs whose end it was not told of, so nobody waits for it, and the queue is asked.
        thread = threading.Thread(target=self.run, args=(after,), daemon=True)
        thread.start()
        while thread.is_alive() and not queued(self.name):
            time.sleep(0.2)
        return queued(self.name)

    def _launcher(self, after: Sequence[str]) -> Any:
        from hydra._internal.callbacks import Callbacks
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.core.plugins import Plugins
        from hydra.types import HydraContext

        config = copy.deepcopy(self.sweep.multirun)
        launcher = config.hydra.launcher
        with open_dict(launcher):
            if "submitit_folder" in launcher:
                launcher.submitit_folder = f"{self.logs.absolute()}/%j"
                launcher.name = self.name
            if after:
                arrays = dict.fromkeys(job.split("_")[0] for job in after)
                launcher.additional_parameters.dependency = f"afterany:{':'.join(arrays)}"
        HydraConfig.instance().set_config(config)
        context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(config))
        return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=work, config=config)

    def last_lines(self, job: Job) -> str:
        """Of what a job that is not done said; of one that was cancelled, that it was, and not what died of it."""
        i = self.jobs.index(job)
        logs = f"*_{i}/*_log" if len(self.jobs) > 1 else "*/*_log"  # one job is no array
        said = [file for kind in ("err", "out") for file in sorted(self.logs.glob(f"{logs}.{kind}"))]
        files = [self.sweep.folder / job.key / "failure.txt", *said, self.logs / "launch.txt"]
        texts = {file: file.read_text(encoding="utf-8", errors="replace").strip() for file in files if file.exists()}
        for file in said:
            if cancelled := re.search(CANCELLED, texts[file]):
                return cancelled[0]
        text = next((text for text in texts.values() if text), "it ended without a word")
        return "\n".join(text.splitlines()[-LOG_LINES:])


def on_slurm(asked: Asked) -> bool:
    """Whether jobs go to a SLURM queue."""
    return any(word.startswith("hydra/launcher=") and "slurm" in word for word in asked.hydra)


def queued(name: str) -> list[str]:
    """The SLURM jobs that wait or run and whose names begin so; of an array the tasks that are left.

    Raises:
        UserError: if the controller does not answer for `PATIENCE` seconds; silence is no empty queue.
    """
    from zoo.base.errors import UserError

    end = time.monotonic() + PATIENCE
    while True:
        result = subprocess.run(["squeue", "-h", "-r", "-o", "%i %j"], capture_output=True, text=True)
        if result.returncode == 0:
            lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
            return [line[0] for line in lines if line[-1].startswith(name)]
        if time.monotonic() > end:
            raise UserError(f"squeue fails ({result.stderr.strip()}): the jobs go on; try the same command again later")
        time.sleep(POLL)


def wait_for_queue(sweep: Sweep) -> None:
    """Wait until no job of the sweep is in the queue."""
    before = -1
    while left := queued(sweep.queue):
        if len(left) != before:
            print(f"{len(left)} jobs wait or run ({sweep.queue}… in squeue)", flush=True)
        before = len(left)
        time.sleep(POLL)


def attach(sweep: Sweep) -> None:
    """Wait for jobs of an earlier call that are still at work."""
    if on_slurm(sweep.asked):
        wait_for_queue(sweep)
    told = False
    while owners := sweep.at_work():
        if not told:
            print(f"Waiting for {len(owners)} of an earlier call that are still at work: {owners[0]}, …", flush=True)
        told = True
        time.sleep(POLL)


def carry_out(sweep: Sweep) -> dict[Job, str]:
    """Do what is missing, and try again what fails; what failed at last, with its last lines.

    A zoo whose stage fails does not come to the next one.
    """
    failed: dict[Job, str] = {}
    for attempt in range(sweep.asked.retries + 1):
        attach(sweep)
        launches = chain(sweep, attempt) if on_slurm(sweep.asked) else in_order(sweep, attempt)
        tried = {job: launch for launch in launches for job in launch.jobs}
        failed = {}
        for stage in sweep.asked.stages:
            stopped = {job.zoo for job in failed}
            jobs = [job for job in sweep.missing(stage) if job in tried and job.zoo not in stopped]
            failed |= {job: tried[job].last_lines(job) for job in jobs}
        if not failed:
            break
    return failed


def in_order(sweep: Sweep, attempt: int) -> list[Launch]:
    """Every stage when the one before has ended, all zoos side by side."""
    launches: list[Launch] = []
    stopped: set[str] = set()
    for stage in sweep.asked.stages:
        if jobs := [job for job in sweep.missing(stage) if job.zoo not in stopped]:
            print(f"Stage {stage}: {len(jobs)} jobs to do", flush=True)
            launches.append(Launch(sweep, jobs, attempt))
            launches[-1].run()
        stopped |= {job.zoo for job in sweep.missing(stage)}
    return launches


def chain(sweep: Sweep, attempt: int) -> list[Launch]:
    """All stages at once, in a SLURM queue that starts each of a zoo when the one before has ended."""
    launches: list[Launch] = []
    before: dict[str, list[str]] = {}  # of each zoo: the jobs of its last stage
    for stage in sweep.asked.stages:
        missing = sweep.missing(stage)
        if missing:
            print(f"Stage {stage}: {len(missing)} jobs to do", flush=True)
        for zoo in dict.fromkeys(job.zoo for job in missing):
            launches.append(Launch(sweep, [job for job in missing if job.zoo == zoo], attempt))
            before[zoo] = launches[-1].submit(before.get(zoo, [])) or before.get(zoo, [])
    wait_for_queue(sweep)
    return launches


def plan(sweep: Sweep) -> Any:
    """What would be started, as a table."""
    from rich.console import Group
    from rich.table import Table

    from zoo.config.combinations import architecture, machine_problems
    from zoo.training.plan import Pace, estimate, in_bytes, measure_pace
    from zoo.training.train import zoo_models

    table = Table()
    for column in ("zoo", "jobs", "models", "states", "on disk", "time on a machine like this"):
        table.add_column(column, justify="left" if column == "zoo" else "right")
    paces: dict[str, Pace | None] = {}
    missing = Counter(job.zoo for stage in sweep.asked.stages for job in sweep.missing(stage))
    for zoo, config in sweep.configs.items():
        arch = architecture(config)
        models, start = zoo_models(config, arch)
        found, pace = estimate(config, arch, models), json.dumps([arch.to_dict(), config.engine.name])
        if pace not in paces:
            paces[pace] = None if machine_problems(config) else measure_pace(config, arch, models, start)
        here = paces[pace]
        taken = here.duration(found) if here else "unknown time"
        table.add_row(zoo, str(missing[zoo]), str(found.models), f"{found.states:,}", in_bytes(found.size), taken)
    return Group(f"Sweep {sweep.asked.name}: jobs to do, and the whole of each zoo", table)


@run.told_to_the_terminal()
def main() -> None:
    """The command line. Exit code 0: all is done; 1: something is missing; 2: a mistake, nothing was started."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    from zoo.base.console import console
    from zoo.base.errors import UserError
    from zoo.config.reading import composing

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops it is told what Ctrl-C is told
    run.make_importable()
    asked, problems = read_words(sys.argv[1:])
    with composing(run.CONFIG_DIR, asked.folders, "sweep"):
        try:
            sweep = Sweep(asked, problems)
            if asked.dry_run:
                console.print(plan(sweep))
                return
            failed = {} if asked.status else carry_out(sweep)
        except UserError as error:
            run.fail(str(error))
        except KeyboardInterrupt:
            run.fail("Stopped. Jobs in a queue go on; the same command waits for them and does the rest.", code=130)
        console.print(sweep.table())
        if asked.status and on_slurm(asked):
            print(f"{len(queued(sweep.queue))} jobs wait or run ({sweep.queue}… in squeue)")
        for job, text in failed.items():
            folders = f"hydra.searchpath=[{','.join(asked.folders)}] " if asked.folders else ""
            print(f"\n{job.key} failed: python run.py {folders}{shlex.join(job.words)}\n{text}", file=sys.stderr)
        missing = [job for stage in asked.stages for job in sweep.missing(stage)]
    if missing:
        told = "" if asked.status else "; the same command tries again what is missing"
        run.fail(f"{len(missing)} jobs are not done{told}.", code=1)


if __name__ == "__main__":
    import sweep

    sweep.main()  # of the module, so that jobs elsewhere find `work`
