"""Counter-based random numbers: the reason why a model does not depend on its neighbours.

Every random number of a model's training is a pure function of (model seed, purpose, epoch, step, index), computed by
Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). There is no generator state:
whichever engine, block, device or resumed process asks, gets the same bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# What a stream of numbers is for: the fourth word of the counter.
BATCH_ORDER = 0
AUGMENTATION = 1
DROPOUT = 2  # DROPOUT + i is the i-th dropout layer
NOISE = 1 << 16  # NOISE + i is the i-th layer whose outputs are noisy

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Ten rounds of Philox4x32.

    Args:
        counter: four int64 tensors with values in [0, 2^32), broadcastable against each other and the key.
        key: two such tensors.

    Returns:
        Four int64 tensors of the broadcast shape with values in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # A 32 x 32 bit product fits in 64 bits; int64 wraps around, the bits are those of the unsigned product.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, high1 = (p0 >> 32) & _MASK, (p1 >> 32) & _MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & _MASK, high0 ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def random_words(seeds: Tensor, purpose: int, epoch: int | Tensor, step: int | Tensor, n: int) -> Tensor:
    """`n` random 32-bit words for each model.

    Args:
        seeds: int64 [models], values in [0, 2^63).
        purpose: BATCH_ORDER, AUGMENTATION or DROPOUT + layer.
        epoch: 1 for the first training epoch; a number, or an int64 tensor [] on the same device.
        step: index of the batch within the epoch, 0 for the first; likewise.
        n: how many words.

    Returns:
        int64 [models, n] with values in [0, 2^32), on the device of `seeds`. Word i does not depend on n.
    """
    groups = torch.arange((n + 3) // 4, device=seeds.device)
    constant = [
        value.expand_as(groups) if isinstance(value, Tensor) else torch.full_like(groups, value)
        for value in (step, epoch, purpose)
    ]
    key = (seeds[:, None] & _MASK, seeds[:, None] >> 32)
    words = philox4x32((groups, *constant), key)  # type: ignore[arg-type]
    return torch.stack(words, dim=-1).flatten(1)[:, :n]


def batch_order(seeds: Tensor, epoch: int, n: int) -> Tensor:
    """Each model's order of the training images in one epoch: a uniformly random permutation.

    Args:
        seeds: int64 [models].
        epoch: 1 for the first training epoch.
        n: number of training images.

    Returns:
        int64 [models, n]: the ranks of 64-bit random keys (a tie, probability n^2 / 2^65, goes to the lower index).
    """
    words = random_words(seeds, BATCH_ORDER, epoch, 0, 2 * n).unflatten(1, (n, 2))
    keys = (words[..., 0] << 32) | words[..., 1]
    return keys.argsort(dim=1, stable=True)


def keep_mask(seeds: Tensor, layer: int, epoch: int | Tensor, step: int | Tensor, n: int, p: Tensor) -> Tensor:
    """Which of `n` values the `layer`-th dropout layer keeps in one step.

    Args:
        seeds: int64 [models].
        layer: index of the dropout layer within the network, 0 for the first.
        epoch: 1 for the first training epoch.
        step: index of the batch within the epoch.
        n: batch size times values an image has at this layer; the value of image b at position f has index b*F + f.
        p: float64 [models], probability of dropping, in [0, 1).

    Returns:
        bool [models, n], true with probability 1 - p (to within 2^-32).
    """
    threshold = (p * 2.0**32).round().to(torch.int64)
    return random_words(seeds, DROPOUT + layer, epoch, step, n) >= threshold[:, None]


def normals(seeds: Tensor, layer: int, epoch: int | Tensor, step: int | Tensor, n: int) -> Tensor:
    """Standard normal numbers for the noise of a layer: float32 [models, n], by Box and Muller (1958).

    Two words make two numbers, (r cos t, r sin t): r² = -2 log u and t = 2 pi v, of 23 random bits each, u in the middle of
    its interval. So u and v are exact in float32, and no number is beyond 5.8.

    Args:
        seeds: int64 [models].
        layer: index of the layer among those that are noisy, 0 for the first.
        epoch, step: as of `random_words`.
        n: batch size times values an image has there; the value of image b at position f has index b*F + f.
    """
    words = (random_words(seeds, NOISE + layer, epoch, step, 2 * ((n + 1) // 2)) >> 9).to(torch.float32)
    u, v = (words[:, 0::2] + 0.5) / 2**23, words[:, 1::2] / 2**23
    radius, angle = (-2 * u.log()).sqrt(), 2 * math.pi * v
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2).flatten(1)[:, :n]


def uniforms(seeds: Tensor, epoch: int | Tensor, step: int | Tensor, n: int) -> Tensor:
    """Uniform numbers in [0, 1) for the augmentation of a batch: float32 [models, n], 24 random bits each."""
    return (random_words(seeds, AUGMENTATION, epoch, step, n) >> 8).to(torch.float32) / 2**24
