"""`tunexfer ui`: a real MLflow server for a study, asked through its REST API, and that nothing of it stays."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from record.made_up import study
from servers import free_port, mlflow_server
from typer.testing import CliRunner

from tunexfer.cli.launch import draw_report
from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.mlflow.client import default_uri, remember
from tunexfer.mlflow.mirror import Mirror
from tunexfer.mlflow.server import serving
from tunexfer.mlflow.view import PREFIX
from tunexfer.record.record import Record


@dataclass
class Ui:
    """`tunexfer ui` at work."""

    folder: Path
    """Of the study."""
    process: subprocess.Popen[str]
    port: int
    addresses: dict[str, str]

    def ask(self, route: str, **query: str) -> Any:
        words = urllib.parse.urlencode(query)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{route}?{words}", timeout=30) as answer:
            return answer.read()

    def api(self, method: str, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask(f"api/2.0/mlflow/{method}", **query))
        return found


def started(folder: Path, port: int) -> Ui:
    command = [
        sys.executable,
        "-c",
        "from tunexfer.cli.main import main; main()",
        "ui",
        str(folder),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(4)]
    addresses = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines)
    return Ui(folder, process, port, addresses)


def sent(path: Path) -> StudyFolder:
    folder = StudyFolder(path / "runs" / "toy")
    study(folder)
    uri, said = default_uri(folder.path.parent), list[str]()
    Mirror(Record(folder), uri, said.append, draw=partial(draw_report, folder)).start().close("finished")
    assert said == []
    return folder


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    folder = sent(tmp_path_factory.mktemp("ui"))
    found = started(folder.path, free_port())
    yield found
    children = psutil.Process(found.process.pid).children(recursive=True)
    found.process.send_signal(signal.SIGINT)
    assert found.process.wait(30) == 0
    assert children
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", found.port), timeout=5)


def fragment(address: str) -> tuple[str, dict[str, str]]:
    """Route and query of an address of MLflow's pages, which stand after a `#`."""
    route, _, query = urllib.parse.urlsplit(address).fragment.partition("?")
    return route, dict(urllib.parse.parse_qsl(query))


@pytest.mark.slow
def test_every_address_is_of_this_machine_and_this_port(ui: Ui) -> None:
    assert list(ui.addresses) == [
        "best trials compared",
        "all trials, best first",
        "every parameter and score",
        "summary, data, report",
    ]
    assert {urllib.parse.urlsplit(one).netloc for one in ui.addresses.values()} == {f"127.0.0.1:{ui.port}"}


@pytest.mark.slow
def test_nobody_else_on_the_network_reaches_it(ui: Ui) -> None:
    tree = [psutil.Process(ui.process.pid), *psutil.Process(ui.process.pid).children(recursive=True)]
    connections = [one for process in tree for one in process.net_connections("inet")]
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.mark.slow
def test_the_address_of_the_comparison_names_a_view_that_the_server_has(ui: Ui) -> None:
    route, query = fragment(ui.addresses["best trials compared"])
    number = route.removeprefix("/experiments/").removesuffix("/runs")
    experiment = ui.api("experiments/get", experiment_id=number)["experiment"]
    assert experiment["name"] == "toy"
    assert PREFIX + query["viewStateShareKey"] in {tag["key"] for tag in experiment["tags"]}
    assert query["compareRunsMode"] == "CHART"


@pytest.mark.slow
def test_side_by_side_stand_the_best_trials_and_the_baseline(ui: Ui) -> None:
    route, query = fragment(ui.addresses["every parameter and score"])
    assert route == "/compare-runs"
    runs = [ui.api("runs/get", run_id=run)["run"] for run in json.loads(query["runs"])]
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    assert [one["tunexfer.trial"] for one in tags] == ["1", "0"]
    assert [one["mlflow.runName"] for one in tags] == ["1 intent de", "baseline"]
    metrics = {one["key"]: one["value"] for one in runs[0]["data"]["metrics"]}
    assert metrics["gain/intent"] == 3.0


@pytest.mark.slow
def test_the_parent_run_serves_description_and_report(ui: Ui) -> None:
    parent = fragment(ui.addresses["summary, data, report"])[0].rpartition("/")[2]
    run = ui.api("runs/get", run_id=parent)["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["mlflow.note.content"].startswith("**toy**: finished")
    files = {file["path"] for file in ui.api("artifacts/list", run_id=parent)["files"]}
    assert {"report.html", "report_files", "plan.yaml", "scores.parquet"} <= files
    inside = {file["path"] for file in ui.api("artifacts/list", run_id=parent, path="report_files")["files"]}
    assert any(path.endswith(".csv") for path in inside)
    page = ui.ask("get-artifact", run_uuid=parent, path="report.html").decode()
    assert "<html" in page
    assert "toy" in page


@pytest.mark.slow
def test_a_kill_ends_the_server_too(ui: Ui) -> None:
    found = started(ui.folder, free_port())
    children = psutil.Process(found.process.pid).children(recursive=True)
    found.process.send_signal(signal.SIGTERM)
    assert found.process.wait(30) == 0
    assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.mark.slow
def test_of_a_study_in_a_server_the_addresses_are_printed_and_nothing_is_started(tmp_path: Path) -> None:
    folder, port = StudyFolder(tmp_path / "runs" / "toy"), free_port()
    study(folder)
    with mlflow_server(port, tmp_path) as uri:
        unknown = CliRunner().invoke(app, ["ui", str(folder.path), "--tracking-uri", uri])
        assert isinstance(unknown.exception, StudyError)
        assert f"MLflow at {uri} doesn't know {folder.path}" in str(unknown.exception)
        Mirror(Record(folder), uri, print).start().close("finished")
        done = CliRunner().invoke(app, ["ui", str(folder.path)])
    assert done.exit_code == 0
    assert all(f" {uri}/#/" in line for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 4


def test_a_port_that_is_taken_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(StudyError, match=f"--port {port} can't be used"),
            serving(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, port),
        ):
            pass


@pytest.mark.slow
def test_a_server_that_does_not_start_says_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    with (
        pytest.raises(StudyError, match=r"ended by itself \(exit code \d+\). It said last:\n[\s\S]*not a database"),
        serving(f"sqlite:///{tmp_path}/mlflow.db", tmp_path),
    ):
        pass


def test_a_folder_without_a_study_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["ui", str(tmp_path / "nothing")])
    assert isinstance(done.exception, StudyError)
    assert "there is no such folder" in str(done.exception)


def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "toy")
    study(folder)
    uri = f"http://127.0.0.1:{free_port()}"
    remember(folder, uri)
    done = CliRunner().invoke(app, ["ui", str(folder.path)])
    assert isinstance(done.exception, StudyError)
    assert f"MLflow at {uri} can't be asked" in str(done.exception)
