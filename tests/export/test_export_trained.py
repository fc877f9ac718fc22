"""Export and score after real training: the benchmark's nine tasks in pico size, in all of their languages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from chain_runner import ChainRunner
from export.pico_xtreme import xtreme_suite
from pico import pico_encoder
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.data.prepare import prepare
from tunexfer.export.xtreme_scores import XTREME_TASKS
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.store import StageStore

UNTRAINED = ("bucc2018", "tatoeba")
FLOAT32 = 1e-4
"""Rows are recorded with 32 bits, `score` counts with 64."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A space whose targets are the nine tasks, and the layer of bucc2018's sentence vectors a search dimension."""
    folder = tmp_path_factory.mktemp("nine")
    xtreme_suite(folder)
    targets: list[dict[str, Any]] = [
        {"task": task, "train_language": "en", "learning_rate": 3.0e-3, "steps": 4, "batch_size": 8}
        for task in XTREME_TASKS
        if task not in UNTRAINED
    ]
    space = {
        "name": "nine",
        "suite": "pico_xtreme.yaml",
        "encoder": str(pico_encoder(folder / "encoder")),
        "targets": [*targets, {"task": "bucc2018", "layer": {"choice": [1, 2]}}, {"task": "tatoeba", "layer": 2}],
        "resources": {"precision": "fp32"},
    }
    (folder / "nine.yaml").write_text(yaml.safe_dump(space))
    return Plan.load(folder / "nine.yaml", cache=folder / "cache")


@pytest.fixture(scope="module")
def study(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The plan's baseline, run and recorded."""
    folder = tmp_path_factory.mktemp("runs")
    point, chain = plan.baseline
    prepared = prepare(
        suite=plan.suite,
        folder=plan.suite_folder,
        encoder=chain.encoder,
        sources=plan.possible_sources,
        evaluated=plan.evaluated,
        precision=plan.precision,
        cache=plan.rows.cache,
    )
    result = ChainRunner(prepared, StageStore(folder / "store")).run(chain, seed=plan.seed)
    study = StudyFolder(folder / "nine")
    with Record.drive(study, plan.as_dict()) as record:
        trial = Trial(number=0, phase="baseline", seed=plan.seed, point=point, chain=chain)
        record.begin(trial)
        objective = plan.objective.value(result.scores, chain)
        done = TrialResult(trial=trial, state="complete", started=0.0, seconds=result.seconds, objective=objective)
        record.finish(replace(done, scores=result.scores), [result.rows])
    return study


def run(*arguments: object) -> str:
    """Run the command and return what it prints."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_score_reads_a_trained_trial_back_to_its_recorded_scores(study: StudyFolder, tmp_path: Path) -> None:
    to, labels, out = tmp_path / "to", tmp_path / "labels", tmp_path / "scores.json"
    printed = run("export", study.path, "--format", "xtreme", "--to", to, "--labels", labels)
    assert printed == f"trial 0 of nine: {', '.join(XTREME_TASKS)}\n"
    run("score", "--predictions", to, "--labels", labels, "--out", out)
    scores = json.loads(out.read_text())
    lines = map(json.loads, study.trial(0).scores.read_text().splitlines())
    recorded = {
        (score["target"], score["language"], score["metric"]): score["value"]
        for score in lines
        if score["split"] == "test"
    }
    scored = {
        (task, language, metric): value
        for task, of_task in scores["tasks"].items()
        for language, metrics in of_task["languages"].items()
        for metric, value in metrics.items()
    }
    assert scored == {key: pytest.approx(recorded[key], abs=FLOAT32) for key in scored}
    assert {task for task, _, _ in scored} == set(XTREME_TASKS)
    assert scores["overall"] > 0


def test_mining_is_scored_without_the_rows_that_its_threshold_is_set_on(study: StudyFolder) -> None:
    rows = pq.read_table(study.trial(0).rows, filters=[("target", "==", "bucc2018"), ("split", "==", "test")])
    assert {name.partition("-")[0] for name in rows["id"].to_pylist()} == {"test"}
    assert sum(rows["gold_count"].to_pylist()) == 4 * len(XTREME_TASKS["bucc2018"].languages)


def test_validation_rows_that_may_not_choose_still_set_the_threshold(plan: Plan) -> None:
    assert ("bucc2018", "de", "test") in plan.evaluated
    assert ("bucc2018", "de", "validation") not in plan.evaluated
    assert plan.rows.table("bucc2018", "de", "test")["tuning"].to_pylist() == [True] * 12 + [False] * 12


def test_the_layer_that_pairs_are_mined_from_is_searched(plan: Plan) -> None:
    layers = {target.layer for chain in plan.variants for target in chain.targets if target.task == "bucc2018"}
    assert layers == {1, 2}
