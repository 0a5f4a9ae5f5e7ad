"""What is measured of a zoo, as numbers with names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The columns of Table 2.
WORDS = {"accuracy": "test accuracy", "agreement": "agreement κ", "cka": "CKA, mean over layers", "weights": "weights",
         "l2": "ℓ2 distance / mean norm", "cosine": "cosine distance"}  # fmt: skip


@dataclass(frozen=True)
class Measures:
    """A zoo at one epoch.

    Attributes:
        epoch: which.
        models: ids of the viable models, n of them; all else is of these.
        left_out: how many are not viable, by the reason, in words: a weight or the test loss is not finite, a weight is beyond
            the threshold, or (imported ones) the state is not on record or their activation is not one of `ACTIVATIONS`. Reasons
            without models are not in.
        accuracy: on the test images: float64 [n] in [0, 1]; nan where an imported model's is not known.
        weights_mean, weights_std: over all weights of all models (ddof 0).
        pairs: for each pair of models, float32 [n (n - 1) / 2]: "agreement" (share of test images with the same predicted
            class), "cka" (mean over layers) and "cka 1", "cka 2", … (each activation's output, the logits last; none of
            these for a module), "l2" and "cosine".
    """

    epoch: int
    models: np.ndarray
    left_out: dict[str, int]
    accuracy: np.ndarray
    weights_mean: float
    weights_std: float
    pairs: dict[str, np.ndarray]

    @property
    def not_viable(self) -> str:
        """How many models are left out and why, in words."""
        return _in_words(self.left_out)

    def row(self) -> dict[str, tuple[float, float]]:
        """Means and standard deviations (ddof 0) of the columns of Table 2, in its units, which are %."""
        found = {"accuracy": self.accuracy[np.isfinite(self.accuracy)], **self.pairs}
        row = {
            name: (100 * float(v.mean()), 100 * float(v.std())) if len(v) else (np.nan, np.nan)
            for name, v in found.items()
        }
        return row | {"weights": (100 * self.weights_mean, 100 * self.weights_std)}


def _in_words(left_out: dict[str, int]) -> str:
    return " and ".join(f"{n} {reason}" for reason, n in left_out.items()) or "none"
