"""MLflow's pages on this machine, for as long as somebody looks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from tunexfer.errors import StudyError
from tunexfer.mlflow.client import ARTIFACTS

HOST = "127.0.0.1"
PORT = 5000
"""Asked for first; where it is taken, any free one does."""
START_S = 180.0
STOP_S = 10.0
LAST_LINES = 15
"""Of what a server said that ended by itself."""
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    address: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def wait(self) -> NoReturn:
        """Until Ctrl-C.

        raises: KeyboardInterrupt then; StudyError, if the server ends by itself
        """
        self.process.wait()
        raise self.ended()

    def answers(self) -> bool:
        with suppress(OSError):
            return bool(_DIRECTLY.open(f"{self.address}/health", timeout=5).status == 200)
        return False

    def ended(self) -> StudyError:
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        said = "\n".join(f"  {line}" for line in lines)
        return StudyError(f"`mlflow server` ended by itself (exit code {self.process.poll()}). It said last:\n{said}")


@contextmanager
def serving(uri: str, runs: Path, port: int | None = None) -> Iterator[Server]:
    """`mlflow server` over the store `uri`, with all its children until the block ends, however it ends.

    Nobody else on the network reaches it. In the block, `kill` and a terminal that is closed count as Ctrl-C.

    runs:   folder that holds the studies; artifacts of experiments that are made in the page go there too
    raises: StudyError, if the port is taken or the server doesn't start
    """
    port = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(runs / ARTIFACTS)]
    # Not as an option: the URI may hold a password, and every user of a machine sees the options of its processes.
    settings = {**SETTINGS, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    how: dict[str, Any] = {"cwd": runs, "env": settings, "stdin": subprocess.DEVNULL, "start_new_session": True}
    with tempfile.TemporaryFile() as said, _ended_like_ctrl_c():
        process = subprocess.Popen(command, stdout=said, stderr=said, **how)
        server = Server(f"http://{HOST}:{port}", process, said)
        try:
            deadline = time.monotonic() + START_S
            while not server.answers():
                if process.poll() is not None:
                    raise server.ended()
                if time.monotonic() > deadline:
                    raise StudyError(f"`mlflow server` doesn't answer at {server.address} after {START_S:.0f} s.")
                time.sleep(0.2)
            yield server
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started: its process group."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Else Python ends at once, and the server would stay. A script's background job would ignore SIGINT."""

    def interrupt(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port(wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or PORT))
        except OSError as error:
            if wanted:
                raise StudyError(f"--port {wanted} can't be used ({error.strerror}). Name another, or none.") from error
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
