"""Figures of comparisons. Each title says the finding; colours are those of Okabe and Ito, which everybody can tell apart."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.measures.statistics import ALPHA
from analysis.show.results import comparisons

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
MARKERS = "osD^vPX*"
STYLE = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlesize": 10.5, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "hyperzoo",
}  # fmt: skip


def figures(results: pd.DataFrame, comparison: str, epochs: list[int]) -> dict[str, Figure]:
    """The figures of a comparison, one for each zoo and image set, by a short name.

    Args:
        results: as `analysis.show.results.read_results` gives them.
        comparison: its name.
        epochs: that its tables show, and at which methods are tested.
    """
    drawn = {}
    tested = comparisons(results, epochs) if comparison in RANKED else None
    for keys, rows in results.groupby(["source", "dataset"], sort=False):
        where = f"{keys[0]} → {keys[1]}"
        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            if tested is None:
                figure = DRAW[comparison](rows, where)
            else:
                here = tested[(tested["source"] == keys[0]) & (tested["dataset"] == keys[1])]
                figure = RANKED[comparison](rows, where, here)
        figure.tight_layout()
        drawn[f"{keys[0]}_{keys[1]}"] = figure
    return drawn


def svg(figure: Figure) -> str:
    """A figure as an <svg> element, for a page."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def over_epochs(rows: pd.DataFrame, where: str, tested: pd.DataFrame, at: int = 0) -> Figure:
    """Accuracy while networks are trained: mean and standard deviation over models; at the right, epoch `at`. `tested`: the
    pairs of its methods at the epochs that tables show."""
    figure = Figure(figsize=(8, 3.6))
    left, right = figure.subplots(1, 2, width_ratios=[3, 1.4])
    first = {}
    for i, (method, own) in enumerate(rows.groupby("method", sort=False)):
        _band(left, own, "epoch", i, str(method))
        first[str(method)] = 100 * own[own["epoch"] == at]["value"].to_numpy()
    left.set(xlabel="epoch of training on these images", ylabel="test accuracy (%)")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(loc="lower right")
    _boxes(right, first)
    right.set(xlabel=f"test accuracy (%) at epoch {at}")
    when = "before any training" if at == 0 else f"after {at} epoch{'s' * (at > 1)}"
    figure.suptitle(f"{where}: {when}, {said_of_best(first, tested[tested['epoch'] == at])}", x=0.01, ha="left")
    return figure


def said_of_best(samples: dict[str, np.ndarray], tested: pd.DataFrame) -> str:
    """Which method is best, in a title, or that tests show none to be.

    Args:
        samples: by method.
        tested: their pairs, of `analysis.show.results.comparisons`: one family of tests, whether a table or a title tells of it.
    """
    finite = {method: values[np.isfinite(values)] for method, values in samples.items()}
    means = {method: values.mean() for method, values in finite.items() if len(values)}
    if not means:
        return "no network has a finite accuracy"
    best = max(means, key=lambda method: means[method])
    score = f"{means[best]:.1f} %"
    if len(means) == 1:
        return f"{best} has {score}"
    ahead = tested[(tested["first"] == best) & (tested["effect"] > 0.5)]
    behind = tested[(tested["second"] == best) & (tested["effect"] < 0.5)]
    beaten = {*ahead[ahead["p_adjusted"] < ALPHA]["second"], *behind[behind["p_adjusted"] < ALPHA]["first"]}
    if set(means) - {best} <= beaten:
        return f"{best} is best with {score}"
    return f"{best} has the highest mean, {score}, but no difference to all others is shown"


def after_one(rows: pd.DataFrame, where: str, tested: pd.DataFrame) -> Figure:
    """As `over_epochs`, where before any training nothing is known of the images: at the right, epoch 1."""
    return over_epochs(rows, where, tested, min(1, int(rows["epoch"].max())))


