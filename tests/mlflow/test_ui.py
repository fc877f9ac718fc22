"""`tunexfer ui`: the address of a study's experiment, and a real `mlflow ui` that serves it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from servers import free_port
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.mlflow.client import default_uri, remember
from tunexfer.mlflow.mirror import Mirror
from tunexfer.record.record import Record

MAIN = "from tunexfer.cli.main import main; main()"


@pytest.mark.slow
def test_the_address_is_of_the_studys_experiment_in_a_server_on_this_machine_alone(folder: StudyFolder) -> None:
    Mirror(Record(folder), default_uri(folder.path.parent), print).start().close("finished")
    port = free_port()
    command = [sys.executable, "-c", MAIN, "ui", str(folder.path), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        address = process.stdout.readline().strip()
        server, _, number = address.partition("/#/experiments/")
        assert server == f"http://127.0.0.1:{port}"
        answer = _answer(f"{server}/api/2.0/mlflow/experiments/get?experiment_id={number}", process)
        assert json.loads(answer)["experiment"]["name"] == "toy"
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        connections = [connection for member in tree for connection in member.net_connections("inet")]
        assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert psutil.wait_procs(children, timeout=10)[1] == []


def _answer(url: str, process: subprocess.Popen[str]) -> bytes:
    """Ask a server that is starting."""
    deadline = time.monotonic() + 180
    while True:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["ui", str(tmp_path / "nothing")])
    assert isinstance(done.exception, StudyError)
    assert "there is no such folder" in str(done.exception)


def test_a_server_that_is_away_is_named(folder: StudyFolder) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    remember(folder, uri)
    done = CliRunner().invoke(app, ["ui", str(folder.path)])
    assert isinstance(done.exception, StudyError)
    assert f"MLflow at {uri} can't be used" in str(done.exception)


def test_a_database_without_the_study_is_an_error_before_anything_starts(folder: StudyFolder) -> None:
    remember(folder, default_uri(folder.path.parent))
    (folder.path.parent / "mlflow.db").touch()
    done = CliRunner().invoke(app, ["ui", str(folder.path)])
    assert isinstance(done.exception, StudyError)
    assert "Rerun the search: it syncs missing runs" in str(done.exception)
