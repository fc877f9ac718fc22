"""Rows made up from what columns.yaml says of the columns of every set in the named suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tunexfer.tasks.suite import TaskBlock, load_suite

DOCUMENTED = yaml.safe_load((Path(__file__).parent / "columns.yaml").read_text(encoding="utf-8"))
WORDS = "some words"
"""What a column of text holds; an answer is the second word."""


class Place(NamedTuple):
    """One set of one task: how the suite reads it, and what its columns are documented to hold."""

    name: str
    """`xtreme/xquad/1`: suite, task, and which of the task's sets."""
    block: TaskBlock
    columns: dict[str, Any]


def places(*suites: str) -> list[Place]:
    """Every set of these suites, or of all that columns.yaml documents."""
    found = []
    for suite in suites or [name for name in DOCUMENTED if name != "sources"]:
        for task, block in load_suite(suite)[0].tasks.items():
            documented = DOCUMENTED.get(suite, {}).get(task, [])
            assert len(documented) == len(block.places), f"{suite}/{task} has no entry in columns.yaml for each place"
            found += [
                Place(f"{suite}/{task}/{number}", *both)
                for number, both in enumerate(zip(block.places, documented, strict=True))
            ]
    return found


def written(kind: Any) -> list[str]:
    """The labels of a column of labels, as the data calls them; none for other columns."""
    inner = kind.get("each", kind) if isinstance(kind, dict) else {}
    found: list[str] = inner.get("class") or inner.get("strings") or []
    return found


def made_up(column: dict[str, Any], number: int, words: str = WORDS) -> Any:
    """What the column holds in some row: the label of that number, that number, or text that begins with `WORDS`."""
    kind = column["is"]
    if isinstance(kind, dict) and "each" in kind:
        return [made_up({"is": kind["each"]}, number)]
    if isinstance(kind, dict) and "class" in kind:
        return number
    if isinstance(kind, dict) and "strings" in kind:
        return kind["strings"][number]
    if isinstance(kind, dict):
        return {name: made_up({**column, "is": inner}, number) for name, inner in kind.items()}
    if kind == "answers":
        return {"text": ["words"], "answer_start": [5]}
    if isinstance(kind, list):
        return ["word" if kind == ["string"] else 5] * column.get("long", 1)
    return column.get("such_as", words) if kind == "string" else number