def while_fine_tuned(rows: pd.DataFrame, where: str) -> Figure:
    """Accuracy of originals and reconstructions, and how far they are apart, while both are fine-tuned."""
    figure = Figure(figsize=(8, 3.6))
    left, right = figure.subplots(1, 2)
    for i, (method, own) in enumerate(rows[rows["metric"] == "test_acc"].groupby("method", sort=False)):
        _band(left, own, "epoch", i, str(method))
    for i, (metric, own) in enumerate(rows[rows["metric"] != "test_acc"].groupby("metric", sort=False)):
        words = {"l2": "ℓ2 distance / norm of the original", "cosine": "cosine of the angle between both"}
        _band(right, own, "epoch", i + 2, words[str(metric)], unit=1)
    left.set(xlabel="epoch of fine-tuning", ylabel="test accuracy (%)")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlabel="epoch of fine-tuning")
    left.legend()
    right.legend()
    last = rows[(rows["metric"] == "test_acc") & (rows["epoch"] == rows["epoch"].max())].groupby("method", sort=False)
    said = ", ".join(f"{method} {100 * value:.1f} %" for method, value in last["value"].mean().items())
    figure.suptitle(f"{where}: after fine-tuning, {said}", x=0.01, ha="left")
    return figure


def singles_and_ensembles(rows: pd.DataFrame, where: str) -> Figure:
    """Accuracy of single models and of ensembles, as boxes."""
    figure = Figure(figsize=(6.5, 3.2))
    axes = figure.subplots()
    groups = {
        f"{method}, {'single' if keys == 1 else f'ensembles of {keys:g}'}": 100 * own["value"].to_numpy()
        for (method, keys), own in rows.groupby(["method", "x"], sort=False)
    }
    _boxes(axes, groups)
    axes.set(xlabel="test accuracy (%)")
    said = ", ".join(f"{name} {np.nanmean(values):.1f} %" for name, values in groups.items())
    figure.suptitle(f"{where}: mean accuracy, {said}", x=0.01, ha="left")
    return figure


def over_sizes(rows: pd.DataFrame, where: str) -> Figure:
    """Accuracy of ensembles by size."""
    figure = Figure(figsize=(6.5, 3.6))
    axes = figure.subplots()
    for i, (method, own) in enumerate(rows.groupby("method", sort=False)):
        _band(axes, own, "x", i, str(method))
    axes.set(xlabel="members of the ensemble", ylabel="test accuracy (%)")
    axes.legend()
    gains = {}
    for method, own in rows.groupby("method", sort=False):
        means = own.groupby("x")["value"].mean()
        gains[str(method)] = 100 * (means.iloc[-1] - means.iloc[0])
    said = ", ".join(f"{method} {gain:+.1f}" for method, gain in gains.items())
    axes.set_title(f"{where}: points gained together: {said}")
    return figure


def over_noise(rows: pd.DataFrame, where: str) -> Figure:
    """Accuracy and R² of reconstructions by noise on their embeddings."""
    figure = Figure(figsize=(8, 3.6))
    left, right = figure.subplots(1, 2)
    methods = [str(m) for m in rows["method"].unique() if m != "originals"]
    for i, method in enumerate(methods):
        own = rows[rows["method"] == method]
        _band(left, own[own["metric"] == "test_acc"], "x", i, method)
        _band(right, own[own["metric"] == "r2"], "x", i, method, unit=1)
    original = 100 * rows[rows["method"] == "originals"]["value"].mean()
    left.axhline(original, color="black", linestyle="--", linewidth=1, label="originals")
    left.set(xlabel="noise (standard deviations of a dimension)", ylabel="test accuracy (%)")
    right.set(xlabel="noise (standard deviations of a dimension)", ylabel="R² of weights")
    left.legend()
    lost = {}
    for method in methods:
        means = rows[(rows["method"] == method) & (rows["metric"] == "test_acc")].groupby("x")["value"].mean()
        lost[method] = 100 * (means.iloc[0] - means.iloc[-1])
    said = ", ".join(f"{method} {value:.1f}" for method, value in lost.items())
    figure.suptitle(f"{where}: points lost at the highest noise: {said}", x=0.01, ha="left")
    return figure


