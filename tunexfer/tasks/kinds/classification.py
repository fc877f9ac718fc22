"""One label for a sentence or a pair of sentences."""

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
from tunexfer.tasks.kinds.columns import identity, label_index, label_positions, text, value
from tunexfer.tasks.kinds.frame import pair_frame
from tunexfer.tasks.metrics.labels import macro_f1
from tunexfer.tasks.suite import TaskBlock


class Classification(Kind):
    name = "classification"
    head = "sequence"
    schema = canonical(("text", pa.string()), ("text_pair", pa.string()), ("label", pa.int64()))
    metrics = ("accuracy", "macro_f1")

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        label = label_index(value(row, task, "label"), label_positions(task), task)
        if label is None:
            return None
        pair = text(row, task, "text_pair") if "text_pair" in task.columns else None
        return identity(row, task) | {"text": text(row, task, "text"), "text_pair": pair, "label": label}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Adds `label`. The longer of two texts is cut first, as all recipes for these tasks do."""
        if not rows:
            return []
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

    def predict(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Output],
        task: TaskBlock,
        language: str,
    ) -> list[Prediction]:
        predictions: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            gold, chosen = rows[feature["row"]]["label"], int(np.argmax(output))
            predictions[feature["row"]] = {
                "gold": json.dumps(task.labels[gold], ensure_ascii=False),
                "prediction": json.dumps(task.labels[chosen], ensure_ascii=False),
                "correct": float(gold == chosen),
            }
        return predictions

    def summarise(self, statistics: Statistics, task: TaskBlock) -> dict[str, float]:
        gold, predicted = (np.asarray(statistics[name]).tolist() for name in ("gold", "prediction"))
        return {"accuracy": percentage(statistics, "correct"), "macro_f1": macro_f1(gold, predicted) * 100}
