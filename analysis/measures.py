"""What a zoo is like, in numbers: the row of Model Zoos (Schürholt et al., 2022), Table 2.

All of it is measured at one epoch, on models that are viable there. Measures of pairs are those of all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.agreement import pairwise_disagreement
from analysis.cka import grams, pairwise_cka
from analysis.weights import pairwise_cosine, pairwise_l2
from zoo import Zoo
from zoo.architecture import Architecture
from zoo.errors import UserError
from zoo.images import ImageData
from zoo.networks import predictions


@dataclass(frozen=True)
class Measures:
    """A zoo at one epoch.

    Attributes:
        epoch: which.
        models: ids of the viable models, n of them; all else is of these.
        diverged, beyond: how many are not viable because a weight or the test loss is not finite, or a weight is beyond the
            threshold.
        accuracy: on the test images: float64 [n] in [0, 1].
        weights_mean, weights_std: over all weights of all models (ddof 0).
        pairs: for each pair of models, float32 [n (n - 1) / 2]: "agreement" (share of test images with the same predicted
            class), "cka" (mean over layers) and "cka 1", "cka 2", … (each activation's output, the logits last; none of
            these for a module), "l2" and "cosine".
    """

    epoch: int
    models: np.ndarray
    diverged: int
    beyond: int
    accuracy: np.ndarray
    weights_mean: float
    weights_std: float
    pairs: dict[str, np.ndarray]

    def row(self) -> dict[str, tuple[float, float]]:
        """Means and standard deviations (ddof 0) of the columns of Table 2, in its units, which are %."""
        found = {"accuracy": self.accuracy, **self.pairs}
        row = {
            name: (100 * float(v.mean()), 100 * float(v.std())) if len(v) else (np.nan, np.nan)
            for name, v in found.items()
        }
        return row | {"weights": (100 * self.weights_mean, 100 * self.weights_std)}


def viable(weights: np.ndarray, threshold: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Which models [n] have finite weights [n, P], and which of these none beyond the threshold; None: no threshold."""
    finite = np.isfinite(weights).all(axis=1)
    within = finite.copy()
    if threshold is not None:
        within[finite] = (np.abs(weights[finite]) <= threshold).all(axis=1)
    return finite, within


def measure(zoo: Zoo, images: ImageData, config: Any, epoch: int | None = None) -> Measures:
    """Measure a zoo.

    Args:
        zoo: finished.
        images: those that it was trained on.
        config: with `analysis.weight_threshold`, `analysis.cka_images` and `engine`.
        epoch: which; None: the last.

    Raises:
        UserError: if the epoch is not stored, or no model is viable.
    """
    (epoch,) = zoo.choose_epochs([zoo.epochs[-1] if epoch is None else epoch])
    arch = Architecture.from_dict(zoo.description["arch"])
    weights = zoo.weights(epochs=[epoch])[:, 0]
    metrics = zoo.metrics[zoo.metrics["epoch"] == epoch].set_index("model_id")
    finite, within = viable(weights, config.analysis.weight_threshold)
    scored = np.isfinite(metrics.loc[zoo.models["model_id"], "test_loss"].to_numpy(np.float64))
    finite, within = finite & scored, within & scored  # finite weights can still give outputs that are not
    rows, weights = zoo.models[within].reset_index(drop=True), np.ascontiguousarray(weights[within])
    if not len(rows):
        raise UserError(f"zoo {zoo.name!r}: no model is viable at epoch {epoch}; see analysis.weight_threshold")
    classes = predictions(arch, weights, rows, images.test, images, config.engine)
    pairs = {"agreement": 1 - pairwise_disagreement(classes, arch.classes)}
    if not arch.is_module:
        pictures = images.normalise(images.test.pixels[: config.analysis.cka_images])
        layers = pairwise_cka(grams(arch, torch.tensor(weights), rows, pictures))
        pairs["cka"] = layers.mean(0)
        pairs |= {f"cka {i}": values for i, values in enumerate(layers, 1)}
    pairs["l2"], pairs["cosine"] = pairwise_l2(weights), pairwise_cosine(weights)
    return Measures(
        epoch, rows["model_id"].to_numpy(), int((~finite).sum()), int((finite & ~within).sum()),
        metrics.loc[rows["model_id"], "test_acc"].to_numpy(np.float64),
        float(weights.mean(dtype=np.float64)), float(weights.std(dtype=np.float64)), pairs,
    )  # fmt: skip


def performance(zoo: Zoo, models: np.ndarray) -> pd.DataFrame:
    """Figure 2's numbers: test accuracy of some models at each epoch.

    Columns: epoch, n, mean, std (ddof 0) and the quantiles q0, q25, q50, q75, q100, as shares.
    """
    metrics = zoo.metrics[zoo.metrics["model_id"].isin(models)]
    by_epoch = metrics.groupby("epoch")["test_acc"]
    quantiles = by_epoch.quantile(np.array([0, 0.25, 0.5, 0.75, 1])).unstack()
    quantiles.columns = ["q0", "q25", "q50", "q75", "q100"]
    found = pd.DataFrame({"n": by_epoch.count(), "mean": by_epoch.mean(), "std": by_epoch.std(ddof=0)})
    return found.join(quantiles).reset_index()
