"""Versions of what a result was made with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """The versions of what makes a zoo, as zoo.json records them."""
    return {name: version_of(name) for name in ("hyperzoo", "torch", "numpy", "numba", "llvmlite", "pytorch-lightning")}


def version_of(package: str) -> str:
    """The version of an installed package. hyperzoo itself need not be installed: `python run.py` works in its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
