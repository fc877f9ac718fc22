"""Mining as a task. Vectors and expected pairs are the worked example that XTREME's own mining gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunexfer.core.scores import Split
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, TaskBlock

KIND = KINDS["mining"]
COLUMNS = {"id": "id", "text": "text", "english_id": "english_id", "english": "english"}
TASK = TaskBlock(kind="mining", files="x.jsonl", columns=COLUMNS, max_length=8)
X, Y = (0, 20, 45, 90, 130, 200), (2, 25, 50, 80, 170, 91, 40)
"""Angles of the foreign and the English sentences' vectors. Mined are, the surest first, (5, 4) with a margin of 17.04,
(0, 0) 1.326, (3, 5) 1.292, (1, 1) 1.1356 and (2, 2) 1.1349."""
GOLD = {(5, 4), (0, 0), (3, 5), (4, 3)}


def corpus(gold: set[tuple[int, int]], *, tuning: bool = False, at: str = "") -> list[dict[str, Any]]:
    """A row for each pair and for each sentence that is in none; `at` begins all ids."""
    rows = []
    for x in range(len(X)):
        partners = [y for one, y in sorted(gold) if one == x]
        rows += [row(f"{at}de-{x}", f"{at}x{x}", f"{at}en-{y}", f"{at}y{y}") for y in partners]
        rows += [] if partners else [row(f"{at}de-{x}", f"{at}x{x}", None, None)]
    paired = {y for _, y in gold}
    rows += [row(f"{at}en-{y}", None, f"{at}en-{y}", f"{at}y{y}") for y in range(len(Y)) if y not in paired]
    return [one | {"tuning": tuning} for one in rows]


def row(name: str, text: str | None, english_id: str | None, english: str | None) -> dict[str, Any]:
    found = {"id": name, "cluster": name, "text": text, "english_id": english_id, "english": english}
    return {**found, "tuning": False}


def predict(rows: list[dict[str, Any]], angles: dict[str, float] | None = None) -> list[dict[str, Any] | None]:
    """Predictions where each sentence has the vector of its number, unless `angles` says otherwise."""
    features, outputs = [], []
    for index, one in enumerate(rows):
        for side, (field, known) in enumerate((("text", X), ("english", Y))):
            if one[field] is not None:
                angle = np.radians((angles or {}).get(one[field]) or known[int(one[field][-1])])
                features.append({"row": index, "side": side})
                outputs.append(np.array([np.cos(angle), np.sin(angle)], dtype=np.float32))
    return list(KIND.predict(rows, features, outputs, TASK, "de"))


def scores(predictions: list[dict[str, Any] | None]) -> dict[str, float]:
    scored = [one for one in predictions if one is not None]
    counts = {name: [one[name] for one in scored] for name in ("tp", "predicted", "gold_count")}
    return KIND.summarise(counts)


def found(rows: list[dict[str, Any]], predictions: list[dict[str, Any] | None]) -> list[tuple[str, str]]:
    """The pairs that were."""
    pairs = [(one["id"], json.loads(p["prediction"])) for one, p in zip(rows, predictions, strict=True) if p]
    return sorted((one, other) for one, other in pairs if other)


# Scores


def test_validation_rows_are_cut_where_their_own_f1_is_highest() -> None:
    """Three pairs of margins above 1.2138, all right, of four to be found."""
    rows = corpus(GOLD)
    predictions = predict(rows)
    assert found(rows, predictions) == [("de-0", "en-0"), ("de-3", "en-5"), ("de-5", "en-4")]
    expected = {"f1": pytest.approx(600 / 7), "precision": pytest.approx(100.0), "recall": pytest.approx(75.0)}
    assert scores(predictions) == expected


def test_test_rows_are_cut_where_the_validation_rows_are_best_cut() -> None:
    """On their own they would be cut below the fourth pair, and all four found."""
    rows = corpus({(5, 4), (0, 0), (3, 5), (1, 1)})
    assert scores(predict(rows))["f1"] == pytest.approx(100.0)
    tuned = [*corpus(GOLD, tuning=True, at="v"), *rows]
    predictions = predict(tuned)
    assert found(tuned, predictions) == [("de-0", "en-0"), ("de-3", "en-5"), ("de-5", "en-4")]
    assert scores(predictions)["f1"] == pytest.approx(600 / 7)


def test_validation_rows_are_no_candidates_for_test_rows() -> None:
    """The same sentences on both sides: mined together, each would find the other's."""
    tuned = [*corpus(GOLD, tuning=True), *corpus(GOLD)]
    assert scores(predict(tuned)) == scores(predict(corpus(GOLD)))


