"""Sends a study to MLflow, and finds its runs there."""

from __future__ import annotations

from typing import Any

from tunexfer.core.files import StudyFolder
from tunexfer.mlflow.client import default_uri
from tunexfer.mlflow.mirror import Mirror
from tunexfer.record.folder import How
from tunexfer.record.record import Record


def mirror(folder: StudyFolder, uri: str | None = None, *, state: How = "finished") -> list[str]:
    """Mirror a record once; returns the warnings."""
    said: list[str] = []
    Mirror(Record(folder), uri or default_uri(folder.path.parent), said.append).start().close(state)
    return said


def client_of(folder: StudyFolder, uri: str | None = None) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri or default_uri(folder.path.parent))


def runs_of(client: Any, name: str = "toy") -> dict[str, Any]:
    """Trial number (or `parent`) -> its run; fails where a trial has two."""
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    named = {run.data.tags.get("tunexfer.trial", "parent"): run for run in runs}
    assert len(named) == len(runs)
    return named
