"""Initial weights, bit for bit those of the published code.

The published recipe (Model Zoos, Schürholt et al., 2022, and its code): seed torch with the model's seed, build the
layers in order (PyTorch's own initialisation draws from the generator), then draw each weight again, layer by layer, by
the zoo's method, and set each bias to 0.01. BatchNorm keeps weight 1 and bias 0. The convolutions of shortcuts are always
drawn by kaiming_uniform (as in the code of Hyper-Representations as Generative Models, 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo.architecture import Architecture

BIAS = 0.01

METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": nn.init.uniform_,  # U(0, 1): not symmetric
    "normal": nn.init.normal_,  # N(0, 1)
    "kaiming_uniform": nn.init.kaiming_uniform_,  # bound sqrt(6 / fan_in)
    "kaiming_normal": nn.init.kaiming_normal_,  # std sqrt(2 / fan_in)
}


def initialise(module: nn.Module, method: str) -> None:
    """Draw the weights of every convolution and linear layer again, in order, from torch's global generator."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            METHODS["kaiming_uniform" if ".shortcut." in name else method](layer.weight)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, BIAS)


def initial_module(arch: Architecture, seed: int, method: str, activation: str, dropout: float) -> nn.Module:
    """A freshly initialised model: a function of its arguments alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = arch.module(activation, dropout)
        initialise(module, method)
    return module