def test_what_is_recorded_are_pairs_right_or_found_each_with_its_counts() -> None:
    rows = corpus(GOLD)
    recorded = {one["id"]: p for one, p in zip(rows, predict(rows), strict=True) if p}
    assert recorded == {
        "de-0": {"gold": '"en-0"', "prediction": '"en-0"', "tp": 1, "predicted": 1, "gold_count": 1},
        "de-3": {"gold": '"en-5"', "prediction": '"en-5"', "tp": 1, "predicted": 1, "gold_count": 1},
        "de-4": {"gold": '"en-3"', "prediction": "null", "tp": 0, "predicted": 0, "gold_count": 1},
        "de-5": {"gold": '"en-4"', "prediction": '"en-4"', "tp": 1, "predicted": 1, "gold_count": 1},
    }


def test_a_found_pair_that_is_not_right_counts_against_precision() -> None:
    rows = corpus({(5, 4), (3, 5), (1, 1)})  # (0, 0) comes before (3, 5), and is wrong
    predictions = predict(rows)
    assert ("de-0", "en-0") in found(rows, predictions)
    assert scores(predictions) == {
        "f1": pytest.approx(600 / 7),
        "precision": pytest.approx(75.0),
        "recall": pytest.approx(100.0),
    }


def test_a_sentence_in_two_right_pairs_is_one_sentence_and_either_is_right() -> None:
    rows = corpus({(5, 4), (5, 6), (0, 0), (3, 5)})
    predictions = predict(rows)
    assert found(rows, predictions) == [("de-0", "en-0"), ("de-3", "en-5"), ("de-5", "en-4")]
    assert scores(predictions)["recall"] == pytest.approx(75.0)


def test_a_sentence_that_occurs_again_has_no_id_to_be_found_by() -> None:
    rows = [*corpus(GOLD), row("de-6", "x5", None, None)]
    assert found(rows, predict(rows)) == [("de-0", "en-0"), ("de-3", "en-5")]


def test_one_side_alone_has_no_pairs() -> None:
    predictions = predict([row("de-0", "x0", None, None)])
    assert predictions == [None]
    assert scores(predictions)["f1"] == 0.0


# Rows


def test_every_sentence_is_a_feature(letters: Any, ids: Callable[[str], list[int]]) -> None:
    rows = [row("de-1", "ab", "en-1", "c"), row("en-2", None, "en-2", "d"), row("de-2", "e", None, None)]
    assert KIND.encode(rows, letters, TASK, training=False) == [
        {"row": 0, "input_ids": [0, *ids("ab"), 1], "side": 0},
        {"row": 0, "input_ids": [0, *ids("c"), 1], "side": 1},
        {"row": 1, "input_ids": [0, *ids("d"), 1], "side": 1},
        {"row": 2, "input_ids": [0, *ids("e"), 1], "side": 0},
    ]


def test_a_row_without_any_sentence_is_an_error() -> None:
    with pytest.raises(DataError, match="columns 'text' and 'english' are both empty"):
        KIND.read({"id": "1", "text": None, "english_id": "2", "english": " "}, TASK)


BUCC = {
    "sample.de": "de-1\tJa.\nde-2\tNein.\n",
    "sample.en": "en-1\tYes.\n",
    "sample.gold": "de-1\ten-1\n",
    "training.de": "de-7\tGuten Tag.\nde-8\tHallo.\n",
    "training.en": "en-7\tHi.\nen-8\tGood day.\nen-9\tBye.\n",
    "training.gold": "de-7\ten-8\nde-8\ten-7\n",
}


