"""The mirror: MLflow shows what the record says. Losing its server costs nothing; what is missing is sent later.

One experiment per study name, one parent run per study, a nested run per trial. A trial's run counts once MLflow calls
it finished or failed, which is said last; until then it is found by its tags and sent again, never created twice.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunexfer.core.phrases import chain_in_words, without_passwords
from tunexfer.core.trial import TrialResult
from tunexfer.mlflow.client import PARENT, STUDY, TRIAL, alone, remember, settle, study_runs
from tunexfer.mlflow.description import NOTE, description
from tunexfer.mlflow.runs import (
    dataset_inputs,
    metrics,
    mlflow_name,
    params,
    run_name,
    scores_csv,
    trained_on,
)
from tunexfer.mlflow.view import PREFIX, view_key, view_tag
from tunexfer.record.datasets import read_datasets
from tunexfer.record.deltas import Deltas
from tunexfer.record.ending import How
from tunexfer.record.findings import summarise
from tunexfer.record.listener import Listener
from tunexfer.record.record import Record, read_plan

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Else MLflow's page takes a new experiment for one on prompts."""
RETRY_S = 60.0
"""Seconds between attempts while MLflow can't be reached."""
PATIENCE_S = 60.0
"""Seconds without progress after which the end of a search waits no longer. A server that doesn't answer ends a call
much earlier; a busy machine takes its time to import mlflow and make a database."""
_ENDS: dict[str, str] = {"complete": "FINISHED", "failed": "FAILED"}
"""State of a trial -> of its run."""
_STATUS = {"interrupted": "KILLED", "failed": "FAILED"}
"""How a search ended -> state of the parent run; all other ends are what was asked for."""


