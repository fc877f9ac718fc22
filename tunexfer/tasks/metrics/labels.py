"""Metrics over one label per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Compute the share of rows predicted as their gold label, in [0, 1]; 0 without rows."""
    hits = sum(label == guess for label, guess in zip(gold, predicted, strict=True))
    return hits / len(gold) if gold else 0.0


def f1_by_label(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> dict[Hashable, tuple[float, int]]:
    """Compute F1, in [0, 1], and the number of gold rows of each label that occurs in `gold`."""
    expected, guessed = Counter(gold), Counter(predicted)
    hits = Counter(label for label, guess in zip(gold, predicted, strict=True) if label == guess)
    return {label: (2 * hits[label] / (count + guessed[label]), count) for label, count in expected.items()}


def macro_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Average F1 over the labels that occur in `gold`, in [0, 1]."""
    scores = f1_by_label(gold, predicted).values()
    return sum(f1 for f1, _ in scores) / len(scores) if scores else 0.0


def weighted_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Average F1 over the labels, each as often as it occurs in `gold`, in [0, 1]."""
    return sum(f1 * count for f1, count in f1_by_label(gold, predicted).values()) / len(gold) if gold else 0.0


def precision_recall_f1(hits: int, predicted: int, gold: int) -> tuple[float, float, float]:
    """Compute all three from counts, each in [0, 1]; 0 if nothing is predicted or nothing is gold."""
    precision = hits / predicted if predicted else 0.0
    recall = hits / gold if gold else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0
