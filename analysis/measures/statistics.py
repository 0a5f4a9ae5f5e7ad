"""Statistics of populations: what a sample of accuracies says, and whether two samples differ."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zoo.base.lazy import stats

QUANTILES = (0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 1.0)
CONFIDENCE = 0.95
ALPHA = 0.05  # a difference is shown where the adjusted p is below
SEED = 42  # of the bootstrap


@dataclass(frozen=True)
class Summary:
    """One population; values in the unit of the sample.

    Attributes:
        n: how many finite values there are; all else is of these.
        mean, std: mean and standard deviation (ddof 0, as in the papers).
        median: the middle.
        quantiles: at `QUANTILES`.
        mean_low, mean_high: bootstrap confidence interval of the mean, 95 %, bias-corrected and accelerated.
        median_low, median_high: the same of the median.
    """

    n: int
    mean: float
    std: float
    median: float
    quantiles: tuple[float, ...]
    mean_low: float
    mean_high: float
    median_low: float
    median_high: float


def summarise(values: np.ndarray) -> Summary:
    """The summary of a sample [n]; values that are not finite are left out, and no value at all gives NaN."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        nan = float("nan")
        return Summary(0, nan, nan, nan, (nan,) * len(QUANTILES), nan, nan, nan, nan)
    return Summary(
        len(values), float(values.mean()), float(values.std()), float(np.median(values)),
        tuple(np.quantile(values, QUANTILES).tolist()), *_bootstrap(values, np.mean), *_bootstrap(values, np.median),
    )  # fmt: skip


def _bootstrap(values: np.ndarray, statistic: Callable[..., np.floating]) -> tuple[float, float]:
    """95 % interval of a statistic; the value itself where all values are one."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    for method in ("BCa", "percentile"):  # BCa is undefined where leaving one value out changes nothing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # which says so
            found = stats.bootstrap((values,), statistic, confidence_level=CONFIDENCE, method=method, random_state=SEED)
        low, high = found.confidence_interval
        if np.isfinite(low) and np.isfinite(high):
            break
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """Whether values of one population are larger than those of another.

    Attributes:
        n_first, n_second: finite values.
        p: of the two-sided Mann-Whitney U test.
        effect: the common-language effect size (McGraw and Wong, 1992): the chance that a value of the first population
            is larger than one of the second, ties counted half; 0.5 is no difference.
        difference: the median of all differences first - second (Hodges and Lehmann).
        low, high: its 95 % confidence interval (Campbell and Gardner, 1988).
    """

    n_first: int
    n_second: int
    p: float
    effect: float
    difference: float
    low: float
    high: float


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compare two samples [n], [m]; values that are not finite are left out.

    The interval goes from the kth smallest to the kth largest of the n m differences, with the normal approximation
    k = nm/2 - z sqrt(nm (n + m + 1) / 12); with too few values for it, k = 1, the whole range.

    Raises:
        ValueError: if a sample has no finite value.
    """
    first, second = (np.asarray(v, np.float64)[np.isfinite(np.asarray(v, np.float64))] for v in (first, second))
    n, m = len(first), len(second)
    if not n or not m:
        raise ValueError(f"nothing to compare: {n} and {m} finite values")
    test = stats.mannwhitneyu(first, second, alternative="two-sided")
    differences = np.sort((first[:, None] - second).ravel())
    z = stats.norm.ppf(0.5 + CONFIDENCE / 2)
    k = max(1, round(n * m / 2 - z * np.sqrt(n * m * (n + m + 1) / 12)))
    return Comparison(
        n, m, float(test.pvalue), float(test.statistic / (n * m)), float(np.median(differences)),
        float(differences[k - 1]), float(differences[-k]),
    )  # fmt: skip


def adjust(p: np.ndarray) -> np.ndarray:
    """p values [k] of one family of comparisons, adjusted after Holm (1979): at most 5 % chance of any false alarm.

    The ith smallest, times how many are left, never below one before it, at most 1.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return adjusted
