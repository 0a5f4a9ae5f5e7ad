"""Many zoos with one command: `python sweep.py zoo=mnist_*,fmnist_seed zoo.models=100 shards=8 hydra/launcher=slurm`.

Each zoo goes through stages, and its training is cut into shards: ranges of models that write disjoint blocks of one store.
Whatever is not there yet becomes jobs of `run.py`, which a Hydra launcher runs. What is there is read off the stores, never off
a job's word; so the same command, after whatever happened, does only what is missing.

    zoo=NAMES          names or globs separated by commas, or all: the 27 published zoos
    shards=8           jobs a zoo, at most as many as it has blocks (zoo.block_size); default 1
    stages=zoo,sparsify,analysis,hyperrep,sample,downstream    which, in this order; default zoo
    retries=2          how often what failed is tried again; default 1
    status             print how far it is, and start nothing
    --dry-run          print what would be started: jobs, states, bytes, time
    KEY=VALUE …        anything of run.py, for all of them
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig

import run

STAGES = ("zoo", "sparsify", "analysis", "hyperrep", "sample", "downstream")
PRESETS = [f"hydra/launcher={name}" for name in ("slurm", "slurm_gpu", "local")]
PATIENCE = 600.0  # seconds that SLURM's controller may be silent
POLL = 2.0  # seconds between looks at the queue or at locks
LOG_LINES = 5  # of a failed job that are shown


# ------------------------------------------------------------------------------------------------ what is asked


def presets() -> list[str]:
    """The names of all zoos that have a preset."""
    return sorted(path.stem for path in (run.CONFIG_DIR / "zoo").glob("*.yaml"))


def published_zoos() -> list[str]:
    """The names of the 27 published zoos."""
    return [name for name in presets() if not name.startswith("digits_") and not name.endswith("_printed")]


def expand(patterns: str) -> list[str]:
    """The presets that names and globs, separated by commas, stand for; `all` are the published ones."""
    found: list[str] = []
    for pattern in patterns.split(","):
        matches = published_zoos() if pattern == "all" else fnmatch.filter(presets(), pattern)
        found += [name for name in matches or [pattern] if name not in found]  # an unknown name is told later
    return found


@dataclass
class Asked:
    """The command line.

    Attributes:
        zoos: names of presets.
        words: overrides of run.py that hold for all.
        hydra: overrides of Hydra, such as the launcher's.
        shards, stages, retries: see above.
        status, dry_run: whether only to print.
    """

    zoos: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    hydra: list[str] = field(default_factory=list)
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
    from zoo.config import did_you_mean

    asked, problems = Asked(), []
    for word in words:
        key, _, value = word.partition("=")
        match key:
            case "zoo":
                asked.zoos = expand(value)
                wrong = [name for name in asked.zoos if name not in presets()]
                problems += [f"zoo: got {name!r}{did_you_mean(name, presets())}" for name in wrong]
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
            case _:
                asked.words.append(word)
    if any(word in PRESETS for word in asked.hydra) and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        problems.append("hydra/launcher: this one needs the extra `slurm`; pip install 'hyperzoo[slurm]'")
    if on_slurm(asked) and not shutil.which("squeue"):
        problems.append("hydra/launcher: there is no SLURM here (no squeue): start the sweep where jobs are submitted")
    if not asked.zoos:
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

    Raises:
        UserError: with one line a mistake, of all zoos.
    """

    def __init__(self, asked: Asked) -> None:
        from hydra import compose
        from hydra.errors import HydraException

        from zoo.config import machine_problems, mistakes, read_config, sentences
        from zoo.errors import UserError

        self.asked = asked
        self.configs: dict[str, Any] = {}
        problems: list[str] = []
        for zoo in asked.zoos:
            for stage in ["zoo", *(stage for stage in asked.stages if stage != "zoo")]:
                words = [f"zoo={zoo}", *asked.words, f"task={stage}"]
                if stage == "downstream" and machine_problems(self.configs[zoo]):
                    continue  # its checks look at further configurations, for this machine
                found = []
                try:
                    config: Any = read_config(compose("config", words), run.config_type(), words, elsewhere=True)
                except UserError as error:
                    found = sentences(error)
                except HydraException as error:
                    found = [str(error).splitlines()[0]]
                else:
                    self.configs.setdefault(zoo, config)
                problems += [problem for problem in found if problem not in problems]
                if found:
                    break
        try:
            self.launching()
        except HydraException as error:
            problems.append(f"{' '.join(asked.hydra)}: {str(error).splitlines()[0]}")
        if problems:
            raise UserError(mistakes(problems))
        self.root = Path(self.configs[asked.zoos[0]].paths.root)
        self.folder = self.root / "sweeps" / asked.name
        # Of its SLURM jobs: the same command elsewhere has others.
        self.queue = f"{asked.name}-{hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:6]}"

    def launching(self, *words: str) -> DictConfig:
        """Hydra's own configuration of a multirun, the launcher's among it, with some further words."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.types import RunMode

        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        overrides = [*self.asked.hydra, *words]
        return hydra.compose_config("config", overrides, run_mode=RunMode.MULTIRUN, with_log_configuration=False)

    def missing(self, stage: str) -> list[Job]:
        """The jobs of a stage that are still to be done."""
        return [job for zoo in self.asked.zoos for job in self.jobs(zoo, stage) if not self.done(job)]

    def jobs(self, zoo: str, stage: str) -> list[Job]:
        """All jobs of a stage of a zoo."""
        from zoo.training import shard_unit

        words = (f"zoo={zoo}", *self.asked.words, f"logger.sweep={self.asked.name}")
        words += (f"task={stage}",) if stage != "zoo" else ()
        if stage not in ("zoo", "sparsify"):
            return [Job(zoo, stage, None, words)]
        config = self.configs[zoo]
        parts = min(self.asked.shards, -(-self.models(zoo) // shard_unit(config)))
        if parts == 1:
            return [Job(zoo, stage, None, words)]
        shards = [f"{part}/{parts}" for part in range(1, parts + 1)]
        return [Job(zoo, stage, shard, (*words, f"zoo.shard={shard}")) for shard in shards]

    def models(self, zoo: str) -> int:
        """How many models a zoo will have."""
        from zoo.spec import spec_size

        return self.configs[zoo].zoo.models or spec_size(self.configs[zoo].zoo)

    def done(self, job: Job) -> bool:
        """Whether there is nothing left to do for a job; of what cannot be read there is."""
        from zoo.errors import UserError

        try:
            return self._done(job)
        except (UserError, OSError, ValueError):
            return False  # run.py repairs it, or says what is wrong

    def _done(self, job: Job) -> bool:
        from zoo import Zoo
        from zoo.spec import shard_of
        from zoo.training import shard_unit

        config = self.configs[job.zoo]
        source = self.root / "zoos" / config.zoo.name
        if job.stage not in ("zoo", "sparsify"):
            state = _state(source)
            return bool(state["zoo"]) and json.loads(self.marker(job).read_text()) == state
        path, epochs = source, config.zoo.epochs
        if job.stage == "sparsify":
            path, epochs = source.with_name(f"{source.name}_{config.sparsify.name}"), config.sparsify.epochs
        if not (path / "zoo.json").exists():
            return False
        zoo, models = Zoo.open(path), self.models(job.zoo)
        if zoo.n_models < models or zoo.epochs[-1] < epochs:
            return False
        if zoo.finished:
            if job.stage == "zoo" or config.sparsify.name != "vd" or (job.shard or "1/1").split("/")[0] != "1":
                return True  # the masked twin is the first shard's
            masked = Zoo.open(path.with_name(f"{path.name}_masked"))
            return masked.finished and (masked.n_models, masked.epochs) == (zoo.n_models, zoo.epochs)
        if not zoo.pending:
            return False  # its tables are to be written
        own = shard_of(models, shard_unit(config), job.shard)
        there = {model for block in zoo.blocks(zoo.n_models) if not block.pending for model in block.models}
        return set(own) <= there

    def marker(self, job: Job) -> Path:
        """The file that a job without a store of its own leaves when it is done: the state of the zoo it was done for."""
        return self.folder / job.key / "done.json"

    def at_work(self) -> list[str]:
        """The processes that are training models of these zoos at the moment, here or on other machines."""
        from zoo import Zoo
        from zoo.errors import UserError

        names = [config.zoo.name for config in self.configs.values()]
        names += [f"{config.zoo.name}_{config.sparsify.name}" for config in self.configs.values()]
        owners = []
        for path in [self.root / "zoos" / name for name in names]:
            with suppress(UserError):  # there is none, or it is damaged: nobody is at work
                owners += Zoo.open(path).at_work()
        return owners

    def table(self) -> Any:
        """Zoo by stage: how many jobs are done."""
        from rich.table import Table

        table = Table(title=f"Sweep {self.asked.name} under {self.root}", title_justify="left")
        for column in ("zoo", *self.asked.stages):
            table.add_column(column, no_wrap=column == "zoo")
        for zoo in self.asked.zoos:
            cells = []
            for stage in self.asked.stages:
                jobs = self.jobs(zoo, stage)
                done = sum(self.done(job) for job in jobs)
                cells.append("done" if done == len(jobs) else f"{done} of {len(jobs)}")
            table.add_row(zoo, *cells)
        return table


def _state(path: Path) -> dict[str, str]:
    """What the zoo in a folder holds, in a hash."""
    from zoo import Zoo

    return {"zoo": Zoo.open(path).content if (path / "zoo.json").exists() else ""}


# ------------------------------------------------------------------------------------------------ doing it


def work(composed: DictConfig) -> None:
    """A job, wherever the launcher runs it: run.py's tasks; a failure is told in failure.txt in the job's folder."""
    from hydra.core.hydra_config import HydraConfig

    from zoo.config import read_config
    from zoo.errors import UserError
    from zoo.files import write_file

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    (folder / "failure.txt").unlink(missing_ok=True)
    try:
        config: Any = read_config(composed, run.config_type(), hydra.overrides.task)
        zoo = Path(config.paths.root) / "zoos" / config.zoo.name
        state = _state(zoo)
        for step in config.task.run:
            resolve_name(step)(config)
    except Exception as error:
        told = str(error) if isinstance(error, UserError) else traceback.format_exc()
        (folder / "failure.txt").write_text(told)
        raise
    if _state(zoo) == state:  # it is done for what the zoo was when it began
        write_file(folder / "done.json", json.dumps(state).encode())


class Launch:
    """Jobs on their way through a Hydra launcher.

    Args:
        sweep: whose they are.
        jobs: at least one.
        attempt: numbers the launches of a sweep in this process.
    """

    def __init__(self, sweep: Sweep, jobs: list[Job], attempt: int) -> None:
        from hydra._internal.callbacks import Callbacks
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.core.plugins import Plugins
        from hydra.types import HydraContext

        self.sweep, self.jobs = sweep, jobs
        self.logs = sweep.folder / "logs" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{attempt}"
        words = [f"hydra.sweep.dir={sweep.folder.absolute()}"]
        if "submitit_folder" in sweep.launching().hydra.launcher:
            words += [
                f"hydra.launcher.submitit_folder={self.logs.absolute()}/%j",
                f"hydra.launcher.name={sweep.queue}",
            ]
        config = sweep.launching(*words)
        HydraConfig.instance().set_config(config)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(
                config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks(config)
            ),
            task_function=work,
            config=config,
        )

    def run(self) -> None:
        """Start the jobs, and wait until they have ended, well or not."""
        words = [[*job.words, f"hydra.sweep.subdir={job.key}"] for job in self.jobs]
        for job in self.jobs:
            (self.sweep.folder / job.key).mkdir(parents=True, exist_ok=True)
            (self.sweep.folder / job.key / "failure.txt").unlink(missing_ok=True)
        if not on_slurm(self.sweep.asked):
            self._launch(words)
            return
        # submitit waits for ever for jobs whose end it was not told of, so the queue is asked.
        thread = threading.Thread(target=self._launch, args=(words,), daemon=True)
        thread.start()
        while thread.is_alive() and not queued(self.sweep.queue):
            time.sleep(0.2)  # until they are submitted
        wait_for_queue(self.sweep)

    def _launch(self, words: list[list[str]]) -> None:
        try:
            self.launcher.launch(words, initial_job_idx=0)
        except Exception:  # of one job, or of the submission: which jobs are not done turns out below
            self.logs.mkdir(parents=True, exist_ok=True)
            (self.logs / "launch.txt").write_text(traceback.format_exc())

    def failures(self) -> dict[Job, str]:
        """The last lines of each job that is not done."""
        told = {}
        for i, job in enumerate(self.jobs):
            if not self.sweep.done(job):
                files = [self.sweep.folder / job.key / "failure.txt"]
                logs = f"*_{i}/*_log" if len(self.jobs) > 1 else "*/*_log"  # one job is no array
                files += [file for kind in ("err", "out") for file in sorted(self.logs.glob(f"{logs}.{kind}"))]
                files += [self.logs / "launch.txt"]
                texts = [file.read_text(errors="replace").strip() for file in files if file.exists()]
                text = next((text for text in texts if text), "it ended without a word")
                told[job] = "\n".join(text.splitlines()[-LOG_LINES:])
        return told


def on_slurm(asked: Asked) -> bool:
    """Whether jobs go to a SLURM queue."""
    return any(word.startswith("hydra/launcher=") and "slurm" in word for word in asked.hydra)


def queued(name: str) -> list[str]:
    """The SLURM jobs of this name that wait or run.

    Raises:
        UserError: if the controller does not answer for `PATIENCE` seconds; silence is no empty queue.
    """
    from zoo.errors import UserError

    end = time.monotonic() + PATIENCE
    while True:
        result = subprocess.run(["squeue", "-h", "-r", "-n", name, "-o", "%i"], capture_output=True, text=True)
        if result.returncode == 0:
            return result.stdout.split()
        if time.monotonic() > end:
            raise UserError(f"squeue fails ({result.stderr.strip()}): the jobs go on; try the same command again later")
        time.sleep(POLL)


def wait_for_queue(sweep: Sweep) -> None:
    """Wait until no job of the sweep is in the queue."""
    before = -1
    while left := queued(sweep.queue):
        if len(left) != before:
            print(f"{len(left)} jobs wait or run ({sweep.queue} in squeue)", flush=True)
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


def finish(sweep: Sweep) -> None:
    """Write the tables of zoos whose last shards ended at the same moment, so that neither did."""
    from zoo import Zoo
    from zoo.errors import UserError

    for config in sweep.configs.values():
        for name in (config.zoo.name, f"{config.zoo.name}_{config.sparsify.name}"):
            with suppress(UserError):  # there is none, or it is damaged: its jobs say so
                if not (zoo := Zoo.open(sweep.root / "zoos" / name)).finished and not zoo.pending:
                    zoo.finalise()


def carry_out(sweep: Sweep) -> dict[Job, str]:
    """Do what is missing, stage by stage; what failed at last, with its last lines."""
    failed: dict[Job, str] = {}
    attempts = 0
    for stage in sweep.asked.stages:
        for _ in range(sweep.asked.retries + 1):
            attach(sweep)
            finish(sweep)
            jobs = [job for job in sweep.missing(stage) if job.zoo not in {other.zoo for other in failed}]
            if not jobs:
                break
            attempts += 1
            print(f"Stage {stage}: {len(jobs)} jobs to do", flush=True)
            launch = Launch(sweep, jobs, attempts)
            launch.run()
            finish(sweep)
            last = launch.failures()
        else:
            failed |= last  # later stages of these zoos make no sense
    return failed


def plan(sweep: Sweep) -> Any:
    """What would be started, as a table."""
    from rich.table import Table

    from zoo.config import machine_problems
    from zoo.training import architecture, duration, estimate, in_bytes, seconds_an_image, zoo_models

    table = Table(title=f"Sweep {sweep.asked.name}: jobs to do; the whole of each zoo", title_justify="left")
    for column in ("zoo", "jobs", "models", "states", "on disk", "time on a machine like this"):
        table.add_column(column, justify="left" if column == "zoo" else "right")
    paces: dict[str, float] = {}
    for zoo, config in sweep.configs.items():
        arch = architecture(config)
        models, start = zoo_models(config, arch)
        found, pace = estimate(config, arch, models), json.dumps([arch.to_dict(), config.engine.name])
        missing = [job for stage in sweep.asked.stages for job in sweep.jobs(zoo, stage) if not sweep.done(job)]
        if pace not in paces:
            paces[pace] = float("nan") if machine_problems(config) else seconds_an_image(config, arch, models, start)
        seconds = duration(found.images * paces[pace])
        table.add_row(zoo, str(len(missing)), str(found.models), f"{found.states:,}", in_bytes(found.size), seconds)
    return table


@contextmanager
def composing() -> Iterator[None]:
    """Hydra ready to compose; jobs elsewhere find these modules too."""
    from hydra import initialize_config_dir

    here = str(Path(__file__).resolve().parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *(path for path in paths if path not in ("", here))])
    with initialize_config_dir(str(run.CONFIG_DIR), version_base="1.3"):
        yield


def main() -> None:
    """The command line. Exit code 0: all is done; 1: something is missing; 2: a mistake, nothing was started."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    from zoo.config import command_line_problems, mistakes
    from zoo.errors import UserError
    from zoo.training import console

    asked, problems = read_words(sys.argv[1:])
    if asked.zoos and not problems:
        first = [f"zoo={asked.zoos[0]}", *asked.words, *asked.hydra]
        problems += command_line_problems(first, run.CONFIG_DIR, kind=run.config_type(), elsewhere=True)
    if problems:
        run.fail(mistakes(problems))
    with composing():
        try:
            sweep = Sweep(asked)
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
            print(f"{len(queued(sweep.queue))} jobs wait or run ({sweep.queue} in squeue)")
        for job, text in failed.items():
            print(f"\n{job.key} failed: python run.py {' '.join(job.words)}\n{text}", file=sys.stderr)
        missing = [job for stage in asked.stages for job in sweep.missing(stage)]
    if missing:
        told = "" if asked.status else "; the same command tries again what is missing"
        run.fail(f"{len(missing)} jobs are not done{told}.", code=1)


if __name__ == "__main__":
    import sweep

    sweep.main()  # of the module, so that jobs elsewhere find `work`
