"""Expected numbers: XTREME's own scorer, run on the predictions and labels that it is tested with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunexfer.errors import DataError
from tunexfer.export.xtreme_scores import XTREME_TASKS, score_folders, score_table

EXPECTED = {
    "pawsx": {"accuracy": 51.42857142857143},
    "xnli": {"accuracy": 30.666666666666668},
    "panx": {"f1": 57.50793650793652, "precision": 54.729166666666664, "recall": 62.750000000000014},
    "udpos": {"f1": 70.21746048354693, "precision": 71.02232625883823, "recall": 69.54982073976082},
    "bucc2018": {"f1": 55.0},
    "tatoeba": {"accuracy": 53.611111111111114},
    "xquad": {"exact_match": 77.27272727272727, "f1": 79.9586776859504},
    "mlqa": {"exact_match": 57.142857142857146, "f1": 81.76870748299321},
    "tydiqa": {"exact_match": 88.88888888888889, "f1": 97.22222222222223},
}
GROUPS = {"classification": 41.0476190476, "tagging": 63.8626984957, "qa": 80.3756801159, "retrieval": 54.3055555556}


@pytest.fixture(scope="module")
def mock(real_data: Path) -> Path:
    return real_data / "xtreme_mock"


@pytest.fixture(scope="module")
def scores(mock: Path) -> dict[str, Any]:
    return score_folders(mock / "predictions", mock / "labels")


@pytest.fixture
def copy(mock: Path, tmp_path: Path) -> Path:
    """Predictions that a test may spoil."""
    return Path(shutil.copytree(mock / "predictions", tmp_path / "predictions"))


@pytest.mark.parametrize("task", EXPECTED)
def test_every_task_scores_as_the_benchmark_says(task: str, scores: dict[str, Any]) -> None:
    for metric, value in EXPECTED[task].items():
        assert scores["tasks"][task]["metrics"][metric] == pytest.approx(value, abs=1e-9)


def test_groups_and_the_overall_score_are_means_of_tasks(scores: dict[str, Any]) -> None:
    assert scores["groups"] == {group: pytest.approx(value, abs=1e-9) for group, value in GROUPS.items()}
    assert scores["overall"] == pytest.approx(62.1731985051, abs=1e-9)
    assert set(scores["tasks"]) == set(XTREME_TASKS) == set(EXPECTED)


def test_questions_score_the_mean_of_exact_match_and_f1(scores: dict[str, Any]) -> None:
    assert scores["tasks"]["mlqa"]["mean"] == pytest.approx((57.142857142857146 + 81.76870748299321) / 2, abs=1e-9)


def test_a_task_is_the_plain_mean_of_its_languages_english_included(scores: dict[str, Any]) -> None:
    languages = scores["tasks"]["xnli"]["languages"]
    assert len(languages) == 15
    mean = sum(metrics["accuracy"] for metrics in languages.values()) / 15
    assert scores["tasks"]["xnli"]["mean"] == pytest.approx(mean, abs=1e-9)


def test_the_numbers_of_languages_are_the_benchmarks() -> None:
    counts = {name: len(set(target.languages)) for name, target in XTREME_TASKS.items()}
    assert list(counts.values()) == [15, 7, 33, 40, 11, 7, 9, 4, 36]


def test_scores_are_plain_json(scores: dict[str, Any]) -> None:
    assert json.loads(json.dumps(scores)) == scores


def test_without_all_nine_there_is_no_overall_score(mock: Path, copy: Path) -> None:
    shutil.rmtree(copy / "xnli")
    scores = score_folders(copy, mock / "labels")
    assert scores["overall"] is None
    assert list(scores["groups"]) == ["tagging", "qa", "retrieval"]
    assert score_table(scores)[-1][:2] == ("overall", "needs all nine tasks")


def test_the_table_has_a_row_for_every_number(scores: dict[str, Any]) -> None:
    table = score_table(scores)
    assert [row[0] for row in table] == ["task", *XTREME_TASKS, *GROUPS, "overall"]
    assert table[1][:3] == ("xnli", "30.67", "accuracy 30.67")
    assert table[-1][1] == "62.17"


def test_a_missing_file_is_named(mock: Path, copy: Path) -> None:
    (copy / "udpos" / "test-kk.tsv").unlink()
    with pytest.raises(
        DataError, match=r"udpos .* all of its 33 languages.*1 files are missing.*predictions/udpos/test-kk"
    ):
        score_folders(copy, mock / "labels")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("xnli/test-de.tsv", "has 11 lines, but .* has 10"),
        ("panx/test-de.tsv", r"has \d+ tags in sentence \d+, but .* has \d+"),
    ],
)
def test_a_wrong_length_is_an_error_with_both_numbers(mock: Path, copy: Path, file: str, message: str) -> None:
    with (copy / file).open("a") as lines:
        lines.write("neutral\n" if "xnli" in file else "O\n")
    with pytest.raises(DataError, match=message):
        score_folders(copy, mock / "labels")


def test_empty_labels_are_an_error(mock: Path, copy: Path, tmp_path: Path) -> None:
    labels = Path(shutil.copytree(mock / "labels", tmp_path / "labels"))
    for folder in (copy, labels):
        (folder / "tatoeba" / "test-fi.tsv").write_text("")
    with pytest.raises(DataError, match=r"labels/tatoeba/test-fi\.tsv is empty"):
        score_folders(copy, labels)


def test_a_question_without_prediction_scores_zero_and_an_unknown_one_is_passed_over(mock: Path, copy: Path) -> None:
    before = score_folders(copy, mock / "labels")["tasks"]["tydiqa"]["languages"]["en"]
    file = copy / "tydiqa" / "test-en.json"
    answers = json.loads(file.read_text())
    file.write_text(json.dumps(answers | {"nowhere-1": "Wound care"}))
    assert score_folders(copy, mock / "labels")["tasks"]["tydiqa"]["languages"]["en"] == before
    file.write_text("{}")
    after = score_folders(copy, mock / "labels")["tasks"]["tydiqa"]["languages"]["en"]
    assert after == {"exact_match": 0.0, "f1": 0.0}


def test_a_pair_that_comes_twice_counts_once(mock: Path, copy: Path) -> None:
    before = score_folders(copy, mock / "labels")["tasks"]["bucc2018"]
    file = copy / "bucc2018" / "test-de.tsv"
    file.write_text(file.read_text() * 2)
    assert score_folders(copy, mock / "labels")["tasks"]["bucc2018"] == before


def test_broken_json_is_named(mock: Path, copy: Path) -> None:
    (copy / "mlqa" / "test-de.json").write_text("{")
    with pytest.raises(DataError, match=r"mlqa/test-de\.json: not JSON"):
        score_folders(copy, mock / "labels")


def test_other_encodings_are_refused_by_name(mock: Path, copy: Path) -> None:
    (copy / "xnli" / "test-de.tsv").write_bytes("neutral\nWiderspruch für\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"xnli/test-de\.tsv is not UTF-8 text"):
        score_folders(copy, mock / "labels")


def test_folders_without_a_task_in_common_are_refused(mock: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no task in common.*xnli, pawsx"):
        score_folders(tmp_path, mock / "labels")
