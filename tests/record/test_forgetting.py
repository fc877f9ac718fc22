"""A study whose second target goes on from the first: how its forgetting is kept, compared, mirrored and reported."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from record.made_up import PLAN, stage, trial
from rich.console import Console

from tunexfer.cli.live import LiveView
from tunexfer.core.chain import Chain, Encoder, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.objective import Objective
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.scores import FORGETTING, Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.mlflow.runs import metrics, params
from tunexfer.record.findings import Findings
from tunexfer.record.record import Record

FIRST = Target(task="news", stage=stage("kinnews", "news", "kin"))


def chain(*, stages: int = 0, rate: float = 1e-3) -> Chain:
    second = Target(task="news", stage=stage("kirnews", "news", "run", rate), after="kinnews")
    return Chain(
        suite="toy",
        encoder=Encoder(name="pico"),
        stages=(stage("intermediate", "intent", "de"),) * stages,
        targets=(FIRST, second),
    )


def scores(before: float, after: float, lost: float) -> tuple[Score, ...]:
    """Of Kinyarwanda: by the first, by the second, and what is lost."""
    return tuple(
        Score(target=task, language="kin", split=split, metric=metric, value=value, main=metric == "f1", unseen=False)
        for split in ("validation", "test")
        for task, metric, value in (("kinnews", "f1", before), ("kirnews", "f1", after), ("kinnews", FORGETTING, lost))
    )


def run(record: Record, of: Trial, *values: float) -> None:
    record.begin(of)
    own = scores(*values)
    record.finish(TrialResult(trial=of, state="complete", started=1.0, seconds=5.0, objective=values[0], scores=own))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """The baseline forgets half, a chain with a stage a quarter; and two that differ in the second target's rate."""
    folder = StudyFolder(tmp_path / "toy")
    with Record.drive(folder, PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 80.0, 40.0, 50.0)
        run(record, trial(1, of=chain(stages=1)), 84.0, 63.0, 25.0)
        run(record, trial(2, of=chain(rate=2e-3)), 80.0, 48.0, 40.0)
        run(record, trial(3, of=chain(stages=1, rate=2e-3)), 84.0, 75.6, 10.0)
    return Record(folder)


def test_forgetting_is_a_row_of_its_own_in_the_table_of_scores(record: Record) -> None:
    rows = pq.read_table(record.folder.scores).to_pylist()
    found = [row for row in rows if (row["trial"], row["split"], row["metric"]) == (1, "test", FORGETTING)]
    [only] = found
    assert (only["target"], only["language"], only["value"], only["main"]) == ("kinnews", "kin", 25.0, False)
    assert (only["baseline"], only["delta"]) == (50.0, -25.0)


def test_forgetting_is_compared_with_the_no_stage_chain_of_the_same_two_targets(record: Record) -> None:
    rows = pq.read_table(record.folder.scores).to_pylist()
    own: dict[Any, float] = {
        (row["target"], row["metric"]): row["delta_own"] for row in rows if (row["trial"], row["split"]) == (3, "test")
    }
    assert own["kinnews", FORGETTING] == 10.0 - 40.0
    assert own["kirnews", "f1"] == 75.6 - 48.0
    assert own["kinnews", "f1"] == 84.0 - 80.0


def test_mlflow_shows_it_beside_the_deltas(record: Record) -> None:
    ended, table = record.complete[1], record.score_table()
    found = metrics(ended, table[table["trial"] == 1])
    assert found["forgetting/kinnews/kin"] == 25.0
    assert found["validation/kinnews/kin/forgetting"] == 25.0
    assert found["test/kinnews/kin"] == found["mean/kinnews"] == 84.0
    assert found["test/kirnews/kin"] == 63.0
    assert "test/kinnews/kin/forgetting" not in found
    assert params(ended)["kirnews.after"] == "kinnews"
    assert "kinnews.after" not in params(ended)


def test_the_objective_never_reads_it() -> None:
    objective = Objective(languages="all")
    assert objective.value(scores(80.0, 40.0, 50.0), chain()) == (80.0 + 40.0) / 2
    assert objective.value(scores(80.0, 40.0, 99.0), chain()) == (80.0 + 40.0) / 2


def test_the_summary_tells_what_is_lost(record: Record) -> None:
    objective = {"maximize": "mean", "split": "validation", "languages": "all"}
    plan = {"identity": {"objective": objective}, "search": {"trials": 4}}
    findings = Findings.of(record.ended, record.score_table(), plan)
    assert findings.best
    assert findings.best["trial"] == 1
    assert findings.targets["kinnews"]["forgetting"] == {"kin": {"baseline": 50.0, "best": 25.0}}
    assert "forgetting" not in findings.targets["kirnews"]
    sentence = "Forgetting of kinnews, in % of its score (negative: it improved): kin 25.0 (baseline 50.0)."
    assert sentence in findings.sentences


def test_the_live_table_has_a_column_for_each_target(record: Record) -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, height=30, force_terminal=True)
    with LiveView(record.folder, console=console) as live:
        live.refresh()
    assert "kinnews" in out.getvalue()
    assert "kirnews" in out.getvalue()
    assert "75.6" in out.getvalue()


def test_a_chain_in_words_says_which_target_goes_on_from_which() -> None:
    assert chain_in_words(chain()) == (
        "no intermediate stage -> kinnews (100% news/kin, 10 steps, lr 1e-3), "
        "kirnews after kinnews (100% news/run, 10 steps, lr 1e-3)"
    )
