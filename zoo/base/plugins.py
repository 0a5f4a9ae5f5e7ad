"""A user's own parts, named by dotted path in the configuration: readers, modules, samplers, features."""

from __future__ import annotations

from importlib import import_module
from pkgutil import resolve_name
from typing import Any

from zoo.base.errors import UserError

# Public names of what lies elsewhere by now: configurations and stored zoos hold them.
MOVED = {"zoo.resnet.ResNet18": "zoo.networks.resnet.ResNet18"}


def find(path: str) -> Any:
    """What the dotted path of a module's attribute names.

    Raises:
        UserError: if there is none, or the module fails when it is imported.
    """
    try:
        return _resolved(MOVED.get(path, path))
    except (Exception, SystemExit) as error:  # the module is the user's own, and may fail in any way
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise UserError(f"{path} cannot be imported ({kind}{error})") from error


def _resolved(path: str) -> Any:
    try:
        return resolve_name(path)
    except AttributeError:  # perhaps only because the module lacks something that it imports
        try:
            import_module(path.rpartition(".")[0])
        except ImportError as error:
            if error.name and not f"{path}.".startswith(f"{error.name}."):
                raise
        raise
