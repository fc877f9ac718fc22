"""A kind of task: how its rows are read, encoded, decoded and scored. Free of torch and transformers.

L labels, P pieces of a feature, O options, W the encoder's width.
"""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from tunexfer.tasks.metrics.metric import COUNTS, Metric, Statistics

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock

Row = dict[str, Any]
Feature = dict[str, Any]
Prediction = dict[str, Any]
Tokenizer = Any
"""A fast tokenizer of transformers, which this floor doesn't import."""
Output = np.ndarray[Any, np.dtype[np.float32]]
Scored = tuple[Feature, Output]
"""A feature and the model's output for it."""
HeadName = Literal["sequence", "token", "choice", "span", "language"]

IGNORE_INDEX = -100
"""The label of a piece that has none: the loss skips it."""
TUNING = "tuning"
"""The field that marks rows on which something is tuned before the others are scored, in kinds that are `tuned`."""

CORRECT = {"correct": pa.float32()}
CHUNKS = {name: pa.int32() for name in COUNTS}


def canonical(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    """The schema of a kind's rows: its own fields after `id` and `cluster`, the unit of a bootstrap."""
    return pa.schema([("id", pa.string()), ("cluster", pa.string()), *fields])


class LeftOut(Exception):
    """A row that can't be used. Its text says why, so that it follows on 'in 57 rows'."""


class Answer(NamedTuple):
    """The decoded prediction for a row, beside the gold one; both as JSON values."""

    gold: Any
    prediction: Any
    statistics: Mapping[str, float]

    @classmethod
    def choice(cls, gold: Any, prediction: Any, **statistics: float) -> Answer:
        """One choice, which is either right or wrong."""
        return cls(gold, prediction, {"correct": float(gold == prediction), **statistics})


class Kind(ABC):
    """One kind of task. What other modules need to know of a kind is an attribute here."""

    name: str
    head: HeadName | None
    """The head that the model puts on the encoder; without one, the encoder's sentence vectors are scored."""
    schema: pa.Schema
    """The schema of its canonical rows."""
    fields: Mapping[str, bool]
    """The fields that `columns:` names, beside `id` and `cluster` -> whether they have to be there."""
    metrics: Mapping[str, Metric]
    """The main metric first; none for a kind that is only trained on."""
    statistics: Mapping[str, pa.DataType] = {}
    """The columns of its evaluation rows beside `gold` and `prediction`."""
    tuned: bool = False
    """Whether scoring test rows takes the validation rows of their language as well, which come before them."""
    masks: bool = False
    """Whether pieces of its texts are hidden, so that it needs a mask and the encoder's own language model head."""
    clustered_by: str | None = None
    """The field whose rows with the same value are one cluster, if the data has no column for clusters."""
    rows_version: int = 1
    """Raise by hand when the canonical rows of validation and test change, but those of train do not."""
    hub_task: str
    """The Hugging Face hub's name for models of this kind."""
    truncation_side: Literal["left", "right"] = "right"
    """Where a text that is too long is cut."""
    export_limits: str = ""
    """How an exported model differs from the model that was scored, as a sentence."""

    @property
    def scored(self) -> bool:
        return bool(self.metrics)

    @property
    def main_metric(self) -> str:
        return next(iter(self.metrics))

    def problems(self, task: TaskBlock) -> Iterator[str]:
        """Yield a sentence for each field of a task that doesn't fit its kind."""
        for field in task.columns:
            if field not in (*self.fields, "id", "cluster"):
                close = difflib.get_close_matches(field, [*self.fields, "id", "cluster"], n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"its fields are {', '.join(self.fields)}"
                yield f"columns: {self.name} has no field {field!r}; {hint}"
        for field, needed in self.fields.items():
            if needed and task.columns and field not in task.columns:
                yield f"columns: has to name the column that holds {field!r}"
        if task.metric and task.metric not in self.metrics:
            metrics = f"those of {self.name} are {', '.join(self.metrics)}" if self.metrics else f"{self.name} has none"
            yield f"metric: there is no {task.metric!r}; {metrics}"

    def settings(self, task: TaskBlock) -> dict[str, Any]:
        """Return what scores depend on beside the task's own fields, where it isn't what it was in earlier versions."""
        return {}

    def check_language(self, task: TaskBlock, language: str) -> None:
        """Check whether rows in this language can be scored.

        raises: DataError, if not
        """
        return

    @abstractmethod
    def read(self, row: Row, task: TaskBlock) -> Row | None:
        """Turn a row of the data into a canonical row, or None if it has one of the labels to drop.

        `id` and `cluster` are set if `task.columns` names a column for them.
        raises: LeftOut, if nothing can be made of the row; DataError, naming the column, what it holds and what to
            change
        """

    def check_trainable(self, row: Row, task: TaskBlock) -> None:
        """Look for what keeps the model from learning from a canonical row.

        raises: LeftOut, if there is something
        """
        return

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Make the features of at least one row: `row` (its index in `rows`), `input_ids` and the kind's own columns.

        Features are in the order of the rows. They have `token_type_ids` only if the tokenizer gives the second text
        another type.
        """

    def decode(self, row: Row, scored: Sequence[Scored], task: TaskBlock, language: str) -> Answer:
        """Decode the outputs for one row's features."""
        raise NotImplementedError(f"{self.name} is not scored")

    def decode_all(
        self, rows: Sequence[Row], scored: Iterable[Scored], task: TaskBlock, language: str
    ) -> Iterator[Answer | None]:
        """Decode the outputs for all rows; None for a row that is not scored on its own."""
        by_row = groupby(scored, key=lambda pair: pair[0]["row"])
        for (index, row), (number, own) in zip(enumerate(rows), by_row, strict=True):
            assert number == index, f"the features of row {number} come before those of row {index}"
            yield self.decode(row, list(own), task, language)

    def predict(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Output],
        task: TaskBlock,
        language: str,
    ) -> list[Prediction | None]:
        """Make the evaluation record of each row; None for a row that is not scored on its own.

        features: as `encode` made them with `training=False`
        outputs:  one per feature, shape (L,) for a sequence head, (P, L) for token, (O,) for choice, (P, 2) for span;
            without a head (W,), of length 1
        returns:  `gold` and `prediction` as JSON, and the kind's statistics
        """
        answers = self.decode_all(rows, zip(features, outputs, strict=True), task, language)
        return [answer and _record(answer) for answer in answers]

    def summarise(self, statistics: Statistics) -> dict[str, float]:
        """Compute every metric over evaluation rows, as percentages."""
        return {name: metric.score(statistics) for name, metric in self.metrics.items()}


def by_side(scored: Iterable[Scored]) -> tuple[dict[int, Output], dict[int, Output]]:
    """Collect sentence vectors by row: those of foreign sentences (side 0), and those of English ones (side 1)."""
    vectors: tuple[dict[int, Output], dict[int, Output]] = ({}, {})
    for feature, output in scored:
        vectors[feature["side"]][feature["row"]] = output
    return vectors


def _record(answer: Answer) -> Prediction:
    gold, prediction = (json.dumps(value, ensure_ascii=False) for value in (answer.gold, answer.prediction))
    return {"gold": gold, "prediction": prediction, **answer.statistics}
