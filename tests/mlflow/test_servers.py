"""MLflow behind a server: a real one, one that is away, and one that never answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_runs import client_of, mirror, runs_of
from record.made_up import study
from servers import free_port, mlflow_server
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(port, tmp_path_factory.mktemp("server")) as uri:
        yield uri


def test_a_dead_server_is_mentioned_once_and_holds_nothing_up(folder: StudyFolder) -> None:
    started = time.monotonic()
    said = mirror(folder, f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 15
    assert len(said) == 1
    assert "missing runs are synced on the next start of the same command" in said[0]


@pytest.mark.slow
def test_a_server_gets_what_it_missed_on_the_next_start(
    folder: StudyFolder, port: int, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(mirror(folder, f"http://127.0.0.1:{port}")) == 1
    uri = request.getfixturevalue("server")
    capfd.readouterr()
    assert mirror(folder, uri) == []
    assert capfd.readouterr().out == ""
    client = client_of(folder, uri)
    runs = runs_of(client)
    assert set(runs) == {"parent", "0", "1", "2", "3", "4"}
    run_id = runs["1"].info.run_id
    assert {file.path for file in client.list_artifacts(run_id)} == {"chain.yaml", "scores.csv"}
    assert not (folder.path.parent / "mlartifacts").exists()


@pytest.mark.slow
def test_for_a_study_in_a_server_the_address_is_printed_and_nothing_is_started(server: str, runs: Path) -> None:
    folder = StudyFolder(runs / "other")
    study(folder)
    unknown = CliRunner().invoke(app, ["ui", str(folder.path), "--tracking-uri", server])
    assert isinstance(unknown.exception, StudyError)
    assert f"MLflow at {server} doesn't have {folder.path}" in str(unknown.exception)
    assert mirror(folder, server) == []
    done = CliRunner().invoke(app, ["ui", str(folder.path)])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{server}/#/experiments/")


@pytest.mark.slow
def test_a_server_that_never_answers_holds_the_end_up_for_a_short_time_only(folder: StudyFolder) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        started = time.monotonic()
        assert len(mirror(folder, f"http://127.0.0.1:{deaf.getsockname()[1]}")) == 1
    assert time.monotonic() - started < 60
