"""Metrics over one label per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Share of rows predicted as their gold label, in [0, 1]; 0 where there are no rows."""
    hits = sum(one == other for one, other in zip(gold, predicted, strict=True))
    return hits / len(gold) if gold else 0.0


def macro_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Mean F1 over the labels that occur in `gold`, in [0, 1]; a label no row has doesn't count as a miss."""
    expected, found = Counter(gold), Counter(predicted)
    hits = Counter(one for one, other in zip(gold, predicted, strict=True) if one == other)
    scores = [2 * hits[label] / (count + found[label]) for label, count in expected.items()]
    return sum(scores) / len(scores) if scores else 0.0


def precision_recall_f1(hits: int, predicted: int, gold: int) -> tuple[float, float, float]:
    """Of counts, each in [0, 1]; 0 where nothing was predicted or nothing is gold."""
    precision = hits / predicted if predicted else 0.0
    recall = hits / gold if gold else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0
