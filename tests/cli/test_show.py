"""`tunexfer tasks --show`: rows as the model will see them, encoded as they are for training."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from pico import pico_encoder, pico_suite
from rich.console import Console

from tunexfer.cli.show import rows_view
from tunexfer.core.chain import Encoder
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.suite import load_suite


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pico")
    pico_suite(folder)
    pico_encoder(folder / "encoder")
    return folder


def shown(folder: Path, task: str, language: str | None = None) -> list[str]:
    suite, root = load_suite(str(folder / "pico.yaml"))
    view = rows_view(Rows(suite, root, folder / "cache"), task, language, Encoder(name=str(folder / "encoder")))
    console = Console(file=io.StringIO(), width=400)
    console.print(view)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def first_row(folder: Path, task: str, language: str) -> dict[str, list[str]]:
    with (folder / "data" / task / language / "train.jsonl").open(encoding="utf-8") as lines:
        row: dict[str, list[str]] = json.loads(next(lines))
        return row


def test_every_tag_stands_beside_the_piece_that_carries_it(folder: Path) -> None:
    row = first_row(folder, "tags", "ru")
    first, *pieces, last = shown(folder, "tags", "ru")[2].split()
    assert [piece.partition("/")[2] for piece in pieces if "/" in piece] == row["tags"]
    assert (first, last) == ("<s>", "</s>")


def test_an_answer_is_marked_in_its_context(folder: Path) -> None:
    row = first_row(folder, "answer", "en")
    [place] = row["answers"]["text"]  # type: ignore[call-overload]
    assert f"@ »{place}« ." in shown(folder, "answer", "en")[2]


def test_a_label_is_named_and_options_are_numbered(folder: Path) -> None:
    assert shown(folder, "match", "de")[2] == "  label: different"
    assert [line[:12] for line in shown(folder, "choice", "de")[3:6]] == [f"  option {number}: " for number in range(3)]


def test_translations_show_both_sides(folder: Path) -> None:
    lines = shown(folder, "pairs", "de")
    assert [line.startswith("  English: ") for line in lines[2:4]] == [False, True]


def test_markup_in_rows_is_shown_as_it_is(folder: Path, tmp_path: Path) -> None:
    pico_suite(tmp_path)
    answers = {"text": ["Paris"], "answer_start": [16]}
    row = {"id": "[bold]x[/bold]", "question": "house ?", "context": "[red]house[/] @ Paris", "answers": answers}
    (tmp_path / "data" / "answer" / "en" / "train.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "encoder").symlink_to(folder / "encoder")
    lines = shown(tmp_path, "answer", "en")
    assert lines[1:3] == ["row 0, id [bold]x[/bold]", "  answer: …[red]house[/] @ »Paris«…"]


def test_a_language_without_rows_is_refused_with_those_that_have_some(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no rows in 'sw'\. Languages with rows: de, en, ru"):
        shown(folder, "tags", "sw")
