from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock

KIND = KINDS["retrieval"]
TASK = TaskBlock(kind="retrieval", files="x", columns={"text": "s", "english": "t"}, max_length=8)


def row(text: str, english: str) -> dict[str, Any]:
    return {"id": "0", "cluster": "0", "text": text, "english": english}


def test_a_row_has_a_feature_for_each_side(letters: Any, ids: Callable[[str], list[int]]) -> None:
    assert KIND.encode([row("ab", "c")], letters, TASK, training=False) == [
        {"row": 0, "input_ids": [0, *ids("ab"), 1], "side": 0},
        {"row": 0, "input_ids": [0, *ids("c"), 1], "side": 1},
    ]


def test_english_sentences_are_the_queries() -> None:
    """The other way round these vectors score 100: the direction matters."""
    foreign, english = (0, 20, 45, 90), (12, 25, 60, 100)
    rows = [row("", "")] * 4
    features = [{"row": i, "side": side} for i in range(4) for side in (1, 0)]
    degrees = [(foreign, english)[feature["side"]][feature["row"]] for feature in features]
    outputs = [np.array([np.cos(a), np.sin(a)], dtype=np.float32) for a in np.radians(degrees)]
    predictions = KIND.predict(rows, features, outputs, TASK, "de")
    assert [prediction["prediction"] for prediction in predictions] == ["1", "1", "2", "3"]
    assert [prediction["gold"] for prediction in predictions] == ["0", "1", "2", "3"]
    assert KIND.summarise({"correct": [p["correct"] for p in predictions]}) == {"accuracy": 75.0}


def test_pools_larger_than_a_block_of_queries_are_searched_whole() -> None:
    vectors = np.random.default_rng(0).normal(size=(1500, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = [{"row": i, "side": side} for i in range(1500) for side in (0, 1)]
    outputs = [vectors[feature["row"]] for feature in features]
    assert all(p["correct"] == 1 for p in KIND.predict([row("", "")] * 1500, features, outputs, TASK, "de"))
