"""The training time that sharing saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tunexfer.core.trial import TrialResult


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
