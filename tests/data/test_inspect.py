"""A folder of files becomes a suite: kind, columns, labels, languages and splits are right, or marked."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.made_up_layouts import LAYOUTS, Layout, jsonl, reviews, text, write

from tunexfer.data.inspect import inspect_folder
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.suite import Suite


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_what_a_folder_holds_is_seen(layout: Layout, tmp_path: Path) -> None:
    write(layout.files, tmp_path / "mine")
    [task], unknown = inspect_folder(tmp_path / "mine", tmp_path / "cache")
    assert unknown == []
    suite = Suite.model_validate({"name": "mine", "tasks": {task.name: task.block}})
    rows = Rows(suite, tmp_path / "mine", tmp_path / "cache")
    seen = [rows.languages(task.name, split) for split in ("train", "validation", "test")]  # type: ignore[arg-type]
    assert (task.block["kind"], seen) == (layout.kind, [layout.train, layout.validation, layout.test])
    assert {key: task.block["columns"].get(key) for key in layout.columns} == layout.columns
    assert task.block.get("labels", []) == layout.labels
    assert set(task.doubts) >= set(layout.doubts)
    assert set(task.doubts) - set(layout.doubts) <= {"validation_from_train"}


def test_numbers_for_regression_are_no_labels_and_are_said(tmp_path: Path) -> None:
    rows = [{"sentence1": text(n), "sentence2": text(n + 40), "label": n / 7} for n in range(24)]
    write({"en/train.jsonl": jsonl(rows)}, tmp_path)
    tasks, unknown = inspect_folder(tmp_path, tmp_path / "cache")
    assert tasks == []
    assert "there is no kind of task for regression" in unknown[0]


def test_two_names_of_one_split_are_said(tmp_path: Path) -> None:
    files = {f"en/{split}.jsonl": jsonl(reviews(24)[place::3]) for place, split in enumerate(("train", "dev", "valid"))}
    write(files, tmp_path)
    [task], _ = inspect_folder(tmp_path, tmp_path / "cache")
    assert "both look like validation rows; en/valid.jsonl is left out" in task.doubts["files"][0]


def test_an_archive_that_can_not_be_unpacked_is_said(tmp_path: Path) -> None:
    write({"en/test.jsonl": jsonl(reviews(24)), "old.zip": "PK", ".hidden.zip": "PK"}, tmp_path)
    [task], unknown = inspect_folder(tmp_path, tmp_path / "cache")
    assert task.block["files"] == "{language}/{split}.jsonl"
    [line] = unknown
    assert "old.zip can't be unpacked" in line


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        inspect_folder(tmp_path / "none", tmp_path / "cache")


def test_the_real_sets_are_seen_as_their_manifest_says(real_data: Path, tmp_path: Path) -> None:
    names = ("xnli", "udpos", "xquad", "tatoeba", "afrisenti", "masakhaner2", "cosmos_qa", "afriqa_en", "mrpc")
    kinds = dict.fromkeys(names, "classification") | {"udpos": "tagging", "masakhaner2": "tagging"}
    kinds |= {"xquad": "extractive_qa", "afriqa_en": "extractive_qa", "tatoeba": "retrieval"}
    kinds |= {"cosmos_qa": "multiple_choice"}
    tasks = [task for name in names for task in inspect_folder(real_data / name, tmp_path / "cache")[0]]
    assert {task.name: task.block["kind"] for task in tasks} == kinds


def test_there_are_at_least_thirty_layouts() -> None:
    assert len(LAYOUTS) >= 30
