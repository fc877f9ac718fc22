"""The mirror: MLflow shows what the record says. Losing its server costs nothing; what is missing is sent later.

One experiment per study name, one parent run per study, a nested run per trial. A trial's run counts once MLflow calls
it finished or failed, which is said last; until then it is found by its tags and sent again, never created twice.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from tunexfer.core.chain import Stage
from tunexfer.core.scores import FORGETTING
from tunexfer.tracking.deltas import SCORES_SCHEMA, Deltas
from tunexfer.tracking.listener import Listener
from tunexfer.tracking.record import Record, read_plan
from tunexfer.tracking.trial import Ended, chain_in_words

STUDY, TRIAL, PARENT = "tunexfer.study_id", "tunexfer.trial", "mlflow.parentRunId"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Else MLflow's page takes a new experiment for one on prompts."""
RETRY_S = 60.0
"""Seconds between attempts while MLflow can't be reached."""
PATIENCE_S = 20.0
"""Seconds without progress after which the end of a search waits no longer."""
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""A dead server holds a call for minutes by default. No retries: one after a time-out could create a run twice."""
_ENDS: dict[str, str] = {"complete": "FINISHED", "failed": "FAILED"}


class Mirror(Listener):
    """Sends a record to MLflow from a thread of its own; no trial ever waits for it."""

    def __init__(self, record: Record, uri: str, say: Callable[[str], None]) -> None:
        self.record, self.uri, self.say = record, uri, say
        self._tags = _study_tags(record)
        self._client: Any = None
        self._experiment = self._parent = ""
        self._known: dict[int, tuple[str, str]] = {}
        """Trial -> its run's id and status in MLflow."""
        self._status: Literal["FINISHED", "KILLED"] = "KILLED"
        self._complained = False
        self._beats = 0
        """Grows as long as sending gets on."""
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)

    def start(self) -> Mirror:
        self._thread.start()
        return self

    def ended(self, ended: Ended) -> None:
        self._wake.set()

    def close(self, *, finished: bool) -> None:
        """Send what is left, waiting as long as it gets on; the parent run ends as finished or killed."""
        self._status = "FINISHED" if finished else "KILLED"
        self._closing.set()
        self._wake.set()
        beats = -1
        while self._thread.is_alive() and beats != self._beats:
            beats = self._beats
            self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._complain("it doesn't answer")

    def _work(self) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
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
            self.say(
                f"MLflow at {self.uri} can't be used ({why}). The search goes on; "
                f"what is missing there is sent when the same command is next started."
            )

    def _sync(self, closing: bool) -> None:
        if self._client is None or (closing and self._complained):
            self._connect()
        deltas = Deltas(self.record.complete)
        for ended in self.record.ended:
            number = ended.trial.number
            run, status = self._known.get(number, ("", ""))
            comparable = ended.state == "failed" or deltas.has_baseline(ended.trial.seed)
            if ended.state in _ENDS and status not in ("FINISHED", _ENDS[ended.state]) and comparable:
                run = run or self._create(ended)
                self._known[number] = run, "RUNNING"
                self._send(run, ended, deltas)
                self._known[number] = run, _ENDS[ended.state]
                self._beats += 1
        if closing:
            self._end_parent()

    def _connect(self) -> None:
        """Open the tracker and look up by tag what is already there."""
        from mlflow import MlflowClient

        self._beats += 1
        with _alone(self.uri, self.record.folder.path.resolve().parent) as artifacts:
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
        self._take_up(client, self._runs(client))
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
        self._known = {}
        for run in runs:
            number = int(run.data.tags.get(TRIAL, -1))
            if number in self._known:
                client.delete_run(run.info.run_id)
            elif number >= 0:
                self._known[number] = run.info.run_id, run.info.status
                if run.data.tags.get(PARENT) != self._parent:
                    client.set_tag(run.info.run_id, PARENT, self._parent)

    def _runs(self, client: Any) -> list[Any]:
        """This study's runs, finished ones first, then the oldest."""
        token, found = None, []
        while True:
            page = client.search_runs([self._experiment], f"tags.`{STUDY}` = '{self._tags[STUDY]}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda run: (run.info.status != "FINISHED", run.info.start_time))

    def _create(self, ended: Ended) -> str:
        trial = ended.trial
        tags = self._tags | {
            PARENT: self._parent,
            TRIAL: str(trial.number),
            "tunexfer.phase": "confirm" if trial.phase == "confirm" else "search",
            "tunexfer.encoder": trial.chain.encoder.name,
            "tunexfer.fingerprint": trial.fingerprint,
        }
        name = "baseline" if trial.phase == "baseline" else f"trial {trial.number}"
        run = self._client.create_run(
            self._experiment, start_time=_ms(ended.started), tags=tags, run_name=f"{self.record.folder.name} {name}"
        )
        return str(run.info.run_id)

    def _send(self, run: str, ended: Ended, deltas: Deltas) -> None:
        """Everything about one trial: all metrics in one batch, the mark last."""
        from mlflow.entities import Metric, Param, RunTag

        end = _ms(ended.started + ended.seconds)
        self._client.log_batch(
            run,
            metrics=[Metric(_name(key), value, end, 0) for key, value in metrics(ended, deltas).items()],
            params=[Param(_name(key), value[:6000]) for key, value in params(ended).items()],
            tags=[RunTag("tunexfer.reason", ended.reason[:5000])] if ended.reason else [],
        )
        folder = self.record.folder.trial(ended.trial.number)
        if folder.chain.exists():
            self._client.log_artifact(run, str(folder.chain))
        if ended.scores:
            self._client.log_text(run, scores_csv(ended, deltas), "scores.csv")
        self._client.set_terminated(run, _ENDS[ended.state], end)

    def _end_parent(self) -> None:
        from mlflow.entities import Metric, RunTag

        best, now = self.record.best(), _ms(time.time())
        found: dict[str, float] = {"best/trial": best.trial.number} if best else {}
        for name, ended in (("best", best), ("baseline", next(iter(self.record.complete), None))):
            if ended and (name == "best" or ended.trial.number == 0):
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
        self._client.set_terminated(self._parent, self._status)


def default_uri(runs: Path) -> str:
    return f"sqlite:///{runs.resolve() / 'mlflow.db'}"


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


@contextmanager
def _alone(uri: str, runs: Path) -> Iterator[Path | None]:
    """Where artifacts go: beside the runs, unless a server has a place of its own (None).

    Without a server, nobody else opens the tracker meanwhile: a fresh database migrates itself, once.
    """
    if uri.startswith(("http:", "https:", "databricks")):
        yield None
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with FileLock(runs / ".mlflow.lock"):
        yield runs / "mlartifacts"


def metrics(ended: Ended, deltas: Deltas) -> dict[str, float]:
    """One trial's metrics under the names MLflow shows them by.

    Of the test split: `mean` over all languages, `unseen` over those that the chain didn't train the task in, `worst`,
    deltas and forgetting.
    """
    found: dict[str, float] = {} if ended.objective is None else {"objective": ended.objective}
    for score in ended.scores:
        name = f"{score.split}/{score.task}/{score.language}"
        if not score.main:
            of_test = (score.metric, score.split) == (FORGETTING, "test")
            name = f"{FORGETTING}/{score.task}/{score.language}" if of_test else f"{name}/{score.metric}"
        found[name] = score.value
    for target in ended.trial.chain.targets:
        main = ended.main(target.name, "test")
        if main:
            values = [score.value for score in main.values()]
            found[f"mean/{target.name}"] = sum(values) / len(values)
            found[f"worst/{target.name}"] = min(values)
            if unseen := [score.value for score in main.values() if score.unseen]:
                found[f"unseen/{target.name}"] = sum(unseen) / len(unseen)
        for language, score in main.items():
            baseline = deltas.baseline(score, ended.trial.seed)
            if baseline is not None:
                found[f"delta/{target.name}/{language}"] = score.value - baseline
    return found


def params(ended: Ended) -> dict[str, str]:
    """One trial's chain, flat and readable."""
    trial, chain = ended.trial, ended.trial.chain
    found = {
        "seed": str(trial.seed),
        "encoder": chain.encoder.name,
        "stages": ", ".join(stage.name for stage in chain.stages) or "none",
    }
    for stage in chain.stages:
        languages = sorted({source.language for source in stage.mixture.sources})
        found[f"{stage.name}.tasks"] = ", ".join(stage.mixture.tasks)
        found[f"{stage.name}.languages"] = ", ".join(languages)
        found[f"{stage.name}.mixture"] = str(stage.mixture)
        found |= _recipe(stage)
    for target in chain.targets:
        if target.stage:
            found[f"{target.name}.train_language"] = str(target.train_language)
            found |= {f"{target.name}.after": target.after} if target.after else {}
            found |= _recipe(target.stage)
        if target.layer is not None:
            found[f"{target.name}.layer"] = str(target.layer)
    return found


def _recipe(stage: Stage) -> dict[str, str]:
    values: dict[str, Any] = {
        "learning_rate": stage.learning_rate,
        "steps": stage.steps,
        "batch_size": stage.batch_size,
    }
    return {f"{stage.name}.{key}": str(value) for key, value in {**values, **stage.training}.items()}


def scores_csv(ended: Ended, deltas: Deltas) -> str:
    """The trial's scores beside the baseline's, as `scores.parquet` has them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name in SCORES_SCHEMA.names if name != "study"])
    writer.writeheader()
    writer.writerows(deltas.rows(ended))
    return text.getvalue()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _name(key: str) -> str:
    """`key` with what MLflow takes in a name."""
    return re.sub(r"[^\w\-./ :]", "_", key)
