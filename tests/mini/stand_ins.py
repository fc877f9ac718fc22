"""Rows of our own making for sets that the collection of real rows doesn't have: they stand in for them, and say so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.documented import WORDS, Place, made_up, places

from tunexfer.core.scores import Split

Row = dict[str, Any]
MARKS = ("no", "yes")
"""The last word of every text tells which of two labels its row has."""


SETS: dict[str, tuple[tuple[str, ...], tuple[Split, ...]]] = {
    "xtreme/xnli/0": (("ru", "tr"), ("train", "validation")),
    "african/news/0": (("kin", "run"), ("train", "test")),
    "xtreme/wikipedia/0": (("en", "ru", "sw"), ("train",)),
    "xtreme/bucc2018/0": (("de",), ("validation", "test")),
}
"""Sets of shipped suites that the mini suite has stand-ins for, in which languages and splits."""
COUNT = 8
"""Rows of each."""


def write_stand_ins(folder: Path) -> None:
    """The files that the mini suite's stand-ins are read from."""
    for place in places():
        languages, splits = SETS.get(place.name, ((), ()))
        for language in languages:
            for split in splits:
                write_rows(folder / place.name / language / f"{split}.jsonl", stand_ins(place, language, split, COUNT))


def stand_ins(place: Place, language: str, split: Split, count: int) -> list[Row]:
    """So many rows in the columns that the set is documented to have, with the first two of its labels in turn."""
    labels = {place.block.columns.get(field) for field in ("label", "tags")}
    code = place.block.codes.get(language, language)
    rows = []
    for number in range(count):
        name, label = f"{split}-{number}", number % len(MARKS)
        words = f"{WORDS} that stand in for {language}, {name}: {MARKS[label]}"
        row = {
            column: made_up(facts, label if column in labels else number, words)
            for column, facts in place.columns.items()
        }
        told_by = {
            column: wanted.replace("{code}", code).replace("*", name) for column, wanted in place.block.where.items()
        }
        alone = {"english": None, "english_id": None} if place.block.kind == "mining" and label else {}
        rows.append(row | told_by | alone)
    return rows


def write_rows(file: Path, rows: Iterable[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
