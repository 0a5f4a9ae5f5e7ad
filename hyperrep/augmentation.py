"""Augmentations of weight vectors: permutation, noise and erasing, drawn anew for every sample, on its device.

Those of Hyper-Representations (Schürholt et al., 2021 and 2022), whose code draws from a stored list of permutations;
here they are drawn from all there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperrep.config import AugmentationConfig
from hyperrep.symmetry import Permutations
from zoo.base.errors import UserError
from zoo.networks.architecture import Architecture


class Augmentation:
    """Draws views of models.

    Args:
        config: what is done.
        arch: a list of layers, if `config.permute`; otherwise any.

    Raises:
        UserError: if the bounds of the erased length are in the wrong order, or the architecture cannot be permuted.
    """

    def __init__(self, config: AugmentationConfig, arch: Architecture) -> None:
        if config.erase_low > config.erase_high:
            raise UserError(
                f"erase_low is {config.erase_low} and erase_high {config.erase_high}, but the first must not be above "
                "the second"
            )
        self.config = config
        self._permutations = Permutations(arch) if config.permute else None

    def __call__(self, weights: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One view of each model, independent of all others.

        Args:
            weights: float [B, P]; is not changed.
            generator: what all randomness comes from; on the device of the weights.

        Returns:
            (view, target), both [B, P]: what the autoencoder reads, and what it should reconstruct.
        """
        if self._permutations is not None:
            weights = self._permutations.apply(weights, self._permutations.random(len(weights), generator))
        view = weights
        if self.config.noise > 0:
            view = self._with_noise(view, generator)
        if self.config.erase > 0:
            view = self._with_erased_blocks(view, generator)  # last, so that what is erased is exactly 0
        return view, view if self.config.target == "view" else weights

    def _with_noise(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(weights.shape, generator=generator, device=weights.device, dtype=weights.dtype)
        noise = self.config.noise * drawn
        return weights + (noise * weights if self.config.noise_kind == "multiplicative" else noise)

    def _with_erased_blocks(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self.config.erase_low, self.config.erase_high
        samples, n = weights.shape
        chosen, fraction, place = torch.rand(3, samples, 1, generator=generator, device=weights.device)
        length = ((low + (high - low) * fraction) * n).round()
        start = (place * (n - length + 1)).floor()  # every place at which the whole block fits is as likely
        position = torch.arange(n, device=weights.device)
        erased = (chosen < self.config.erase) & (position >= start) & (position < start + length)
        return weights.masked_fill(erased, 0)
