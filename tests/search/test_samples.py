"""What is published of a study, before Ray gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record.made_up import PLAN, chain, run, study, trial

from tunexfer.core.files import StudyFolder
from tunexfer.record.progress import JobProgress, TrialProgress, write_progress
from tunexfer.record.record import Record
from tunexfer.search.gauges import METRICS, publishing


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    folder = StudyFolder(tmp_path / "toy")
    study(folder)
    with Record.drive(folder, PLAN) as record:
        yield record


def values(metrics: Any, name: str) -> dict[tuple[str, ...], float]:
    """Tags other than the study, in their order -> value."""
    found = [sample for sample in metrics.samples() if sample.metric == f"tunexfer_{name}"]
    assert all(tuple(sample.tags) == METRICS[sample.metric][1] for sample in found)
    assert {sample.tags["study"] for sample in found} <= {"toy"}
    return {tuple(sample.tags.values())[1:]: sample.value for sample in found}


def test_a_search_that_goes_on_starts_from_what_the_study_has(record: Record) -> None:
    with publishing(record) as metrics:
        assert values(metrics, "trials") == {("running",): 0, ("complete",): 4, ("failed",): 1, ("stopped",): 0}
        assert values(metrics, "stages") == {("intent", "trained"): 5}
        assert values(metrics, "best_objective") == {("1",): 53.0}
        assert values(metrics, "seconds_saved") == {}


def test_rows_per_second_are_of_running_jobs_alone(record: Record) -> None:
    """Five steps of 32 rows a second."""
    with publishing(record) as metrics:
        record.begin(trial(5))
        metrics.started(trial(5))
        assert values(metrics, "rows_per_second") == {}
        running = JobProgress(name="train intermediate", step=10, steps=20, loss=1.0, steps_per_second=5.0)
        write_progress(record.folder.trial(5).progress, TrialProgress(done=0, jobs=2, running=(running,)))
        assert values(metrics, "trials")["running",] == 1
        assert values(metrics, "rows_per_second") == {("5", "intermediate"): 5.0 * 32}
        scoring = JobProgress(name="evaluate intent", step=1, steps=4)
        write_progress(record.folder.trial(5).progress, TrialProgress(done=1, jobs=2, running=(scoring,)))
        assert values(metrics, "rows_per_second") == {}
        metrics.finished(run(record, trial(5), start=40.0))
        assert values(metrics, "trials")["complete",] == 5


def test_the_gauge_of_the_best_objective_has_only_the_best_trial(record: Record) -> None:
    with publishing(record) as metrics:
        metrics.finished(run(record, trial(5, of=chain(stages=2)), 60.0))
        assert values(metrics, "best_objective") == {("5",): 60.0}
