"""The cost of jobs: nothing for those with a result, and for the others the timings of past ones."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping
from functools import lru_cache

from tunexfer.core.chain import Chain
from tunexfer.core.graph import Contents, Job, jobs_of
from tunexfer.core.trial import TrialResult

TRAIN_S, SCORE_S = 3e-3, 1e-3
"""Seconds a row that are assumed until a job was timed."""


class Costs:
    """Prices jobs by the row: as the median of past jobs of the same kind, tasks and encoder, else of the same kind."""

    def __init__(
        self, seed: int, contents: Mapping[str, Contents] | None = None, stored: Callable[[str], bool] | None = None
    ) -> None:
        """
        seed:     of the search's trials
        contents: encoder's identity -> what its trials read; by names alone if not given
        stored:   whether the stage store has the result of a job's key
        """
        self.seed, self._contents, self._stored = seed, contents or {}, stored
        self._done: set[str] = set()
        self._asked: dict[str, bool] = {}
        self._took: dict[str, float] = {}
        self._rates: dict[Hashable, list[float]] = defaultdict(list)
        self.jobs = lru_cache(maxsize=20_000)(self._jobs)

    def _jobs(self, chain: Chain, seed: int | None = None) -> tuple[Job, ...]:
        """List the jobs of a chain, with the search's seed if none is given."""
        identity = chain.encoder.identity
        contents = self._contents.get(identity) or Contents(encoder=identity, precision="fp32")
        return jobs_of(chain, seed=self.seed if seed is None else seed, contents=contents)

    def time(self, result: TrialResult) -> None:
        """Learn from the timings of a trial's jobs."""
        by_key = {job.key: job for job in self.jobs(result.trial.chain, result.trial.seed)}
        for run in result.jobs:
            if run.key in by_key:
                self.add(by_key[run.key], run.took or run.seconds)

    def add(self, job: Job, took: float) -> None:
        """Learn how many seconds a job took; each job counts once."""
        if took > 0 and job.key not in self._took:
            self._took[job.key] = took
            for similar in _similar(job):
                self._rates[similar].append(took / max(job.row_count, 1))

    def took(self, key: str) -> float | None:
        """Look up the seconds that a job took; None where it was not measured."""
        return self._took.get(key)

    @property
    def timed(self) -> bool:
        """Tell whether any job was timed."""
        return bool(self._took)

    def add_done(self, keys: Collection[str]) -> None:
        """Take note of jobs that have a result."""
        self._done.update(keys)

    def is_done(self, key: str) -> bool:
        """Tell whether a job has a result, from this study or in the store, which is asked once for each job."""
        if key in self._done:
            return True
        if key not in self._asked:
            self._asked[key] = self._stored is not None and self._stored(key)
        return self._asked[key]

    def seconds(self, job: Job) -> float:
        """Estimate how long a job takes on a device."""
        rate = next(
            (statistics.median(self._rates[similar]) for similar in _similar(job) if similar in self._rates), None
        )
        if rate is None:
            rate = TRAIN_S if job.kind == "train" else SCORE_S
        return rate * max(job.row_count, 1)

    def remaining(self, chain: Chain, seed: int | None = None) -> float:
        """Estimate how long those jobs of a chain take that have no result."""
        return sum(self.seconds(job) for job in self.jobs(chain, seed) if not self.is_done(job.key))

    def whole(self, chain: Chain) -> float:
        """Estimate how long all jobs of a chain take."""
        return sum(map(self.seconds, self.jobs(chain)))


def _similar(job: Job) -> tuple[Hashable, ...]:
    """Name the groups of jobs that cost alike by the row, the most alike first."""
    return (job.kind, job.tasks, job.encoder.identity), (job.kind, job.tasks), job.kind
