"""The contents of MLflow's runs: a trial's name, metrics, parameters and datasets, and the description of a study."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.phrases import stages_in_short
from tunexfer.core.scores import FORGETTING, Split
from tunexfer.core.trial import TrialResult
from tunexfer.record.environment import Dataset

if TYPE_CHECKING:
    import pandas as pd

    from tunexfer.record.findings import Findings

DIGITS = 4
"""Decimals of a metric, for narrow columns; the record has them all."""
LONGEST_NAME = 60
CONTEXTS: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}
"""MLflow's words for splits."""
NOTE = "mlflow.note.content"
"""The tag that MLflow's page shows as a run's description."""
LONGEST = 7500
"""Characters; MLflow takes 8000."""


def run_name(result: TrialResult) -> str:
    """Name a trial's run by number, so that names sort, and by the training data of its stages."""
    trial = result.trial
    stages = ", then ".join(stages_in_short(trial.chain)) or "no stage"
    name = f"{trial.number:04d} {'baseline' if trial.phase == 'baseline' else stages}"
    name += f", seed {trial.seed}" if trial.phase == "confirm" else ""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def metrics(result: TrialResult, scores: pd.DataFrame) -> dict[str, float]:
    """Compute one trial's metrics under the names MLflow shows.

    scores: the trial's rows of the score table

    On the test split: `mean` over all languages, `unseen` over those the chain did not train the task in, `worst`,
    `delta` per language, `gain` (the mean delta over languages that the baseline did not train it in either), and
    forgetting.
    """
    values = {} if result.objective is None else {"objective": result.objective}
    if len(result.goals) > 1:
        values |= {f"goal/{goal}": value for goal, value in result.goals.items()}
    for row in scores.to_dict("records"):
        name = f"{row['split']}/{row['target']}/{row['language']}"
        if not row["main"]:
            forgetting = (row["metric"], row["split"]) == (FORGETTING, "test")
            name = f"{FORGETTING}/{row['target']}/{row['language']}" if forgetting else f"{name}/{row['metric']}"
        values[name] = row["value"]
    test = scores[scores["main"] & (scores["split"] == "test")]
    values |= {f"delta/{row['target']}/{row['language']}": row["delta"] for row in test.to_dict("records")}
    groups = {
        "mean": test.groupby("target", observed=True)["value"].mean(),
        "worst": test.groupby("target", observed=True)["value"].min(),
        "unseen": test[test["unseen"]].groupby("target", observed=True)["value"].mean(),
        "gain": test[test["unseen_by_both"]].groupby("target", observed=True)["delta"].mean(),
    }
    values |= {f"{name}/{target}": value for name, group in groups.items() for target, value in group.items()}
    return {name: round(float(value), DIGITS) for name, value in values.items() if value == value}  # no NaN


def params(result: TrialResult) -> dict[str, str]:
    """Flatten one trial's chain into readable parameters."""
    trial, chain = result.trial, result.trial.chain
    values = {"seed": str(trial.seed), "stages": ", ".join(stage.name for stage in chain.stages) or "none"}
    for stage in chain.stages:
        values[f"{stage.name}.mixture"] = str(stage.mixture)
        values |= _recipe(stage)
    for target in chain.targets:
        if target.stage:
            values[f"{target.name}.train_language"] = str(target.train_language)
            values |= {f"{target.name}.after": target.after} if target.after else {}
            values |= _recipe(target.stage)
        if target.layer is not None:
            values[f"{target.name}.layer"] = str(target.layer)
    return values


def _recipe(stage: Stage) -> dict[str, str]:
    values: dict[str, Any] = {
        "learning_rate": stage.learning_rate,
        "steps": stage.steps,
        "batch_size": stage.batch_size,
    }
    return {f"{stage.name}.{key}": str(value) for key, value in {**values, **stage.training}.items()}


def trained_on(chain: Chain, datasets: Iterable[Dataset]) -> list[Dataset]:
    """Select those that the chain's fine-tunings read."""
    sources = {(source.task, source.language) for source in chain.trained}
    return [data for data in datasets if data.split == "train" and (data.task, data.language) in sources]


def dataset_inputs(datasets: Iterable[Dataset]) -> list[Any]:
    """Convert to MLflow's: name, digest, source, number of rows, and what they are for."""
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    return [
        DatasetInput(
            Entity(
                name=f"{data.task}/{data.language}",
                digest=data.digest,
                source_type="hugging_face" if data.hub else "local",
                source=json.dumps(_source(data)),
                profile=json.dumps({"num_rows": data.rows}),
            ),
            [InputTag("mlflow.data.context", CONTEXTS[data.split])],
        )
        for data in datasets
    ]


def _source(dataset: Dataset) -> dict[str, str]:
    if not dataset.hub:
        return {"uri": f"suite {dataset.suite}"}
    path, at, revision = dataset.hub.partition("@")
    return {"path": path, "revision": revision} if at else {"path": path}


def description(study: str, state: str, findings: Findings) -> str:
    """Write the findings for MLflow's page, cut at `LONGEST`."""
    counts = ", ".join(f"{count} {state}" for state, count in findings.trials.items() if count)
    lines = [f"**{_plain(study)}**: {state}; trials: {counts}.", _plain(findings.headline)]
    lines += map(_plain, findings.sentences)
    lines += (f"- {_plain(warning)}" for warning in findings.warnings)
    text = "\n\n".join(lines)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(chr(10))[0]}\n"


def _plain(text: str) -> str:
    """Escape what Markdown would read."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
