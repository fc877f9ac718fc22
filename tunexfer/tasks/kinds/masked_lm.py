"""Texts with some of their pieces hidden, to be guessed: trained beside a stage's tasks, never scored."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tunexfer.tasks.kinds.base import Feature, Kind, Output, Prediction, Row, Statistics, Tokenizer, canonical
from tunexfer.tasks.kinds.columns import identity, text
from tunexfer.tasks.suite import TaskBlock


class MaskedLM(Kind):
    name = "masked_lm"
    head = "language"
    schema = canonical(("text", pa.string()))
    metrics = ()

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        """None for an empty text."""
        found = text(row, task, "text")
        return identity(row, task) | {"text": found} if found else None

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Adds `special`, per piece: it is never hidden. What is hidden is drawn anew for each batch.

        A row is an example, cut at `max_length`, as in jiant's task of this kind: to use all of a long document, give
        its paragraphs a row each.
        """
        if not rows:
            return []
        encoded = tokenizer(
            [row["text"] for row in rows],
            truncation=True,
            max_length=task.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        special = set(tokenizer.all_special_ids)
        return [
            {"row": index, "input_ids": ids, "special": [piece in special for piece in ids]}
            for index, ids in enumerate(encoded["input_ids"])
        ]

    def predict(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Output],
        task: TaskBlock,
        language: str,
    ) -> list[Prediction]:
        raise NotImplementedError("a masked language model is no target")

    def summarise(self, statistics: Statistics, task: TaskBlock) -> dict[str, float]:
        raise NotImplementedError("a masked language model is no target")
