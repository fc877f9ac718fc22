"""What makes results weak is said before a search: few rows, one label for almost all rows, shared templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.made_up_layouts import jsonl

from tunexfer.core.scores import Split
from tunexfer.data.rows import Rows
from tunexfer.tasks.suite import Suite

TASK = {
    "kind": "classification",
    "files": "{language}/{split}.jsonl",
    "columns": {"text": "text", "label": "label"},
    "labels": ["bad", "good"],
}
LANGUAGES: tuple[Split, ...] = ("train", "test")


def weaknesses(folder: Path, **rows: list[dict[str, Any]]) -> list[str]:
    """What is said of a task with these splits in English."""
    for split, own in rows.items():
        file = folder / "mine" / "en" / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(jsonl(own), encoding="utf-8")
    made = Rows(Suite.model_validate({"name": "mine", "tasks": {"task": TASK}}), folder / "mine", folder / "cache")
    return made.weaknesses([("task", "en", split) for split in LANGUAGES if split in rows])


def films(count: int, word: str, good: int = 2) -> list[dict[str, Any]]:
    """Rows whose words differ, of which every `good`-th is good."""
    letters = "abcdefghij"
    names = ["".join(letters[int(digit)] for digit in str(n)) for n in range(count)]
    return [{"text": f"{word} of {name}", "label": "good" if n % good == 0 else "bad"} for n, name in enumerate(names)]


def test_nothing_is_said_of_200_rows_with_even_labels(tmp_path: Path) -> None:
    assert weaknesses(tmp_path, train=films(200, "film"), test=films(200, "play")) == []


def test_fewer_than_200_rows_of_a_language_are_said(tmp_path: Path) -> None:
    train, test = weaknesses(tmp_path, train=films(150, "film"), test=films(199, "play"))
    assert "fewer than 200 test rows in some languages (en 199)" in test + train
    assert "fewer than 200 train rows in some languages (en 150)" in test + train


def test_a_label_nine_times_as_frequent_as_the_others_is_said(tmp_path: Path) -> None:
    """Every tenth of 200 rows is good: 180 are bad, nine times 20. Of 200 with every ninth, 177 are, 7.7 times 23."""
    [said] = weaknesses(tmp_path / "ten", train=films(200, "film", good=10))
    assert "90 % of train rows have the label 'bad'" in said
    assert weaknesses(tmp_path / "nine", train=films(200, "film", good=9)) == []


def test_test_rows_from_templates_of_train_rows_are_said(tmp_path: Path) -> None:
    names = ("Anna", "Boris", "Chen", "Dara")
    train = [{"text": f"set alarm of {names[n % 4]} to {n}", "label": ["bad", "good"][n % 2]} for n in range(200)]
    test = [{"text": f"set alarm of Emma to {900 + n}", "label": ["bad", "good"][n % 2]} for n in range(200)]
    [said] = weaknesses(tmp_path, train=train, test=test)
    assert "100 % of test rows differ from train rows of their language in nothing but numbers and names" in said
