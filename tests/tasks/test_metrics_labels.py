from __future__ import annotations

import pytest

from tunexfer.tasks.metrics.labels import accuracy, macro_f1, precision_recall_f1


def test_accuracy_is_the_share_of_matches() -> None:
    assert accuracy(["a", "b", "a", "c"], ["a", "b", "b", "b"]) == 0.5
    assert accuracy([], []) == 0.0


def test_macro_f1_is_a_mean_over_the_labels_that_occur_in_gold() -> None:
    gold, predicted = ["a", "a", "a", "b"], ["a", "a", "c", "a"]
    # a: precision 2/3, recall 2/3; b: 0; c is only predicted and doesn't count
    assert macro_f1(gold, predicted) == pytest.approx((2 / 3 + 0) / 2)


def test_nothing_right_is_zero_and_no_division() -> None:
    assert precision_recall_f1(0, 0, 0) == (0.0, 0.0, 0.0)
    assert precision_recall_f1(0, 3, 5) == (0.0, 0.0, 0.0)
    assert precision_recall_f1(1, 2, 4) == (0.5, 0.25, pytest.approx(1 / 3))
