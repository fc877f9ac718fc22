"""What MLflow is told about one trial."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Iterable
from typing import Any

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.scores import FORGETTING, Split, unseen_by_both
from tunexfer.core.trial import TrialResult
from tunexfer.record.datasets import Dataset
from tunexfer.record.deltas import Deltas
from tunexfer.record.score_table import SCORES_SCHEMA

DIGITS = 4
"""After the point, of a metric: what the columns of MLflow's table have room for. The record has them all."""
LONGEST_NAME = 60
CONTEXTS: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}
"""MLflow's words for splits."""


def run_name(ended: TrialResult) -> str:
    """What tells a trial from others in a chart's legend: its number and what its stages train on."""
    trial = ended.trial
    stages = ", then ".join(_stage_in_short(stage) for stage in trial.chain.stages) or "no stage"
    head = "baseline" if trial.phase == "baseline" else f"{trial.number} {stages}"
    name = f"{head}, seed {trial.seed}" if trial.phase == "confirm" else head
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _stage_in_short(stage: Stage) -> str:
    return f"{'+'.join(stage.mixture.tasks)} {'+'.join(_languages(stage))}"


def metrics(ended: TrialResult, deltas: Deltas) -> dict[str, float]:
    """One trial's metrics under the names MLflow shows them by.

    Of the test split: `mean` over all languages, `unseen` over those that the chain didn't train the task in, `worst`,
    `gain` (the mean delta over the languages that the baseline didn't train it in either), deltas and forgetting.
    """
    found: dict[str, float] = {} if ended.objective is None else {"objective": ended.objective}
    for score in ended.scores:
        name = f"{score.split}/{score.target}/{score.language}"
        if not score.main:
            of_test = (score.metric, score.split) == (FORGETTING, "test")
            name = f"{FORGETTING}/{score.target}/{score.language}" if of_test else f"{name}/{score.metric}"
        found[name] = score.value
    for target in ended.trial.chain.targets:
        main = ended.main(target.name, "test")
        if main:
            values = [score.value for score in main.values()]
            found[f"mean/{target.name}"] = statistics.fmean(values)
            found[f"worst/{target.name}"] = min(values)
        if unseen := [score.value for score in main.values() if score.unseen]:
            found[f"unseen/{target.name}"] = statistics.fmean(unseen)
        gained = []
        for language, score in main.items():
            baseline = deltas.baseline(score, ended.trial.seed)
            if baseline is not None:
                found[f"delta/{target.name}/{language}"] = score.value - baseline.value
                gained += [score.value - baseline.value] if unseen_by_both(score, baseline) else []
        if gained:
            found[f"gain/{target.name}"] = statistics.fmean(gained)
    return {name: round(value, DIGITS) for name, value in found.items()}


def params(ended: TrialResult) -> dict[str, str]:
    """One trial's chain, flat and readable."""
    trial, chain = ended.trial, ended.trial.chain
    found = {
        "seed": str(trial.seed),
        "encoder": chain.encoder.name,
        "stages": ", ".join(stage.name for stage in chain.stages) or "none",
    }
    for stage in chain.stages:
        found[f"{stage.name}.tasks"] = ", ".join(stage.mixture.tasks)
        found[f"{stage.name}.languages"] = ", ".join(_languages(stage))
        found[f"{stage.name}.mixture"] = str(stage.mixture)
        found |= _recipe(stage)
    for target in chain.targets:
        if target.stage:
            found[f"{target.name}.train_language"] = str(target.train_language)
            found |= {f"{target.name}.after": target.after} if target.after else {}
            found |= _recipe(target.stage)
        if target.layer is not None:
            found[f"{target.name}.layer"] = str(target.layer)
    return found


def _languages(stage: Stage) -> list[str]:
    return sorted({source.language for source in stage.mixture.sources})


def _recipe(stage: Stage) -> dict[str, str]:
    values: dict[str, Any] = {
        "learning_rate": stage.learning_rate,
        "steps": stage.steps,
        "batch_size": stage.batch_size,
    }
    return {f"{stage.name}.{key}": str(value) for key, value in {**values, **stage.training}.items()}


def trained_on(chain: Chain, datasets: Iterable[Dataset]) -> list[Dataset]:
    """Those that the chain's fine-tunings read."""
    sources = {(source.task, source.language) for source in chain.trained}
    return [one for one in datasets if one.split == "train" and (one.task, one.language) in sources]


def dataset_inputs(datasets: Iterable[Dataset]) -> list[Any]:
    """As MLflow takes them: name, digest, where they are from, how many rows, what they are for."""
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    return [
        DatasetInput(
            Entity(
                name=f"{one.task}/{one.language}",
                digest=one.digest,
                source_type="hugging_face" if one.hub else "local",
                source=json.dumps(_source(one)),
                profile=json.dumps({"num_rows": one.rows}),
            ),
            [InputTag("mlflow.data.context", CONTEXTS[one.split])],
        )
        for one in datasets
    ]


def _source(dataset: Dataset) -> dict[str, str]:
    if not dataset.hub:
        return {"uri": f"suite {dataset.suite}"}
    path, at, revision = dataset.hub.partition("@")
    return {"path": path, "revision": revision} if at else {"path": path}


def scores_csv(ended: TrialResult, deltas: Deltas) -> str:
    """The trial's scores beside the baseline's, as `scores.parquet` has them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name in SCORES_SCHEMA.names if name != "study"])
    writer.writeheader()
    writer.writerows(deltas.rows(ended))
    return text.getvalue()


def mlflow_name(key: str) -> str:
    """`key` with what MLflow takes in a name."""
    return re.sub(r"[^\w\-./ :]", "_", key)
