"""Servers on loopback, for as long as a block lasts."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 120
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(port: int, folder: Path) -> Iterator[str]:
    """`mlflow server` on a SQLite file in `folder`; yields its URI."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = {"--backend-store-uri": f"sqlite:///{folder}/server.db", "--artifacts-destination": f"{folder}/artifacts"}
    command += [word for pair in places.items() for word in pair]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with _running(command, port, cwd=folder, env={**os.environ, **settings}):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def ray_head(cpus: int) -> Iterator[str]:
    """A Ray cluster of one node; yields its address. Who uses it needs the environment TOKEN."""
    port, scratch = free_port(), tempfile.mkdtemp(prefix="ray-")  # short: Ray makes sockets below it
    options = {"port": port, "num-cpus": cpus, "ray-client-server-port": free_port(), "temp-dir": scratch}
    options |= {"include-dashboard": "false"}
    options |= {"dashboard-agent-listen-port": free_port(), "metrics-export-port": free_port()}  # others run too
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    try:
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # its workers import what tests do
        with _running(command, port, env={**os.environ, **TOKEN, **paths}):
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _running(command: list[str], port: int, **how: Any) -> Iterator[None]:
    """Run a server with all its children until the block ends; enter when it listens."""
    process = subprocess.Popen(command, start_new_session=True, **QUIET, **how)
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"it didn't start: {' '.join(command)}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
