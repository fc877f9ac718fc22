"""The summary: its numbers by hand from the made-up study."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from record.made_up import PLAN, chain, run, study, trial
from rich.console import Console

from tunexfer.core.files import StudyFolder
from tunexfer.mlflow.description import description
from tunexfer.record.findings import show, summarise
from tunexfer.record.record import Record

OBJECTIVE = {"maximize": "mean", "split": "validation", "languages": ["de", "ru"]}


@pytest.fixture
def summary(tmp_path: Path) -> dict[str, Any]:
    study(StudyFolder(tmp_path / "toy"))
    record = Record(StudyFolder(tmp_path / "toy"))
    return summarise(record, state="finished", objective=OBJECTIVE, wanted=3, seconds=12.34)


def test_the_best_chain_is_compared_with_the_baseline_on_test(summary: dict[str, Any]) -> None:
    intent = summary["targets"]["intent"]
    assert intent["languages"]["ru"] == {"baseline": 48.0, "best": 51.0, "delta": 3.0, "unseen": True}
    # the stage trains intent in de and the target in en: only ru is unseen
    assert intent["unseen"] == {"languages": 1, "baseline": 48.0, "best": 51.0, "delta": 3.0}
    assert intent["all"] == {"languages": 3, "baseline": 49.0, "best": 52.0, "delta": 3.0}


def test_where_no_chain_beats_the_baseline_the_next_best_is_shown_beside_it(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 47.0)
        run(record, trial(2, of=chain(stages=2)), 48.0)
    found = summarise(record, state="finished", objective=OBJECTIVE, wanted=3, seconds=1.0)
    assert found["best"]["trial"] == 0
    assert (found["next_best"]["trial"], found["next_best"]["objective"]) == (2, 48.0)
    assert found["targets"]["intent"]["languages"]["ru"]["delta"] == -2.0
    out = io.StringIO()
    show(found, Console(file=out, width=100))
    assert "The next best (trial 2, objective 48.00): intermediate" in out.getvalue()
    assert "next best" in description(found)
    assert "The next best (trial 2): intermediate" in description(found)


def test_a_language_that_the_baseline_trained_is_not_unseen_for_a_chain_from_another(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1, of=chain(train="de")), 53.0)
    found = summarise(record, state="finished", objective=OBJECTIVE, wanted=2, seconds=1.0)["targets"]["intent"]
    assert found["unseen"]["languages"] == 1
    assert {language for language, row in found["languages"].items() if row["unseen"]} == {"ru"}


def test_confirmation_gives_mean_and_spread_over_fresh_seeds(summary: dict[str, Any]) -> None:
    (confirmed,) = summary["confirmation"]
    assert confirmed["trial"] == 1
    assert confirmed["unseen_delta"]["intent"] == {"mean": 5.0, "sd": None, "beyond": False}


def test_trials_and_steps_are_counted(summary: dict[str, Any]) -> None:
    assert summary["trials"] == {"wanted": 3, "complete": 2, "failed": 1, "stopped": 0, "confirm": 2}
    assert summary["steps"] == {"trained": 50, "reused": 0}
    assert summary["objective"] == OBJECTIVE | {"baseline": 50.0, "best": 53.0}


def test_it_is_json_and_can_be_shown(summary: dict[str, Any]) -> None:
    json.dumps(summary, allow_nan=False)
    out = io.StringIO()
    show(summary, Console(file=out, width=100))
    text = out.getvalue()
    assert "Best chain: intermediate: 100% intent/de, 10 steps, lr 1e-3 -> intent (en, 10 steps, lr 1e-3)" in text
    assert "de (trained)" in text
    assert "mean of validation scores, languages: de ru): baseline 50.00, best 53.00 (trial 1)" in text.replace(
        "\n", " "
    )
    assert "Of the confirmed chains it has the highest mean objective over 1 fresh seeds." in text.replace("\n", " ")
    assert "over 1 fresh seeds" in " ".join(text.split())
    assert "intent: no chain helps beyond the spread" in text
    assert "One seed shows no spread, so no gain can be told from it: `confirm: {seeds: 3}`" in text.replace("\n", " ")
    assert f"tunexfer ui {summary['folder']} opens MLflow on it" in text


def test_a_study_without_a_trial_has_a_summary(tmp_path: Path) -> None:
    record = Record(StudyFolder(tmp_path / "none"))
    empty = summarise(record, state="interrupted", objective={}, wanted=3, seconds=0.0)
    show(empty, Console(file=io.StringIO()))
    assert empty["best"] is None
