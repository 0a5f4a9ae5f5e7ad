"""The one entry point: compose the configuration, check it, dispatch the task.

`python run.py --help` names tasks, groups and the overrides used most.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

if TYPE_CHECKING:
    from zoo.config import Config

CONFIG_DIR = Path(__file__).resolve().parent / "conf"

STOPPED = "Stopped. What is stored stays; the same command goes on from there."

# In a multirun of this process: -1, then the jobs that failed; the others go on. Empty elsewhere: a failure ends the job.
_failures_of_sweep: list[int] = []


@hydra.main(config_path=str(CONFIG_DIR), config_name="config", version_base="1.3")
def run(composed: DictConfig) -> None:
    """One job: a typed configuration, then the functions that `task.run` names."""
    from zoo.config import read_config
    from zoo.console import record
    from zoo.errors import UserError

    try:
        config = read_config(composed, config_type(), HydraConfig.get().overrides.task)
        for step in config.task.run:
            resolve_name(step)(config)
    except UserError as error:
        record.info("%s", error)
        if not _failures_of_sweep:
            fail(str(error))
        job = HydraConfig.get()
        print(f"{' '.join(job.overrides.task)}: {error}", file=sys.stderr)
        _failures_of_sweep.append(job.job.num)
    except KeyboardInterrupt:
        record.info(STOPPED)
        fail(STOPPED, code=130)
    except Exception:
        record.info("This is a fault of hyperzoo:", exc_info=True)
        raise


def config_type() -> type[Config]:
    """The whole configuration: that of zoos, and the groups that other packages add to it."""
    from dataclasses import make_dataclass

    from analysis.config import AnalysisConfig
    from hyperrep.autoencoder import AutoencoderConfig
    from hyperrep.config import PopulationConfig
    from hyperrep.downstream import DownstreamConfig
    from hyperrep.samplers import SamplerConfig
    from zoo.config import Config
    from zoo.sparsify import SparsifyConfig

    groups = {
        "autoencoder": AutoencoderConfig, "sampler": SamplerConfig, "population": PopulationConfig,
        "downstream": DownstreamConfig, "analysis": AnalysisConfig, "sparsify": SparsifyConfig,
    }  # fmt: skip
    return make_dataclass("Config", groups.items(), bases=(Config,), kw_only=True)


def fail(message: str, code: int = 2) -> None:
    """Say what is wrong, without a traceback, and exit."""
    print(message, file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """The command line: all mistakes are told at once, before Hydra starts anything."""
    from zoo.config import command_line_problems, mistakes

    arguments, unknown = get_args_parser().parse_known_args()
    asks_hydra = arguments.help or arguments.hydra_help or arguments.shell_completion
    if not (asks_hydra or arguments.config_dir or arguments.config_path or arguments.config_name or unknown):
        problems = command_line_problems(arguments.overrides, CONFIG_DIR, arguments.multirun, config_type())
        if problems:
            fail(mistakes(problems))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops it is told what Ctrl-C is told
    if arguments.multirun:
        _failures_of_sweep.append(-1)
    run()
    if len(_failures_of_sweep) > 1:
        fail(f"{len(_failures_of_sweep) - 1} of the runs failed; the same command tries them again.")


if __name__ == "__main__":
    main()
