"""The search: Ray Tune runs what the schedule hands out, and the record is kept."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.tune.search import Searcher

from tunexfer.core.trial import Failure, JobRun, Trial, TrialResult
from tunexfer.errors import StudyError
from tunexfer.plan.plan import Plan
from tunexfer.record.listener import Listener
from tunexfer.record.record import Record
from tunexfer.search.cluster import check_shared, cluster, room
from tunexfer.search.gauges import StudyMetrics
from tunexfer.search.jobs import ChainTrainable, Runner, Work, stop_mark
from tunexfer.search.loop import Schedule

TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one talks on standard output whatever `verbose` says
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
}
ENOUGH_TO_JUDGE = 4
"""Trials that must have ended before many failures stop the study."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    concurrent: int | None = None
    """Trials at once; as many as there is room for where it isn't given."""
    address: str | None = None
    """Of an existing Ray cluster; a local one is started where it isn't given."""
    shared: Mapping[str, Path] = field(default_factory=dict)
    """Folders every node must see, by what they are: checked on an existing cluster."""


@dataclass(frozen=True)
class Outcome:
    state: Literal["finished", "interrupted", "out of time", "exhausted"]
    seconds: float


def run_search(
    plan: Plan,
    record: Record,
    make_runner: Callable[[], Runner],
    options: SearchOptions,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """Run what the study still lacks. Trials that are complete in the record are not run again.

    make_runner: called in each worker, where torch may be imported; it travels by pickle
    raises: StudyError, if the baseline or most trials fail, or Ray can't be used
    """
    started = time.monotonic()
    drive = _Drive(plan, record, listeners)
    for sentence in record.damaged:
        drive.tell("warning", sentence)
    if drive.first != "done":
        with _interruptible(drive):
            _fit(drive, make_runner, options)
    if drive.error:
        raise drive.error
    record.end(drive.state)
    return Outcome(drive.state, time.monotonic() - started)


def _fit(drive: _Drive, make_runner: Callable[[], Runner], options: SearchOptions) -> None:
    plan, folder, wants = drive.plan, drive.record.folder, drive.plan.resources
    os.environ.update(TUNE_SETTINGS)
    stop_mark(folder).unlink(missing_ok=True)
    scratch = tempfile.TemporaryDirectory(prefix="tunexfer-ray-", ignore_cleanup_errors=True)
    with scratch, cluster(options.address, cpus_per_trial=wants.cpus, name=folder.name) as dashboard:
        if dashboard:
            drive.tell("info", f"Ray dashboard: {dashboard} (`ray get-auth-token` prints the token it asks for)")
        if options.address:
            check_shared(options.shared)
        drive.limit = min(
            options.concurrent or plan.file.search.concurrent or 10**6, room(cpus=wants.cpus, gpus=wants.gpus)
        )
        if drive.stopping:
            return
        work = Work(folder.path.resolve(), plan.objective, make_runner)
        trainable = tune.with_parameters(ChainTrainable, work=work)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": wants.cpus, "gpu": wants.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=_Suggestions(drive),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=scratch.name,
                stop=_StopAll(drive),
                callbacks=[_Watch(drive)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        metrics = StudyMetrics(drive.record)
        drive.listeners = [*drive.listeners, metrics]
        with metrics:
            try:
                tuner.fit()
            finally:
                drive.close()
                stop_mark(folder).unlink(missing_ok=True)


class _Drive:
    """What the driver knows while the search runs; Ray's hooks below only pass on to it."""

    def __init__(self, plan: Plan, record: Record, listeners: Sequence[Listener]) -> None:
        self.plan, self.record, self.listeners = plan, record, listeners
        self.schedule = Schedule(plan, record)
        self.first: Trial | Literal["wait", "done"] | None = self.schedule.next()
        self.limit = 1
        self.running: dict[int, tuple[Trial, float]] = {}
        self.ends: list[TrialResult] = []
        self.state: Literal["finished", "interrupted", "out of time", "exhausted"] = "finished"
        self.error: StudyError | None = None
        self.stopping = False
        minutes = plan.file.search.minutes
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")

    def suggest(self) -> dict[str, Any] | str | None:
        """The next trial in Ray's words: its config, None for 'ask again later', or the end."""
        if self.stopping:
            return str(Searcher.FINISHED)
        if len(self.running) >= self.limit:
            return None
        trial, self.first = self.first or self.schedule.next(), None
        if trial == "wait":
            return None
        if trial == "done":
            if self.schedule.exhausted:
                self.state = "exhausted"
                self.tell("warning", "No new chain turned up any more: the space has none left to try.")
            return str(Searcher.FINISHED)
        if time.monotonic() > self.deadline:
            self.state = "out of time"
            return str(Searcher.FINISHED)
        self.record.begin(trial)
        self.running[trial.number] = trial, time.time()
        self.tell("started", trial)
        return {"number": trial.number, "phase": trial.phase, "seed": trial.seed, "chain": trial.chain.as_dict()}

    def ended(self, number: int, result: Mapping[str, Any]) -> None:
        trial, started = self.running.pop(number)
        ended = TrialResult(
            trial=trial,
            state=result["state"],
            started=result.get("started", started),
            seconds=result.get("seconds", time.time() - started),
            objective=result.get("objective"),
            failure=Failure(**result["failure"]) if result.get("failure") else None,
            jobs=tuple(JobRun(**job) for job in result.get("jobs", ())),
        )
        ended = self.record.finish(ended)
        self.schedule.ended(ended)
        self.tell("finished", ended)
        self._judge(ended)

    def _judge(self, ended: TrialResult) -> None:
        """Stop the study where going on makes no sense."""
        self.ends.append(ended)
        failed, count = [one for one in self.ends if one.state == "failed"], len(self.ends)
        if ended.state == "failed" and ended.trial.phase == "baseline":
            why = ended.failure.message if ended.failure else ""
            self.error = StudyError(f"the baseline failed, so no chain can be compared with it: {why}")
        elif count >= ENOUGH_TO_JUDGE and 2 * len(failed) > count:
            reasons = "\n".join(dict.fromkeys(f"  {one.failure.message if one.failure else ''}" for one in failed))
            self.error = StudyError(f"too many trials failed, {len(failed)} of {count}:\n{reasons}")
        self.stopping = self.stopping or self.error is not None

    def interrupt(self) -> None:
        self.stopping, self.state = True, "interrupted"
        self.tell("warning", "Stopping. The same command continues; Ctrl-C again ends at once.")

    def close(self) -> None:
        """What still runs has been stopped: the next driver runs it again."""
        for number in list(self.running):
            self.ended(number, {"state": "stopped"})

    def tell(self, what: Literal["started", "finished", "info", "warning"], about: Any) -> None:
        for listener in self.listeners:
            getattr(listener, what)(about)


class _Hook:
    """Ray pickles what it is given, for a restore that is never asked for."""

    drive: _Drive

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Suggestions(_Hook, Searcher):
    def __init__(self, drive: _Drive) -> None:
        super().__init__()
        self.drive = drive

    def suggest(self, trial_id: str) -> Any:
        return self.drive.suggest()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """`_Watch` is told more."""

    def save(self, checkpoint_path: str) -> None:
        """A study continues from its own record, never from Ray's."""


class _Watch(_Hook, tune.Callback):
    def __init__(self, drive: _Drive) -> None:
        self.drive = drive

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.drive.ended(trial.config["number"], trial.last_result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        said = Path(trial.error_file).read_text(errors="replace") if trial.error_file else "no reason given"
        reason = re.sub(r"\x1b\[[0-9;]*m", "", said).strip()[-3000:]
        if "worker process has died" in reason:
            reason += "\nIts worker process died. Out of memory? Try a smaller batch_size, or --concurrent 1."
        failure = {"kind": "lost", "message": f"its worker ended: {_last_line(reason)}", "detail": reason}
        self.drive.ended(trial.config["number"], {"state": "failed", "failure": failure})


class _StopAll(_Hook, tune.Stopper):
    """Also tells the workers, which would go on to the end of their chain otherwise."""

    def __init__(self, drive: _Drive) -> None:
        self.drive = drive

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.drive.stopping:
            stop_mark(self.drive.record.folder).touch()
        return self.drive.stopping


@contextmanager
def _interruptible(drive: _Drive) -> Iterator[None]:
    """The first Ctrl-C stops the search cleanly, the second as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        drive.interrupt()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _name(trial: Any) -> str:
    return f"trial-{trial.config['number']:04d}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
