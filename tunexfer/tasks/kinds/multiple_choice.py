"""Multiple choice: the option that goes with a prompt. One sequence per option, a softmax over their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import CORRECT, Answer, Feature, Kind, Row, Scored, Tokenizer, canonical
from tunexfer.tasks.kinds.columns import column_text, identity, label_index, label_positions, text, value
from tunexfer.tasks.kinds.frame import pair_frame, pieces
from tunexfer.tasks.metrics.metric import mean_of

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock


class _MultipleChoice(Kind):
    name = "multiple_choice"
    head = "choice"
    schema = canonical(("prompt", pa.string()), ("options", pa.list_(pa.string())), ("label", pa.int64()))
    fields = {"prompt": True, "options": True, "label": True, "option_start": False}
    metrics = {"accuracy": mean_of("correct")}
    statistics = CORRECT
    hub_task = "multiple-choice"
    truncation_side = "left"

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
        """`input_ids` has one list per option. A long prompt loses its beginning, because its end matters more."""
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
            columns = {name: [option[name] for option in joined] for name in joined[0]}
            features.append({"row": index, **columns, "label": row["label"]})
        return features

    def decode(self, row: Row, scored: Sequence[Scored], task: TaskBlock, language: str) -> Answer:
        """`gold` and `prediction` are the option's number, from 0."""
        [(_, output)] = scored
        return Answer.choice(row["label"], int(np.argmax(output)))


KIND = _MultipleChoice()


def _options(row: Row, task: TaskBlock) -> list[str]:
    column = task.columns.get("options")
    if isinstance(column, list):
        return [column_text(row, own, "options") for own in column]
    options = value(row, task, "options")
    if not isinstance(options, list) or not options or not all(isinstance(option, str) for option in options):
        raise DataError(
            f"column {column!r} should hold the list of options, but got {options!r}. "
            "Where each option has a column of its own, `columns: options:` is the list of those columns."
        )
    start = text(row, task, "option_start") if "option_start" in task.columns else ""
    return [f"{start} {option}".strip() for option in options]


def _label(label: object, options: int, task: TaskBlock) -> int | None:
    """Without `labels:`, a label is the option's number from 0, as a number or as text."""
    if task.labels:
        return label_index(label, label_positions(task), task)
    positions: dict[str | int, int] = {form: index for index in range(options) for form in (index, str(index))}
    return label_index(label, positions, task)
