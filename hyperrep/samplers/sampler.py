"""What a sampler is: fitted to the anchors of a zoo, it draws new embeddings (or new weights)."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import pandas as pd

from zoo.base.errors import UserError

log = logging.getLogger(__name__)

Kind = Literal["independent", "anchored"]
Space = Literal["latent", "weights"]
KINDS, SPACES = get_args(Kind), get_args(Space)


@dataclass(frozen=True)
class Anchors:
    """Models of the training split at some epochs, as points: what a sampler is fitted to.

    Attributes:
        embeddings: float32 [n, D]: embeddings in (-1, 1), or weight vectors for samplers with `space = "weights"`.
        model_id: int [n]: the model that a point belongs to; several epochs of a model are several points.
        epoch: int [n].
        val_accuracy: float [n], fraction in [0, 1] on validation images.
        properties: one row a point with the generating factors, or None. Nothing that was measured on test images.
        test_accuracy: float [n], fraction in [0, 1] on test images: only for `selected` to choose by, where
            `sampler.top_by` is test. What `fit` is handed never has it.

    Raises:
        UserError: if there is no point, or one that is not finite.
        ValueError: if the lengths differ, or a property is named as what is measured on test images (test_…).
    """

    embeddings: np.ndarray
    model_id: np.ndarray
    epoch: np.ndarray
    val_accuracy: np.ndarray
    properties: pd.DataFrame | None = None
    test_accuracy: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or self.embeddings.dtype != np.float32:
            raise ValueError(
                f"embeddings must be float32 [n, D], got {self.embeddings.dtype} {list(self.embeddings.shape)}"
            )
        beside = [self.model_id, self.epoch, self.val_accuracy, self.properties, self.test_accuracy]
        lengths = [len(self), *(len(field) for field in beside if field is not None)]
        if len(set(lengths)) > 1:
            raise ValueError(f"one entry a point in each field, got lengths {lengths}")
        columns = [] if self.properties is None else [str(name) for name in self.properties.columns]
        if seen := [name for name in columns if name == "test" or name.startswith("test_")]:
            raise ValueError(f"samplers see nothing of the test images, but properties has {', '.join(seen)}")
        if len(self) == 0:
            raise UserError("There are no anchors to fit a sampler to: no training model has a state at these epochs.")
        broken = ~np.isfinite(self.embeddings).all(axis=1)
        if broken.any():
            raise UserError(
                f"{broken.sum()} of {len(self)} anchors are not finite (model {self.model_id[broken][0]} is the first): "
                "leave diverged models out before a sampler is fitted."
            )

    def __len__(self) -> int:
        """The number of points."""
        return len(self.embeddings)

    def where(self, keep: np.ndarray) -> Anchors:
        """The points that a mask, bool [n], keeps."""
        return Anchors(
            self.embeddings[keep],
            self.model_id[keep],
            self.epoch[keep],
            self.val_accuracy[keep],
            None if self.properties is None else self.properties[keep].reset_index(drop=True),
            None if self.test_accuracy is None else self.test_accuracy[keep],
        )


def top(anchors: Anchors, share: float = 0.3, by: Literal["val_accuracy", "test_accuracy"] = "val_accuracy") -> Anchors:
    """The best anchors: those whose accuracy is at least the (1 - share) quantile over all anchors.

    This is the "30" of S_KDE30 (Hyper-Representations as Generative Models, 2022). The released code selects by *test*
    accuracy; validation accuracy is what keeps the test images unseen.

    Args:
        anchors: to select from.
        share: in (0, 1], of those whose accuracy is known; ties at the quantile are all kept.
        by: the accuracy to select by.

    Raises:
        UserError: if no accuracy is finite, as where a dataset has no validation images.
        ValueError: if the anchors lack that accuracy.
    """
    accuracy = getattr(anchors, by)
    if accuracy is None:
        raise ValueError(f"these anchors have no {by}, which is to be selected by")
    known = np.isfinite(accuracy)
    if not known.any():
        other = "test" if by == "val_accuracy" else "validation"
        raise UserError(
            f"The top {share:.0%} of the anchors cannot be chosen: none of {len(anchors)} has a finite {by} (zoos without "
            "validation images have none); choose by the other one, which the networks then say of themselves "
            f"(sampler.top_by={other}), or take all (sampler.top=null)."
        )
    if not known.all():
        log.warning("%d of %d anchors have no finite %s: they are not among the top", (~known).sum(), len(anchors), by)
    return anchors.where(accuracy >= np.quantile(accuracy[known], 1 - share))


def noise_widths(anchors: Anchors, bandwidth: float, absolute: bool) -> np.ndarray:
    """The standard deviation of a Gaussian kernel in every dimension, float32 [D].

    Args:
        anchors: whose spread is the unit.
        bandwidth: above 0, in units of the anchors' standard deviation in each dimension.
        absolute: take `bandwidth` as it is instead, as the released code does with 0.002.
    """
    spread = np.ones_like(anchors.embeddings[0]) if absolute else anchors.embeddings.std(axis=0)
    return (bandwidth * spread).astype(np.float32)


def require_anchors(anchors: Anchors, least: int, sampler: str) -> None:
    """Refuse too few anchors.

    Raises:
        UserError: naming the sampler and both numbers.
    """
    if len(anchors) < least:
        raise UserError(
            f"sampler={sampler} needs at least {least} anchors, got {len(anchors)}: "
            "use more models or epochs, or a larger share (sampler.top)."
        )


@dataclass
class Sampler(ABC):
    """Draws new points. The fields of a subclass are its options (see `SamplerConfig`).

    Attributes:
        kind: what one draw is tied to. "anchored": to one anchor, of which it is a copy or a copy plus small noise.
            "independent": to no single anchor. Results of the two mean different things and are never mixed.
        space: what is drawn: "latent", embeddings to be decoded, or "weights", networks themselves.
    """

    kind: ClassVar[Kind]
    space: ClassVar[Space]

    @abstractmethod
    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Learn from the anchors.

        Args:
            anchors: already selected (see `top`), without their test accuracy.
            accelerator: "cpu" or "gpu": where samplers that are networks train; it is nothing to the others.

        Raises:
            UserError: if the anchors are too few for the sampler.
        """

    @abstractmethod
    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draw `n` points, float32 [n, D]. The seed alone decides; no global random state is read or changed.

        Draws hardly move when the anchors hardly do: nothing may hang on the sign, order or basis that a decomposition
        happens to choose. Samplers that cannot promise this (UMAP, GAN) say so.
        """

    def factors(self, n: int, seed: int) -> pd.DataFrame | None:
        """The generating factors that the draws of `sample(n, seed)` were asked to have, one row a draw; None: none."""
        return None


@dataclass
class KernelSampler(Sampler):
    """Gaussian kernels around the anchors; how a draw picks centre and noise is the subclass's.

    Args:
        bandwidth: h, above 0, in units of the anchors' standard deviation in each dimension.
        bandwidth_absolute: take h as it is.
    """

    bandwidth: float
    bandwidth_absolute: bool

    def fit(self, anchors: Anchors, accelerator: str = "cpu") -> None:
        """Keep the kernels' centres and widths."""
        self.centres = anchors.embeddings
        self.widths = noise_widths(anchors, self.bandwidth, self.bandwidth_absolute)
