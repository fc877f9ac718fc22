"""Mirror a study in MLflow. Losing its server costs nothing: missing runs are synced on the next start.

One experiment per study name, one parent run per study, a nested run per trial. A trial's run counts once MLflow calls
it finished or failed, which comes last; until then it is found by its tags and sent again, never created twice.
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunexfer.core.phrases import chain_in_words, mlflow_name, without_passwords
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.core.winners import allowed, highest
from tunexfer.mlflow.client import PARENT, STUDY, TRIAL, alone, remember, settle, study_runs
from tunexfer.mlflow.runs import NOTE, dataset_inputs, description, metrics, params, run_name, trained_on
from tunexfer.record.environment import read_datasets
from tunexfer.record.folder import How, read_plan
from tunexfer.record.listener import Listener
from tunexfer.record.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from tunexfer.record.findings import Findings

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it, MLflow's page takes a new experiment for one on prompts."""
RETRY_S = 60.0
"""Seconds between attempts while MLflow can't be reached."""
PATIENCE_S = 60.0
"""Seconds without progress after which the end of a search waits no longer. A server that does not answer ends a call
much earlier; a busy machine takes its time to import mlflow and make a database."""
_ENDS: dict[str, str] = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""State of a trial -> of its run; only a rule's stops are sent."""
_STATUS = {"interrupted": "KILLED", "failed": "FAILED"}
"""How a search ended -> state of the parent run; all other ends are as asked for."""


