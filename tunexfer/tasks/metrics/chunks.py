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
    """The chunks of one sentence."""
    found: set[Chunk] = set()
    position, kind, begin = "O", "", 0
    for index, tag in enumerate([*tags, "O"]):
        next_position, next_kind = tag[0], tag.split("-")[-1]
        if _ends(position, kind, next_position, next_kind):
            found.add((kind, begin, index - 1))
        if _starts(position, kind, next_position, next_kind):
            begin = index
        position, kind = next_position, next_kind
    return found


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
    """Chunks of one sentence found right, found at all, and to be found."""
    expected, found = chunks(gold), chunks(predicted)
    return len(expected & found), len(found), len(expected)


def chunk_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Precision, recall and F1 over all sentences' chunks, each in [0, 1]."""
    counts = [chunk_counts(one, other) for one, other in zip(gold, predicted, strict=True)]
    return precision_recall_f1(*(sum(column) for column in zip(*counts, strict=True))) if counts else (0.0, 0.0, 0.0)
