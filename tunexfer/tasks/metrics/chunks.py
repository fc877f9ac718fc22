"""Chunk F1 of tag sequences, as seqeval 0.0.12 counts chunks.

Lenient: a chunk may start with I-, and bare tags (no B- or I-) form one chunk as long as they are equal. Tags are read
by a scheme, see `read_tags`. XTREME's own is seqeval's: the first letter of a bare tag is read as its position in the
chunk, so SYM and SCONJ (S: single) never join, and of a class with hyphens only the last part counts. seqeval 1.x reads
bare tags differently and gives other numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from tunexfer.tasks.metrics.labels import precision_recall_f1

Scheme = Literal["prefix", "suffix", "bare", "xtreme"]
Tag = tuple[str, str]
"""Position in the chunk, a letter of B, I, E, S (single) and O, and type."""
Chunk = tuple[str, int, int]
"""Type, first and last position."""

OUTSIDE = "O"
POSITIONS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
"""Letters of IOB, BIOES, BILOU and BMEWO -> those of seqeval."""
_LETTERS = "".join(POSITIONS)
_FORMS = {
    "prefix": re.compile(f"(?P<position>[{_LETTERS}])([-_](?P<kind>.+))?"),
    "suffix": re.compile(f"(?P<kind>.+)[-_](?P<position>[{_LETTERS}])"),
    "bare": re.compile("(?P<kind>.+)"),
}


def read_tags(labels: Iterable[str], scheme: Scheme | None = None) -> dict[str, Tag]:
    """Read the position and the type of each label, `O` aside.

    scheme:  `prefix` for B-PER (IOB1, IOB2, BIOES, BILOU), `suffix` for PER-B, `bare` for PER, `xtreme` for what
        XTREME's scorer makes of them; the first of them that fits all labels if not given
    raises:  ValueError, if labels don't fit the scheme, or some have a position and others none
    """
    names = list(labels)
    if scheme == "xtreme":
        return {name: xtreme_tag(name) for name in names}
    own = [name for name in names if name != OUTSIDE]
    fits = {form: [name for name in own if pattern.fullmatch(name)] for form, pattern in _FORMS.items()}
    if scheme is None:
        scheme = next((form for form in ("prefix", "suffix") if own and fits[form] == own), None)
    if scheme is None:
        positioned = fits["prefix"] or fits["suffix"]
        if positioned and len(positioned) > 1:
            other = next(name for name in own if name not in positioned)
            raise ValueError(
                f"tags have a position in the chunk or none: {positioned[0]!r} has one, {other!r} has not. Correct "
                "`labels:`, or set `scheme: bare` if equal tags side by side are one chunk whatever they are called"
            )
        scheme = "bare"
    if misfits := [name for name in own if name not in fits[scheme]]:
        raise ValueError(f"scheme: {scheme} doesn't fit the label {misfits[0]!r}")
    return {name: _tag(name, _FORMS[scheme]) for name in names}


def _tag(name: str, form: re.Pattern[str]) -> Tag:
    if name == OUTSIDE:
        return OUTSIDE, OUTSIDE
    parts = form.fullmatch(name)
    assert parts is not None
    own: Mapping[str, str | None] = parts.groupdict()
    return POSITIONS[own.get("position") or "I"], own["kind"] or ""


def xtreme_tag(tag: str) -> Tag:
    """Read a tag as seqeval 0.0.12 does."""
    return tag[0], tag.split("-")[-1]


def chunks(tags: Sequence[Tag]) -> set[Chunk]:
    """Find the chunks of one sentence."""
    ended: set[Chunk] = set()
    position, kind, begin = OUTSIDE, "", 0
    for index, (next_position, next_kind) in enumerate([*tags, (OUTSIDE, OUTSIDE)]):
        if _ends(position, kind, next_position, next_kind):
            ended.add((kind, begin, index - 1))
        if _starts(position, kind, next_position, next_kind):
            begin = index
        position, kind = next_position, next_kind
    return ended


def _ends(position: str, kind: str, next_position: str, next_kind: str) -> bool:
    """Tell whether the chunk that the tag before belongs to ends there."""
    if position in "ES" or (position in "BI" and next_position in "BSO"):
        return True
    return position not in "O." and kind != next_kind


def _starts(position: str, kind: str, next_position: str, next_kind: str) -> bool:
    """Tell whether a chunk starts at the next tag."""
    if next_position in "BS" or (position in "ESO" and next_position in "EI"):
        return True
    return next_position not in "O." and kind != next_kind


def chunk_counts(gold: Sequence[Tag], predicted: Sequence[Tag]) -> tuple[int, int, int]:
    """Count the chunks of one sentence: predicted right, predicted, and gold."""
    expected, guessed = chunks(gold), chunks(predicted)
    return len(expected & guessed), len(guessed), len(expected)


def chunk_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Compute XTREME's precision, recall and F1 over the chunks of all sentences, each in [0, 1]."""
    pairs = zip(gold, predicted, strict=True)
    counts = [chunk_counts([*map(xtreme_tag, tags)], [*map(xtreme_tag, guesses)]) for tags, guesses in pairs]
    return precision_recall_f1(*(sum(column) for column in zip(*counts, strict=True))) if counts else (0.0, 0.0, 0.0)
