"""Retrieval: find the foreign sentence that translates an English one. Scored from sentence vectors, never trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tunexfer.tasks.kinds.base import CORRECT, Answer, Feature, Kind, Row, Scored, Tokenizer, by_side, canonical
from tunexfer.tasks.kinds.columns import identity, text
from tunexfer.tasks.kinds.frame import truncated
from tunexfer.tasks.metrics.metric import mean_of

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock

QUERIES_AT_ONCE = 1024


class _Retrieval(Kind):
    name = "retrieval"
    head = None
    schema = canonical(("text", pa.string()), ("english", pa.string()))
    fields = {"text": True, "english": True}
    metrics = {"accuracy": mean_of("correct")}
    statistics = CORRECT | {"place": pa.int32()}
    hub_task = "sentence-similarity"

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        return identity(row, task) | {"text": text(row, task, "text"), "english": text(row, task, "english")}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Two features per row: `side` 0 is the foreign sentence, 1 the English one."""
        texts = [row[field] for row in rows for field in ("text", "english")]
        return [
            {"row": index // 2, "input_ids": ids, "side": index % 2}
            for index, ids in enumerate(truncated(tokenizer, texts, task.max_length))
        ]

    def decode_all(
        self, rows: Sequence[Row], scored: Iterable[Scored], task: TaskBlock, language: str
    ) -> Iterator[Answer | None]:
        """The English sentences are the queries, all foreign ones the candidates; row i's answer is i.

        `place` is the sentence's position among the English ones in alphabetical order, as in XTREME's files.
        """
        foreign, english = (np.stack([vectors[row] for row in range(len(rows))]) for vectors in by_side(scored))
        places = np.argsort(sorted(range(len(rows)), key=lambda index: rows[index]["english"]))
        for start in range(0, len(rows), QUERIES_AT_ONCE):
            nearest = (english[start : start + QUERIES_AT_ONCE] @ foreign.T).argmax(axis=1)
            for index, candidate in enumerate(nearest.tolist(), start):
                yield Answer.choice(index, candidate, place=int(places[index]))


KIND = _Retrieval()
