"""A runs folder whose MLflow database is there already: making one takes a second, copying it none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from record.made_up import study

from tunexfer.core.files import StudyFolder
from tunexfer.mlflow.client import DATABASE, alone, default_uri


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("database")
    with alone(default_uri(runs), runs):
        return runs / DATABASE


@pytest.fixture
def runs(tmp_path: Path, database: Path) -> Path:
    runs = tmp_path / "runs"
    runs.mkdir()
    shutil.copy(database, runs / DATABASE)
    return runs


@pytest.fixture
def folder(runs: Path) -> StudyFolder:
    """A study of five trials: see `study`."""
    folder = StudyFolder(runs / "toy")
    study(folder)
    return folder
