"""The sums over scored rows that each metric is made of, so that it can be computed anew for any weights of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], Array]
"""From sums, shape (K, ...), to percentages, shape (...)."""

_CHUNKS = ("tp", "predicted", "gold_count")
Rows = Mapping[str, NDArray[Any]]
"""Columns of `rows.parquet` by name."""
NUMBERS = ("correct", "em", "f1", *_CHUNKS)
TEXTS = ("gold", "prediction")
_WHICH = ("task", "language", "split", "id", "cluster")


def columns_for(metrics: Iterable[str]) -> tuple[str, ...]:
    """What of the scored rows these metrics need; the texts, which take most room, only where they must be read."""
    return (*_WHICH, *NUMBERS, *(TEXTS if "macro_f1" in metrics else ()))


def row_sums(metric: str, rows: Rows) -> tuple[Array, Score] | None:
    """What each row adds to the metric's sums, shape (K, rows), and the metric as a function of those sums.

    rows:     of one task, language and split, as `columns_for` names them; numbers as float64, NaN where there is none
    returns:  None, where the rows don't hold what the metric is made of
    """
    if metric == "macro_f1":
        return _macro(rows)
    if metric in _OF_CHUNKS and not any(np.isnan(rows[name]).any() for name in _CHUNKS):
        return np.stack([rows[name] for name in _CHUNKS]), _OF_CHUNKS[metric]
    if metric not in _MEANS:
        return None
    values = np.mean([rows[name] for name in _MEANS[metric]], axis=0)
    return None if np.isnan(values).any() else (np.stack([values, np.ones_like(values)]), mean_score)


_MEANS = {"accuracy": ("correct",), "exact_match": ("em",), "f1": ("f1",), "mean": ("f1", "em")}


def mean_score(sums: Array) -> Array:
    """Of sum and count; NaN without rows."""
    with np.errstate(invalid="ignore"):
        means: Array = 100 * sums[0] / sums[1]
    return means


def _ratio(hits: Array, of: Array) -> Array:
    """0 where there is nothing to hit, as the metrics themselves have it."""
    return 100 * np.divide(hits, of, out=np.zeros_like(hits), where=of > 0)


_OF_CHUNKS: dict[str, Score] = {
    "precision": lambda sums: _ratio(sums[0], sums[1]),
    "recall": lambda sums: _ratio(sums[0], sums[2]),
    "f1": lambda sums: _ratio(2 * sums[0], sums[1] + sums[2]),
}
"""Of chunks right, found, and to be found. F1 is 2 tp / (predicted + gold)."""


def _macro(rows: Rows) -> tuple[Array, Score]:
    """Per label that occurs: rows right, predicted, and gold."""
    gold, predicted = rows["gold"], rows["prediction"]
    labels = pd.unique(gold)
    is_gold, is_predicted = gold == labels[:, None], predicted == labels[:, None]
    stacked = np.stack([is_gold & is_predicted, is_predicted, is_gold]).astype(np.float64)
    return stacked.reshape(-1, len(gold)), _macro_f1


def _macro_f1(sums: Array) -> Array:
    """Mean over the labels that have gold rows, as `tasks.metrics.labels.macro_f1`."""
    hits, predicted, gold = sums.reshape(3, -1, *sums.shape[1:])
    means: Array = (_ratio(2 * hits, predicted + gold) * (gold > 0)).sum(axis=0) / (gold > 0).sum(axis=0)
    return means
