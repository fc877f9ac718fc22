"""What sharing stages saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tunexfer.core.trial import TrialResult


def seconds_saved(ended: Iterable[TrialResult]) -> dict[str, float]:
    """Name of each stage that was reused -> the seconds that training it again would have taken, over all trials.

    A run counts with what training that stage took where these trials trained it; where another study did, with its
    steps at the mean pace of all that these trials trained, and with nothing where they trained nothing.
    """
    runs = [run for one in ended for run in one.trainings]
    trained = {run.key: run for run in runs if not run.reused}
    steps = sum(run.steps for run in trained.values())
    pace = sum(run.seconds for run in trained.values()) / steps if steps else 0.0
    saved: Counter[str] = Counter()
    for run in runs:
        if run.reused:
            known = trained.get(run.key)
            saved[run.name] += known.seconds if known else run.steps * pace  # type: ignore[assignment]
    return dict(saved)
