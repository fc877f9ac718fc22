"""A trial: one chain that is run, and how it ended."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from tunexfer.core.chain import Chain
from tunexfer.core.graph import JobKind, fingerprint
from tunexfer.core.scores import Score, Split
from tunexfer.errors import TunexferError

Point = dict[str, str | float | int]
"""Coordinate name -> the value drawn; of a categorical coordinate, the option's text."""
Phase = Literal["baseline", "search", "confirm"]
State = Literal["complete", "failed", "stopped"]
FailureKind = Literal["user", "lost", "bug"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One chain to run."""

    number: int
    phase: Phase
    seed: int
    point: Point
    chain: Chain

    @property
    def fingerprint(self) -> str:
        """Two trials with the same one would give the same scores."""
        return fingerprint([self.chain.as_dict(), self.seed])


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The reason why a trial or a job did not finish."""

    kind: FailureKind
    """`user`: the recipe or the data can't work; `lost`: its process or node died; `bug`: tunexfer's own error."""
    message: str
    """One sentence, shown wherever the trial is shown."""
    detail: str = ""
    """A traceback or the end of a log; empty where the message says it all."""

    @classmethod
    def from_error(cls, error: BaseException) -> Failure:
        """Describe an exception: errors made for users speak for themselves, any other is a bug with its traceback."""
        if isinstance(error, TunexferError):
            return cls(kind="user", message=" ".join(str(error).split()))
        lines = str(error).strip().splitlines()
        words = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return cls(kind="bug", message=words, detail="".join(traceback.format_exception(error)))

    @classmethod
    def from_text(cls, text: str) -> Failure:
        """Describe a failure that version 0.1 kept as one text: its last line is the message."""
        lines = text.strip().splitlines() or ["no reason was recorded"]
        return cls(
            kind="bug" if len(lines) > 1 else "user", message=lines[-1].strip(), detail=text if lines[1:] else ""
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRun:
    """The part that one job had in a trial."""

    key: str
    kind: JobKind
    name: str
    """The stage's name, or the target's."""
    reused: bool
    """Taken from the stage store or shared with another trial, not run for this one."""
    steps: int
    """Optimizer steps; 0 of an evaluation."""
    seconds: float
    """Spent running it for this trial; 0 where it was reused."""
    took: float = 0.0
    """Seconds that it took wherever it ran; 0 where that is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """A trial that is over."""

    trial: Trial
    state: State
    started: float
    """Unix time."""
    seconds: float
    objective: float | None = None
    """The leading goal; None of a trial that is not complete."""
    goals: Mapping[str, float] = field(default_factory=dict)
    """Every goal of the plan's objective, of a complete trial."""
    by_target: Mapping[str, float] = field(default_factory=dict)
    """The leading goal of each target that was scored, also of a trial that failed or was stopped."""
    saved: float = 0.0
    """Seconds that a stopped trial's remaining jobs would have taken, estimated."""
    failure: Failure | None = None
    """Of a failed trial; of a stopped one, the rule that stopped it."""
    jobs: tuple[JobRun, ...] = ()
    scores: tuple[Score, ...] = ()

    @property
    def trainings(self) -> tuple[JobRun, ...]:
        """The fine-tunings among its jobs: stages in order, then the targets' own."""
        return tuple(job for job in self.jobs if job.kind == "train")

    def status(self) -> dict[str, Any]:
        """Describe it in plain values, as `status.json` keeps them."""
        return {
            "state": self.state,
            "number": self.trial.number,
            "phase": self.trial.phase,
            "seed": self.trial.seed,
            "point": self.trial.point,
            "fingerprint": self.trial.fingerprint,
            "objective": self.objective,
            "goals": dict(self.goals),
            "by_target": dict(self.by_target),
            "saved": self.saved,
            "failure": asdict(self.failure) if self.failure else None,
            "started": self.started,
            "seconds": self.seconds,
            "jobs": [asdict(job) for job in self.jobs],
        }

    @classmethod
    def from_status(cls, trial: Trial, status: Mapping[str, Any]) -> TrialResult:
        """Read `status.json`, of version 0.1 too, without the trial's scores.

        raises: ValueError, if it isn't whole
        """
        if "jobs" not in status:
            jobs = [{"key": stage["fingerprint"], "kind": "train", **stage} for stage in status["stages"]]
            failure = Failure.from_text(status["reason"]) if status["reason"] else None
            status = {**status, "jobs": jobs, "failure": failure}
        return _RESULT.validate_python({**status, "trial": trial})

    def main(self, target: str, split: Split) -> dict[str, Score]:
        """Map each language to the target's main score."""
        return {s.language: s for s in self.scores if s.main and s.target == target and s.split == split}


_RESULT = TypeAdapter(TrialResult)
