from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock

KIND = KINDS["classification"]
TASK = TaskBlock(
    kind="classification", files="x", columns={"text": "a", "label": "y"}, labels=["no", "yes"], max_length=8
)


def row(text: str, pair: str | None = None, label: int = 0) -> dict[str, Any]:
    return {"id": "0", "cluster": "0", "text": text, "text_pair": pair, "label": label}


def test_one_text_is_encoded_between_its_marks(letters: Any, ids: Callable[[str], list[int]]) -> None:
    features = KIND.encode([row("ab c", label=1)], letters, TASK, training=True)
    assert features == [{"row": 0, "input_ids": [0, *ids("ab c"), 1], "label": 1}]


def test_of_two_texts_the_longer_one_is_cut(letters: Any, ids: Callable[[str], list[int]]) -> None:
    features = KIND.encode([row("abcdefgh", "xy")], letters, TASK, training=False)
    assert features[0]["input_ids"] == [0, *ids("abc"), 1, *ids("xy"), 1]


def test_a_tokenizer_that_types_its_second_text_is_obeyed(typed_letters: Any) -> None:
    feature = KIND.encode([row("ab", "c")], typed_letters, TASK, training=True)[0]
    assert feature["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert "token_type_ids" not in KIND.encode([row("ab")], typed_letters, TASK, training=True)[0]


def test_a_prediction_is_the_highest_label_by_its_name() -> None:
    rows = [row("a", label=0), row("b", label=1)]
    outputs = [np.array(logits, dtype=np.float32) for logits in ([0.8, 0.2], [0.1, 0.9])]
    predictions = KIND.predict(rows, [{"row": 0}, {"row": 1}], outputs, TASK, "en")
    assert predictions == [
        {"gold": '"no"', "prediction": '"no"', "correct": 1.0},
        {"gold": '"yes"', "prediction": '"yes"', "correct": 1.0},
    ]


def test_accuracy_and_the_means_of_f1_are_percentages() -> None:
    statistics = {"gold": ["a", "a", "b"], "prediction": ["a", "a", "a"], "correct": [1, 1, 0]}
    # F1 of a: precision 2/3, recall 1, so 0.8; of b: 0
    assert KIND.summarise(statistics) == {
        "accuracy": pytest.approx(66.6666667),
        "macro_f1": pytest.approx(40),
        "weighted_f1": pytest.approx(160 / 3),
    }
