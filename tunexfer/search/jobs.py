"""The worker's side: one chain is run, and its results are left in the trial's folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.objective import Objective
from tunexfer.core.trial import Failure
from tunexfer.record.progress import JobProgress, TrialProgress, write_progress
from tunexfer.record.record import write_result


class Runner(Protocol):
    """Runs chains; `training.chain.ChainRunner` is the real one."""

    def run(self, chain: Chain, *, seed: int, on_progress: Callable[[Any], None]) -> Any:
        """returns: an object with scores, rows (a pyarrow table), stages and seconds"""
        ...


@dataclass(frozen=True)
class Work:
    """What every worker of a study is given once."""

    folder: Path
    objective: Objective
    make_runner: Callable[[], Runner]
    """Called in the worker, so that only workers import torch."""


class ProgressFile:
    """Keeps a trial's `progress.json` up to date without writing it at every step."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock = path, clock
        self.progress = TrialProgress()
        self._stage = ""
        self._reused: set[str] = set()
        self._written = (0, float("-inf"))
        """The step and the time of the last write."""

    def __call__(self, at: Any) -> None:
        """at: stage, step, steps, loss, reused and the new scores, as the executor reports them"""
        now, (last_step, last_time) = self.clock(), self._written
        new = at.stage != self._stage
        if not (new or at.scores or at.reused or now - last_time >= 1.0):
            return
        pace = None if new or at.loss is None or now <= last_time else (at.step - last_step) / (now - last_time)
        self._stage, self._written = at.stage, (at.step, now)
        self._reused |= {at.stage} if at.reused else set()
        job = JobProgress(name=at.stage, step=at.step, steps=at.steps, loss=at.loss, steps_per_second=pace)
        scores = (*self.progress.scores, *at.scores)
        self.progress = replace(self.progress, reused=len(self._reused), running=(job,), scores=scores)
        write_progress(self.path, self.progress)


class Stopped(Exception):
    """The driver asked all trials to stop."""


def stop_mark(folder: StudyFolder) -> Path:
    """While this file is there, the study's trials stop at their next step."""
    return folder.path / ".stop"


class ChainTrainable(tune.Trainable):
    """Ray's side of a trial. An actor keeps its imports and its runner, and runs one chain after another."""

    def setup(self, config: dict[str, Any], work: Work | None = None) -> None:
        assert work is not None
        self.work = work
        self.runner = work.make_runner()
        self.job = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.job = new_config
        return True

    def step(self) -> dict[str, Any]:
        outcome = run_trial(self.work, self.runner, self.job)
        if outcome["state"] == "failed":
            self.runner = self.work.make_runner()
        return {**outcome, "done": True}


def run_trial(work: Work, runner: Runner, job: dict[str, Any]) -> dict[str, Any]:
    """Run one trial to its end, whatever happens in it.

    job: number, seed, and the chain as plain values
    returns: state, objective, failure, started, seconds and jobs, for the driver to write into `status.json`
    """
    folder = StudyFolder(work.folder)
    trial, chain, started = folder.trial(job["number"]), Chain.from_dict(job["chain"]), time.time()
    outcome: dict[str, Any] = {"state": "complete", "objective": None, "failure": None, "started": started, "jobs": []}
    show = ProgressFile(trial.progress)

    def on_progress(progress: Any) -> None:
        show(progress)
        if stop_mark(folder).exists():
            raise Stopped

    try:
        result = runner.run(chain, seed=job["seed"], on_progress=on_progress)
        write_result(trial, result.scores, result.rows)
        names = ("name", "reused", "steps", "seconds")
        outcome["jobs"] = [
            {"key": stage.fingerprint, "kind": "train"} | {name: getattr(stage, name) for name in names}
            for stage in result.stages
        ]
        outcome["objective"] = work.objective.value(result.scores, chain)
    except Stopped:
        outcome["state"] = "stopped"
    except Exception as error:
        outcome |= {"state": "failed", "failure": asdict(Failure.from_error(error))}
    return {**outcome, "seconds": time.time() - started}
