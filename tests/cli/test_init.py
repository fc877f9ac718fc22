"""`tunexfer init`: from a folder to a suite and a space that can be planned and searched."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from data.made_up_layouts import LAYOUTS, Layout, jsonl, reviews, write
from pico import pico_encoder
from rich.console import Console

from tunexfer.cli.init import init_folder
from tunexfer.cli.main import main
from tunexfer.errors import DataError, StudyError
from tunexfer.plan.plan import Plan

TRAINABLE = {name: layout for name, layout in LAYOUTS.items() if layout.train or layout.kind == "retrieval"}


def init(folder: Path, *, force: bool = False) -> str:
    console = Console(file=io.StringIO(), width=300)
    init_folder(folder, "org/encoder", console, cache=folder.parent / "cache", force=force)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("layout", TRAINABLE.values(), ids=list(TRAINABLE))
def test_the_space_of_a_folder_can_be_planned_or_the_reason_is_said(layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(layout.files, folder)
    shown = init(folder)
    space = folder / "space.yaml"
    planned = space.is_file() and "no space could be planned" not in shown
    assert planned or layout.kind in ("masked_lm", "retrieval")
    if planned:
        plan = Plan.load(space, cache=tmp_path / "cache")
        assert [encoder.name for encoder in plan.encoders] == ["org/encoder"]


def test_what_was_seen_is_shown_and_doubts_are_marked(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(LAYOUTS["a file a split"].files, folder)
    shown = init(folder)
    assert "classification" in shown
    assert "bad 18, good 18" in shown
    assert "the river is near" in shown
    assert "    # ? no name and no column tells the language: taken for en" in (folder / "suite.yaml").read_text()


def test_files_are_overwritten_only_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(LAYOUTS["gzip"].files, folder)
    (folder / "space.yaml").write_text("mine")
    with pytest.raises(StudyError, match="overwrite it with --force"):
        init(folder)
    assert not (folder / "suite.yaml").exists()
    init(folder, force=True)
    assert yaml.safe_load((folder / "space.yaml").read_text())["suite"] == "suite.yaml"


def test_a_folder_without_rows_is_refused_with_the_reasons(tmp_path: Path) -> None:
    write({"en/train.jsonl": jsonl([{"x": n} for n in range(9)])}, tmp_path / "mine")
    with pytest.raises(DataError, match="no kind of task has columns such as x"):
        init(tmp_path / "mine")
    assert not (tmp_path / "mine" / "suite.yaml").exists()


@pytest.mark.slow
def test_three_commands_lead_from_a_folder_to_a_finished_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEXFER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    parts = {"train": 0, "validation": 8, "test": 16}
    files = {f"{code}/{split}.jsonl": start for code in ("en", "sw") for split, start in parts.items()}
    write({name: jsonl(reviews(24)[start:][:8]) for name, start in files.items()}, folder)
    for arguments in (
        ["init", "mine", "--encoder", str(pico_encoder(tmp_path / "encoder"))],
        ["plan", "mine/space.yaml"],
        ["search", "mine/space.yaml", "--trials", "2", "--concurrent", "1", "--quiet", "--store", "stages"],
    ):
        monkeypatch.setattr("sys.argv", ["tunexfer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, capsys.readouterr()
    assert "finished; 2 complete of 2 trials" in capsys.readouterr().out
