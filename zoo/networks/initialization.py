"""Initial weights, bit for bit those of the published code.

The published recipe (Model Zoos, Schürholt et al., 2022, and its code): seed torch with the model's seed, build the
layers in order (PyTorch's own initialisation draws from the generator), then draw each weight again, layer by layer, by
the zoo's method, and set each bias to 0.01. BatchNorm keeps weight 1 and bias 0. The convolutions of shortcuts are always
drawn by kaiming_uniform (as in the code of Hyper-Representations as Generative Models, 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.base.lazy import nn, torch
from zoo.networks.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

BIAS = 0.01

# Names in torch.nn.init, without the underscore: U(0, 1), which is not symmetric; N(0, 1); bound sqrt(6 / fan_in); standard
# deviation sqrt(2 / fan_in).
METHODS = ("uniform", "normal", "kaiming_uniform", "kaiming_normal")


def initialise(module: nn.Module, method: str) -> None:
    """Draw the weights of every convolution and linear layer again, in order, from torch's global generator."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            draw(layer.weight, "kaiming_uniform" if ".shortcut." in name else method)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, BIAS)


def draw(weight: Tensor, method: str) -> None:
    """Draw a weight by one of `METHODS`, from torch's global generator."""
    getattr(nn.init, f"{method}_")(weight)


def initial_module(arch: Architecture, seed: int, method: str, activation: str, dropout: float) -> nn.Module:
    """A freshly initialised model: a function of its arguments alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = arch.module(activation, dropout)
        initialise(module, method)
    return module
