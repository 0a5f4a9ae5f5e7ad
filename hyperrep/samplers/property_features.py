"""Properties of models as numbers that a network can be conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from hyperrep.samplers.sampler import Anchors
from zoo.base.errors import UserError


class PropertyFeatures:
    """Numbers standardised over the anchors, anything else one-hot.

    Args:
        anchors: whose properties are the reference.
        names: "val_accuracy", "epoch" or generating factors, the columns of `anchors.properties`.

    Attributes:
        rows: the properties of the anchors as they are, one row an anchor.
        width: features a row.

    Raises:
        UserError: if a property is unknown, or missing for an anchor.
    """

    def __init__(self, anchors: Anchors, names: list[str]) -> None:
        known = pd.DataFrame({"val_accuracy": anchors.val_accuracy, "epoch": anchors.epoch})
        if anchors.properties is not None:
            known = known.join(anchors.properties.drop(columns=list(known), errors="ignore").reset_index(drop=True))
        if unknown := [name for name in names if name not in known]:
            raise UserError(
                f"sampler.condition: {', '.join(unknown)} unknown; these anchors have {', '.join(known.columns)}."
            )
        self.names, self.rows = names, known[names]
        for name in names:
            if missing := self.rows[name].isin([np.inf, -np.inf, np.nan, None]).sum():
                raise UserError(
                    f"sampler.condition: {name} is missing or infinite for {missing} of {len(anchors)} anchors."
                )
        self.categories = {name: sorted(set(self.rows[name])) for name in names if not _is_number(self.rows[name])}
        self.width = self.encode(self.rows).shape[1]

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Features of rows that have the named properties, float32 [n, width]."""
        columns = [np.empty((len(rows), 0))]
        for name in self.names:
            reference, values = self.rows[name], rows[name].to_numpy()
            if name in self.categories:
                columns += [(values == category)[:, None] for category in self.categories[name]]
            else:
                columns.append(((values - reference.mean()) / (reference.std(ddof=0) or 1.0))[:, None])
        return np.concatenate(columns, axis=1).astype(np.float32)

    def draw(self, n: int, condition: Mapping[str, Any], random: np.random.Generator) -> pd.DataFrame:
        """Properties of `n` random anchors, with the values of `condition` in place of theirs: one row a draw.

        Raises:
            UserError: if a value is not one that the property can have, or was not trained with.
        """
        rows = self.rows.iloc[random.integers(len(self.rows), size=n)]
        for name, value in condition.items():
            if name not in self.names:
                trained = ", ".join(self.names) or "none"
                raise UserError(f"sampler.condition: {name} was not trained with; trained with: {trained}.")
            if name in self.categories and value not in self.categories[name]:
                raise UserError(f"sampler.condition.{name}: got {value!r}; the anchors have {self.categories[name]}.")
            if name not in self.categories and not isinstance(value, (int, float, np.number)):
                raise UserError(f"sampler.condition.{name}: got {value!r}, which is not a number.")
            rows = rows.assign(**{name: value})
        return rows.reset_index(drop=True)


def _is_number(values: pd.Series) -> bool:
    return is_numeric_dtype(values) and not is_bool_dtype(values)
