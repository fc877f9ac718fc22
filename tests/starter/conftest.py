"""The starter suite and encoders, built once for all tests here; they are skipped where its packages aren't."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tunexfer.core.scores import Split
from tunexfer.errors import DataError
from tunexfer.starter import build_encoder, build_suite
from tunexfer.starter.packages import ENCODER_PINS, SUITE_PINS, check_pins
from tunexfer.tasks.suite import SPLITS, Suite, load_suite

Row = dict[str, Any]


class Starter:
    """The suite as it is declared, and the rows as they were built."""

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
        """Those that have rows in each of these splits."""
        declared = self.suite.task(task).rows
        return [one for one in declared if all(declared[one][SPLITS.index(split)] for split in splits)]

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
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        check_pins(SUITE_PINS | ENCODER_PINS)
    except DataError as absent:
        pytest.skip(str(absent))
    return tmp_path_factory.mktemp("starter")


@pytest.fixture(scope="session")
def starter(cache: Path) -> Starter:
    return Starter(build_suite(cache))


@pytest.fixture(scope="session")
def shallow(cache: Path) -> Path:
    """The encoder of four layers."""
    return build_encoder(cache, 4)


@pytest.fixture(scope="session")
def whole(cache: Path) -> Path:
    """The encoder of all twelve layers."""
    return build_encoder(cache, 12)
