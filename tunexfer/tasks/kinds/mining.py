"""Bitext mining: find the sentences of two collections that translate each other. Scored from sentence vectors.

By XTREME's rules for BUCC (see `tunexfer.tasks.bitext`), a pair is predicted if its margin reaches a threshold that is
tuned on the validation rows, which therefore come along with the test rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from tunexfer.errors import DataError
from tunexfer.tasks.bitext import Vectors, mine, tune_threshold, unify, unrepeated
from tunexfer.tasks.kinds.base import (
    CHUNKS,
    TUNING,
    Answer,
    Feature,
    Kind,
    Output,
    Row,
    Scored,
    Tokenizer,
    by_side,
    canonical,
)
from tunexfer.tasks.kinds.columns import identity, value
from tunexfer.tasks.kinds.frame import truncated
from tunexfer.tasks.metrics.metric import F1_OF_COUNTS

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock

SIDES = (("text", "id"), ("english", "english_id"))
"""The fields of a sentence and of its id: side 0 is the foreign one, side 1 the English one."""
Pair = tuple[str, str]
"""The ids of a foreign and an English sentence."""


class _Mining(Kind):
    """A row is a pair of translations, or one sentence that has no translation on the other side."""

    name = "mining"
    head = None
    tuned = True
    schema = canonical(
        ("text", pa.string()), ("english_id", pa.string()), ("english", pa.string()), (TUNING, pa.bool_())
    )
    fields = {"text": True, "english_id": True, "english": True}
    metrics = F1_OF_COUNTS
    statistics = CHUNKS
    rows_version = 2
    hub_task = "sentence-similarity"

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        """A side without a sentence is None; a row without a foreign sentence has the English one's id."""
        sides = {field: _sentence(value(row, task, field), task.columns[field]) for field, _ in SIDES}
        if not any(sides.values()):
            raise DataError(f"columns {task.columns['text']!r} and {task.columns['english']!r} are both empty.")
        ids = {name: str(value(row, task, name)) if sides[field] else None for field, name in SIDES}
        own = {"id": ids["id"] or ids["english_id"], "english_id": ids["english_id"], TUNING: False}
        return identity(row, task) | sides | own

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """A feature for each sentence, with its `side`."""
        there = [(index, side) for index, row in enumerate(rows) for side, (field, _) in enumerate(SIDES) if row[field]]
        texts = [rows[index][SIDES[side][0]] for index, side in there]
        return [
            {"row": index, "input_ids": ids, "side": side}
            for (index, side), ids in zip(there, truncated(tokenizer, texts, task.max_length), strict=True)
        ]

    def decode_all(
        self, rows: Sequence[Row], scored: Iterable[Scored], task: TaskBlock, language: str
    ) -> Iterator[Answer | None]:
        """Only sentences of a gold or predicted pair are scored; rows to tune on are not.

        The threshold is the best one for the rows to tune on, or for the rows themselves if there are none to tune on.
        """
        vectors = by_side(scored)
        own = [index for index, row in enumerate(rows) if not row[TUNING]]
        tuning = [index for index, row in enumerate(rows) if row[TUNING]]
        mined, gold = _mined(rows, vectors, own), _gold(rows, own)
        threshold = (
            _threshold(_mined(rows, vectors, tuning), _gold(rows, tuning)) if tuning else _threshold(mined, gold)
        )
        partners = dict(pair for pair, score in zip(mined.pairs, mined.scores, strict=True) if score >= threshold)
        for row in rows:
            yield None if row[TUNING] else _answer(row, partners, gold)


KIND = _Mining()


class _Mined(NamedTuple):
    """Pairs of sentences that have an id of their own, by falling margin."""

    pairs: list[Pair]
    scores: list[float]


class _Side(NamedTuple):
    vectors: Vectors
    """Vectors of the distinct sentences, shape (N, W)."""
    sentences: list[str]
    ids: dict[str, str]
    """Ids of the sentences that occur once."""


def _sentence(content: Any, column: str | list[str]) -> str | None:
    if content is not None and not isinstance(content, str):
        raise DataError(f"column {column!r} should hold text or nothing, but got {content!r}.")
    return (content or "").strip() or None


def _mined(rows: Sequence[Row], vectors: Sequence[dict[int, Output]], which: Sequence[int]) -> _Mined:
    foreign, english = (_side(rows, vectors[side], which, *SIDES[side]) for side in (0, 1))
    if not foreign.sentences or not english.sentences:
        return _Mined([], [])
    mined = _Mined([], [])
    for x, y, score in zip(*(column.tolist() for column in mine(foreign.vectors, english.vectors)), strict=True):
        names = foreign.ids.get(foreign.sentences[x]), english.ids.get(english.sentences[y])
        if names[0] is not None and names[1] is not None:
            mined.pairs.append((names[0], names[1]))
            mined.scores.append(score)
    return mined


def _side(rows: Sequence[Row], vectors: dict[int, Output], which: Iterable[int], field: str, name: str) -> _Side:
    """Collect the sentences of a side; one that is in several pairs has several rows with the same id."""
    places = list({rows[index][name]: index for index in which if rows[index][field]}.values())
    sentences = [rows[place][field] for place in places]
    kept = unify(sentences).tolist()
    return _Side(
        np.stack([vectors[places[index]] for index in kept]) if kept else np.zeros((0, 0), dtype=np.float32),
        [sentences[index] for index in kept],
        unrepeated(sentences, [rows[place][name] for place in places]),
    )


def _gold(rows: Sequence[Row], which: Iterable[int]) -> set[Pair]:
    paired = (rows[index] for index in which if rows[index]["text"] and rows[index]["english"])
    return {(row["id"], row["english_id"]) for row in paired}


def _threshold(mined: _Mined, gold: set[Pair]) -> float:
    return tune_threshold(mined.scores, [pair in gold for pair in mined.pairs], len(gold))


def _answer(row: Row, partners: dict[str, str], gold: set[Pair]) -> Answer | None:
    """Removes the pair from `partners`, so that it counts in the first of its sentence's rows alone."""
    right = row["english_id"] if row["text"] and row["english"] else None
    predicted = partners.pop(row["id"], None) if row["text"] else None
    if right is None and predicted is None:
        return None
    hit = int((row["id"], predicted) in gold)
    return Answer(
        right, predicted, {"tp": hit, "predicted": int(predicted is not None), "gold_count": int(right is not None)}
    )
