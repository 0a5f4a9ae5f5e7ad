"""The losses of the autoencoder, each on its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.architecture import Architecture

SIGMA_FLOOR = 1e-4  # a layer whose weights are all the same would divide by 0


def layer_of_parameter(arch: Architecture) -> Tensor:
    """To which layer each value of a weight vector belongs: int64 [P], 0 for the first layer; weights and bias together."""
    names = [slot.name.rpartition(".")[0] for slot in arch.layout]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return torch.cat([torch.full((slot.size,), order[name]) for slot, name in zip(arch.layout, names, strict=True)])


def layer_sigmas(weights: Tensor, arch: Architecture) -> Tensor:
    """The standard deviation of each layer's values (all states, weights and biases pooled), for each parameter: [P].

    The σ_l of layer-wise loss normalisation (Hyper-Representations as Generative Models, eq. 5), unbiased, at least 1e-4.
    To be taken over the train split.

    Args:
        weights: float32 [states, P].
        arch: whose layers.
    """
    layer = layer_of_parameter(arch)
    sigmas = torch.stack([weights[:, layer == i].std() for i in range(int(layer.max()) + 1)])
    return sigmas.clamp(min=SIGMA_FLOOR)[layer]


def reconstruction_loss(reconstructed: Tensor, target: Tensor, sigmas: Tensor | None) -> Tensor:
    """Mean squared error over states and parameters, in units of σ if given (2022, eq. 1 and 5).

    Args:
        reconstructed, target: [batch, P].
        sigmas: [P] of `layer_sigmas`, or None.
    """
    error = reconstructed - target
    return (error if sigmas is None else error / sigmas).square().mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al., 2020; 2022, eq. 2): the other view of the same state among all other views of the batch.

    Args:
        first, second: [batch, k], projections of two views; row i of both is the same state.
        temperature: above 0.
    """
    views = F.normalize(torch.cat([first, second]), dim=1)
    similarity = views @ views.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    n = len(first)
    partner = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(similarity, partner)


def behavioural_loss(
    arch: Architecture, original: Tensor, reconstructed: Tensor, images: Tensor, activations: list[str]
) -> Tensor:
    """KL divergence of the reconstructions' outputs from the originals', on the same images; in nats, mean over both.

    Structure is Not Enough (2025) compares softmax outputs by mean squared error; KL(original || reconstruction) keeps
    its gradient where the reconstruction is confidently wrong.

    Args:
        arch: a list of layers.
        original, reconstructed: [batch, P]; gradients go into `reconstructed`.
        images: normalised [n, C, H, W], the same for all.
        activations: the activation of each network.
    """
    total = reconstructed.new_zeros(())
    for activation in sorted(set(activations)):
        these = torch.tensor([i for i, a in enumerate(activations) if a == activation], device=original.device)
        batch = images.expand(len(these), -1, -1, -1, -1)
        with torch.no_grad():
            wanted = F.log_softmax(arch.forward(original[these], batch, activation), dim=2)
        got = F.log_softmax(arch.forward(reconstructed[these], batch, activation), dim=2)
        total = total + F.kl_div(got, wanted, reduction="sum", log_target=True)
    return total / (len(original) * len(images))


def r_squared(reconstructed: Tensor, target: Tensor, centre: Tensor) -> Tensor:
    """1 - squared error / squared error of predicting `centre`, the mean of the train split; 1 is exact, 0 no better.

    Args:
        reconstructed, target: [states, P]; P may be one layer's part.
        centre: [P].
    """
    return 1 - (reconstructed - target).square().sum() / (target - centre).square().sum()
