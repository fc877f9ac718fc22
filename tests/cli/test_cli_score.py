"""`tunexfer score` on the files that the benchmark tests its own scorer with."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunexfer.cli.main import app, main
from tunexfer.export.xtreme_scores import XTREME_TASKS


@pytest.fixture(scope="module")
def mock(real_data: Path) -> Path:
    return real_data / "xtreme_mock"


@pytest.fixture
def copy(mock: Path, tmp_path: Path) -> Path:
    """Predictions that a test may spoil."""
    return Path(shutil.copytree(mock / "predictions", tmp_path / "predictions"))


def score(predictions: Path, labels: Path, out: Path) -> tuple[str, Any]:
    """What it prints, and the JSON it writes."""
    arguments = ["--suite", "xtreme", "--predictions", predictions, "--labels", labels, "--out", out]
    done = CliRunner().invoke(app, ["score", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout, json.loads(out.read_text())


def failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says on standard error as it ends with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["tunexfer", "score", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    return said.err


def test_it_prints_a_table_and_writes_every_score(mock: Path, tmp_path: Path) -> None:
    printed, scores = score(mock / "predictions", mock / "labels", tmp_path / "deep" / "scores.json")
    lines = [line.strip("│ \n").split("│") for line in printed.splitlines() if line.startswith("│")]
    assert [line[0].strip() for line in lines] == [
        *XTREME_TASKS,
        "classification",
        "tagging",
        "qa",
        "retrieval",
        "overall",
    ]
    assert lines[-1][1].strip() == "62.17"
    assert list(scores) == ["overall", "groups", "tasks"]
    assert scores["overall"] == pytest.approx(62.1731985051, abs=1e-9)
    assert scores["groups"]["retrieval"] == pytest.approx(54.3055555556, abs=1e-9)
    assert list(scores["tasks"]) == list(XTREME_TASKS)
    assert list(scores["tasks"]["panx"]) == ["mean", "metrics", "languages"]
    assert scores["tasks"]["panx"]["metrics"]["recall"] == pytest.approx(62.75, abs=1e-9)
    assert scores["tasks"]["xquad"]["metrics"] == {
        "exact_match": pytest.approx(77.27272727272727, abs=1e-9),
        "f1": pytest.approx(79.9586776859504, abs=1e-9),
    }
    assert set(scores["tasks"]["xquad"]["languages"]["zh"]) == {"exact_match", "f1"}


def test_eight_tasks_have_no_overall_score(mock: Path, copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "tatoeba")
    printed, scores = score(copy, mock / "labels", tmp_path / "scores.json")
    assert scores["overall"] is None
    assert "retrieval" not in scores["groups"]
    assert "needs all nine tasks" in printed
    assert f"not scored: tatoeba: no such folder in {copy}\n" in printed


def test_a_folder_by_another_name_is_said_with_the_task_it_may_be(mock: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "pawsx").rename(copy / "paws-x")
    printed = score(copy, mock / "labels", tmp_path / "scores.json")[0]
    assert f"not scored: pawsx: no such folder in {copy}\n" in printed
    assert f"passed over: {copy / 'paws-x'}: the benchmark has no such task. Did you mean 'pawsx'?\n" in printed
    assert "not scored" not in score(mock / "predictions", mock / "labels", tmp_path / "scores.json")[0]


def test_an_unknown_question_is_passed_over_as_the_benchmark_does(mock: Path, copy: Path, tmp_path: Path) -> None:
    file = copy / "mlqa" / "test-de.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"nowhere": "Wald"}))
    scores = score(copy, mock / "labels", tmp_path / "scores.json")[1]
    assert scores["tasks"]["mlqa"]["metrics"]["f1"] == pytest.approx(81.76870748299321, abs=1e-9)


def test_a_missing_file_ends_it_with_one_message(
    mock: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "pawsx" / "test-ko.tsv").unlink()
    said = failure(monkeypatch, capsys, "--predictions", copy, "--labels", mock / "labels")
    assert "pawsx is scored over all of its 7 languages, and 1 files are missing" in said
    assert "test-ko.tsv" in said


def test_a_wrong_length_ends_it_with_both_numbers(
    mock: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (copy / "tatoeba" / "test-fi.tsv").open("a") as lines:
        lines.write("3\n")
    said = failure(monkeypatch, capsys, "--predictions", copy, "--labels", mock / "labels")
    assert "test-fi.tsv has 11 lines" in said
    assert "has 10: they have to correspond" in said


def test_another_suite_is_refused_with_the_one_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failure(monkeypatch, capsys, "--suite", "glue", "--predictions", tmp_path, "--labels", tmp_path)
    assert "'glue' is not one of 'xtreme'" in said
