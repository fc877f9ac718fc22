"""Where MLflow's pages show a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.mlflow.client import TRIAL, study_runs
from tunexfer.mlflow.view import COMPARED, compare_address, run_address, trials_address
from tunexfer.record.record import Record


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Addresses for a browser."""

    best: str
    """Charts of the best ten trials: objective, gain, mean and worst language of each target."""
    trials: str
    """The table of all trials, the best on top."""
    compared: str | None
    """The best trials and the baseline side by side, every parameter and metric; None while there are no two."""
    study: str
    """The parent run: description, data, report."""


def find_pages(base: str, folder: StudyFolder) -> Pages:
    """Ask an MLflow server for a study's runs.

    base:   the server's address
    raises: StudyError, if it can't be asked or doesn't know the study
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    record = Record(folder)
    client = MlflowClient(tracking_uri=base)
    try:
        experiment = client.get_experiment_by_name(folder.name)
        runs = study_runs(client, experiment.experiment_id, record.study_id) if experiment else []
    except MlflowException as error:
        raise StudyError(f"MLflow at {base} can't be asked: {str(error).splitlines()[0][:300]}") from error
    parents = [run.info.run_id for run in runs if TRIAL not in run.data.tags]
    if experiment is None or not parents:
        raise StudyError(
            f"MLflow at {base} doesn't know {folder.path}. Start the search again: it sends what is missing."
        )
    number, study_id = str(runs[0].info.experiment_id), record.study_id
    compared = _best(record, {int(run.data.tags[TRIAL]): run for run in runs if TRIAL in run.data.tags})
    return Pages(
        best=trials_address(base, number, study_id, charts=True),
        trials=trials_address(base, number, study_id, charts=False),
        compared=compare_address(base, number, compared) if len(compared) > 1 else None,
        study=run_address(base, number, parents[0]),
    )


def said_of(pages: Pages) -> str:
    """The addresses, a line each."""
    lines = {
        "best trials compared": pages.best,
        "all trials, best first": pages.trials,
        "every parameter and score": pages.compared,
        "summary, data, report": pages.study,
    }
    return "\n".join(f"{what:26} {address}" for what, address in lines.items() if address)


def _best(record: Record, runs: dict[int, Any]) -> list[str]:
    """Run ids of the best trials, the best first, and of the baseline."""
    scored = [one for one in record.complete if one.objective is not None and one.trial.phase != "confirm"]
    ranked = sorted(scored, key=lambda ended: (-(ended.objective or 0.0), ended.trial.number))
    numbers = [ended.trial.number for ended in ranked if ended.trial.phase != "baseline"][:COMPARED]
    numbers += [ended.trial.number for ended in ranked if ended.trial.phase == "baseline"]
    return [str(runs[number].info.run_id) for number in numbers if number in runs]
