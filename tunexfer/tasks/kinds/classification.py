"""Classification: one label for a sentence or a pair of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tunexfer.tasks.kinds.base import CORRECT, Answer, Feature, Kind, Row, Scored, Tokenizer, canonical
from tunexfer.tasks.kinds.columns import identity, label_index, label_positions, text, value
from tunexfer.tasks.kinds.frame import pair_frame
from tunexfer.tasks.metrics.metric import MACRO_F1, WEIGHTED_F1, mean_of

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock


class _Classification(Kind):
    name = "classification"
    head = "sequence"
    schema = canonical(("text", pa.string()), ("text_pair", pa.string()), ("label", pa.int64()))
    fields = {"text": True, "text_pair": False, "label": True}
    metrics = {"accuracy": mean_of("correct"), "macro_f1": MACRO_F1, "weighted_f1": WEIGHTED_F1}
    statistics = CORRECT
    hub_task = "text-classification"

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        label = label_index(value(row, task, "label"), label_positions(task), task)
        if label is None:
            return None
        pair = text(row, task, "text_pair") if "text_pair" in task.columns else None
        return identity(row, task) | {"text": text(row, task, "text"), "text_pair": pair, "label": label}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Adds `label`. The longer of two texts is cut first, as all recipes for these tasks do."""
        pairs = [row["text_pair"] for row in rows] if rows[0]["text_pair"] is not None else None
        encoded = tokenizer(
            [row["text"] for row in rows],
            pairs,
            truncation="longest_first",
            max_length=task.max_length,
            return_attention_mask=False,
            return_token_type_ids=any(pair_frame(tokenizer).types) and pairs is not None,
        )
        columns = [dict(zip(encoded.keys(), values, strict=True)) for values in zip(*encoded.values(), strict=True)]
        return [{"row": i, **columns[i], "label": row["label"]} for i, row in enumerate(rows)]

    def decode(self, row: Row, scored: Sequence[Scored], task: TaskBlock, language: str) -> Answer:
        [(_, output)] = scored
        return Answer.choice(task.labels[row["label"]], task.labels[int(np.argmax(output))])


KIND = _Classification()
