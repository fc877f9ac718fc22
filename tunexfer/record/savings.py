"""The time that jobs take, and the training time that sharing saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tunexfer.core.trial import JobRun, TrialResult


def seconds_saved(results: Iterable[TrialResult]) -> dict[str, float]:
    """Map the name of each reused training to the seconds that running it again would have taken, over all trials.

    A training counts with the seconds it took where these trials ran it; if another study ran it, with its steps at
    the mean pace of all that these trials trained, or with 0 if they trained nothing.
    """
    jobs = [job for result in results for job in result.trainings]
    trained = {job.key: job for job in jobs if not job.reused}
    steps = sum(job.steps for job in trained.values())
    pace = sum(job.seconds for job in trained.values()) / steps if steps else 0.0
    saved: Counter[str] = Counter()
    for job in jobs:
        if job.reused:
            known = trained.get(job.key)
            saved[job.name] += known.seconds if known else job.steps * pace  # type: ignore[assignment]
    return dict(saved)


class Timings:
    """The seconds that the jobs of a study took, and that others like them will take."""

    def __init__(self, results: Iterable[TrialResult]) -> None:
        self._took: dict[str, float] = {}
        self._alike: dict[tuple[str, str], list[float]] = {}
        """Kind and name of a job -> steps (1 of an evaluation) and seconds of all that were measured."""
        for result in results:
            for run in result.jobs:
                self.add(run)

    def add(self, run: JobRun) -> None:
        """Take note of a job that has run."""
        took = run.took or run.seconds
        if took and run.key not in self._took:
            self._took[run.key] = took
            total = self._alike.setdefault((run.kind, run.name), [0.0, 0.0])
            total[0] += run.steps or 1
            total[1] += took

    def of(self, key: str) -> float | None:
        """Look up the seconds of the job with this key; None where it was not measured."""
        return self._took.get(key)

    def expected(self, run: JobRun) -> float:
        """Estimate the seconds of a job: its own, else by the pace of those of its name, else 0."""
        steps, seconds = self._alike.get((run.kind, run.name), (1.0, 0.0))
        return self._took.get(run.key, seconds / steps * (run.steps or 1))
