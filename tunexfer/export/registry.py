"""Registers a trial's models in MLflow, in its transformers flavour: files, no pickle.

Each target's model is logged once, however often it is registered.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunexfer.core.files import StudyFolder
from tunexfer.core.phrases import mlflow_name, without_passwords
from tunexfer.core.trial import TrialResult
from tunexfer.errors import StudyError
from tunexfer.export.folders import find_trial
from tunexfer.mlflow.client import STUDY, TRIAL, study_runs
from tunexfer.record.folder import read_plan
from tunexfer.store import StageStore

if TYPE_CHECKING:
    from tunexfer.export.card import ExportedTarget

PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
}
"""Class -> the pipeline of transformers that serves it. Others get `feature-extraction`, as the flavour needs one;
`mlflow.transformers.load_model(..., return_type="components")` gives their model."""
TARGET, FINGERPRINT, LOADS_WITH = "tunexfer.target", "tunexfer.fingerprint", "tunexfer.loads_with"
MODEL = "tunexfer.model_id"
"""Tag of a registered version, as not every registry gives `model_id` back."""
REQUIREMENTS = ("transformers", "torch")
"""Packages that the flavour's loader imports."""


def register_models(
    study: StudyFolder, number: int | None, name: str, uri: str, store: StageStore, *, cache: Path
) -> dict[str, str]:
    """Log the models of a trial with its MLflow run, unless they are there, and register each.

    number: of the trial; None for the best one
    name:   of the registered model; `name-<target>` for each if the trial has several targets
    uri:    MLflow's tracking URI, also of the registry
    returns: target -> the address that MLflow loads it from, `models:/name/version`
    raises: StudyError, if MLflow can't be used or lacks the trial, or the trial's models can't be exported
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from tunexfer.export.models import export_transformers

    result = find_trial(study, number)
    mlflow.set_tracking_uri(uri)  # the registry of a database resolves models there, whatever the client's own URI
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    targets = [target.name for target in result.trial.chain.targets]
    try:
        run = _find_run(client, study, result, uri)
        models = _logged_models(client, run)
        if set(targets) - models.keys():
            with tempfile.TemporaryDirectory(prefix="tunexfer-mlflow-") as scratch:
                exported = Path(scratch) / "exported"
                _, folders = export_transformers(study, result.trial.number, exported, store, cache=cache)
                for folder in folders:
                    if folder.target not in models:
                        models[folder.target] = _log_model(client, run, folder, exported)
        names = {target: mlflow_name(f"{name}-{target}") if len(targets) > 1 else name for target in targets}
        return {target: _register(client, target, names[target], models[target], run) for target in targets}
    except MlflowException as error:
        reason = f"MLflow at {uri} can't be used: {str(error).splitlines()[0][:300]}"
        raise StudyError(without_passwords(reason)) from error


def _find_run(client: Any, study: StudyFolder, result: TrialResult, uri: str) -> Any:
    experiment = client.get_experiment_by_name(study.path.resolve().name)
    study_id = str(read_plan(study)["study_id"])
    for run in study_runs(client, experiment.experiment_id, study_id) if experiment else []:
        if run.data.tags.get(TRIAL) == str(result.trial.number):
            return run
    raise StudyError(
        f"MLflow at {without_passwords(uri)} has no run of trial {result.trial.number} of {study.path}. Rerun the "
        "search: missing runs are synced on its start."
    )


def _logged_models(client: Any, run: Any) -> dict[str, str]:
    """Map each target whose model is logged completely to the model's id."""
    models = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'")
    fingerprint = run.data.tags[FINGERPRINT]
    return {
        model.tags[TARGET]: model.model_id
        for model in models
        if model.status == "READY" and TARGET in model.tags and model.tags.get(FINGERPRINT) == fingerprint
    }


def _log_model(client: Any, run: Any, folder: ExportedTarget, exported: Path) -> str:
    """Log one exported target with the trial's run, and return the id of its model."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = client.create_logged_model(
        run.info.experiment_id,
        name=mlflow_name(folder.target),
        source_run_id=run.info.run_id,
        tags={name: run.data.tags[name] for name in (STUDY, TRIAL, FINGERPRINT)}
        | {TARGET: folder.target, LOADS_WITH: folder.loads_with},
        model_type=folder.task.kind,
    )
    with tempfile.TemporaryDirectory(dir=exported.parent) as scratch:
        flavour = Path(scratch) / "flavour"
        _save_flavour(exported / folder.target, folder.loads_with, run.info.run_id, model.model_id, flavour)
        client.log_model_artifacts(model.model_id, str(flavour))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _save_flavour(exported: Path, loads_with: str, run_id: str, model_id: str, to: Path) -> None:
    """Save an exported folder in MLflow's transformers flavour.

    The flavour is made from a pipeline, as it takes no folders with the pipelines of transformers 5. Its copy of the
    model has a pooler of random numbers and no separate head, so the exported files replace it.
    """
    import mlflow.transformers
    import transformers
    from huggingface_hub import ModelCard
    from mlflow.models import Model

    for logger in ("mlflow.transformers", "mlflow.models.model"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    model = Model(run_id=run_id, model_id=model_id)
    mlflow.transformers.save_model(
        transformers_model=transformers.pipeline(
            task=PIPELINES.get(loads_with, "feature-extraction"),  # type: ignore[call-overload]
            model=getattr(transformers, loads_with).from_pretrained(exported),
            tokenizer=transformers.AutoTokenizer.from_pretrained(exported),
        ),
        path=str(to),
        mlflow_model=model,
        model_card=ModelCard.load(exported.parent / "README.md"),
        pip_requirements=[f"{package}=={metadata.version(package).partition('+')[0]}" for package in REQUIREMENTS],
    )
    shutil.rmtree(to / "model")
    shutil.copytree(exported, to / "model")
    (to / "LICENSE.txt").unlink(missing_ok=True)  # looked up on the hub by the folder's name; the card has the licences
    model.flavors["transformers"]["source_model_name"] = exported.name
    model.save(str(to / "MLmodel"))


def _register(client: Any, target: str, name: str, model_id: str, run: Any) -> str:
    """Register a new version, unless there is one of this very model, and return its address."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((version for version in versions if version.tags.get(MODEL) == model_id), None)
    version = version or client.create_model_version(
        name,
        source=f"models:/{model_id}",
        run_id=run.info.run_id,
        model_id=model_id,
        tags={TARGET: target, MODEL: model_id},
    )
    return f"models:/{name}/{version.version}"
