"""Which foreign sentence says the same as an English one: nothing to train, scored from sentence vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tunexfer.tasks.kinds.base import (
    Feature,
    Kind,
    Output,
    Prediction,
    Row,
    Statistics,
    Tokenizer,
    canonical,
    percentage,
)
from tunexfer.tasks.kinds.columns import identity, text
from tunexfer.tasks.suite import TaskBlock

FOREIGN, ENGLISH = 0, 1
QUERIES_AT_ONCE = 1024


class Retrieval(Kind):
    name = "retrieval"
    head = None
    schema = canonical(("text", pa.string()), ("english", pa.string()))
    metrics = ("accuracy",)

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        return identity(row, task) | {"text": text(row, task, "text"), "english": text(row, task, "english")}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Two features per row: `side` 0 is the foreign sentence, 1 the English one."""
        if not rows:
            return []
        texts = [row[field] for row in rows for field in ("text", "english")]
        encoded = tokenizer(
            texts, truncation=True, max_length=task.max_length, return_attention_mask=False, return_token_type_ids=False
        )
        return [
            {"row": index // 2, "input_ids": ids, "side": (FOREIGN, ENGLISH)[index % 2]}
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
        """The English sentences are the queries, all foreign ones the candidates; row i's answer is i.

        `place` is the sentence's among the English ones in the order of the alphabet, as XTREME has them.
        """
        if not rows:
            return []
        vectors = np.zeros((2, len(rows), len(outputs[0])), dtype=np.float32)
        for feature, output in zip(features, outputs, strict=True):
            vectors[feature["side"], feature["row"]] = output
        nearest = [
            int(index)
            for start in range(0, len(rows), QUERIES_AT_ONCE)
            for index in (vectors[ENGLISH, start : start + QUERIES_AT_ONCE] @ vectors[FOREIGN].T).argmax(axis=1)
        ]
        places = np.argsort(sorted(range(len(rows)), key=lambda index: rows[index]["english"]))
        return [
            {
                "gold": json.dumps(index),
                "prediction": json.dumps(found),
                "correct": float(found == index),
                "place": int(places[index]),
            }
            for index, found in enumerate(nearest)
        ]

    def summarise(self, statistics: Statistics, task: TaskBlock) -> dict[str, float]:
        return {"accuracy": percentage(statistics, "correct")}
