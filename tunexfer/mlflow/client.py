"""Which MLflow a study is mirrored in, and how it is opened."""

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
}
"""A dead server holds a call for minutes by default. No retries: one after a time-out could create a run twice."""
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
"""In the runs folder, where no other place is asked for."""


def default_uri(runs: Path) -> str:
    return f"sqlite:///{runs.resolve() / DATABASE}"


def is_remote(uri: str) -> bool:
    """Whether a server is asked, which keeps artifacts in a place of its own."""
    return uri.startswith(("http:", "https:", "databricks"))


def settle() -> None:
    """Before mlflow is imported: how it asks servers, unless the user's environment says otherwise."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def remember(folder: StudyFolder, uri: str) -> None:
    """Note beside the record where it is mirrored, so that a later command finds it; a password is left out."""
    file = sqlite_file(uri)
    plain = f"sqlite:///{file.absolute()}" if file else without_passwords(uri)
    write_whole(folder.tracking, json.dumps({"uri": plain}, indent=2) + "\n")


def find_uri(folder: StudyFolder, given: str | None) -> str:
    """The tracking URI of a study: the one given, the one remembered, or that of the database beside the study.

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
        f"{folder.path}: there is no MLflow database of this study{where}. Name it with --tracking-uri, or start the "
        "search again: it sends what is missing."
    )


def _remembered(folder: StudyFolder) -> str | None:
    try:
        uri = json.loads(folder.tracking.read_text(encoding="utf-8"))["uri"]
        if not isinstance(uri, str):
            raise ValueError("its uri is no text")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{folder.tracking} can't be read ({error}), so where the study is mirrored is unknown. Name its MLflow "
            "with --tracking-uri, or delete that file: then the database beside the study is taken."
        ) from error
    return uri


def sqlite_file(uri: str) -> Path | None:
    """The file of `sqlite:///path`; None of other URIs."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def alone(uri: str, runs: Path) -> Iterator[Path | None]:
    """Where artifacts go: beside the runs, unless a server has a place of its own (None).

    Without a server, nobody else opens the tracker meanwhile: a fresh database migrates itself, once.
    """
    if is_remote(uri):
        yield None
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with FileLock(runs / ".mlflow.lock"):
        yield runs / ARTIFACTS


def study_runs(client: Any, experiment: str, study_id: str) -> list[Any]:
    """A study's runs, its parent's among them: finished ones first, then the oldest."""
    token, found = None, []
    while True:
        page = client.search_runs([experiment], f"tags.`{STUDY}` = '{study_id}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda run: (run.info.status != "FINISHED", run.info.start_time))