@pytest.fixture
def bucc(tmp_path: Path) -> Rows:
    """The benchmark's files as their archives hold them."""
    for name, text in BUCC.items():
        file = tmp_path / "bucc2018" / "de-en" / f"de-en.{name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    pattern = "bucc2018/{language}-en/{language}-en.{split}."
    task = {
        "kind": "mining",
        "files": pattern + "{language}",
        "english_files": pattern + "en",
        "gold_files": pattern + "gold",
        "splits": {"validation": "sample", "test": "training"},
        "columns": COLUMNS,
    }
    return Rows(Suite.model_validate({"name": "toy", "tasks": {"bucc2018": task}}), tmp_path, tmp_path / "cache")


def sides(rows: Rows, split: Split) -> list[tuple[Any, ...]]:
    fields = ("id", "text", "english_id", "english", "tuning")
    return [tuple(one[field] for field in fields) for one in rows.table("bucc2018", "de", split).to_pylist()]


def test_the_benchmarks_files_become_pairs_and_lone_sentences(bucc: Rows) -> None:
    assert bucc.languages("bucc2018", "test") == ["de"]
    assert [bucc.count("bucc2018", "de", split) for split in ("train", "validation", "test")] == [0, 2, 3]
    assert sides(bucc, "validation") == [
        ("de-1", "Ja.", "en-1", "Yes.", False),
        ("de-2", "Nein.", None, None, False),
    ]


def test_validation_rows_come_before_test_rows_and_are_told_apart(bucc: Rows) -> None:
    assert sides(bucc, "test") == [
        ("de-1", "Ja.", "en-1", "Yes.", True),
        ("de-2", "Nein.", None, None, True),
        ("de-7", "Guten Tag.", "en-8", "Good day.", False),
        ("de-8", "Hallo.", "en-7", "Hi.", False),
        ("en-9", None, "en-9", "Bye.", False),
    ]


def test_lines_without_a_sentence_are_left_out(bucc: Rows, tmp_path: Path) -> None:
    (tmp_path / "bucc2018/de-en/de-en.sample.de").write_text("de-1\tJa.\n\nde-2\t\n")
    assert sides(bucc, "validation") == [("de-1", "Ja.", "en-1", "Yes.", False)]


def test_a_pair_that_the_gold_file_has_twice_is_one_pair(bucc: Rows, tmp_path: Path) -> None:
    once = sides(bucc, "test")
    (tmp_path / "bucc2018/de-en/de-en.training.gold").write_text("de-7\ten-8\nde-8\ten-7\nde-7\ten-8\n")
    assert sides(bucc, "test") == once


@pytest.mark.parametrize("name", BUCC)
def test_content_of_test_rows_depends_on_every_file(name: str, bucc: Rows, tmp_path: Path) -> None:
    before = {split: bucc.content("bucc2018", "de", split) for split in ("validation", "test")}
    (tmp_path / f"bucc2018/de-en/de-en.{name}").write_text(
        BUCC[name].replace(".", "!").replace("en-1\n", "en-2\n") + "\n"
    )
    after = {split: bucc.content("bucc2018", "de", split) for split in ("validation", "test")}
    assert after["test"] != before["test"]
    assert (after["validation"] == before["validation"]) == name.startswith("training")


def test_test_rows_without_validation_rows_are_an_error(bucc: Rows, tmp_path: Path) -> None:
    for name in ("de", "en", "gold"):
        (tmp_path / f"bucc2018/de-en/de-en.sample.{name}").unlink()
    with pytest.raises(DataError, match="no validation rows in 'de', and mining sets its threshold on them"):
        bucc.table("bucc2018", "de", "test")


def test_pairs_need_both_of_their_files() -> None:
    with pytest.raises(ValueError, match="`gold_files:` go with `english_files:`"):
        TaskBlock(kind="mining", files="x.de", gold_files="x.gold", columns=COLUMNS)