def over_paths(rows: pd.DataFrame, where: str) -> Figure:
    """Accuracy along straight lines between embeddings (and between weights)."""
    figure = Figure(figsize=(8, 3.6))
    lowest = {}
    for axes, metric, words in zip(
        figure.subplots(1, 2, sharey=True), ("along", "across"), ("along a training", "between two models"), strict=True
    ):
        for i, (method, own) in enumerate(rows[rows["metric"] == metric].groupby("method", sort=False)):
            _band(axes, own, "x", i, str(method))
            lowest[str(method)] = 100 * own.groupby("x")["value"].mean().min()
        axes.set(xlabel=f"place on the line, {words}", title=words)
    figure.axes[0].set(ylabel="test accuracy (%)")
    figure.axes[0].legend()
    said = ", ".join(f"{method} {value:.0f} %" for method, value in lowest.items())
    figure.suptitle(f"{where}: lowest mean accuracy between two models: {said}", x=0.01, ha="left")
    return figure


def by_layer(rows: pd.DataFrame, where: str) -> Figure:
    """Densities of weights, one panel a layer."""
    layers = list(rows["metric"].unique())
    figure = Figure(figsize=(2.3 * len(layers), 3.4))
    for axes, layer in zip(np.atleast_1d(figure.subplots(1, len(layers))), layers, strict=True):
        for i, (method, own) in enumerate(rows[rows["metric"] == layer].groupby("method", sort=False)):
            colour = "black" if method == "originals" else COLOURS[(i - 1) % len(COLOURS)]
            axes.plot(
                own["x"], own["value"], color=colour, linewidth=2 if method == "originals" else 1.2, label=str(method)
            )
        axes.set(xlabel="weight", title=layer, yticks=[])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, -0.12), ncols=3, frameon=False)
    figure.suptitle(f"{where}: how weights are distributed, layer by layer", x=0.01, ha="left")
    return figure


def _band(axes: Axes, rows: pd.DataFrame, x: str, i: int, label: str, unit: float = 100) -> None:
    """Mean over models with a band of one standard deviation."""
    groups = rows.groupby(x)["value"]
    mean, std = unit * groups.mean().to_numpy(), unit * groups.std(ddof=0).to_numpy()
    places = np.unique(rows[x])
    colour = COLOURS[i % len(COLOURS)]
    every = max(1, len(places) // 10)
    axes.plot(places, mean, color=colour, marker=MARKERS[i % len(MARKERS)], markevery=every, markersize=4, label=label)
    axes.fill_between(places, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


def _boxes(axes: Axes, groups: dict[str, np.ndarray]) -> None:
    """A lying box a group, the first on top."""
    parts = axes.boxplot(list(groups.values()), orientation="horizontal", patch_artist=True, widths=0.6)
    for i, box in enumerate(parts["boxes"]):
        box.set(facecolor=COLOURS[i % len(COLOURS)], alpha=0.6)
    axes.set_yticks(range(1, len(groups) + 1), list(groups))
    axes.invert_yaxis()


# Comparisons whose titles rank methods, which takes tests; and all others.
RANKED: dict[str, Callable[[pd.DataFrame, str, pd.DataFrame], Figure]] = {
    "init": over_epochs,
    "transfer": after_one,
    "unseen_arch": after_one,
}
DRAW: dict[str, Callable[[pd.DataFrame, str], Figure]] = {
    "ensemble": over_sizes,
    "reconstruction": while_fine_tuned,
    "unseen_zoo": singles_and_ensembles,
    "robustness": over_noise,
    "smoothness": over_paths,
    "weight_distribution": by_layer,
}
