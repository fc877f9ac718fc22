"""An executor that trains nothing: scores are made up from the chain, results are kept in a real store."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.core.graph import Contents, Job, JobResult
from tunexfer.core.scores import Split
from tunexfer.errors import TrialFailed
from tunexfer.store import MODEL, ROWS, StageStore
from tunexfer.tasks.kinds import ROWS_SCHEMA

LANGUAGES = ("en", "de", "ru")
SPLITS: tuple[Split, ...] = ("validation", "test")
CONTENTS = Contents(
    encoder="pico",
    precision="fp32",
    rows={
        (task, language, split): f"{task} {language} {split}"
        for task in ("match", "tags", "choice", "pairs", "answer")
        for language in LANGUAGES
        for split in ("train", "validation", "test")
    },
)


@dataclass(frozen=True)
class FakeExecutor:
    """A learning rate of 0.5 fails the job, 0.6 is a bug, 0.7 kills the process."""

    root: Path
    step_s: float = 0.0

    @property
    def store(self) -> StageStore:
        return StageStore(self.root)

    def run(
        self,
        job: Job,
        line: Sequence[Job] = (),
        on_progress: Callable[[int, int, float | None], None] = lambda *_: None,
    ) -> JobResult:
        store = self.store
        with store.claim(job.key):
            entry = store.get(job.key)
            if entry:
                metrics = tuple((language, split, values) for language, split, values in entry.metadata["metrics"])
                return JobResult(key=job.key, seconds=0.0, reused=True, metrics=metrics)
            self.note("runs.log", f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {job.kind} {job.name}")
            return self._train(job, on_progress) if job.stage else self._evaluate(job, line)

    def _train(self, job: Job, on_progress: Callable[[int, int, float | None], None]) -> JobResult:
        assert job.stage
        misfortune(job.stage.learning_rate)
        started = time.perf_counter()
        for step in range(job.stage.steps):
            on_progress(step, job.stage.steps, 1.0)
            time.sleep(self.step_s)
        seconds = time.perf_counter() - started
        self.store.put(job.key, {MODEL: b"weights"}, {"seconds": seconds, "metrics": []})
        self.note("trained.log", job.key)
        return JobResult(key=job.key, seconds=seconds)

    def _evaluate(self, job: Job, line: Sequence[Job]) -> JobResult:
        metrics = made_up(job, line)
        sink = io.BytesIO()
        names = [{"task": job.name, "language": language, "split": split, "id": "0"} for language, split, _ in metrics]
        pq.write_table(pa.Table.from_pylist(names, schema=ROWS_SCHEMA), sink)
        self.store.put(job.key, {ROWS: sink.getvalue()}, {"seconds": 0.0, "metrics": metrics})
        return JobResult(key=job.key, seconds=0.0, metrics=metrics)

    def note(self, name: str, line: str) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("a") as log:
            log.write(f"{line}\n")


def misfortune(learning_rate: float) -> None:
    if learning_rate == 0.5:
        raise TrialFailed("the loss is not finite")
    if learning_rate == 0.6:
        raise ZeroDivisionError("a bug")
    if learning_rate == 0.7:
        os._exit(1)


def made_up(job: Job, line: Sequence[Job]) -> tuple[tuple[str, Split, dict[str, float]], ...]:
    """Each stage gains its learning rate x 1000 points; a target's own training gains nothing."""
    stages = [parent.stage for parent in line if parent.stage and parent.name not in ("choice", "answer")]
    gain = 1000 * sum(stage.learning_rate for stage in stages)
    return tuple(
        (language, split, {"accuracy": 50.0 + gain + place + job.seed % 3})
        for split in SPLITS
        for place, language in enumerate(LANGUAGES)
    )
