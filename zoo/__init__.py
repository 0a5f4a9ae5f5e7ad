"""How a population of neural networks comes to be and is kept: `Zoo.open(path)` reads one."""

from zoo.store import Zoo

__all__ = ["Zoo"]
