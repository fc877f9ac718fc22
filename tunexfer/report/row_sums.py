"""The sums over scored rows that each metric is made of, so that it can be computed anew for any weights of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.metrics.metric import Array, mean_score
from tunexfer.tasks.metrics.metric import Columns as Rows

__all__ = ["NUMBERS", "TEXTS", "Array", "Rows", "Score", "columns_for", "mean_score", "row_sums"]

Score = Callable[[Array], Array]
"""From sums, shape (K, ...), to percentages, shape (...)."""

_METRICS = [(name, metric) for kind in KINDS.values() for name, metric in kind.metrics.items()]
TEXTS = ("gold", "prediction")
NUMBERS = tuple(dict.fromkeys(column for _, metric in _METRICS for column in metric.columns if column not in TEXTS))
_WHICH = ("task", "language", "split", "id", "cluster")


def columns_for(metrics: Iterable[str]) -> tuple[str, ...]:
    """The columns of scored rows that these metrics need; the texts, which are large, only if they must be read."""
    wanted = set(metrics)
    needed = {column for name, metric in _METRICS if name in wanted for column in metric.columns}
    return (*_WHICH, *NUMBERS, *(text for text in TEXTS if text in needed))


def row_sums(metric: str, rows: Rows) -> tuple[Array, Score] | None:
    """Compute what each row adds to the metric's sums, shape (K, rows), and the metric as a function of those sums.

    rows:     of one task, language and split, as `columns_for` names them; numbers as float64, NaN if missing
    returns:  None if the rows don't have the columns that the metric is made of
    """
    for name, own in _METRICS:
        numbers = [column for column in own.columns if column in NUMBERS]
        if name == metric and not any(np.isnan(rows[column]).any() for column in numbers):
            return own.sums(rows), own.of_sums
    return None
