"""`engine=`: which engines there are, and which of them can train what."""

from __future__ import annotations

from dataclasses import dataclass, field

from zoo.engines import stages
from zoo.networks.architecture import Architecture

ENGINES = ("fused", "torch", "loop")  # the fastest first


@dataclass
class EngineConfig:
    """`engine=`: how a population is trained. The choice changes the speed, not the science."""

    name: str = field(metadata={"choices": ("auto", *ENGINES)})
    threads: int | None = field(metadata={"min": 1})  # null: every core this process may use
    lanes: int | None = field(metadata={"min": 1})  # engine=torch: models in one batch of tensors; see TorchEngine


def choose(name: str, arch: Architecture, accelerator: str, augmented: bool) -> str:
    """The engine that `engine.name` stands for: with `auto`, the fastest that can do it (see `refusal`)."""
    if name != "auto":
        return name
    return next(engine for engine in ENGINES if refusal(engine, arch, accelerator, augmented) is None)


def refusal(engine: str, arch: Architecture, accelerator: str, augmented: bool) -> str | None:
    """Why an engine cannot do a training, in one sentence; None if it can. `loop` can do all.

    Args:
        engine: one of `ENGINES`.
        arch: the architecture.
        accelerator: "cpu" or "gpu".
        augmented: whether the training images are changed at random.
    """
    if engine == "fused":
        return _refusal_of_fused(arch, accelerator, augmented)
    if engine == "torch" and arch.is_module:
        return f"engine=torch trains architectures given as a list of layers; arch={arch.name} is a module: use engine=loop"
    return None


def _refusal_of_fused(arch: Architecture, accelerator: str, augmented: bool) -> str | None:
    if accelerator != "cpu":
        return "engine=fused runs on the CPU: use trainer=cpu, or engine=torch"
    if augmented:
        return "engine=fused does not augment images, as the dataset's protocol wants: use engine=torch or engine=loop"
    if arch.is_module:
        return f"engine=fused trains architectures given as a list of layers; arch={arch.name} is a module: use engine=loop"
    if arch.image[1] != arch.image[2]:
        return f"engine=fused takes square images, not {arch.image[1]}x{arch.image[2]}: use engine=torch"
    try:
        found = stages.stages(arch)
    except ValueError as error:
        return f"engine=fused cannot express arch={arch.name} ({error}): use engine=torch"
    if arch.variational and any(stage.shortcut for stage in found):
        return f"engine=fused trains no variances of residual blocks (arch={arch.name}): use engine=torch"
    return None