class Mirror(Listener):
    """Sends a record to MLflow from a thread of its own; no trial ever waits for it."""

    def __init__(
        self,
        record: Record,
        uri: str,
        say: Callable[[str], None],
        *,
        draw: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """draw: writes into a folder what the parent run of an ended study shows besides: figures and tables"""
        self.record, self.uri, self.say, self._draw = record, uri, say, draw
        self._tags = _study_tags(record)
        self._client: Any = None
        self._experiment = self._parent = ""
        self._known: dict[int, tuple[str, str]] = {}
        """Trial -> its run's id and status in MLflow."""
        self._shown: dict[str, str] = {}
        """Tags of the experiment and the parent run that sum the study up, as they were sent last."""
        self._state: How = "interrupted"
        self._complained = False
        self._beats = 0
        """Grows as long as sending gets on."""
        self._drawing = False
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)

    def start(self) -> Mirror:
        remember(self.record.folder, self.uri)
        self._thread.start()
        return self

    def finished(self, result: TrialResult) -> None:
        self._wake.set()

    def close(self, state: How) -> None:
        """Send what is left, waiting as long as it gets on, and end the parent run.

        state: how the search ended
        """
        self._state = state
        self._closing.set()
        self._wake.set()
        beats = -1
        while self._thread.is_alive() and (beats != self._beats or self._drawing):
            beats = self._beats
            self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._complain("it doesn't answer")

    def _work(self) -> None:
        settle()
        while True:
            self._wake.clear()
            closing = self._closing.is_set()
            try:
                self._sync(closing)
            except Exception as error:
                self._client = None
                self._complain(str(error).splitlines()[0][:300] if str(error) else type(error).__name__)
            if closing:
                return
            if self._client is None:
                self._closing.wait(RETRY_S)
            else:
                self._wake.wait()

    def _complain(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            said = f"MLflow at {self.uri} can't be used ({why}). The search goes on; "
            self.say(without_passwords(said) + "what is missing there is sent when the same command is next started.")

    def _sync(self, closing: bool) -> None:
        if self._client is None or (closing and self._complained):
            self._connect()
        complete = {
            ended.trial.number: replace(ended, scores=self.record.scores(ended.trial.number))
            for ended in self.record.complete
        }
        deltas = Deltas(complete.values())
        for ended in self.record.ended:
            ended = complete.get(ended.trial.number, ended)
            number = ended.trial.number
            run, status = self._known.get(number, ("", ""))
            comparable = ended.state == "failed" or deltas.has_baseline(ended.trial.seed)
            if ended.state in _ENDS and status not in ("FINISHED", _ENDS[ended.state]) and comparable:
                run = run or self._create(ended)
                self._known[number] = run, "RUNNING"
                self._send(run, ended, deltas)
                self._known[number] = run, _ENDS[ended.state]
                self._beats += 1
        self._sum_up(closing)
        if closing:
            self._end_parent()

    def _connect(self) -> None:
        """Open the tracker and look up by tag what is already there."""
        from mlflow import MlflowClient

        self._beats += 1
        with alone(self.uri, self.record.folder.path.resolve().parent) as artifacts:
            client = MlflowClient(tracking_uri=self.uri)
            name = self.record.folder.name
            found = client.get_experiment_by_name(name)
            if found is None:
                place = None if artifacts is None else (artifacts / name).as_uri()
                self._experiment = client.create_experiment(name, artifact_location=place, tags=KIND)
            else:
                self._experiment = found.experiment_id
                if found.lifecycle_stage == "deleted":
                    client.restore_experiment(found.experiment_id)
        self._beats += 1
        self._take_up(client, study_runs(client, self._experiment, self._tags[STUDY]))
        self._client = client

    def _take_up(self, client: Any, runs: list[Any]) -> None:
        """Know the study's runs again: one parent, one run per trial. What a lost answer left over is deleted."""
        parents = [run.info.run_id for run in runs if TRIAL not in run.data.tags]
        if parents:
            self._parent = parents[0]
            client.update_run(self._parent, status="RUNNING")
        else:
            run = client.create_run(self._experiment, tags=self._tags, run_name=self.record.folder.name)
            self._parent = run.info.run_id
            client.log_artifact(self._parent, str(self.record.folder.plan))
        for extra in parents[1:]:
            client.delete_run(extra)
        if read := read_datasets(self.record.folder):
            client.log_inputs(self._parent, datasets=dataset_inputs(read))
        self._shown = {}
        self._known = {}
        for run in runs:
            number = int(run.data.tags.get(TRIAL, -1))
            if number in self._known:
                client.delete_run(run.info.run_id)
            elif number >= 0:
                self._known[number] = run.info.run_id, run.info.status
                if run.data.tags.get(PARENT) != self._parent:
                    client.set_tag(run.info.run_id, PARENT, self._parent)

    def _create(self, ended: TrialResult) -> str:
        trial = ended.trial
        tags = self._tags | {
            PARENT: self._parent,
            TRIAL: str(trial.number),
            "tunexfer.phase": "confirm" if trial.phase == "confirm" else "search",
            "tunexfer.encoder": trial.chain.encoder.name,
            "tunexfer.fingerprint": trial.fingerprint,
        }
        run = self._client.create_run(
            self._experiment, start_time=_ms(ended.started), tags=tags, run_name=run_name(ended)
        )
        return str(run.info.run_id)

    def _send(self, run: str, ended: TrialResult, deltas: Deltas) -> None:
        """Everything about one trial: all metrics in one batch, the mark last."""
        from mlflow.entities import Metric, Param, RunTag

        end = _ms(ended.started + ended.seconds)
        self._client.log_batch(
            run,
            metrics=[Metric(mlflow_name(key), value, end, 0) for key, value in metrics(ended, deltas).items()],
            params=[Param(mlflow_name(key), value[:6000]) for key, value in params(ended).items()],
            tags=[RunTag("tunexfer.reason", ended.failure.message[:5000])] if ended.failure else [],
        )
        if read := trained_on(ended.trial.chain, read_datasets(self.record.folder)):
            self._client.log_inputs(run, datasets=dataset_inputs(read))
        folder = self.record.folder.trial(ended.trial.number)
        if folder.chain.exists():
            self._client.log_artifact(run, str(folder.chain))
        if ended.scores:
            self._client.log_text(run, scores_csv(ended, deltas), "scores.csv")
        self._client.set_terminated(run, _ENDS[ended.state], end)

    def _sum_up(self, closing: bool) -> None:
        """How the study stands: the parent run's description, and a view of its trials. What is new is sent."""
        plan = read_plan(self.record.folder)
        summary = summarise(
            self.record,
            state=self._state if closing else "running",
            objective=plan["identity"].get("objective") or {},
            wanted=plan["search"]["trials"],
            seconds=sum(ended.seconds for ended in self.record.ended),
        )
        view, words = view_tag(self.record), description(summary)
        if view and self._shown.get(PREFIX) != view:
            self._client.set_experiment_tag(self._experiment, PREFIX + view_key(self._tags[STUDY]), view)
            self._shown[PREFIX] = view
        if self._shown.get(NOTE) != words:
            self._client.set_tag(self._parent, NOTE, words)
            self._shown[NOTE] = words

    def _end_parent(self) -> None:
        from mlflow.entities import Metric, RunTag

        best, now = self.record.best(), _ms(time.time())
        found: dict[str, float] = {"best/trial": best.trial.number} if best else {}
        for name, ended in (("best", best), ("baseline", next(iter(self.record.complete), None))):
            if ended and (name == "best" or ended.trial.number == 0):
                ended = replace(ended, scores=self.record.scores(ended.trial.number))
                own = metrics(ended, Deltas([])).items()
                found |= {
                    f"{name}/{key}": value
                    for key, value in own
                    if key.startswith(("objective", "mean/", "unseen/", "worst/"))
                }
        self._client.log_batch(
            self._parent,
            metrics=[Metric(key, value, now, 0) for key, value in found.items()],
            tags=[RunTag("tunexfer.best", chain_in_words(best.trial.chain))] if best else [],
        )
        self._attach()
        self._client.set_terminated(self._parent, _STATUS.get(self._state, "FINISHED"))

    def _attach(self) -> None:
        """What shows the whole study, as files of its parent run; no report after Ctrl-C, as that takes a while."""
        folder = self.record.folder
        with tempfile.TemporaryDirectory(prefix="tunexfer-mlflow-") as name:
            place, self._drawing = Path(name), True
            try:
                if self._state != "interrupted":
                    self._draw(place)
            except Exception as error:
                self.say(f"MLflow shows no report of {folder.name}: {error}. `tunexfer report {folder.path}` makes it.")
            finally:
                self._drawing = False
            made = sorted(path for path in place.rglob("*") if path.is_file())
            for path in (folder.environment, folder.scores, *made):
                if path.is_file():
                    inside = path.parent.relative_to(place).as_posix() if path.is_relative_to(place) else "."
                    self._client.log_artifact(self._parent, str(path), None if inside == "." else inside)
                    self._beats += 1


def _study_tags(record: Record) -> dict[str, str]:
    """What every run of a study is tagged with."""
    identity = read_plan(record.folder)["identity"]
    encoder = identity.get("encoder", "")
    commit = json.loads(record.folder.environment.read_text(encoding="utf-8"))["git_commit"]
    return {
        STUDY: record.study_id,
        "tunexfer.study": record.folder.name,
        "tunexfer.suite": str(identity.get("suite", "")),
        "tunexfer.encoder": encoder if isinstance(encoder, str) else json.dumps(encoder),
    } | ({"mlflow.source.git.commit": commit} if commit else {})


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
