"""A trial: one chain that is run, and how it ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.graph import fingerprint
from tunexfer.core.scores import FORGETTING, Score, Split

Point = dict[str, str | float | int]
"""Coordinate name -> the value drawn; of a categorical coordinate, the option's text."""
Phase = Literal["baseline", "search", "confirm"]
State = Literal["complete", "failed", "stopped"]


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
class StageRun:
    """What became of one fine-tuning of a trial, a target's own included."""

    name: str
    fingerprint: str
    reused: bool
    """Taken from the stage store, not trained."""
    steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """A trial that is over."""

    trial: Trial
    state: State
    started: float
    """Unix time."""
    seconds: float
    objective: float | None = None
    reason: str = ""
    stages: tuple[StageRun, ...] = ()
    scores: tuple[Score, ...] = ()

    def status(self) -> dict[str, Any]:
        """What `status.json` says."""
        return {
            "state": self.state,
            "number": self.trial.number,
            "phase": self.trial.phase,
            "seed": self.trial.seed,
            "point": self.trial.point,
            "fingerprint": self.trial.fingerprint,
            "objective": self.objective,
            "reason": self.reason,
            "started": self.started,
            "seconds": self.seconds,
            "stages": [{name: getattr(stage, name) for name in StageRun.__slots__} for stage in self.stages],
        }

    def main(self, task: str, split: Split) -> dict[str, Score]:
        """Language -> the task's main score."""
        return {s.language: s for s in self.scores if s.main and s.task == task and s.split == split}

    def forgotten(self, task: str, split: Split) -> dict[str, float]:
        """Language -> share of the target's score that those trained on top of it lost; empty where none is."""
        mine = [s for s in self.scores if s.metric == FORGETTING and s.task == task and s.split == split]
        return {score.language: score.value for score in mine}


def best_of(complete: Iterable[TrialResult]) -> TrialResult | None:
    """Of the search's own trials, the baseline among them, the one whose chain the study recommends.

    It is the one with the highest objective; of chains that were run again with fresh seeds, which then are the only
    ones in question, the one with the highest mean over these: the highest of many objectives is partly luck.
    """
    ended = list(complete)
    own = searched(ended)
    again = fresh_objectives(ended)
    most = max(map(len, again.values()), default=0)
    confirmed = [one for one in own if most and len(again.get(one.trial.chain, ())) == most]
    if len(confirmed) < 2:  # the baseline alone is confirmed so far
        return highest(own)
    return max(confirmed, key=lambda one: (statistics.fmean(again[one.trial.chain]), -one.trial.number))


def searched(complete: Iterable[TrialResult]) -> list[TrialResult]:
    """The search's own trials that have an objective, the baseline among them; none that confirms."""
    return [one for one in complete if one.trial.phase != "confirm" and one.objective is not None]


def highest(complete: Iterable[TrialResult]) -> TrialResult | None:
    """Of the search's own trials the one with the highest objective, the first of equals."""
    return max(searched(complete), key=lambda one: (one.objective, -one.trial.number), default=None)


def fresh_objectives(complete: Iterable[TrialResult]) -> dict[Chain, list[float]]:
    """Chain -> its objectives by the fresh seeds that it was confirmed with."""
    found: dict[Chain, list[float]] = {}
    for one in complete:
        if one.trial.phase == "confirm" and one.objective is not None:
            found.setdefault(one.trial.chain, []).append(one.objective)
    return found


def chain_in_words(chain: Chain) -> str:
    """One line that a person can act on."""
    targets = [
        f"{target.words} ({_stage_in_words(target.stage)})" if target.stage else target.words
        for target in chain.targets
    ]
    return f"{stages_in_words(chain)} -> {', '.join(targets)}"


def stages_in_words(chain: Chain) -> str:
    """What comes before the targets."""
    return (
        "; then ".join(f"{stage.name}: {_stage_in_words(stage)}" for stage in chain.stages) or "no intermediate stage"
    )


def _stage_in_words(stage: Stage) -> str:
    sources = stage.mixture.sources
    what = sources[0].language if len(sources) == 1 and sources[0].task == stage.name else str(stage.mixture)
    return f"{what}, {stage.steps} steps at {stage.learning_rate:g}"
