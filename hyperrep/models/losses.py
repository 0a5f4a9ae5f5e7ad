"""The losses of the autoencoder, each on its own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.networks.architecture import Architecture

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


def outputs(arch: Architecture, weights: Tensor, images: Tensor, activations: list[str]) -> Tensor:
    """Logits of many networks on the same images: [batch, n, classes].

    Args:
        arch: a list of layers.
        weights: [batch, P].
        images: normalised [n, C, H, W].
        activations: the activation of each network.
    """
    rows, parts = [], []
    for activation in sorted(set(activations)):
        these = torch.tensor([i for i, a in enumerate(activations) if a == activation], device=weights.device)
        parts.append(arch.forward(weights[these], images.expand(len(these), -1, -1, -1, -1), activation))
        rows.append(these)
    return torch.cat(parts)[torch.cat(rows).argsort()]


def behavioural_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """KL(softmax(wanted) || softmax(got)) in nats, mean over networks and images.

    Structure is Not Enough (2025) compares softmax outputs by mean squared error; KL keeps its gradient where the
    reconstruction is confidently wrong.

    Args:
        got: logits [batch, n, classes] of the reconstructions.
        wanted: of the originals, on the same images.
    """
    divergence = F.kl_div(F.log_softmax(got, 2), F.log_softmax(wanted, 2), reduction="none", log_target=True)
    return divergence.sum(2).mean()


class Mixture:
    """Mixtures of the members of a batch, two by two, that are spread around the mean as the members are.

    v = mean + cos θ (v_i - mean) + sin θ (v_j - mean), with θ ~ U(0, π/2) and partners j from a random permutation. Used
    on embeddings and on outputs at once: a network decoded between two embeddings is to behave between their networks.
    Because the squares of the two shares add up to 1, mixed outputs are as various as those of the zoo, and not a mean's.
    Ours, in none of the papers; it uses no labels.

    Args:
        n: members of a batch.
        random: where θ and partners come from; on the device of the batch.
    """

    def __init__(self, n: int, random: torch.Generator) -> None:
        angles = torch.rand(n, generator=random, device=random.device) * (math.pi / 2)
        self.own, self.others = angles.cos(), angles.sin()
        self.partners = torch.randperm(n, generator=random, device=random.device)

    def __call__(self, values: Tensor) -> Tensor:
        """The mixtures of values [n, ...]: as many, of the same shape."""
        mean = values.mean(0, keepdim=True)
        shape = (-1, *[1] * (values.dim() - 1))
        apart = values - mean
        return mean + self.own.view(shape) * apart + self.others.view(shape) * apart[self.partners]


def r_squared(reconstructed: Tensor, target: Tensor, centre: Tensor) -> Tensor:
    """1 - squared error / squared error of predicting `centre`, the mean of the train split; 1 is exact, 0 no better.

    Args:
        reconstructed, target: [states, P]; P may be one layer's part.
        centre: [P].
    """
    return 1 - (reconstructed - target).square().sum() / (target - centre).square().sum()
