"""Export and score after real training: the benchmark's tasks in pico size, from the search command to the scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.export.pico_xtreme import xtreme_suite
from tests.pico import pico_encoder
from tests.tracking.made_up import PLAN
from tunexfer.cli import app
from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.folder import StudyFolder
from tunexfer.core.scores import Split
from tunexfer.data.prepare import prepare
from tunexfer.tasks.suite import load_suite
from tunexfer.tasks.xtreme import TARGETS
from tunexfer.tracking.record import Record, write_result
from tunexfer.tracking.trial import Ended, Trial
from tunexfer.training.chain import ChainRunner
from tunexfer.training.store import StageStore

TRAINED = ("pawsx", "udpos", "mlqa")
UNTRAINED = {"bucc2018": 1, "tatoeba": None}
"""With the layer that sentence vectors come from."""
FLOAT32 = 1e-4
"""Rows are recorded with 32 bits, `score` counts with 64."""


def recorded(study: StudyFolder, trial: int) -> dict[tuple[str, str, str], float]:
    """Task, language and metric -> every test score that the trial's record has."""
    lines = map(json.loads, study.trial(trial).scores.read_text().splitlines())
    return {
        (line["task"], line["language"], line["metric"]): line["value"] for line in lines if line["split"] == "test"
    }


def scored(path: Path) -> dict[tuple[str, str, str], float]:
    """The same of a file that `score --out` wrote."""
    return {
        (task, language, metric): value
        for task, found in json.loads(path.read_text())["tasks"].items()
        for language, metrics in found["languages"].items()
        for metric, value in metrics.items()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """One trial of five targets, as a worker leaves it."""
    folder = tmp_path_factory.mktemp("trained")
    suite, where = load_suite(str(xtreme_suite(folder)))
    encoder = Encoder(name=str(pico_encoder(folder / "encoder")))
    tests: list[tuple[str, str, Split]] = [
        (task, language, "test") for task in (*TRAINED, *UNTRAINED) for language in TARGETS[task].languages.split()
    ]
    prepared = prepare(
        suite=suite,
        folder=where,
        encoder=encoder,
        sources=[Source(task=task, language="en") for task in TRAINED],
        evaluated=[*tests, ("bucc2018", "de", "validation")],
        precision="fp32",
        cache=folder / "cache",
    )
    targets = [Target(task=task, stage=fine_tuning(task)) for task in TRAINED]
    targets += [Target(task=task, layer=layer) for task, layer in UNTRAINED.items()]
    chain = Chain(suite="pico_xtreme", encoder=encoder, stages=(), targets=tuple(targets))
    result = ChainRunner(prepared, StageStore(folder / "store"), device="cpu", threads=1).run(chain, seed=1)
    study = StudyFolder(folder / "runs" / "pico")
    with Record.drive(study, PLAN) as record:
        trial = Trial(number=0, phase="baseline", seed=1, point={}, chain=chain)
        record.begin(trial)
        write_result(study.trial(0), result.scores, result.rows)
        record.finish(Ended(trial=trial, state="complete", started=0.0, seconds=result.seconds, objective=1.0))
    return study


def fine_tuning(task: str) -> Stage:
    mixture = Mixture(sources=(Source(task=task, language="en"),), shares=(1.0,))
    return Stage(name=task, mixture=mixture, learning_rate=3e-3, steps=8, batch_size=8)


def test_score_reads_a_trained_trial_back_to_its_recorded_scores(trained: StudyFolder, tmp_path: Path) -> None:
    to, labels, out = tmp_path / "to", tmp_path / "labels", tmp_path / "scores.json"
    run(["export", trained.path, "--format", "xtreme", "--to", to, "--labels", labels])
    run(["score", "--predictions", to, "--labels", labels, "--out", out])
    before, after = recorded(trained, 0), scored(out)
    assert {task for task, _, _ in after} == {*TRAINED, *UNTRAINED}
    assert after == {key: pytest.approx(before[key], abs=FLOAT32) for key in after}
    assert len({round(value, 3) for value in after.values()}) > 5


def test_mined_pairs_are_recorded_without_the_rows_that_the_threshold_is_set_on(trained: StudyFolder) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(trained.trial(0).rows, filters=[("task", "==", "bucc2018"), ("split", "==", "test")])
    assert {name.partition("-")[0] for name in rows["id"].to_pylist()} == {"test"}
    assert sum(rows["gold_count"].to_pylist()) == 4 * len(TARGETS["bucc2018"].languages.split())


def run(arguments: list[Any]) -> None:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0


@pytest.mark.slow
def test_all_nine_tasks_go_from_the_search_command_to_an_overall_score(tmp_path: Path) -> None:
    xtreme_suite(tmp_path)
    pico_encoder(tmp_path / "encoder")
    untrained = ("bucc2018", "tatoeba")
    targets: list[dict[str, Any]] = [
        {"task": task, "train_language": "en", "learning_rate": 3.0e-3, "steps": 4, "batch_size": 8}
        for task in TARGETS
        if task not in untrained
    ]
    targets += [{"task": "bucc2018", "layer": {"choice": [1, 2]}}, {"task": "tatoeba", "layer": 1}]
    space = {
        "name": "nine",
        "suite": "pico_xtreme.yaml",
        "encoder": str(tmp_path / "encoder"),
        "targets": targets,
        "search": {"algorithm": "random", "trials": 2},
        "resources": {"precision": "fp32"},
    }
    (tmp_path / "nine.yaml").write_text(yaml.safe_dump(space))
    command(tmp_path, "search", "nine.yaml", "--quiet")
    for trial in ("0", "1"):
        to, labels, out = (f"{name}-{trial}" for name in ("to", "labels", "out"))
        command(tmp_path, "export", "runs/nine", "--format", "xtreme", "--trial", trial, "--to", to, "--labels", labels)
        assert "overall" in command(tmp_path, "score", "--predictions", to, "--labels", labels, "--out", out)
        assert json.loads((tmp_path / out).read_text())["overall"] is not None
        before, after = recorded(StudyFolder(tmp_path / "runs" / "nine"), int(trial)), scored(tmp_path / out)
        assert after == {key: pytest.approx(before[key], abs=FLOAT32) for key in after}


def command(folder: Path, *arguments: str) -> str:
    """What the command prints."""
    code = "from tunexfer.cli import main; main()"
    environment = os.environ | {"TUNEXFER_CACHE": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
