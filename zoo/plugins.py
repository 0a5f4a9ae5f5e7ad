"""A user's own parts, named by dotted path in the configuration: readers, modules, samplers, features."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from zoo.errors import UserError


def find(path: str) -> Any:
    """What the dotted path of a module's attribute names.

    Raises:
        UserError: if there is none, or the module fails when it is imported.
    """
    try:
        return resolve_name(path)
    except Exception as error:  # the module is the user's own, and may fail in any way
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise UserError(f"{path} cannot be imported ({kind}{error})") from error
