"""Metrics as sums over scored rows, so that they can be recomputed for any weights of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.metrics.metric import Array, Columns

Score = Callable[[Array], Array]
"""Computes percentages, shape (...), from sums, shape (K, ...)."""

PART = ("target", "language", "split")
TEXTS = ("gold", "prediction")
_METRICS = [(name, metric) for kind in KINDS.values() for name, metric in kind.metrics.items()]
NUMBERS = tuple(dict.fromkeys(column for _, metric in _METRICS for column in metric.columns if column not in TEXTS))


def columns_for(metrics: Iterable[str]) -> tuple[str, ...]:
    """List the columns of scored rows that these metrics need; the texts, which are large, only if they are needed."""
    wanted = set(metrics)
    needed = {column for name, metric in _METRICS if name in wanted for column in metric.columns}
    return (*PART, "id", "cluster", *NUMBERS, *(text for text in TEXTS if text in needed))


def row_sums(metric: str, rows: Columns) -> tuple[Array, Score] | None:
    """Compute what each row adds to the metric's sums, shape (K, rows), and the metric as a function of those sums.

    rows:     of one target, language and split, with the columns that `columns_for` lists; numbers are NaN if missing
    returns:  None if the rows don't have the columns that the metric is made of
    """
    for name, own in _METRICS:
        numbers = [column for column in own.columns if column in NUMBERS]
        if name == metric and not any(np.isnan(rows[column]).any() for column in numbers):
            return own.sums(rows), own.of_sums
    return None
