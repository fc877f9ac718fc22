"""Classification: one label for a sentence or a pair of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tunexfer.tasks.kinds.base import CORRECT, Answer, Feature, Kind, Row, Scored, Tokenizer, canonical
from tunexfer.tasks.kinds.columns import identity, label_index, label_positions, text, value
from tunexfer.tasks.kinds.frame import framed, pair_frame
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
        paired = rows[0]["text_pair"] is not None
        texts = [(row["text"], row["text_pair"]) if paired else row["text"] for row in rows]
        encodings = framed(tokenizer, texts, task.max_length)
        features: list[Feature] = [
            {"row": index, "input_ids": encoding.ids, "label": row["label"]}
            for index, (row, encoding) in enumerate(zip(rows, encodings, strict=True))
        ]
        if paired and any(pair_frame(tokenizer).types):
            for feature, encoding in zip(features, encodings, strict=True):
                feature["token_type_ids"] = encoding.type_ids
        return features

    def decode(self, row: Row, scored: Sequence[Scored], task: TaskBlock, language: str) -> Answer:
        [(_, output)] = scored
        return Answer.choice(task.labels[row["label"]], task.labels[int(np.argmax(output))])


KIND = _Classification()
