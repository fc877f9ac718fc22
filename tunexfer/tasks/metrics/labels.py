"""Metrics over one label per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Compute the share of rows predicted as their gold label, in [0, 1]; 0 without rows."""
    hits = sum(label == guess for label, guess in zip(gold, predicted, strict=True))
    return hits / len(gold) if gold else 0.0


def macro_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Average F1 over the labels that occur in `gold`, in [0, 1]."""
    expected, guessed = Counter(gold), Counter(predicted)
    hits = Counter(label for label, guess in zip(gold, predicted, strict=True) if label == guess)
    scores = [2 * hits[label] / (count + guessed[label]) for label, count in expected.items()]
    return sum(scores) / len(scores) if scores else 0.0


def precision_recall_f1(hits: int, predicted: int, gold: int) -> tuple[float, float, float]:
    """Compute all three from counts, each in [0, 1]; 0 if nothing is predicted or nothing is gold."""
    precision = hits / predicted if predicted else 0.0
    recall = hits / gold if gold else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0
