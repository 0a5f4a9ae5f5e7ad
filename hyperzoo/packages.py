"""The packages and programs that lie beside this one, under names that others may use, too."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

NAMES = ("zoo", "hyperrep", "analysis", "run", "sweep")


def import_packages() -> None:
    """Import them from here, whatever of the same name lies in the working directory or on PYTHONPATH.

    Raises:
        ImportError: if another one of that name is imported already.
    """
    here = Path(__file__).resolve().parents[1]
    for name in NAMES:
        if name in sys.modules:
            file = sys.modules[name].__file__
            if file is None or not Path(file).resolve().is_relative_to(here):
                raise ImportError(
                    f"hyperzoo needs its own package {name}, but {file} is imported: import hyperzoo first"
                )
            continue
        spec = PathFinder.find_spec(name, [str(here)])
        if spec is None or spec.loader is None:
            raise ImportError(f"hyperzoo is not whole: there is no {name} in {here}; install it again")
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
