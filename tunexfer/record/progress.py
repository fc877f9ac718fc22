"""Progress of a running trial: a scratch file that the driver of a search writes and the live table reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from tunexfer.core.files import write_whole
from tunexfer.core.graph import Job
from tunexfer.core.scores import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class JobProgress:
    name: str
    """What it does: `train intermediate`, `evaluate xnli`."""
    step: int = 0
    steps: int = 0
    """Of a training, optimizer steps; of an evaluation, languages and splits; 0 while unknown."""
    loss: float | None = None
    """None where nothing is trained."""
    steps_per_second: float | None = None
    """Optimizer steps, over the last second or more; None where nothing is trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialProgress:
    done: int = 0
    """Jobs that are done, reused ones included."""
    jobs: int = 0
    """All jobs of the trial; 0 while unknown."""
    reused: int = 0
    """Jobs taken from the store or shared with another trial."""
    running: tuple[JobProgress, ...] = ()
    scores: tuple[Score, ...] = ()
    """Every score so far."""


def progress_of(job: Job, step: int, steps: int, loss: float | None, rate: float | None = None) -> JobProgress:
    """Describe how far a job is.

    rate: optimizer steps per second
    """
    return JobProgress(name=str(job).partition(":")[0], step=step, steps=steps, loss=loss, steps_per_second=rate)


def write_progress(path: Path, progress: TrialProgress) -> None:
    write_whole(path, json.dumps(asdict(progress), ensure_ascii=False))


def read_progress(path: Path) -> TrialProgress | None:
    """Read the file; None where there is none yet or it can't be read."""
    try:
        return _PROGRESS.validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


_PROGRESS = TypeAdapter(TrialProgress)
