from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock

KIND = KINDS["multiple_choice"]


def block(columns: dict[str, Any], **fields: Any) -> TaskBlock:
    return TaskBlock.model_validate({"kind": "multiple_choice", "files": "x", "columns": columns} | fields)


TASK = block({"prompt": "q", "options": ["a", "b"], "label": "y"}, max_length=10)


def row(prompt: str, *options: str, label: int = 0) -> dict[str, Any]:
    return {"id": "0", "cluster": "0", "prompt": prompt, "options": list(options), "label": label}


def test_every_option_has_a_sequence_of_its_own(letters: Any, ids: Callable[[str], list[int]]) -> None:
    [feature] = KIND.encode([row("ab", "c", "de", label=1)], letters, TASK, training=True)
    assert feature == {
        "row": 0,
        "input_ids": [[0, *ids("ab"), 1, *ids("c"), 1], [0, *ids("ab"), 1, *ids("de"), 1]],
        "label": 1,
    }


def test_a_long_prompt_loses_its_beginning(letters: Any, ids: Callable[[str], list[int]]) -> None:
    [feature] = KIND.encode([row("a b c d e f g h i", "xyz", "x")], letters, TASK, training=False)
    assert feature["input_ids"] == [[0, *ids("f g h i"), 1, *ids("xyz"), 1], [0, *ids("d e f g h i"), 1, *ids("x"), 1]]


def test_an_option_longer_than_all_there_is_room_for_loses_its_beginning_too(
    letters: Any, ids: Callable[[str], list[int]]
) -> None:
    [feature] = KIND.encode([row("a", "b c d e f g h i", "x")], letters, TASK, training=False)
    assert feature["input_ids"][0] == [0, 1, *ids("c d e f g h i"), 1]


def test_token_types_go_along_with_every_option(typed_letters: Any) -> None:
    [feature] = KIND.encode([row("ab", "c", "de")], typed_letters, TASK, training=True)
    assert feature["token_type_ids"] == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1]]


def test_options_come_from_several_columns() -> None:
    read = KIND.read({"q": "why", "a": "x ", "b": "y", "y": 1}, TASK)
    assert read == {"prompt": "why", "options": ["x", "y"], "label": 1}


def test_hellaswag_begins_every_option_with_the_same_words_and_writes_its_label_as_text() -> None:
    columns = {"prompt": "ctx_a", "option_start": "ctx_b", "options": "endings", "label": "label"}
    row = {"ctx_a": "Rain.", "ctx_b": "she", "endings": ["runs.", "sleeps."], "label": "1"}
    assert KIND.read(row, block(columns)) == {"prompt": "Rain.", "options": ["she runs.", "she sleeps."], "label": 1}
    assert KIND.read(row | {"label": ""}, block(columns, drop_labels=[""])) is None


def test_a_label_past_the_options_is_an_error() -> None:
    with pytest.raises(DataError, match="column 'y' has the label 2, but the labels are 0, 1"):
        KIND.read({"q": "why", "a": "x", "b": "y", "y": 2}, TASK)
    lettered = block({"prompt": "q", "options": "o", "label": "y"}, labels=["A", "B", "C"])
    with pytest.raises(DataError, match="label 'C' is number 2 of 2 options"):
        KIND.read({"q": "why", "o": ["x", "y"], "y": "C"}, lettered)


def test_a_text_in_place_of_a_list_of_options_is_an_error() -> None:
    with pytest.raises(DataError, match="column 'o' should hold the list of options, but got 'x'"):
        KIND.read({"q": "why", "o": "x", "y": 0}, block({"prompt": "q", "options": "o", "label": "y"}))


def test_the_highest_option_is_chosen() -> None:
    outputs = [np.array([0.2, 0.9], dtype=np.float32)]
    predictions = KIND.predict([row("a", "x", "y", label=0)], [{"row": 0}], outputs, TASK, "en")
    assert predictions == [{"gold": "0", "prediction": "1", "correct": 0.0}]
    assert KIND.summarise({"correct": [1, 0, 0, 0]}) == {"accuracy": 25.0}
