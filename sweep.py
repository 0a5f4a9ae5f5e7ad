"""Several zoos with one command: `python sweep.py zoo=mnist_*,fmnist_seed zoo.models=100`.

Names, globs and `all` (the 27 published zoos) become a Hydra multirun of `run.py`; every other word is passed on, such
as a launcher. A zoo that is finished costs nothing, so the same command goes on after a failure.
"""

from __future__ import annotations

import fnmatch
import sys

import run


def published_zoos() -> list[str]:
    """The names of the 27 published zoos."""
    names = sorted(path.stem for path in (run.CONFIG_DIR / "zoo").glob("*.yaml"))
    return [name for name in names if not name.startswith("digits_") and not name.endswith("_printed")]


def expand(words: list[str]) -> list[str]:
    """The words of the command line with the globs in `zoo=` replaced by the names of presets."""
    names = sorted(path.stem for path in (run.CONFIG_DIR / "zoo").glob("*.yaml"))
    expanded = []
    for word in words:
        if word.startswith("zoo="):
            found: list[str] = []
            for pattern in word.removeprefix("zoo=").split(","):
                matches = published_zoos() if pattern == "all" else fnmatch.filter(names, pattern)
                found += [name for name in matches or [pattern] if name not in found]  # run.py explains an unknown name
            word = "zoo=" + ",".join(found)
        expanded.append(word)
    return expanded


def main() -> None:
    """Run them, one after another or as `hydra/launcher=` says."""
    if not any(word.startswith("zoo=") for word in sys.argv[1:]):
        run.fail(
            "sweep.py needs zoo=NAMES: names or globs separated by commas, or all; e.g. python sweep.py zoo=mnist_*"
        )
    sys.argv[1:] = ["--multirun", *expand(sys.argv[1:])]
    run.main()


if __name__ == "__main__":
    main()
