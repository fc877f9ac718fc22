"""Chunk F1 of tag sequences, as seqeval 0.0.12 counts chunks.

Lenient: a chunk may start with I-, and bare tags (no B- or I-) form one chunk as long as they are equal.
The first letter of a bare tag is read as its position in the chunk, so SYM and SCONJ (S: single) never join.
XTREME scores PANX and UDPOS this way; seqeval 1.x reads bare tags differently and gives other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunexfer.tasks.metrics.labels import precision_recall_f1

Chunk = tuple[str, int, int]
"""Type, first and last position."""


def chunks(tags: Sequence[str]) -> set[Chunk]:
    """Find the chunks of one sentence."""
    ended: set[Chunk] = set()
    position, kind, begin = "O", "", 0
    for index, tag in enumerate([*tags, "O"]):
        next_position, next_kind = tag[0], tag.split("-")[-1]
        if _ends(position, kind, next_position, next_kind):
            ended.add((kind, begin, index - 1))
        if _starts(position, kind, next_position, next_kind):
            begin = index
        position, kind = next_position, next_kind
    return ended


def _ends(position: str, kind: str, next_position: str, next_kind: str) -> bool:
    """Whether the chunk that the tag before belongs to ends there."""
    if position in "ES" or (position in "BI" and next_position in "BSO"):
        return True
    return position not in "O." and kind != next_kind


def _starts(position: str, kind: str, next_position: str, next_kind: str) -> bool:
    """Whether a chunk starts at the next tag."""
    if next_position in "BS" or (position in "ESO" and next_position in "EI"):
        return True
    return next_position not in "O." and kind != next_kind


def chunk_counts(gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Count the chunks of one sentence: predicted right, predicted, and gold."""
    expected, guessed = chunks(gold), chunks(predicted)
    return len(expected & guessed), len(guessed), len(expected)


def chunk_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Compute precision, recall and F1 over the chunks of all sentences, each in [0, 1]."""
    counts = [chunk_counts(tags, guesses) for tags, guesses in zip(gold, predicted, strict=True)]
    return precision_recall_f1(*(sum(column) for column in zip(*counts, strict=True))) if counts else (0.0, 0.0, 0.0)
