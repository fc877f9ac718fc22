"""The starter suite and encoders, built once for all tests in this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from tunexfer_starter import E5_SMALL, E5_SMALL_4L, SUITE

from tunexfer.core.scores import Split
from tunexfer.tasks.suite import SPLITS, Suite, load_suite

Row = dict[str, Any]


class Starter:
    """The declared suite and the rows that were built for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.suite: Suite = load_suite("starter")[0]
        self.rows = lru_cache(maxsize=None)(self._rows)

    def _rows(self, task: str, language: str, split: Split) -> tuple[Row, ...]:
        path = self.folder / task / language / f"{split}.jsonl"
        if not path.exists():
            return ()
        return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())

    def languages(self, task: str, *splits: Split) -> list[str]:
        """Languages that have rows in each of these splits."""
        declared = self.suite.task(task).rows
        return [code for code in declared if all(declared[code][SPLITS.index(split)] for split in splits)]

    def texts(self, language: str) -> Iterator[str]:
        """Every text of a language, as an encoder reads it."""
        for task in self.suite.tasks:
            for split in SPLITS:
                for row in self.rows(task, language, split):
                    for field in ("text", "text_pair", "english", "prompt", "question", "context"):
                        if field in row:
                            yield row[field]
                    yield from row.get("options", ())
                    yield from row.get("tokens", ())


@pytest.fixture(scope="session")
def starter(starter_cache: Path) -> Starter:
    return Starter(SUITE.build(starter_cache))


@pytest.fixture(scope="session")
def shallow(starter_cache: Path) -> Path:
    """The encoder of four layers."""
    return E5_SMALL_4L.build(starter_cache)


@pytest.fixture(scope="session")
def whole(starter_cache: Path) -> Path:
    """The encoder of all twelve layers."""
    return E5_SMALL.build(starter_cache)
