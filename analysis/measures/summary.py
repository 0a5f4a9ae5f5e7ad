"""What a zoo is like, in numbers: the row of Model Zoos (Schürholt et al., 2022), Table 2.

All of it is measured at one epoch, on models that are viable there. Measures of pairs are those of all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from analysis.config import Config
from analysis.measures.agreement import pairwise_disagreement
from analysis.measures.cka import grams, pairwise_cka
from analysis.measures.table import Measures, _in_words
from analysis.measures.weights import inner_products, pairwise_cosine, pairwise_l2
from zoo import Zoo
from zoo.base.errors import UserError
from zoo.base.names import WEIGHT_MAX_ABS, WHOLE
from zoo.engines.evaluation import predictions
from zoo.images.data import ImageData
from zoo.store.tables import absent

BYTES_AT_ONCE = 2**30  # of weights


def viable(largest: np.ndarray, threshold: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Which models have finite weights, and which of these none beyond the threshold, by the absolute value of their largest
    [n]; None: no threshold."""
    finite = np.isfinite(largest)
    return finite, finite & (largest <= (np.inf if threshold is None else threshold))


def in_parts(zoo: Zoo, models: np.ndarray, states: int = 1) -> Iterator[np.ndarray]:
    """Model ids, as many at a time as have weights that fit into memory at so many states each."""
    size = max(1, BYTES_AT_ONCE // (4 * zoo.n_parameters * states))
    for first in range(0, len(models), size):
        yield models[first : first + size]


def viable_models(zoo: Zoo, epoch: int, threshold: float | None) -> tuple[np.ndarray, dict[str, int]]:
    """The ids of the models that are viable at an epoch, and how many others there are, by the reason (see `Measures`).

    Raises:
        UserError: if none is.
    """
    rows, metrics = zoo.models, zoo.metrics
    ids = rows["model_id"].to_numpy()
    metrics = metrics[metrics["epoch"] == epoch].set_index("model_id").loc[ids]
    finite, within = viable(metrics[WEIGHT_MAX_ABS].to_numpy(np.float64), threshold)
    # Finite weights can still give outputs that are not; but a loss that is not on record tells nothing.
    loss = metrics["test_loss"].to_numpy(np.float64)
    unread = metrics[WHOLE].eq(0).to_numpy() & np.isnan(loss) if WHOLE in metrics else False
    finite = finite & (np.isfinite(loss) | unread)
    gone = absent(metrics)
    known = zoo.architecture.runs(rows["activation"])
    left_out = {
        "diverged": ~finite & ~gone, "not on record": gone, "beyond the weight threshold": finite & ~within,
        "of an unknown activation": finite & within & ~known,
    }  # fmt: skip
    counts = {reason: int(of.sum()) for reason, of in left_out.items() if of.any()}
    if not (finite & within & known).any():
        why = _in_words(counts)
        raise UserError(f"zoo {zoo.name!r}: no model is viable at epoch {epoch} ({why}); see analysis.weight_threshold")
    return ids[finite & within & known], counts


def measure(zoo: Zoo, images: ImageData, config: Config, epoch: int | None = None) -> Measures:
    """Measure a zoo.

    Args:
        zoo: finished.
        images: those that it was trained on.
        config: with `analysis.weight_threshold`, `analysis.cka_images`, `engine` and `trainer`.
        epoch: which; None: the last.

    Raises:
        UserError: if the epoch is not stored, or no model is viable.
    """
    (epoch,) = zoo.choose_epochs([zoo.epochs[-1] if epoch is None else epoch])
    models, left_out = viable_models(zoo, epoch, config.analysis.weight_threshold)
    arch, rows = zoo.architecture, zoo.models.set_index("model_id")
    pictures = images.normalise(images.test.pixels[: config.analysis.cka_images])
    classes, kernels, total, squares = [], [], 0.0, 0.0
    for some in in_parts(zoo, models):
        weights, their = zoo.weights(models=some, epochs=[epoch])[:, 0], rows.loc[some]
        buffers = zoo.buffers(models=some, epochs=[epoch])[:, 0] if zoo.n_buffers else None
        classes.append(
            predictions(arch, weights, their, images.test, images, config.engine, config.trainer.device, buffers)
        )
        if not arch.is_module:
            kernels.append(grams(arch, torch.from_numpy(weights), their, pictures))
        total += weights.sum(dtype=np.float64)
        squares += float(np.einsum("ij,ij", weights, weights, dtype=np.float64))
    pairs = {"agreement": 1 - pairwise_disagreement(np.concatenate(classes), arch.classes)}
    if kernels:
        layers = pairwise_cka(np.concatenate(kernels, axis=1))
        pairs["cka"] = layers.mean(0)
        pairs |= {f"cka {i}": values for i, values in enumerate(layers, 1)}
    width = max(1, BYTES_AT_ONCE // (4 * len(models)))  # of all models: distances are between any two
    ranges = (slice(first, first + width) for first in range(0, zoo.n_parameters, width))
    products = inner_products(zoo.weights(models=models, epochs=[epoch], columns=some)[:, 0] for some in ranges)
    pairs["l2"], pairs["cosine"] = pairwise_l2(products), pairwise_cosine(products)
    count = len(models) * zoo.n_parameters
    metrics = zoo.metrics[zoo.metrics["epoch"] == epoch].set_index("model_id")
    return Measures(
        epoch, models, left_out, metrics.loc[models, "test_acc"].to_numpy(np.float64),
        total / count, float(np.sqrt(max(0.0, squares / count - (total / count) ** 2))), pairs,
    )  # fmt: skip


def sparsity(zoo: Zoo, models: np.ndarray) -> pd.DataFrame:
    """How sparse some models of a sparsified twin are at each epoch, and what it costs; empty for any other zoo.

    Columns: epoch, n, accuracy, accuracy_std, sparsity, sparsity_std (ddof 0), then the mean of each layer by its name; all
    but the first two in %.
    """
    metrics = zoo.metrics[zoo.metrics["model_id"].isin(models)]
    if "sparsity" not in metrics:
        return pd.DataFrame()
    layers = [str(name) for name in metrics.columns if str(name).startswith("sparsity_")]
    groups = (100 * metrics.set_index("epoch")[["test_acc", "sparsity", *layers]]).groupby("epoch")
    mean, std = groups.mean(), groups.std(ddof=0)
    found = pd.DataFrame({"n": groups["sparsity"].count(), "accuracy": mean["test_acc"], "accuracy_std": std["test_acc"],
                          "sparsity": mean["sparsity"], "sparsity_std": std["sparsity"]})  # fmt: skip
    return found.join(mean[layers].rename(columns=lambda name: name.removeprefix("sparsity_"))).reset_index()


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
