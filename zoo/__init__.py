"""How a population of neural networks comes to be and is kept: `Zoo.open(path)` reads one.

base        errors, files, names, the console: what everything else uses
images      image datasets: readers, downloads, protocols
networks    the description of a network, and what follows from it
engines     how models are trained together
store       a zoo on disk
config      the configuration, typed, and the mistakes in it
training    from a configuration to a finished zoo; sparsified twins
exchange    imports and exports
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.store.zoo import Zoo

__all__ = ["Zoo"]


def __getattr__(name: str) -> Any:
    """`Zoo`, imported when it is asked for: tables take a second to import, which no help text needs."""
    if name == "Zoo":
        from zoo.store.zoo import Zoo

        return Zoo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
