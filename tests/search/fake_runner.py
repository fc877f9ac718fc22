"""A chain runner that trains nothing: scores are made up from the chain, stages are remembered as files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.graph import fingerprint
from tunexfer.core.scores import Score
from tunexfer.errors import TrialFailed

LANGUAGES = ("en", "de", "ru")


@dataclass(frozen=True)
class Progress:
    stage: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    reused: bool = False
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class StageOutcome:
    name: str
    fingerprint: str
    reused: bool
    steps: int
    seconds: float


@dataclass(frozen=True)
class Result:
    scores: tuple[Score, ...]
    rows: pa.Table
    stages: tuple[StageOutcome, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class FakeRunner:
    """A learning rate of 0.5 fails the trial, 0.6 is a bug, 0.7 kills the worker."""

    store: Path
    step_s: float = 0.0

    def run(self, chain: Chain, *, seed: int, on_progress: Callable[[Any], None]) -> Result:
        self.store.mkdir(parents=True, exist_ok=True)
        with (self.store / "runs.log").open("a") as log:
            log.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
        stages, parent = [], "encoder"
        for stage in chain.stages:
            stages.append(self._train(stage, parent, seed, on_progress))
            parent = stages[-1].fingerprint
        scores: list[Score] = []
        for target in chain.targets:
            if target.stage:
                stages.append(self._train(target.stage, parent, seed, on_progress))
            new = tuple(made_up(chain, target.task, seed))
            on_progress(Progress(target.task, scores=new))
            scores += new
        rows = pa.table({"task": [score.target for score in scores]})
        return Result(tuple(scores), rows, tuple(stages))

    def _train(self, stage: Stage, parent: str, seed: int, on_progress: Callable[[Any], None]) -> StageOutcome:
        misfortune(stage.learning_rate)
        mark = fingerprint([parent, stage.learning_rate, stage.steps, str(stage.mixture), seed])
        reused = (self.store / mark).exists()
        for step in range(0 if reused else stage.steps):
            on_progress(Progress(stage.name, step, stage.steps, loss=1.0 if step else None))
            time.sleep(self.step_s)
        if not reused:
            with (self.store / "trained.log").open("a") as log:
                log.write(f"{mark}\n")
            (self.store / mark).touch()
        on_progress(Progress(stage.name, stage.steps, stage.steps, reused=reused))
        return StageOutcome(stage.name, mark, reused, stage.steps, 0.0 if reused else stage.steps * self.step_s)


def misfortune(learning_rate: float) -> None:
    if learning_rate == 0.5:
        raise TrialFailed("the loss is not finite")
    if learning_rate == 0.6:
        raise ZeroDivisionError("a bug")
    if learning_rate == 0.7:
        os._exit(1)


def made_up(chain: Chain, task: str, seed: int) -> list[Score]:
    """Each stage gains its learning rate x 1000 points."""
    gain = 1000 * sum(stage.learning_rate for stage in chain.stages)
    return [
        Score(
            target=task,
            language=language,
            split=split,
            metric="accuracy",
            value=50.0 + gain + place + seed % 3,
            main=True,
            unseen=chain.unseen(task, language),
        )
        for split in ("validation", "test")
        for place, language in enumerate(LANGUAGES)
    ]
