"""The search loop in one process: what it shares, records and reports, and what it makes of misfortune."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from drive import SPACE, plan_in
from fake_executor import CONTENTS, FakeExecutor

from tunexfer.core.files import StudyFolder
from tunexfer.core.graph import Job, JobResult
from tunexfer.core.trial import Failure
from tunexfer.errors import StudyError, TrialFailed
from tunexfer.plan.plan import Plan
from tunexfer.record.progress import JobProgress, read_progress
from tunexfer.record.record import Record
from tunexfer.search.loop import MAX_LOSSES, SearchLoop, run_here
from tunexfer.search.stopping import Standing
from tunexfer.store import Busy

ONE_STAGE = {**SPACE["stages"][0], "tasks": ["match"], "languages": ["en"]}


class Searched:
    """A study in a folder, run by the fake executor."""

    def __init__(self, root: Path) -> None:
        self.root, self.executor = root, FakeExecutor(root / "store")
        self.reports: list[tuple[int, dict[str, Any]]] = []

    def plan(self, rates: Sequence[float] | None = None, trials: int = 6, **changes: Any) -> Plan:
        """rates: of a single stage, in the order of a grid; else the space that `drive` has"""
        if rates is not None:
            changes["stages"] = [ONE_STAGE | {"learning_rate": {"choice": list(rates)}}]
            changes["targets"] = [SPACE["targets"][0] | {"learning_rate": 1e-3}]
            changes["search"] = {"trials": trials, "seed": 3, "algorithm": "grid"}
        return plan_in(self.root, **changes)

    def loop(self, plan: Plan, record: Record, **more: Any) -> SearchLoop:
        contents = {encoder.identity: CONTENTS for encoder in plan.encoders}
        note = lambda number, report: self.reports.append((number, report))  # noqa: E731
        return SearchLoop(plan, record, self.executor.store, contents, on_report=note, **more)

    def run(self, plan: Plan, name: str = "fake", executor: Any = None, **more: Any) -> tuple[SearchLoop, Record]:
        with Record.drive(StudyFolder(self.root / "runs" / name), plan.as_dict()) as record:
            return run_here(self.loop(plan, record, **more), executor or self.executor), record

    def log(self, name: str = "trained.log") -> list[str]:
        file = self.root / "store" / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def study(tmp_path: Path) -> Searched:
    return Searched(tmp_path)


def test_every_trial_is_recorded_with_its_scores_and_every_job_runs_once(study: Searched) -> None:
    outcome, record = study.run(study.plan())
    assert outcome.state == "finished"
    assert [result.state for result in record.ended] == ["complete"] * 6
    ran = [job.key for result in record.ended for job in result.jobs if job.kind == "train" and not job.reused]
    assert sorted(ran) == sorted(study.log())
    assert len(ran) == len(set(ran))
    for result in record.ended:
        rows = pq.read_table(record.folder.trial(result.trial.number).rows)
        assert rows.column_names[0] == "target"
        assert set(rows["target"].to_pylist()) == {"choice", "pairs"}


def test_a_second_study_on_the_same_store_trains_nothing_and_has_the_same_scores(study: Searched) -> None:
    plan = study.plan(search={"trials": 6, "seed": 3, "algorithm": "tpe"})  # `chain` draws by what is stored already
    _, first = study.run(plan)
    trained = study.log()
    _, second = study.run(plan, "again")
    assert study.log() == trained
    assert all(job.reused for result in second.ended for job in result.jobs)
    lines = [[record.folder.trial(number).scores.read_text() for number in range(6)] for record in (first, second)]
    assert lines[0] == lines[1]


def test_a_trial_reports_after_each_job_with_validation_scores_and_cost_so_far(study: Searched) -> None:
    study.run(study.plan([2e-3], trials=2))
    mine = [report for number, report in study.reports if number == 1]
    assert [report.get("jobs_done") for report in mine] == [1, 2, 3, None]
    assert mine[0]["scores"] == {}
    assert mine[2]["scores"] == {"choice/en": 52.0, "choice/de": 53.0, "choice/ru": 54.0}  # 2e-3 x 1000 + the place
    assert [report["cost_s"] for report in mine] == sorted(report["cost_s"] for report in mine)
    assert mine[3]["done"]
    assert mine[3]["objective"] == 53.0


def at_first_scores(standing: Standing) -> str | None:
    """Stop every trial once a target is scored."""
    return "no good" if standing.scores else None


def test_a_rule_stops_a_trial_between_its_jobs_and_it_is_not_run_again(study: Searched) -> None:
    targets = [SPACE["targets"][0] | {"learning_rate": 1e-3}, SPACE["targets"][1]]
    search = {"trials": 3, "seed": 3, "algorithm": "grid"}
    stages = [ONE_STAGE | {"learning_rate": {"choice": [1e-3, 2e-3]}}]
    plan = study.plan(stages=stages, targets=targets, search=search)
    _, record = study.run(plan, rule=at_first_scores)
    assert [result.state for result in record.ended] == ["complete", "stopped", "stopped"]
    stopped = record.ended[1]
    assert stopped.failure
    assert stopped.failure.message.startswith("stopped after 3 of 4 jobs, which saves about ")
    assert stopped.failure.message.endswith(" s: no good")
    assert [job.name for job in stopped.jobs] == ["intermediate", "choice", "choice"]
    assert {score.target for score in record.scores(1)} == {*stopped.by_target} == {"choice"}
    ran = study.log("runs.log")
    _, again = study.run(plan)
    assert [result.state for result in again.ended] == ["complete", "stopped", "stopped"]
    assert study.log("runs.log") == ran
    assert again.ended == record.ended


def test_the_baseline_and_confirmation_are_never_stopped(study: Searched) -> None:
    study.run(study.plan([2e-3, 1e-3], trials=2))
    plan = study.plan([2e-3, 1e-3], trials=3, confirm={"top": 1, "seeds": 1})
    _, record = study.run(plan, rule=lambda standing: "no good")
    assert [result.state for result in record.ended] == ["complete", "complete", "stopped", "complete", "complete"]
    assert [result.trial.phase for result in record.ended[3:]] == ["confirm", "confirm"]


def test_what_two_trials_share_survives_the_stopping_of_one(study: Searched) -> None:
    targets = [SPACE["targets"][0] | {"learning_rate": {"choice": [1e-3, 2e-3]}}]
    search = {"trials": 4, "seed": 3, "algorithm": "grid"}
    plan = study.plan(stages=[ONE_STAGE | {"learning_rate": 2e-3}], targets=targets, search=search)
    begun: list[Standing] = []

    def first_only(standing: Standing) -> str | None:
        begun.append(standing)
        return "no good" if len(begun) == 2 else None  # the first is asked at its begin, then after its stage

    _, record = study.run(plan, rule=first_only)
    assert [result.state for result in record.ended] == ["complete", "stopped", "complete"]
    assert record.ended[2].jobs[0].reused


def test_a_stopped_trial_saves_the_seconds_that_its_other_jobs_take_elsewhere(study: Searched) -> None:
    class Clocked:
        """Every training takes 7 seconds, every evaluation 3."""

        def run(self, job: Job, line: Sequence[Job], on_progress: Callable[..., None]) -> JobResult:
            return replace(study.executor.run(job, line, on_progress), seconds=7.0 if job.stage else 3.0)

    plan = study.plan([2e-3, 1e-3], trials=3)
    asked: list[Standing] = []

    def second(standing: Standing) -> str | None:
        asked.append(standing)
        return "no good" if len(asked) == 2 else None

    _, record = study.run(plan, executor=Clocked(), rule=second)
    assert record.ended[1].state == "stopped"
    assert record.ended[1].saved == 7.0 + 3.0  # its target's training and evaluation, as the baseline's took
    assert [job.took for job in record.ended[2].jobs] == [7.0, 7.0, 3.0]


def test_failures_say_what_kind_they_are_and_the_search_goes_on(study: Searched) -> None:
    _, record = study.run(study.plan([1e-3, 0.5, 2e-3, 0.6, 3e-3], trials=6))
    failures = {result.trial.number: result.failure for result in record.ended if result.failure}
    assert failures[2] == Failure(kind="user", message="the loss is not finite")
    assert (failures[4].kind, failures[4].message) == ("bug", "ZeroDivisionError: a bug")
    assert failures[4].detail.startswith("Traceback")


class Unlucky:
    """Every intermediate stage fails, above a rate of 0.55 by a bug."""

    def __init__(self, executor: FakeExecutor) -> None:
        self.executor = executor

    def run(self, job: Job, line: Sequence[Job], on_progress: Callable[..., None]) -> JobResult:
        if job.stage and job.name == "intermediate":
            raise ZeroDivisionError("a bug") if job.stage.learning_rate > 0.55 else TrialFailed("no luck")
        return self.executor.run(job, line, on_progress)


def test_most_trials_failing_ends_the_search_with_each_reason_once(study: Searched) -> None:
    message = "too many trials failed, 3 of 4:\n  no luck\n  ZeroDivisionError: a bug"
    with pytest.raises(StudyError, match=message):
        study.run(study.plan([0.51, 0.52, 0.6, 0.1], trials=5), executor=Unlucky(study.executor))


@pytest.fixture
def opened(study: Searched) -> Iterator[SearchLoop]:
    plan = study.plan([1e-3, 2e-3], trials=3)
    with Record.drive(StudyFolder(study.root / "runs" / "fake"), plan.as_dict()) as record:
        loop = study.loop(plan, record)
        with loop:
            yield loop


def step(loop: SearchLoop, study: Searched) -> Job:
    """Run the next job."""
    job = loop.next_job()
    assert job
    loop.finished(study.executor.run(job, loop.line(job)))
    loop.settle()
    return job


def test_a_trial_begins_only_if_no_job_is_ready(opened: SearchLoop, study: Searched) -> None:
    begun = lambda: {number for number, trial in enumerate(opened.record.waiting)}  # noqa: E731
    step(opened, study)
    step(opened, study)
    assert opened.record.complete
    first = opened.next_job()
    assert first
    assert len(begun()) == 1
    second = opened.next_job()  # the first stage runs, and nothing of its trial is ready
    assert second
    assert len(begun()) == 2


def test_a_lost_job_runs_again_and_only_the_third_loss_fails_its_trials(opened: SearchLoop, study: Searched) -> None:
    step(opened, study), step(opened, study)
    for losses in range(1, MAX_LOSSES + 1):
        job = opened.next_job()
        assert job
        assert job.name == "intermediate"
        opened.lost(job.key, "worker died")
        assert len(opened.record.complete) + len(opened.record.waiting) == 2 - (losses == MAX_LOSSES)
    lost = opened.record.ended[-1]
    assert lost.failure
    assert lost.failure.kind == "lost"
    assert not opened.stopping


def test_lost_trials_never_end_a_search(opened: SearchLoop, study: Searched) -> None:
    step(opened, study), step(opened, study)
    while (job := opened.next_job()) is not None:
        opened.lost(job.key, "worker died")
    assert [result.failure.kind for result in opened.record.ended if result.failure] == ["lost", "lost"]
    assert opened.error is None


def test_a_job_of_another_study_is_waited_for_without_a_device(study: Searched) -> None:
    class Shared:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def run(self, job: Job, line: Sequence[Job], on_progress: Callable[..., None]) -> JobResult:
            self.asked.append(job.name)
            if job.name == "intermediate" and self.asked.count("intermediate") < 3:
                raise Busy(job.key)
            return study.executor.run(job, line, on_progress)

    shared = Shared()
    outcome, record = study.run(study.plan([1e-3], trials=2), executor=shared)
    assert outcome.state == "finished"
    assert shared.asked.count("intermediate") == 3
    assert [result.state for result in record.ended] == ["complete", "complete"]


def test_an_evaluation_whose_rows_were_damaged_is_run_again(study: Searched) -> None:
    plan = study.plan([1e-3], trials=2)
    study.run(plan)
    for rows in (study.root / "store" / "entries").glob("*/*/rows.parquet"):
        rows.write_bytes(b"damaged")
    _, again = study.run(plan, "again")
    assert [result.state for result in again.ended] == ["complete", "complete"]
    assert len(pq.read_table(again.folder.trial(1).rows)) == 6


def test_a_removed_store_costs_training_and_nothing_else(study: Searched) -> None:
    plan = study.plan([1e-3], trials=2)
    study.run(plan)
    shutil.rmtree(study.root / "store")
    _, again = study.run(study.plan([1e-3], trials=2), "again")
    assert [result.state for result in again.ended] == ["complete", "complete"]


def test_an_interrupted_search_records_its_trials_as_stopped_and_the_next_one_completes_them(study: Searched) -> None:
    plan = study.plan([1e-3, 2e-3], trials=3)
    folder = StudyFolder(study.root / "runs" / "fake")
    with Record.drive(folder, plan.as_dict()) as record:
        with study.loop(plan, record) as loop:
            step(loop, study)
            loop.interrupt()
            assert loop.next_job() is not None  # what is ready of trials that have begun
        assert [result.state for result in record.ended] == ["stopped"]
    _, resumed = study.run(plan)
    assert [result.state for result in resumed.ended] == ["complete"] * 3
    assert resumed.ended[0].jobs[0].reused


def test_progress_is_in_the_folder_of_the_trial(opened: SearchLoop, study: Searched) -> None:
    job = opened.next_job()
    assert job
    opened.progress(job.key, JobProgress(name="train choice", step=3, steps=10, loss=1.0))
    opened.finished(study.executor.run(job, opened.line(job)))
    shown = read_progress(opened.record.folder.trial(0).progress)
    assert shown
    assert (shown.done, shown.jobs, shown.running) == (1, 2, ())
