"""The grammar of suites: what a task block may say, and what is said about mistakes in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunexfer.errors import DataError
from tunexfer.tasks.suite import TaskBlock, load_suite

NLI = {
    "kind": "classification",
    "columns": {"text": "premise", "text_pair": "hypothesis", "label": "label"},
    "labels": ["entailment", "neutral", "contradiction"],
}


def problem(folder: Path, **block: Any) -> str:
    """What is said of a suite whose one task, `nli`, has these fields."""
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({"name": "toy", "tasks": {"nli": NLI | block}}))
    with pytest.raises(DataError) as caught:
        load_suite("toy.yaml", beside=folder)
    return str(caught.value).removeprefix(f"{path}, ")


def test_rows_come_from_one_kind_of_place(tmp_path: Path) -> None:
    assert "tasks.nli: rows come from either `files:` or `hub:`" in problem(tmp_path)
    assert "either `files:` or `hub:`" in problem(tmp_path, files="{split}.jsonl", hub={"path": "some/set"})


@pytest.mark.parametrize("name", ["xnli//v1", "/xnli", "xnli/", "../xnli", "a/./b", ".", "..", "", " xnli", "a\nb"])
def test_a_task_is_not_named_like_what_no_folder_or_metric_can_be_named_after(name: str, tmp_path: Path) -> None:
    task = NLI | {"files": "{language}/{split}.jsonl"}
    file = tmp_path / "toy.yaml"
    for given in ("nli@v1 (all)", "xnli/v1", "[nli]", "задача"):
        file.write_text(yaml.safe_dump({"name": "toy", "tasks": {given: task}}))
        load_suite("toy.yaml", beside=tmp_path)
    file.write_text(yaml.safe_dump({"name": "toy", "tasks": {name: task}}))
    with pytest.raises(DataError, match="can't be a name, since folders and metrics"):
        load_suite("toy.yaml", beside=tmp_path)


def test_a_mistake_in_a_part_names_the_part(tmp_path: Path) -> None:
    parts: list[dict[str, Any]] = [{"hub": {"path": "some/set"}}, {"columns": {"text": "sentence1"}}]
    assert "parts[1]: rows come from either" in problem(tmp_path, parts=parts)
    parts[1] = {"files": "zh.jsonl", "label_values": [1, 0]}
    assert "parts[1]: 3 labels but 2 label_values" in problem(tmp_path, parts=parts)
    assert "tasks.nli.parts.0.hubb" in problem(tmp_path, parts=[{"hubb": {}}])


def test_tags_of_their_own_go_with_files(tmp_path: Path) -> None:
    assert "`tag_files:` go with `files:`" in problem(tmp_path, hub={"path": "some/set"}, tag_files="x.tags")


def test_labels_are_named_once(tmp_path: Path) -> None:
    assert "either named in `labels:` or read from `labels_file:`" in problem(
        tmp_path, files="{split}.jsonl", labels_file="labels.json"
    )


def test_a_task_is_the_same_as_another_of_the_suite_which_is_itself(tmp_path: Path) -> None:
    assert "tasks.nli.same_as: there is no task 'xnly'" in problem(tmp_path, files="{split}.jsonl", same_as="xnly")
    assert "is itself the same as another" in problem(tmp_path, files="{split}.jsonl", same_as="nli")


def test_a_part_says_only_what_differs_from_its_task() -> None:
    task = TaskBlock.model_validate(
        NLI | {"files": "en.jsonl", "parts": [{"rows": {"en": (1, 0, 0)}}, {"files": "zh.jsonl", "where": {"x": "y"}}]}
    )
    first, second = task.places
    assert (first.files, first.where, first.rows) == ("en.jsonl", {}, {"en": (1, 0, 0)})
    assert (second.files, second.where, second.rows) == ("zh.jsonl", {"x": "y"}, {})
    assert first.columns == second.columns == NLI["columns"]
    assert TaskBlock(**task.model_dump()).places == task.places


def test_epochs_become_steps_of_whole_passes() -> None:
    recipe = TaskBlock(files="x", **NLI, recipe={"learning_rate": 1e-5, "epochs": 2}).recipe
    assert recipe is not None
    assert recipe.steps(392_702, recipe.batch_size) == 2 * 12_272  # 12,271 full batches of 32 and one of 30
    assert recipe.steps(64, 32) == 4
