"""Masked language modelling: guess the hidden pieces of a text. Trained beside the tasks of a stage, never scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from tunexfer.tasks.kinds.base import Feature, Kind, LeftOut, Row, Tokenizer, canonical
from tunexfer.tasks.kinds.columns import identity, text
from tunexfer.tasks.kinds.frame import truncated

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock


class _MaskedLM(Kind):
    name = "masked_lm"
    head = "language"
    schema = canonical(("text", pa.string()))
    fields = {"text": True}
    metrics = {}
    masks = True
    hub_task = "fill-mask"

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        own = text(row, task, "text")
        if not own:
            raise LeftOut("the text is empty")
        return identity(row, task) | {"text": own}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Adds `special`, per piece: it is never hidden. The hidden pieces are drawn anew for each batch.

        A row is an example, cut at `max_length`, as in jiant's task of this kind: to use all of a long document, give
        its paragraphs a row each.
        """
        special = set(tokenizer.all_special_ids)
        return [
            {"row": index, "input_ids": ids, "special": [piece in special for piece in ids]}
            for index, ids in enumerate(truncated(tokenizer, [row["text"] for row in rows], task.max_length))
        ]


KIND = _MaskedLM()
