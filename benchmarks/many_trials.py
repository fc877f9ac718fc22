"""Whether a search slows down as its study grows: thousands of trials of instant made-up jobs with many scores.

    python benchmarks/many_trials.py

Each trial has nine targets with scores in forty languages, two splits and two metrics (1,440 scores), and three rows
a target. The search loop, the record, the store with its limit, the sampler and the score table are the real ones;
the jobs are run in this process by an executor that computes nothing. Prints the seconds of the first and the last
200 trials, their ratio, the peak memory, and how long reading the whole score table takes.
"""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml

from tunexfer.core.files import StudyFolder
from tunexfer.core.graph import Contents, Job, JobResult
from tunexfer.core.trial import TrialResult
from tunexfer.plan.plan import Plan
from tunexfer.record.listener import Listener
from tunexfer.record.record import Record
from tunexfer.search.loop import SearchLoop, run_here
from tunexfer.store import MODEL, ROWS, StageStore
from tunexfer.tasks.kinds import ROWS_SCHEMA

TARGETS = [f"target{number}" for number in range(9)]
LANGUAGES = [f"{first}{second}" for first in "abcde" for second in "klmnopqr"]
COMPARED = 200
"""Trials at the beginning and at the end."""


@dataclass
class Instant:
    """An executor that makes results up."""

    store: StageStore
    rows: Path

    def run(self, job: Job, line: Sequence[Job] = (), on_progress: Callable[..., None] = lambda *_: None) -> JobResult:
        draw = random.Random(job.key)
        metrics = tuple(
            (language, split, {"accuracy": draw.uniform(40, 60), "macro_f1": draw.uniform(40, 60)})
            for _, language, split in job.rows
        )
        files: dict[str, Any] = {MODEL: b"weights"} if job.kind == "train" else {ROWS: self.rows}
        self.store.put(job.key, files, {"metrics": metrics, "seconds": 0.0})
        self.store.trim()
        return JobResult(key=job.key, seconds=0.0, metrics=metrics)


@dataclass
class Clock(Listener):
    """Notes when each trial is finished."""

    times: list[float] = field(default_factory=lambda: [time.perf_counter()])

    def finished(self, result: TrialResult) -> None:
        assert result.state == "complete", result.failure
        assert len(result.scores) == 2 * 2 * len(TARGETS) * len(LANGUAGES)
        self.times.append(time.perf_counter())
        if len(self.times) % COMPARED == 0:
            print(f"{len(self.times)} trials: {self.times[-1] - self.times[-COMPARED]:.1f} s", flush=True)


def made_up_plan(folder: Path, trials: int, algorithm: str) -> Plan:
    """A space whose every trial is new: learning rates from ranges."""
    rows = {language: [10, 10, 10] for language in LANGUAGES}
    task = {"kind": "classification", "hub": {"path": "made/up"}, "columns": {"text": "t", "label": "l"}}
    suite = {"name": "made_up", "tasks": {name: task | {"labels": ["a", "b"], "rows": rows} for name in TARGETS}}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    first = LANGUAGES[0]
    rate = {"log_uniform": [1.0e-6, 1.0e-3]}
    stage = {"name": "stage", "tasks": ["target0"], "languages": [first], "learning_rate": rate, "steps": 10}
    targets = [{"task": name, "train_language": first, "learning_rate": 1.0e-4, "steps": 10} for name in TARGETS]
    space = {"name": "many", "suite": "suite.yaml", "encoder": "made up", "stages": [stage], "targets": targets}
    space |= {"objective": {"languages": "all"}, "search": {"algorithm": algorithm, "trials": trials}}
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    return Plan.load(folder / "space.yaml", cache=folder / "cache")


def main(
    trials: int = 2000,
    algorithm: Annotated[str, typer.Option(help="The sampler: random or tpe.")] = "random",
    store_mb: Annotated[float, typer.Option(help="Limit of the store.")] = 100,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan = made_up_plan(folder, trials, algorithm)
        rows = {key: "/".join(key) for key in [*plan.evaluated, *((name, LANGUAGES[0], "train") for name in TARGETS)]}
        contents = {"made up": Contents(encoder="made up", precision=plan.precision, rows=rows)}
        store = StageStore(folder / "store", limit_bytes=int(store_mb * 1e6))
        pq.write_table(pa.Table.from_pylist([{"id": "0"}] * 3, schema=ROWS_SCHEMA), folder / "rows.parquet")
        clock = Clock()
        with Record.drive(StudyFolder(folder / "runs" / "many"), plan.as_dict()) as record:
            loop = SearchLoop(plan, record, store, contents, [clock])
            run_here(loop, Instant(store, folder / "rows.parquet"))
            started = time.perf_counter()
            table = record.score_table()
            reading = time.perf_counter() - started
        first = clock.times[COMPARED] - clock.times[0]
        last = clock.times[-1] - clock.times[-1 - COMPARED]
        figures = {
            "trials": len(clock.times) - 1,
            f"first {COMPARED}, s": round(first, 1),
            f"last {COMPARED}, s": round(last, 1),
            "ratio": round(last / first, 2),
            "peak memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "scores": len(table),
            "reading all scores, s": round(reading, 1),
        }
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    typer.run(main)
