"""Find the MLflow that a study is mirrored in, and open it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.phrases import HIDDEN, without_passwords
from tunexfer.errors import StudyError

STUDY, TRIAL, PARENT = "tunexfer.study_id", "tunexfer.trial", "mlflow.parentRunId"
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""A dead server holds a call for minutes by default. No retries: one after a time-out could create a run twice. What
`mlflow ui` could run as jobs does not concern studies."""
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
"""Defaults, in the runs folder."""


def default_uri(runs: Path) -> str:
    return f"sqlite:///{runs.resolve() / DATABASE}"


def is_remote(uri: str) -> bool:
    """Return whether it is the address of a server, which keeps artifacts in a place of its own."""
    return uri.startswith(("http:", "https:", "databricks"))


def settle() -> None:
    """Set how mlflow talks to servers, where the user's environment doesn't; call it before mlflow is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def remember(folder: StudyFolder, uri: str) -> None:
    """Note beside the record where it is mirrored, without a password, for later commands."""
    file = sqlite_file(uri)
    plain = f"sqlite:///{file.absolute()}" if file else without_passwords(uri)
    write_whole(folder.tracking, json.dumps({"uri": plain}, indent=2) + "\n")


def find_uri(folder: StudyFolder, given: str | None) -> str:
    """Return the tracking URI of a study: the one given, the one noted, or that of the database beside the study.

    raises: StudyError, if there is none, the note can't be read, or it is remembered without its password
    """
    if given:
        return given
    runs = folder.path.resolve().parent
    remembered = _remembered(folder)
    if remembered and f":{HIDDEN}@" in remembered:
        raise StudyError(f"{folder.path} is mirrored in {remembered}. Give the URI with its password: --tracking-uri.")
    file = sqlite_file(remembered) if remembered else None
    if remembered and (file is None or file.is_file()):
        return str(remembered)
    if (runs / DATABASE).is_file():
        return default_uri(runs)  # the runs folder was moved, or the study is older than the note
    where = f" (it was in {remembered})" if remembered else ""
    raise StudyError(
        f"{folder.path}: there is no MLflow database of this study{where}. Give it with --tracking-uri, or rerun the "
        "search, which syncs missing runs."
    )


def _remembered(folder: StudyFolder) -> str | None:
    try:
        uri = json.loads(folder.tracking.read_text(encoding="utf-8"))["uri"]
        if not isinstance(uri, str):
            raise ValueError("its uri is not a string")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{folder.tracking} can't be read ({error}), so where the study is mirrored is unknown. Give its MLflow "
            "with --tracking-uri, or delete that file to use the database beside the study."
        ) from error
    return uri


def sqlite_file(uri: str) -> Path | None:
    """Return the file of `sqlite:///path`, None for other URIs."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def alone(uri: str, runs: Path) -> Iterator[Path | None]:
    """Open a tracker that no server guards alone, as a fresh database migrates itself; yield where artifacts go.

    That is beside the runs, or None for a server, which has a place of its own.
    """
    if is_remote(uri):
        yield None
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with FileLock(runs / ".mlflow.lock"):
        file = sqlite_file(uri)
        if file is not None and file.parent.is_dir() and not file.exists():
            _create(file)
        yield runs / ARTIFACTS


def _create(file: Path) -> None:
    """Create MLflow's database whole or not at all: one whose migrations were cut off can never be opened again."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = file.with_name(f".{file.name}.draft")
    draft.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{draft}", (file.parent / ARTIFACTS).as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    os.replace(draft, file)


def study_runs(client: Any, experiment: str, study_id: str) -> list[Any]:
    """Return a study's runs, its parent's included: finished ones first, then the oldest."""
    token, runs = None, []
    while True:
        page = client.search_runs([experiment], f"tags.`{STUDY}` = '{study_id}'", page_token=token)
        runs += page
        token = page.token
        if not token:
            return sorted(runs, key=lambda run: (run.info.status != "FINISHED", run.info.start_time))


def find_experiment(folder: StudyFolder, uri: str) -> str:
    """Return the id of a study's experiment.

    raises: StudyError, if MLflow can't be reached or does not have the study
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    where = without_passwords(f"MLflow at {uri}")
    try:
        with alone(uri, folder.path.parent):
            experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(folder.name)
    except MlflowException as error:
        raise StudyError(f"{where} can't be used: {str(error).splitlines()[0][:300]}") from error
    if experiment is None:
        raise StudyError(f"{where} doesn't have {folder.path}. Rerun the search: it syncs missing runs.")
    return str(experiment.experiment_id)
