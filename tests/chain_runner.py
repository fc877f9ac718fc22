"""Runs the jobs of single chains in this process, for tests and without a study."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.core.chain import Chain
from tunexfer.core.graph import Job, JobResult, ancestors, jobs_of, needed
from tunexfer.core.scores import Score, forgetting_scores, scores_of
from tunexfer.core.trial import JobRun
from tunexfer.data.prepare import Prepared
from tunexfer.store import ROWS, Busy, StageStore
from tunexfer.tasks.kinds import KINDS
from tunexfer.training.executor import Executor

OnStep = Callable[[Job, int, int, float | None], None]


@dataclass(frozen=True)
class Ran:
    """What running a chain gave."""

    scores: tuple[Score, ...]
    tables: Callable[[], pa.Table]
    jobs: tuple[JobRun, ...]
    warnings: tuple[str, ...]
    seconds: float

    @property
    def rows(self) -> pa.Table:
        """Every scored row, read when it is asked for."""
        return self.tables()

    @property
    def trainings(self) -> list[JobRun]:
        return [job for job in self.jobs if job.kind == "train"]


class ChainRunner:
    def __init__(self, prepared: Prepared, store: StageStore) -> None:
        self.prepared, self.store = prepared, store
        self.executor = Executor(_Everywhere(prepared), store, device="cpu", threads=1)

    def jobs(self, chain: Chain, seed: int = 1) -> tuple[Job, ...]:
        return jobs_of(chain, seed=seed, contents=self.prepared.contents)

    def run(self, chain: Chain, *, seed: int, on_step: OnStep = lambda *_: None) -> Ran:
        started = time.perf_counter()
        jobs = self.jobs(chain, seed)
        todo = {job.key for job in needed(jobs, lambda key: self.store.get(key) is not None)}
        results = {job.key: self._run(job, jobs, on_step) for job in jobs if job.key in todo or job.kind == "evaluate"}
        runs = [
            JobRun(
                key=job.key,
                kind=job.kind,
                name=job.name,
                reused=job.key not in results or results[job.key].reused,
                steps=job.steps,
                seconds=results[job.key].seconds if job.key in results else 0.0,
            )
            for job in jobs
        ]
        return Ran(
            scores=self._scores(chain, jobs, results),
            tables=lambda: pa.concat_tables(
                self._rows(job, results[job.key]) for job in jobs if job.kind == "evaluate" and not job.by
            ),
            jobs=tuple(runs),
            warnings=tuple(result.warning for result in results.values() if result.warning),
            seconds=time.perf_counter() - started,
        )

    def _run(self, job: Job, jobs: tuple[Job, ...], on_step: OnStep) -> JobResult:
        while True:
            try:
                return self.executor.run(job, ancestors(job, jobs), lambda *at: on_step(job, *at))
            except Busy:
                time.sleep(0.05)

    def _scores(self, chain: Chain, jobs: tuple[Job, ...], results: dict[str, JobResult]) -> tuple[Score, ...]:
        same = {name: task.same_as for name, task in self.prepared.tasks.items() if task.same_as}
        scores: list[Score] = []
        for job in jobs:
            metrics = results[job.key].metrics if job.kind == "evaluate" else ()
            if job.target and not job.by:
                task = self.prepared.tasks[job.target.task]
                main = task.metric or KINDS[task.kind].main_metric or ""
                scores += scores_of(chain, job.target, metrics, main=main, same=same)
            elif job.by:
                own = [score for score in scores if score.target == job.name]
                scores += forgetting_scores(chain, job.by, own, metrics, same=same)
        return tuple(scores)

    def _rows(self, job: Job, result: JobResult) -> pa.Table:
        rows = result.rows
        if rows is None:
            entry = self.store.get(job.key)
            assert entry
            rows = pq.read_table(entry.files[ROWS])
        return rows.set_column(0, "target", pa.array([job.name] * len(rows), pa.string()))


class _Everywhere(dict):  # type: ignore[type-arg]
    """The same prepared rows for every way to use an encoder."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self._prepared = prepared

    def __missing__(self, name: str) -> object:
        return self._prepared.path
