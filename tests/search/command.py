"""The `tunexfer search` command on the pico suite with the real runner: as a process of its own, or in this one."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from pico import pico_encoder, pico_suite

from tunexfer.cli.main import main
from tunexfer.core.files import StudyFolder

PATIENCE_S = 240
MAIN = "from tunexfer.cli.main import main; main()"


class Home:
    """A folder with a pico encoder, the pico suite and a cache; studies and stores are made below it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        pico_encoder(path / "encoder")
        pico_suite(path)

    def space(self, name: str, *, steps: int = 4, **changes: Any) -> Path:
        """Chains: two target rates; no stage, or `match` or `tags` in en or de."""
        space = {
            "name": name,
            "suite": "pico.yaml",
            "encoder": str(self.path / "encoder"),
            "stages": [
                {
                    "name": "intermediate",
                    "tasks": {"subset": {"of": ["match", "tags"], "size": [0, 1]}},
                    "languages": {"choice": [["en"], ["de"]]},
                    "learning_rate": 1.0e-3,
                    "steps": steps,
                }
            ],
            "targets": [
                {"task": "choice", "train_language": "en", "learning_rate": {"choice": [1e-3, 2e-3]}, "steps": steps},
                {"task": "pairs"},
            ],
            "objective": {"languages": "all"},
            # Not the chain sampler: it draws by what a store holds, so two studies on one store draw other chains.
            "search": {"trials": 4, "seed": 3, "algorithm": "tpe"},
            "noise": {"seeds": 1},
            "resources": {"precision": "fp32"},
        }
        path = self.path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(space | changes, sort_keys=False))
        return path

    def study(self, name: str) -> StudyFolder:
        return StudyFolder(self.path / "runs" / name)

    def start(self, space: Path, *options: str, store: str = "store") -> subprocess.Popen[str]:
        return process([sys.executable, "-c", MAIN, *self._words(space, options, store)], self.path, **self._settings)

    def search(self, space: Path, *options: str, store: str = "store") -> Finished:
        """Run the command in this process."""
        words, out, said = ["tunexfer", *self._words(space, options, store)], io.StringIO(), io.StringIO()
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        with (
            patch.dict(os.environ, environment | self._settings, clear=True),
            patch.object(sys, "argv", words),
            chdir(self.path),
            redirect_stdout(out),
            redirect_stderr(said),
        ):
            try:
                main()
            except SystemExit as ended:
                return Finished(int(ended.code or 0), out.getvalue(), said.getvalue())
        raise AssertionError("the command came back without an exit code")

    def _words(self, space: Path, options: tuple[str, ...], store: str) -> list[str]:
        return ["search", str(space), "--runs", "runs", "--store", store, *options]

    @property
    def _settings(self) -> dict[str, str]:
        return {"TUNEXFER_CACHE": str(self.path / "cache"), "COLUMNS": "200"}


def process(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A process in `folder` that imports what the test imports."""
    ours = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}  # mlflow itself sets it
    environment = {**ours, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@dataclass(frozen=True)
class Finished:
    """What a command left on its streams, and its exit code."""

    code: int
    out: str
    said: str

    @classmethod
    def of(cls, process: subprocess.Popen[str]) -> Finished:
        """Wait for the end of a process."""
        try:
            out, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return cls(process.returncode, out, said)

    @property
    def summary(self) -> dict[str, Any]:
        assert self.code == 0, self.said
        found: dict[str, Any] = json.loads(self.out)
        return found


def statuses(study: StudyFolder) -> dict[int, dict[str, Any]]:
    """Trial -> what its `status.json` says."""
    there = [trial for trial in study.all_trials() if trial.status.exists()]
    return {trial.number: json.loads(trial.status.read_text()) for trial in there}


def scores(study: StudyFolder) -> dict[str, list[str]]:
    """Chain and seed -> the lines of its scores, to the last digit."""
    return {
        status["fingerprint"]: study.trial(number).scores.read_text().splitlines()
        for number, status in statuses(study).items()
        if status["state"] == "complete"
    }


def trained(study: StudyFolder) -> list[str]:
    """Keys of the trainings that this study's trials ran themselves."""
    jobs = [job for status in statuses(study).values() for job in status["jobs"]]
    return [job["key"] for job in jobs if job["kind"] == "train" and not job["reused"]]


def runs(uri: str, name: str) -> dict[str, Any]:
    """Trial number (or `parent`) -> its MLflow run; fails where a trial has two."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    named = {run.data.tags.get("tunexfer.trial", "parent"): run for run in found}
    assert len(named) == len(found)
    return named


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something to become true while a process runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode} first: {process.communicate()[1]}")
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGKILL)
            raise TimeoutError("it didn't come to pass")
        time.sleep(0.02)
