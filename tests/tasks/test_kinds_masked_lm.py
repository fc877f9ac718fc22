from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import LeftOut
from tunexfer.tasks.suite import TaskBlock

KIND = KINDS["masked_lm"]
TASK = TaskBlock(kind="masked_lm", files="x", columns={"text": "article"}, max_length=8)


def test_any_column_of_text_will_do_and_an_empty_text_is_no_row() -> None:
    assert KIND.read({"article": " Ein Haus.\n", "label": 1}, TASK) == {"text": "Ein Haus."}
    with pytest.raises(LeftOut, match="the text is empty"):
        KIND.read({"article": "\n"}, TASK)


def test_special_pieces_are_marked(letters: Any, ids: Callable[[str], list[int]]) -> None:
    assert KIND.encode([{"text": "ab ä c"}], letters, TASK, training=True) == [
        {"row": 0, "input_ids": [0, *ids("ab"), 2, *ids("c"), 1], "special": [True, False, False, True, False, True]}
    ]


def test_a_long_text_is_cut(letters: Any, ids: Callable[[str], list[int]]) -> None:
    [feature] = KIND.encode([{"text": "abcdefghij"}], letters, TASK, training=True)
    assert feature["input_ids"] == [0, *ids("abcdef"), 1]
