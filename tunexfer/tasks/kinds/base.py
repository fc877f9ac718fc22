"""What a kind of task is: how its rows are read, encoded, decoded and scored. Free of torch and transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from tunexfer.tasks.metrics.labels import precision_recall_f1
from tunexfer.tasks.suite import TaskBlock

Row = dict[str, Any]
Feature = dict[str, Any]
Prediction = dict[str, Any]
Statistics = Any
"""Columns of the evaluation rows by name: an arrow table, or a mapping to arrays."""
Tokenizer = Any
"""A fast tokenizer of transformers, which this floor doesn't import."""
Output = np.ndarray[Any, np.dtype[np.float32]]
TUNING = "tuning"
"""The field that tells rows which only set something from the rows that are scored, in kinds that are `tuned`."""

ROWS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("task", "language", "split", "id", "cluster", "gold", "prediction")]
    + [(name, pa.float32()) for name in ("correct", "em", "f1")]
    + [(name, pa.int32()) for name in ("tp", "predicted", "gold_count", "place")]
)
"""The evaluation rows: one per scored row, `gold` and `prediction` as JSON, then the row's own statistics; `place` is
where the benchmark's own files have the row, if they have it elsewhere."""


def canonical(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    """The schema of a kind's rows: its own fields after `id` and `cluster` (what is drawn together in a bootstrap)."""
    return pa.schema([("id", pa.string()), ("cluster", pa.string()), *fields])


class Kind(Protocol):
    """One kind of task. L labels, P pieces of a feature, O options, W the encoder's width."""

    name: str
    head: Literal["sequence", "token", "choice", "span", "language"] | None
    """The head the model puts on the encoder; None scores the encoder's own sentence vectors."""
    schema: pa.Schema
    """Of its canonical rows."""
    metrics: tuple[str, ...]
    """What `summarise` returns, the default main metric first; none for a kind that is trained on and never scored."""
    tuned: bool = False
    """Whether scoring test rows takes the validation rows of their language as well, which come before them."""
    clustered_by: str | None = None
    """The field whose rows with the same value are one cluster, where the data has no column for clusters."""

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        """The canonical row that a row of the data holds; None where it has no gold answer.

        `id` and `cluster` are there if `task.columns` names a column for them.
        raises: DataError, naming the column, what was found and what to change
        """

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """What the model reads: for each feature `row` (its index in `rows`), `input_ids` and the kind's own.

        `token_type_ids` are there only where the tokenizer marks the second text with another type.
        """

    def predict(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Output],
        task: TaskBlock,
        language: str,
    ) -> Sequence[Prediction | None]:
        """One prediction per row, from the outputs of the features that were encoded with `training=False`.

        None stands for a row that isn't scored for itself.


        outputs: float32, one per feature, of shape (L,) for a sequence head, (P, L) for token, (O,) for choice,
            (P, 2) for span; without a head (W,), of length 1
        returns: `gold` and `prediction` as JSON and the row's own statistics, as in `ROWS_SCHEMA`
        """

    def summarise(self, statistics: Statistics, task: TaskBlock) -> dict[str, float]:
        """Each of `metrics` over these evaluation rows, as a percentage."""


def f1_of_counts(statistics: Statistics) -> dict[str, float]:
    """F1, precision and recall of `tp`, `predicted` and `gold_count` over all rows together, as percentages."""
    hits, predicted, gold = (int(np.asarray(statistics[n]).sum()) for n in ("tp", "predicted", "gold_count"))
    precision, recall, f1 = precision_recall_f1(hits, predicted, gold)
    return {"f1": f1 * 100, "precision": precision * 100, "recall": recall * 100}


def percentage(statistics: Statistics, column: str) -> float:
    """Mean of a column of shares in [0, 1], times 100; 0 where there are no rows."""
    shares = np.asarray(statistics[column], dtype=np.float64)
    return float(shares.mean() * 100) if len(shares) else 0.0