class Mirror(Listener):
    """Sends a study to MLflow from a thread of its own; no trial ever waits for it."""

    def __init__(
        self,
        record: Record,
        uri: str,
        warn: Callable[[str], None],
        *,
        draw: Callable[[Path], None] = lambda folder: None,
        find: Callable[[], Findings] | None = None,
    ) -> None:
        """
        draw: writes figures and tables into a folder, for the parent run of a study that has ended
        find: draws the conclusions from the study, scored rows included; by default from its scores alone
        """
        self.record, self.uri, self.warn, self._draw, self._find = record, uri, warn, draw, find
        self._tags, self._objective = _study_tags(record), record.objective
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[int, tuple[str, str]] = {}
        """Trial -> its run's id and status in MLflow."""
        self._unsent: dict[int, TrialResult] = {}
        self._baseline: Trial | None = None
        self._baselines: dict[int, Trial] = {}
        """Seed -> the complete trial of the baseline's chain."""
        self._complete: list[TrialResult] = []
        self._state: How = "interrupted"
        self._warned = False
        self._beat = 0.0
        """When sending last got on: monotonic time; infinite while a report is drawn."""
        self._lock, self._wake, self._closing = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)

    def start(self) -> Mirror:
        """Start sending: first what MLflow may lack, then every trial that finishes."""
        remember(self.record.folder, self.uri)
        for result in self.record.ended:
            self.finished(result)
        self._thread.start()
        return self

    def finished(self, result: TrialResult) -> None:
        trial = result.trial
        with self._lock:
            if result.state != "stopped" or result.failure:
                self._unsent[trial.number] = result
            if result.state == "complete":
                self._complete.append(result)
                self._baseline = trial if trial.phase == "baseline" else self._baseline
                if self._baseline and trial.chain == self._baseline.chain:
                    self._baselines[trial.seed] = trial
        self._wake.set()

    def close(self, state: How) -> None:
        """Send what is left, waiting as long as it gets on, and end the parent run.

        state: how the search ended
        """
        self._state = state
        self._closing.set()
        self._wake.set()
        self._beat = time.monotonic()
        while self._thread.is_alive() and time.monotonic() - self._beat < PATIENCE_S:
            self._thread.join(1.0)
        if self._thread.is_alive():
            self._warn_once("it does not answer")

    def _work(self) -> None:
        settle()
        while True:
            self._wake.clear()
            closing = self._closing.is_set()
            try:
                self._sync(closing)
            except Exception as error:
                self._client = None
                self._warn_once(str(error).splitlines()[0][:300] if str(error) else type(error).__name__)
            if closing:
                return
            if self._client is None:
                self._closing.wait(RETRY_S)
            else:
                self._wake.wait()

    def _warn_once(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            self.warn(
                without_passwords(f"MLflow at {self.uri} can't be used ({why}). ")
                + "The search continues; missing runs are synced on the next start of the same command."
            )

    def _sync(self, closing: bool) -> None:
        if self._client is None or (closing and self._warned):
            self._connect()
        with self._lock:
            unsent = sorted(self._unsent.items())
        sent = 0
        for number, result in unsent:
            if result.state != "complete" or result.trial.seed in self._baselines:
                self._send(result)
                sent += 1
                with self._lock:
                    if self._unsent.get(number) is result:
                        del self._unsent[number]
                self._beat = time.monotonic()
        if closing:
            self._end_parent()
        elif sent:
            self._client.set_tag(self._parent, NOTE, self._so_far())

    def _so_far(self) -> str:
        words = f"**{self.record.folder.name}**: running."
        with self._lock:
            best = highest(allowed(self._complete, self._objective))
        if best and best.objective is not None:
            words += f" Best so far: trial {best.trial.number}, objective {best.objective:.2f}."
        return words

    def _connect(self) -> None:
        """Open the tracker, and look up by tag what is already there."""
        from mlflow import MlflowClient

        self._beat = time.monotonic()
        with alone(self.uri, self.record.folder.path.resolve().parent) as artifacts:
            client = MlflowClient(tracking_uri=self.uri)
            name = self.record.folder.name
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                location = None if artifacts is None else (artifacts / name).as_uri()
                self._experiment = client.create_experiment(name, artifact_location=location, tags=KIND)
            else:
                self._experiment = experiment.experiment_id
                if experiment.lifecycle_stage == "deleted":
                    client.restore_experiment(experiment.experiment_id)
        self._beat = time.monotonic()
        self._take_up(client, study_runs(client, self._experiment, self._tags[STUDY]))
        self._client = client

    def _take_up(self, client: Any, runs: list[Any]) -> None:
        """Find the study's runs: one parent, and one run per trial. Copies that a lost answer left are deleted."""
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
        if datasets := read_datasets(self.record.folder):
            client.log_inputs(self._parent, datasets=dataset_inputs(datasets))
        self._runs = {}
        for run in runs:
            number = int(run.data.tags.get(TRIAL, -1))
            if number in self._runs:
                client.delete_run(run.info.run_id)
            elif number >= 0:
                self._runs[number] = run.info.run_id, run.info.status
                if run.data.tags.get(PARENT) != self._parent:
                    client.set_tag(run.info.run_id, PARENT, self._parent)

    def _create(self, result: TrialResult) -> str:
        trial = result.trial
        tags = self._tags | {
            PARENT: self._parent,
            TRIAL: str(trial.number),
            "tunexfer.phase": "confirm" if trial.phase == "confirm" else "search",
            "tunexfer.encoder": trial.chain.encoder.name,
            "tunexfer.fingerprint": trial.fingerprint,
        }
        run = self._client.create_run(
            self._experiment, start_time=_ms(result.started), tags=tags, run_name=run_name(result)
        )
        return str(run.info.run_id)

    def _send(self, result: TrialResult) -> None:
        """Send everything about one trial, unless its run is over: all metrics in one batch, the status last."""
        from mlflow.entities import Metric, Param, RunTag

        number, end = result.trial.number, _ms(result.started + result.seconds)
        run, status = self._runs.get(number, ("", ""))
        if status in ("FINISHED", _ENDS[result.state]):
            return
        run = run or self._create(result)
        self._runs[number] = run, "RUNNING"
        scores, failure = self._scores(result), result.failure
        values = metrics(result, scores) if scores is not None else {}
        values |= {"saved_seconds": result.saved} if result.saved else {}
        tags = {"tunexfer.reason": failure.message[:5000]} if failure else {}
        if failure and result.state == "failed":
            tags["tunexfer.failure"] = failure.kind
        self._client.log_batch(
            run,
            metrics=[Metric(mlflow_name(key), value, end, 0) for key, value in values.items()],
            params=[Param(mlflow_name(key), value[:6000]) for key, value in params(result).items()],
            tags=[RunTag(*tag) for tag in tags.items()],
        )
        if datasets := trained_on(result.trial.chain, read_datasets(self.record.folder)):
            self._client.log_inputs(run, datasets=dataset_inputs(datasets))
        folder = self.record.folder.trial(number)
        if folder.chain.exists():
            self._client.log_artifact(run, str(folder.chain))
        if scores is not None:
            self._client.log_text(run, scores.to_csv(index=False), "scores.csv")
        if failure and failure.detail:
            self._client.log_text(run, failure.detail, "failure.txt")
        self._client.set_terminated(run, _ENDS[result.state], end)
        self._runs[number] = run, _ENDS[result.state]

    def _scores(self, result: TrialResult) -> pd.DataFrame | None:
        """Return a complete trial's rows of the score table; they depend on the baseline alone, not on other trials."""
        from tunexfer.record.score_table import read_scores, score_table

        if result.state != "complete" or self._baseline is None:
            return None
        trials = {trial.number: trial for trial in (self._baselines[result.trial.seed], result.trial)}
        scores, damaged = read_scores([self.record.folder.trial(number) for number in trials])
        if damaged:
            raise ValueError(f"scores can't be read: {damaged}")
        table = score_table(scores, (trials | {self._baseline.number: self._baseline}).values())
        return table[table["trial"] == result.trial.number].drop(columns="delta_own")

    def _end_parent(self) -> None:
        from mlflow.entities import Metric, RunTag

        from tunexfer.record.findings import Findings

        self.record.write_scores()
        table, results, now = self.record.score_table(), self.record.ended, _ms(time.time())
        self._beat = time.monotonic()
        best = self.record.best()
        baseline = next((result for result in self.record.complete if result.trial.phase == "baseline"), None)
        values: dict[str, float] = {"best/trial": best.trial.number} if best else {}
        for name, result in (("best", best), ("baseline", baseline)):
            own = metrics(result, table[table["trial"] == result.trial.number]) if result else {}
            shown = ("objective", "mean/", "unseen/", "worst/", "gain/")
            values |= {f"{name}/{key}": value for key, value in own.items() if key.startswith(shown)}
        findings = self._find() if self._find else Findings.of(results, table, read_plan(self.record.folder))
        tags = {NOTE: description(self.record.folder.name, self._state, findings)}
        tags |= {"tunexfer.best": chain_in_words(best.trial.chain)} if best else {}
        if findings.front:
            tags["tunexfer.front"] = ", ".join(str(row["trial"]) for row in findings.front)
        for target, row in findings.best_per_target.items():
            shown_of_winner = {"trial": row["trial"], "validation": row["value"], "gain": row["delta"]}
            values |= {f"winner/{target}/{name}": v for name, v in shown_of_winner.items() if v is not None}
        self._client.log_batch(
            self._parent,
            metrics=[Metric(mlflow_name(key), value, now, 0) for key, value in values.items()],
            tags=[RunTag(*tag) for tag in tags.items()],
        )
        self._attach()
        self._client.set_terminated(self._parent, _STATUS.get(self._state, "FINISHED"))

    def _attach(self) -> None:
        """Attach what shows the whole study to its parent run; no report after Ctrl-C, as that takes a while."""
        folder = self.record.folder
        with tempfile.TemporaryDirectory(prefix="tunexfer-mlflow-") as name:
            drawn, self._beat = Path(name), math.inf
            try:
                if self._state != "interrupted":
                    self._draw(drawn)
            except Exception as error:
                self.warn(f"MLflow has no report of {folder.name}: {error}. Run `tunexfer report {folder.path}`.")
            finally:
                self._beat = time.monotonic()
            for path in (folder.environment, folder.scores):
                if path.is_file():
                    self._client.log_artifact(self._parent, str(path))
            if any(drawn.iterdir()):
                self._client.log_artifacts(self._parent, str(drawn))
            self._beat = time.monotonic()


def _study_tags(record: Record) -> dict[str, str]:
    """Return the tags of every run of a study."""
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
