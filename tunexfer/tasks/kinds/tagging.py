"""Tagging: a tag for every word, such as parts of speech, names and slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import (
    CHUNKS,
    IGNORE_INDEX,
    Answer,
    Feature,
    Kind,
    LeftOut,
    Row,
    Scored,
    Tokenizer,
    canonical,
)
from tunexfer.tasks.kinds.columns import identity, label_index, label_positions, value
from tunexfer.tasks.kinds.frame import single_frame, word_encodings
from tunexfer.tasks.metrics.chunks import Scheme, Tag, chunk_counts, read_tags, xtreme_tag
from tunexfer.tasks.metrics.metric import COUNTS, F1_OF_COUNTS, TAG_ACCURACY

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock

MAX_PIECES_PER_WORD = 100
"""A longer word becomes one unknown piece, as a word without any piece does."""
SPACES = "▁Ġ "
"""How tokenizers write the space before a word: SentencePiece's, byte-level BPE's, and the character itself."""

Word = tuple[int, list[int]]
"""Position in the sentence, and pieces, at least one."""


class _Tagging(Kind):
    name = "tagging"
    head = "token"
    schema = canonical(("tokens", pa.list_(pa.string())), ("tags", pa.list_(pa.int64())))
    fields = {"tokens": True, "tags": True}
    metrics = {**F1_OF_COUNTS, "token_accuracy": TAG_ACCURACY}
    statistics = CHUNKS
    hub_task = "token-classification"
    export_limits = (
        "The code under *Use* gives no tag to a word without tokens of its own; it is scored as the unknown one."
    )

    def problems(self, task: TaskBlock) -> Iterator[str]:
        """Tags have to be read as positions in chunks."""
        yield from super().problems(task)
        try:
            read_tags(task.labels, task.scheme)
        except ValueError as error:
            yield f"labels: {error}"

    def settings(self, task: TaskBlock) -> dict[str, Any]:
        """Tags were read as XTREME does, and were on a word's first piece, before there was a choice."""
        meaning = _meaning(tuple(task.labels), task.scheme)
        tags = {} if all(tag == xtreme_tag(name) for name, tag in meaning.items()) else {"tags": meaning}
        return tags | ({} if task.label_piece == "first" else {"label_piece": task.label_piece})

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        tokens, tags = value(row, task, "tokens"), value(row, task, "tags")
        if not isinstance(tokens, list) or not isinstance(tags, list) or len(tokens) != len(tags):
            raise DataError(
                f"columns {task.columns['tokens']!r} and {task.columns['tags']!r} should hold one tag per word, "
                f"but got {tokens!r} and {tags!r}."
            )
        positions = label_positions(task)
        indices = [label_index(tag, positions, task) for tag in tags]
        if not tokens:
            raise LeftOut("the sentence has no words")
        if None in indices:
            return None
        return identity(row, task) | {"tokens": [str(token) for token in tokens], "tags": indices}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Adds, per piece, `words` and `labels`: the word that the piece stands for (else -1) and its tag (else -100).

        A word's piece is its first, or with `label_piece: content` the first that is more than the space before the
        word: SentencePiece makes the space a piece of its own before most Chinese and Thai words, the same one for all.
        A long sentence is split between words into several features, which have every word.

        raises: DataError, for a word without pieces if the tokenizer has no unknown piece
        """
        frame = single_frame(tokenizer)
        room = task.max_length - frame.size
        encoded = word_encodings(tokenizer, [row["tokens"] for row in rows])

        @cache
        def bare(piece: int) -> bool:
            return task.label_piece == "content" and not str(tokenizer.convert_ids_to_tokens(piece)).strip(SPACES)

        features: list[Feature] = []
        for index, row in enumerate(rows):
            sentence = encoded[index]
            words = _words(sentence.ids, sentence.word_ids, row["tokens"], tokenizer.unk_token_id, room)
            for part in _parts(words, room):
                inside: list[int] = []
                for word, ids in part:
                    place = next((place for place, piece in enumerate(ids) if not bare(piece)), 0)
                    inside += [word if number == place else -1 for number in range(len(ids))]
                starts = [-1] * len(frame.before) + inside + [-1] * len(frame.after)
                features.append(
                    {
                        "row": index,
                        **frame.join([piece for _, ids in part for piece in ids]),
                        "labels": [row["tags"][word] if word >= 0 else IGNORE_INDEX for word in starts],
                        "words": starts,
                    }
                )
        return features

    def decode(self, row: Row, scored: Sequence[Scored], task: TaskBlock, language: str) -> Answer:
        """Count chunks."""
        meaning = _meaning(tuple(task.labels), task.scheme)
        tags = np.zeros(len(row["tokens"]), dtype=np.int64)
        for feature, output in scored:
            words = np.asarray(feature["words"])
            tags[words[words >= 0]] = output[words >= 0].argmax(axis=-1)
        gold, predicted = ([task.labels[tag] for tag in own] for own in (row["tags"], tags))
        counts = chunk_counts([meaning[tag] for tag in gold], [meaning[tag] for tag in predicted])
        return Answer(gold, predicted, dict(zip(COUNTS, counts, strict=True)))


@lru_cache(maxsize=64)
def _meaning(labels: tuple[str, ...], scheme: Scheme | None) -> dict[str, Tag]:
    return read_tags(labels, scheme)


KIND = _Tagging()


def _words(ids: list[int], word_of: list[int], tokens: list[str], unknown: int | None, room: int) -> list[Word]:
    """Pair every word of a sentence with its pieces, or with the unknown one if it has none or too many.

    Where there is no unknown piece, as in byte-level BPE, a word that is too long is cut.
    """
    pieces = {word: [ids[place] for place in places] for word, places in _places(word_of)}
    longest = min(MAX_PIECES_PER_WORD, room)
    words: list[Word] = []
    for word, token in enumerate(tokens):
        own = pieces.get(word, [])
        if not own and unknown is None:
            raise DataError(
                f"the tokenizer makes nothing of the word {token!r} and has no unknown piece: take such words out."
            )
        if unknown is not None and not 0 < len(own) <= longest:
            own = [unknown]
        words.append((word, own[:longest]))
    return words


def _places(word_of: list[int]) -> Iterator[tuple[int, list[int]]]:
    for word, places in groupby(range(len(word_of)), key=word_of.__getitem__):
        yield word, list(places)


def _parts(words: list[Word], room: int) -> Iterator[list[Word]]:
    """Split the words into parts of at most `room` pieces."""
    part: list[Word] = []
    size = 0
    for word in words:
        if size + len(word[1]) > room:
            yield part
            part, size = [], 0
        part.append(word)
        size += len(word[1])
    yield part
