"""Metrics over evaluation rows, each of them a function of sums over rows, so that rows can be weighted.

K sums, N rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunexfer.tasks.metrics.labels import macro_f1, precision_recall_f1, weighted_f1

Array = NDArray[np.float64]
Statistics = Any
"""Columns of evaluation rows by name: an Arrow table, or a mapping to sequences."""
Columns = Mapping[str, NDArray[Any]]
"""The same as arrays: text as objects, numbers as float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    columns: tuple[str, ...]
    """The statistics that it is computed from."""
    score: Callable[[Statistics], float]
    """Computes the percentage over rows, exactly as the benchmark does; 0 without rows."""
    sums: Callable[[Columns], Array]
    """Computes what each row adds to the sums, shape (K, N)."""
    of_sums: Callable[[Array], Array]
    """Computes percentages from sums: shape (K, ...) to (...)."""


def mean_of(*columns: str) -> Metric:
    """Mean over rows of a column of shares in [0, 1], or of the mean of several columns."""

    def score(statistics: Statistics) -> float:
        return sum(_percentage(statistics[column]) for column in columns) / len(columns)

    def sums(rows: Columns) -> Array:
        shares = np.mean([rows[column] for column in columns], axis=0)
        return np.stack([shares, np.ones_like(shares)])

    return Metric(columns=columns, score=score, sums=sums, of_sums=mean_score)


def _percentage(column: Any) -> float:
    shares = np.asarray(column, dtype=np.float64)
    return float(shares.mean() * 100) if len(shares) else 0.0


def mean_score(sums: Array) -> Array:
    """Divide a sum by a count; NaN without rows."""
    with np.errstate(invalid="ignore"):
        means: Array = 100 * sums[0] / sums[1]
    return means


COUNTS = ("tp", "predicted", "gold_count")
"""Number of things that a row predicts right, predicts at all, and should predict."""


def _of_counts(part: int, of_sums: Callable[[Array], Array]) -> Metric:
    """part: which of precision, recall and F1 over the counts of all rows together"""

    def score(statistics: Statistics) -> float:
        counts = (int(np.asarray(statistics[name]).sum()) for name in COUNTS)
        return precision_recall_f1(*counts)[part] * 100

    return Metric(
        columns=COUNTS, score=score, sums=lambda rows: np.stack([rows[name] for name in COUNTS]), of_sums=of_sums
    )


def _ratio(part: Array, whole: Array) -> Array:
    return 100 * np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


F1_OF_COUNTS = {
    "f1": _of_counts(2, lambda sums: _ratio(2 * sums[0], sums[1] + sums[2])),
    "precision": _of_counts(0, lambda sums: _ratio(sums[0], sums[1])),
    "recall": _of_counts(1, lambda sums: _ratio(sums[0], sums[2])),
}


def _label_sums(rows: Columns) -> Array:
    """For each label that occurs: whether the row is right, predicted so, and labelled so; (3 * labels, N)."""
    gold, predicted = rows["gold"], rows["prediction"]
    labels = np.array(list(dict.fromkeys(gold.tolist())), dtype=object)
    is_gold, is_predicted = gold == labels[:, None], predicted == labels[:, None]
    return np.concatenate([is_gold & is_predicted, is_predicted, is_gold]).astype(np.float64)


def _of_labels(mean: Callable[[Sequence[str], Sequence[str]], float], weigh: Callable[[Array], Array]) -> Metric:
    """Mean F1 over the labels that have gold rows.

    mean:  computes it from gold labels and predictions, in [0, 1]
    weigh: turns the labels' numbers of gold rows into their weights
    """

    def score(statistics: Statistics) -> float:
        gold, predicted = (np.asarray(statistics[name]).tolist() for name in ("gold", "prediction"))
        return mean(gold, predicted) * 100

    def of_sums(sums: Array) -> Array:
        hits, predicted, gold = sums.reshape(3, -1, *sums.shape[1:])
        weights = weigh(gold)
        means: Array = (_ratio(2 * hits, predicted + gold) * weights).sum(axis=0) / weights.sum(axis=0)
        return means

    return Metric(columns=("gold", "prediction"), score=score, sums=_label_sums, of_sums=of_sums)


MACRO_F1 = _of_labels(macro_f1, lambda gold: (gold > 0).astype(np.float64))
WEIGHTED_F1 = _of_labels(weighted_f1, lambda gold: gold)


def _right_tags(statistics: Statistics) -> Array:
    """Count the right tags and the tags of each row, shape (2, N)."""
    columns = (np.asarray(statistics[name]).tolist() for name in ("gold", "prediction"))
    pairs = [(json.loads(gold), json.loads(predicted)) for gold, predicted in zip(*columns, strict=True)]
    counts = [(sum(map(eq, gold, predicted)), len(gold)) for gold, predicted in pairs]
    return np.array(counts, dtype=np.float64).reshape(-1, 2).T


def _tag_score(statistics: Statistics) -> float:
    right, count = _right_tags(statistics).sum(axis=1)
    return float(100 * right / count) if count else 0.0


TAG_ACCURACY = Metric(columns=("gold", "prediction"), score=_tag_score, sums=_right_tags, of_sums=mean_score)
"""Share of all words that have the right tag."""
