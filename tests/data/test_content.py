"""Content hashes stay as they are from release to release: encoded rows and trained stages are kept under them.

A change that makes rows come out otherwise changes the values here on purpose, with `rows_version` of the kind.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pico import pico_suite

from tunexfer.core.graph import fingerprint
from tunexfer.data.rows import Rows
from tunexfer.tasks.suite import SPLITS, load_suite


@pytest.fixture(autouse=True)
def at_a_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every branch on the hub is at one commit, and there are no files of the user's own."""
    import huggingface_hub

    def dataset_info(self: Any, path: str, *, revision: str | None) -> SimpleNamespace:
        return SimpleNamespace(sha="c" * 40)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path / "nothing"))


def contents(suite: str, cache: Path) -> tuple[int, str]:
    """How many tables of a suite have content that is known without files of the user's own, and a hash of them all."""
    rows = Rows(*load_suite(suite), cache)
    keys = [
        (task, language, split)
        for task, block in rows.suite.tasks.items()
        if suite not in ("xtreme", "african") or all(place.hub for place in block.places)
        for split in SPLITS
        for language in rows.languages(task, split)
    ]
    return len(keys), fingerprint([[*key, rows.content(*key)] for key in keys])


@pytest.mark.parametrize(
    ("suite", "expected"),
    [("xtreme", (462, "985f0d84909ef66e489b947ce0ea3453")), ("african", (100, "2ed857f6f19d83ade710d551e8c0c238"))],
)
def test_shipped_suites(suite: str, expected: tuple[int, str], tmp_path: Path) -> None:
    assert contents(suite, tmp_path) == expected


def test_rows_in_files(tmp_path: Path) -> None:
    assert contents(str(pico_suite(tmp_path)), tmp_path / "cache") == (34, "bf8b4ccc5dff2520fcf14de816a1c352")
