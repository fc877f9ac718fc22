"""Where a trial stands right now: a scratch file that the worker writes and the live table reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunexfer.core.files import write_whole
from tunexfer.core.scores import Score

EVERY_S = 1.0
"""Steps are written at most this often; a new stage and new scores at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialProgress:
    stage: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    steps_per_second: float | None = None
    """Of optimizer steps, over the last second or more; None while nothing is trained."""
    reused: tuple[str, ...] = ()
    """Stages taken from the store so far."""
    scores: tuple[Score, ...] = ()
    """Every score so far."""


class ProgressFile:
    """Called by the chain runner with each progress; keeps the file up to date without writing it at every step."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock = path, clock
        self.standing = TrialProgress()
        self._written = (0, float("-inf"))
        """The step and the time at which the file was last written."""

    def __call__(self, progress: Any) -> None:
        """progress: what `training.chain.Progress` holds: stage, step, steps, loss, reused, and the new scores."""
        before, now = self.standing, self.clock()
        last_step, last_time = self._written
        new_stage = progress.stage != before.stage
        reused = progress.reused and progress.stage not in before.reused
        write = progress.scores or reused or new_stage or now - last_time >= EVERY_S
        pace = before.steps_per_second
        if new_stage or progress.loss is None:
            pace = None
        elif write and now > last_time:
            pace = (progress.step - last_step) / (now - last_time)
        self.standing = replace(
            before,
            stage=progress.stage,
            step=progress.step,
            steps=progress.steps,
            loss=progress.loss,
            steps_per_second=pace,
            reused=(*before.reused, progress.stage) if reused else before.reused,
            scores=(*before.scores, *progress.scores),
        )
        if write:
            write_whole(self.path, json.dumps(asdict(self.standing), ensure_ascii=False))
            self._written = (progress.step, now)


def read_progress(path: Path) -> TrialProgress | None:
    """None where the trial hasn't said anything yet."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        scores = tuple(Score(**score) for score in plain["scores"])
        return TrialProgress(**{**plain, "scores": scores, "reused": tuple(plain["reused"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
