"""Which of several options goes with a prompt: one sequence per option, a softmax over their scores."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tunexfer.errors import DataError
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
from tunexfer.tasks.kinds.frame import pair_frame, pieces
from tunexfer.tasks.suite import TaskBlock


class MultipleChoice(Kind):
    name = "multiple_choice"
    head = "choice"
    schema = canonical(("prompt", pa.string()), ("options", pa.list_(pa.string())), ("label", pa.int64()))
    metrics = ("accuracy",)

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        """`columns: options:` is one column that holds a list, or a list of columns.

        `columns: option_start:`, if given, is put before every option (HellaSwag's begun sentence).
        """
        options = _options(row, task)
        label = _label(value(row, task, "label"), len(options), task)
        if label is None:
            return None
        if label >= len(options):
            raise DataError(f"label {task.labels[label]!r} is number {label} of {len(options)} options, {options!r}.")
        return identity(row, task) | {"prompt": text(row, task, "prompt"), "options": options, "label": label}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """`input_ids` holds one list per option. Prompts too long lose their beginning: their end matters."""
        if not rows:
            return []
        frame = pair_frame(tokenizer)
        prompts = pieces(tokenizer, [row["prompt"] for row in rows])
        options = iter(pieces(tokenizer, [option for row in rows for option in row["options"]]))
        room = task.max_length - frame.size
        features: list[Feature] = []
        for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            joined = []
            for _ in row["options"]:
                option = next(options)[-room:]
                joined.append(frame.join(prompt[max(0, len(prompt) + len(option) - room) :], option))
            columns = {name: [one[name] for one in joined] for name in joined[0]}
            features.append({"row": index, **columns, "label": row["label"]})
        return features

    def predict(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Output],
        task: TaskBlock,
        language: str,
    ) -> list[Prediction]:
        """`gold` and `prediction` are the option's number, from 0."""
        predictions: list[Prediction] = [{} for _ in rows]
        for feature, output in zip(features, outputs, strict=True):
            gold, chosen = rows[feature["row"]]["label"], int(np.argmax(output))
            predictions[feature["row"]] = {
                "gold": json.dumps(gold),
                "prediction": json.dumps(chosen),
                "correct": float(gold == chosen),
            }
        return predictions

    def summarise(self, statistics: Statistics, task: TaskBlock) -> dict[str, float]:
        return {"accuracy": percentage(statistics, "correct")}


def _options(row: Row, task: TaskBlock) -> list[str]:
    column = task.columns.get("options")
    if isinstance(column, list):
        return [text(row, task.model_copy(update={"columns": {"options": one}}), "options") for one in column]
    found = value(row, task, "options")
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise DataError(
            f"column {column!r} should hold the list of options, but got {found!r}. "
            "Where each option has a column of its own, `columns: options:` is the list of those columns."
        )
    start = text(row, task, "option_start") if "option_start" in task.columns else ""
    return [f"{start} {one}".strip() for one in found]


def _label(found: object, options: int, task: TaskBlock) -> int | None:
    """Without `labels:`, the option's number, from 0, as a number or as text."""
    if task.labels:
        return label_index(found, label_positions(task), task)
    positions: dict[str | int, int] = {form: index for index in range(options) for form in (index, str(index))}
    return label_index(found, positions, task)
