"""`tunexfer doctor`: every check answers, and says what to do where something is wrong."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from safetensors.numpy import save_file

from tunexfer.cli import doctor
from tunexfer.cli.doctor import CHECKS, fine
from tunexfer.core.chain import Encoder
from tunexfer.errors import DataError

Setup = SimpleNamespace
"""What the checks look at."""


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(doctor, "TIMEOUT_S", 1)
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    return SimpleNamespace(
        cache=tmp_path / "cache", runs=tmp_path / "runs", tracking_uri=uri, encoder=Encoder(name="org/none")
    )


def changed(setup: Setup, **values: Any) -> Setup:
    return SimpleNamespace(**vars(setup) | values)


def answering(status: int, text: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers with a status and a text."""
    with answering(*request.param) as server:
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class TestEveryCheck:
    """What holds for each check of the registry."""

    @pytest.mark.parametrize("name", CHECKS)
    def test_it_answers_on_this_machine_in_words(self, name: str, setup: Setup) -> None:
        diagnosis = CHECKS[name](setup)
        assert diagnosis.text
        assert diagnosis.state == "fine" or diagnosis.move, "what is wrong has a next move"

    @pytest.mark.parametrize("name", CHECKS)
    def test_it_leaves_nothing_behind(self, name: str, setup: Setup) -> None:
        for folder in (setup.cache, setup.runs):
            folder.mkdir()
        CHECKS[name](setup)
        assert [*setup.cache.iterdir(), *setup.runs.iterdir()] == []

    @pytest.mark.parametrize("name", CHECKS)
    def test_it_says_what_it_checks(self, name: str) -> None:
        assert (CHECKS[name].__doc__ or "").endswith(".")


def test_a_check_that_fails_itself_is_broken_and_the_others_still_run(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(setup: Any) -> Any:
        raise DataError("half of it is gone")

    monkeypatch.setattr(doctor, "CHECKS", {"first": failing, "second": lambda setup: fine("well")})
    found = doctor.diagnose(**vars(setup))
    assert (found["first"].state, found["second"].state) == ("broken", "fine")
    assert "half of it is gone" in found["first"].text


def test_a_file_in_the_place_of_a_folder_is_broken(setup: Setup) -> None:
    setup.cache.write_text("")
    assert CHECKS["cache"](setup).state == "broken"


def test_a_dead_mlflow_server_is_said_and_a_living_one_too(setup: Setup) -> None:
    with answering(200, version("mlflow")) as server:
        own = changed(setup, tracking_uri=f"http://127.0.0.1:{server.server_port}")
        assert CHECKS["MLflow"](own).state == "fine"
        server.shutdown()
    assert CHECKS["MLflow"](own).state == "look"


@pytest.mark.parametrize(("served", "word"), [((401, ""), "401"), ((200, "1.30.0"), "1.30.0")], indirect=["served"])
def test_a_server_that_refuses_or_is_of_another_generation_is_said(served: str, word: str, setup: Setup) -> None:
    diagnosis = CHECKS["MLflow"](changed(setup, tracking_uri=served))
    assert diagnosis.state == "look"
    assert word in diagnosis.text


def test_a_password_is_not_shown(setup: Setup) -> None:
    diagnosis = CHECKS["MLflow"](changed(setup, tracking_uri="http://me:secret@127.0.0.1:1"))
    assert "secret" not in diagnosis.text + diagnosis.move


def schema(file: Path, revision: str) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values (?)", [revision])
    database.close()


@pytest.mark.parametrize(
    ("revision", "state", "move"),
    [("451aebb31d03", "look", "mlflow db upgrade"), ("ffffffffffff", "broken", "newer MLflow")],
)
def test_the_schema_of_a_database_is_compared(revision: str, state: str, move: str, setup: Setup) -> None:
    """451aebb31d03 is the first of MLflow's migrations."""
    schema(setup.runs / "mlflow.db", revision)
    diagnosis = CHECKS["MLflow"](setup)
    assert diagnosis.state == state
    assert move in diagnosis.move


def test_the_newest_of_mlflows_migrations_is_found() -> None:
    script = ScriptDirectory(str(Path(find_spec("mlflow").origin).parent / "store" / "db_migrations"))  # type: ignore[union-attr, arg-type]
    assert doctor._migrations()[1] == {script.get_current_head()}


def test_a_file_that_is_no_database_is_broken(setup: Setup) -> None:
    setup.runs.mkdir()
    (setup.runs / "mlflow.db").write_text("not at all" * 1000)
    assert CHECKS["MLflow"](setup).state == "broken"


def test_memory_is_four_times_the_weights(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    own = changed(setup, encoder=Encoder(name=str(tmp_path / "encoder")))
    (tmp_path / "encoder").mkdir()
    save_file({"weights": np.zeros(250_000, dtype=np.float32)}, tmp_path / "encoder" / "model.safetensors")
    for there, state in ((3_900_000, "broken"), (7_900_000, "look"), (8_100_000, "fine")):
        monkeypatch.setattr(doctor, "_memory", lambda there=there: there)
        assert CHECKS["memory"](own).state == state


def test_an_offline_hub_is_said(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in CHECKS["hub"](setup).move
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert CHECKS["hub"](setup).state == "look"


def test_a_long_folder_for_ray_is_said(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SHORT_SHM", 0)
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 60)
    assert CHECKS["Ray"](setup).state == "broken"
