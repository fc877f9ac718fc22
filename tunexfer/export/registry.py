"""A trial's models in MLflow: logged in its transformers flavour, which is files and no pickle, and registered.

MLflow gets a model per target, copied once however often it is asked for.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tunexfer.core.files import StudyFolder
from tunexfer.core.phrases import without_passwords
from tunexfer.core.trial import TrialResult
from tunexfer.errors import StudyError
from tunexfer.export.trial import find_trial
from tunexfer.mlflow.client import STUDY, TRIAL, study_runs
from tunexfer.mlflow.runs import mlflow_name
from tunexfer.record.record import read_plan
from tunexfer.store import StageStore

PIPELINES = {"classification": "text-classification", "tagging": "token-classification"}
"""Kind of task -> the pipeline of transformers that serves it. The flavour wants one; of other kinds it is the one that
gives vectors, and `mlflow.transformers.load_model(..., return_type="components")` the model with its head."""
VECTORS = "feature-extraction"
TARGET, FINGERPRINT, LOADS_WITH = "tunexfer.target", "tunexfer.fingerprint", "tunexfer.loads_with"
MODEL = "tunexfer.model_id"
"""Tag of a registered version; not every registry gives `model_id` back."""
NEEDED = ("transformers", "torch")
"""Packages that the flavour's loader imports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    target: str
    name: str
    version: int
    uri: str
    """What MLflow loads it by: `models:/name/version`."""


def register_models(
    study: StudyFolder, number: int | None, name: str, uri: str, store: StageStore, *, cache: Path
) -> list[Registered]:
    """Log the models of a trial with its run in MLflow, as far as they aren't, and register each.

    number: of the trial; None for the one with the highest objective
    name:   of the registered model; where the trial has several targets, `name-<target>` for each
    uri:    MLflow's tracking URI, whose registry is taken
    raises: StudyError, if MLflow can't be used or doesn't know the trial, or the trial's models can't be exported
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    ended = find_trial(study, number)
    mlflow.set_tracking_uri(uri)  # the registry of a database looks models up there, whatever client it is asked by
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    targets = [target.name for target in ended.trial.chain.targets]
    try:
        run = _run_of(client, study, ended, uri)
        logged = _logged(client, run)
        if missing := [target for target in targets if target not in logged]:
            logged |= _log(client, run, study, ended, missing, store, cache)
        names = {target: mlflow_name(f"{name}-{target}") if len(targets) > 1 else name for target in targets}
        return [_register(client, target, names[target], logged[target], run) for target in targets]
    except MlflowException as error:
        said = f"MLflow at {uri} can't be used: {str(error).splitlines()[0][:300]}"
        raise StudyError(without_passwords(said)) from error


def _run_of(client: Any, study: StudyFolder, ended: TrialResult, uri: str) -> Any:
    experiment = client.get_experiment_by_name(study.path.resolve().name)
    study_id = str(read_plan(study)["study_id"])
    runs = study_runs(client, experiment.experiment_id, study_id) if experiment else []
    for run in runs:
        if run.data.tags.get(TRIAL) == str(ended.trial.number):
            return run
    raise StudyError(
        f"MLflow at {without_passwords(uri)} doesn't know trial {ended.trial.number} of {study.path}. Start the search "
        "again: it sends what is missing."
    )


def _logged(client: Any, run: Any) -> dict[str, str]:
    """Target -> id of its model, of those that came whole."""
    found = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'")
    fingerprint = run.data.tags[FINGERPRINT]
    return {
        model.tags[TARGET]: model.model_id
        for model in found
        if model.status == "READY" and TARGET in model.tags and model.tags.get(FINGERPRINT) == fingerprint
    }


def _log(
    client: Any, run: Any, study: StudyFolder, ended: TrialResult, targets: list[str], store: StageStore, cache: Path
) -> dict[str, str]:
    """Export the trial, and log the models of some targets. Returns target -> id of its model."""
    import mlflow.transformers
    from huggingface_hub import ModelCard
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    from tunexfer.export.card import CARD
    from tunexfer.export.models import export_transformers

    for talker in ("mlflow.transformers", "mlflow.models.model"):
        logging.getLogger(talker).setLevel(logging.ERROR)
    ids = {}
    with tempfile.TemporaryDirectory(prefix="tunexfer-mlflow-") as scratch:
        plain = Path(scratch) / "plain"
        exported = export_transformers(study, ended.trial.number, plain, store, cache=cache)
        for folder in exported.folders:
            if folder.target not in targets:
                continue
            made = client.create_logged_model(
                run.info.experiment_id,
                name=mlflow_name(folder.target),
                source_run_id=run.info.run_id,
                tags={
                    STUDY: run.data.tags[STUDY],
                    TRIAL: run.data.tags[TRIAL],
                    FINGERPRINT: run.data.tags[FINGERPRINT],
                    TARGET: folder.target,
                    LOADS_WITH: folder.loads_with,
                },
                model_type=folder.task.kind,
            )
            model = Model(run_id=run.info.run_id, model_id=made.model_id)
            whole = Path(scratch) / folder.target
            task = VECTORS if folder.head_apart else PIPELINES.get(folder.task.kind, VECTORS)
            mlflow.transformers.save_model(
                transformers_model=_pipeline(plain / folder.target, folder.loads_with, task),
                path=str(whole),
                mlflow_model=model,
                model_card=ModelCard.load(plain / CARD),
                pip_requirements=[f"{package}=={metadata.version(package).partition('+')[0]}" for package in NEEDED],
            )
            shutil.rmtree(
                whole / "model"
            )  # holds what transformers made of it: a pooler of random numbers, no head apart
            shutil.copytree(plain / folder.target, whole / "model")
            (whole / "LICENSE.txt").unlink(missing_ok=True)  # looked up on the hub by the folder's name; the card knows
            model.flavors["transformers"]["source_model_name"] = f"{study.name} trial {exported.trial} {folder.target}"
            model.save(str(whole / "MLmodel"))
            client.log_model_artifacts(made.model_id, str(whole))
            client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
            client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, step=0)])
            ids[folder.target] = made.model_id
    return ids


def _pipeline(folder: Path, loads_with: str, task: str) -> Any:
    """What the flavour is made from. (It takes folders too, but not with the pipelines of transformers 5.)"""
    import transformers

    model = getattr(transformers, loads_with).from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.pipeline(task=task, model=model, tokenizer=tokenizer)  # type: ignore[call-overload]


def _register(client: Any, target: str, name: str, model_id: str, run: Any) -> Registered:
    """A new version, unless there is one of this very model."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((one for one in versions if one.tags.get(MODEL) == model_id), None)
    version = version or client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run.info.run_id,
        model_id=model_id,
        tags={TARGET: target, MODEL: model_id},
    )
    return Registered(target=target, name=name, version=int(version.version), uri=f"models:/{name}/{version.version}")
