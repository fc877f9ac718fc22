"""Which trial comes next, without Ray: drawing, repeating nothing, continuing, confirming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from drive import SPACE, plan_in

from tunexfer.core.controls import equal_compute, without_stages
from tunexfer.core.files import StudyFolder
from tunexfer.core.scores import Score
from tunexfer.core.trial import JobRun, State, Trial, TrialResult
from tunexfer.errors import SpaceError, StudyError
from tunexfer.plan.plan import Plan
from tunexfer.record.folder import trials_in_all, trials_missing, trials_wanted
from tunexfer.record.record import Record
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import OptunaSampler
from tunexfer.search.schedule import Schedule

WHOLE_SPACE = 2 * (1 + 3 * 2 * 3)
"""Chains: two target rates; no stage, or three task sets in two languages at three rates."""
ONE_RATE = [SPACE["stages"][0] | {"learning_rate": 1.0e-3}]
SMALL_SPACE = 2 * (1 + 3 * 2)
"""Chains, if the three rates are one."""


def plan_of(folder: Path, trials: int, algorithm: str = "tpe", **changes: Any) -> Plan:
    return plan_in(folder, {"search.trials": str(trials), "search.algorithm": algorithm}, **changes)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with Record.drive(StudyFolder(tmp_path / "runs" / "fake"), plan_of(tmp_path, 1).as_dict()) as record:
        yield record


def end(schedule: Schedule, record: Record, trial: Trial, state: State = "complete") -> None:
    value = 50.0 + 1000 * sum(stage.learning_rate for stage in trial.chain.stages) + trial.seed % 3
    score = Score(
        target="choice", language="en", split="validation", metric="accuracy", value=value, main=True, unseen=False
    )
    result = TrialResult(trial=trial, state=state, started=0.0, seconds=1.0)
    if state == "complete":
        result = replace(result, objective=value, scores=(score,))
    schedule.ended(record.finish(result, [pa.table({"id": ["a"]})]))


def run_through(plan: Plan, record: Record, at_most: int = 1000) -> list[Trial]:
    """Run trials one by one until there are no more."""
    schedule, ran = Schedule(plan, record), []
    while isinstance(trial := schedule.next(), Trial) and len(ran) < at_most:
        record.begin(trial)
        end(schedule, record, trial)
        ran.append(trial)
    return ran


@pytest.mark.parametrize("algorithm", ["tpe", "random", "grid"])
def test_the_baseline_is_trial_0_and_no_chain_is_run_twice(tmp_path: Path, record: Record, algorithm: str) -> None:
    ran = run_through(plan_of(tmp_path, 12, algorithm), record)
    assert [trial.number for trial in ran] == list(range(12))
    assert ran[0].phase == "baseline"
    assert ran[0].chain.stages == ()
    assert {trial.phase for trial in ran[1:]} == {"search"}
    assert len({trial.fingerprint for trial in ran}) == 12


@pytest.mark.parametrize("algorithm", ["tpe", "random", "grid"])
def test_a_space_is_exhausted_when_no_new_chain_turns_up(tmp_path: Path, record: Record, algorithm: str) -> None:
    assert len(run_through(plan_of(tmp_path, 99, algorithm, stages=ONE_RATE), record)) == SMALL_SPACE


@pytest.mark.parametrize("algorithm", ["tpe", "random", "grid"])
@pytest.mark.parametrize("broken_off", [1, 5, 13])
def test_a_continued_study_draws_what_it_would_have_drawn_in_one_go(
    tmp_path: Path, algorithm: str, broken_off: int
) -> None:
    plan = plan_of(tmp_path, 16, algorithm)
    with Record.drive(StudyFolder(tmp_path / "one"), plan.as_dict()) as record:
        in_one_go = run_through(plan, record)
    folder = StudyFolder(tmp_path / "two")
    with Record.drive(folder, plan.as_dict()) as record:
        first = run_through(plan, record, broken_off)
    with Record.drive(folder, plan.as_dict()) as record:
        assert [*first, *run_through(plan, record)] == in_one_go


def test_what_was_begun_and_not_finished_comes_first_as_the_same_trial(tmp_path: Path, record: Record) -> None:
    plan = plan_of(tmp_path, 6)
    schedule = Schedule(plan, record)
    begun = [schedule.next() for _ in range(3)]
    for trial in begun:
        assert isinstance(trial, Trial)
        record.begin(trial)
    assert isinstance(begun[0], Trial)
    end(schedule, record, begun[0])
    again = run_through(plan, Record(record.folder))
    assert again[:2] == begun[1:]
    assert [trial.number for trial in again] == [1, 2, 3, 4, 5]


def test_a_failed_trial_is_told_as_failed_and_its_chain_is_not_drawn_again(tmp_path: Path, record: Record) -> None:
    schedule = Schedule(plan_of(tmp_path, SMALL_SPACE, stages=ONE_RATE), record)
    seen = []
    while isinstance(trial := schedule.next(), Trial):
        record.begin(trial)
        end(schedule, record, trial, "complete" if trial.number % 2 == 0 else "failed")
        seen.append(trial.fingerprint)
    assert len(set(seen)) == len(seen) == SMALL_SPACE
    sampler = schedule.sampler
    assert isinstance(sampler, OptunaSampler)
    complete = [t for t in sampler.study.trials if t.state.name == "COMPLETE"]
    values = {trial.value for trial in complete}
    assert values <= {ended.objective for ended in record.complete}
    assert len(complete) <= len(record.complete)


def test_trials_in_flight_are_not_drawn_again(tmp_path: Path, record: Record) -> None:
    schedule = Schedule(plan_of(tmp_path, WHOLE_SPACE), record)
    trials = []
    while isinstance(trial := schedule.next(), Trial):
        record.begin(trial)
        trials.append(trial.fingerprint)
    assert len(set(trials)) == len(trials)
    assert len(trials) > WHOLE_SPACE / 2


def test_more_trials_extend_a_finished_study(tmp_path: Path, record: Record) -> None:
    run_through(plan_of(tmp_path, 4), record)
    assert run_through(plan_of(tmp_path, 4), record) == []
    assert [trial.number for trial in run_through(plan_of(tmp_path, 6), record)] == [4, 5]


def test_confirmation_waits_for_the_search_and_reruns_the_best_and_the_baseline(tmp_path: Path, record: Record) -> None:
    plan = plan_of(tmp_path, 6, confirm={"top": 2, "seeds": 2})
    schedule = Schedule(plan, record)
    trials = []
    for _ in range(6):
        trial = schedule.next()
        assert isinstance(trial, Trial)
        record.begin(trial)
        trials.append(trial)
    assert schedule.next() == "wait"
    for trial in trials:
        end(schedule, record, trial)
    confirms = []
    while isinstance(trial := schedule.next(), Trial):
        record.begin(trial)
        assert (trials_in_all(plan.as_dict(), record.ended, 1) or 0) > len(record.complete)
        end(schedule, record, trial)
        confirms.append(trial)
    assert trials_in_all(plan.as_dict(), record.ended) == len(record.complete)
    best = sorted(record.complete[1:6], key=lambda e: (-(e.objective or 0), e.trial.number))[:2]
    raced = [trials[0].chain, *(ended.trial.chain for ended in best)]
    # beside a chain whose target values are not the baseline's, the one without stages that has them
    own = dict.fromkeys(replace(chain, stages=()) for chain in raced)
    expected = list(dict.fromkeys([*raced, *own]))
    assert [trial.chain for trial in confirms] == expected * 2
    assert [trial.seed for trial in confirms] == [4] * len(expected) + [5] * len(expected)
    assert [trial.number for trial in confirms] == list(range(6, 6 + 2 * len(expected)))
    assert {trial.phase for trial in confirms} == {"confirm"}
    by_chain = {trial.chain: trial.point for trial in trials}
    without_stages = [trial for trial in confirms if not trial.chain.stages]
    assert all(trial.point == by_chain[trial.chain] for trial in confirms if trial.chain.stages)
    assert [trial.point for trial in without_stages if trial.chain == plan.baseline[1]] == [plan.baseline[0]] * 2
    assert not [name for trial in without_stages for name in trial.point if name.startswith("stages")]
    assert run_through(plan, Record(record.folder)) == []


def test_a_study_without_confirmation_runs_its_baseline_with_three_seeds(tmp_path: Path, record: Record) -> None:
    plan = plan_of(tmp_path, 3, noise={"seeds": 3})
    ran = run_through(plan, record)
    assert [trial.phase for trial in ran] == ["baseline", "search", "search", "confirm", "confirm"]
    assert [(trial.chain, trial.seed) for trial in ran[3:]] == [(ran[0].chain, 4), (ran[0].chain, 5)]
    assert trials_wanted(plan.as_dict()) == 5
    assert trials_missing(plan.as_dict(), record.ended) == 0
    assert run_through(plan, Record(record.folder)) == []


def test_baselines_of_equal_compute_run_beside_each_confirmed_chain(tmp_path: Path, record: Record) -> None:
    plan = plan_of(tmp_path, 6, confirm={"top": 1, "seeds": 2}, baseline={"matched": "compute"})
    confirms = [trial for trial in run_through(plan, record) if trial.phase == "confirm"]
    best = next(trial.chain for trial in confirms if trial.chain.stages)
    expected = {plan.baseline[1], best, without_stages(best), *equal_compute(best).values()}
    for seed in (4, 5):
        assert {trial.chain for trial in confirms if trial.seed == seed} == expected
    assert not [name for trial in confirms if trial.chain != best for name in trial.point if name.startswith("stages")]
    assert run_through(plan, Record(record.folder)) == []


def test_without_confirmation_the_best_chain_has_baselines_of_equal_compute(tmp_path: Path, record: Record) -> None:
    plan = plan_of(tmp_path, 6, baseline={"matched": "compute"})
    ran = run_through(plan, record)
    best = max(record.complete, key=lambda result: result.objective or 0.0).trial.chain
    added = {(trial.chain, trial.seed) for trial in ran if trial.phase == "confirm"}
    assert {(control, 3) for control in equal_compute(best).values()} <= added
    assert plan.identity() == plan_of(tmp_path, 6).identity()  # they can be added to a study that is finished
    assert run_through(plan, Record(record.folder)) == []


def test_continuous_coordinates_survive_the_record(tmp_path: Path) -> None:
    target = {
        "task": "choice",
        "train_language": "en",
        "learning_rate": {"log_uniform": [1.0e-5, 1.0e-2]},
        "steps": {"int_uniform": [2, 9]},
    }
    plan = plan_of(tmp_path, 14, targets=[target])
    folder = StudyFolder(tmp_path / "one")
    with Record.drive(folder, plan.as_dict()) as record:
        ran = run_through(plan, record, 12)
    with Record.drive(folder, plan.as_dict()) as record:
        assert [ended.trial for ended in record.ended] == ran
        schedule = Schedule(plan, record)
        sampler = schedule.sampler
        assert isinstance(sampler, OptunaSampler)
        assert [trial.params for trial in sampler.study.trials] == [trial.point for trial in ran[1:]]


def test_tpe_finds_better_chains_than_chance(tmp_path: Path) -> None:
    """A chain's value is its stage's rate x 1000: 0 without one, else 1, 2 or 3; the mean over the space is 1.9."""

    def mean_after_the_start(algorithm: str) -> float:
        values = []
        for seed in range(8):
            plan = plan_of(tmp_path / "space", 16, algorithm, search={"seed": seed})
            with Record.drive(StudyFolder(tmp_path / f"{algorithm}-{seed}"), plan.as_dict()) as record:
                chains = [trial.chain for trial in run_through(plan, record)]
            values += [1000 * sum(stage.learning_rate for stage in chain.stages) for chain in chains[6:]]
        return sum(values) / len(values)

    assert mean_after_the_start("tpe") > mean_after_the_start("random") + 0.3


@pytest.mark.parametrize("objective", [{"minimize": "device_seconds"}, {"maximize": "per_target"}])
def test_several_goals_are_searched_alike_after_an_interruption(tmp_path: Path, objective: dict[str, Any]) -> None:
    plan = plan_of(tmp_path, 9, objective={"languages": "all", **objective})

    def search(record: Record, at_most: int = 99) -> list[Trial]:
        schedule, ran = Schedule(plan, record), []
        while len(ran) < at_most and isinstance(trial := schedule.next(), Trial):
            record.begin(trial)
            value = 50.0 + 1000 * sum(stage.learning_rate for stage in trial.chain.stages)
            facts: Any = {
                "goals": {"mean": value, "device_seconds": value},
                "by_target": {"choice": value, "pairs": 9.0},
            }
            score = Score(
                target="choice", language="en", split="validation", metric="f1", value=value, main=True, unseen=False
            )
            ended = TrialResult(trial=trial, state="complete", started=0.0, seconds=1.0, objective=value, **facts)
            schedule.ended(record.finish(replace(ended, scores=(score,)), [pa.table({"id": ["a"]})]))
            ran.append(trial)
        return ran

    with Record.drive(StudyFolder(tmp_path / "one"), plan.as_dict()) as record:
        in_one_go = search(record)
    with Record.drive(StudyFolder(tmp_path / "two"), plan.as_dict()) as record:
        first = search(record, 7)
    with Record.drive(StudyFolder(tmp_path / "two"), plan.as_dict()) as record:
        assert [*first, *search(record)] == in_one_go
    assert len(in_one_go) == 9


def timed(trial: Trial, record: Record, schedule: Schedule, seconds: float) -> None:
    """End a trial whose jobs took so many seconds each, but for those that other trials had done."""
    jobs = Costs(trial.seed).jobs(trial.chain)
    done = {run.key for result in record.ended for run in result.jobs}
    runs = tuple(
        JobRun(
            key=job.key,
            kind=job.kind,
            name=job.name,
            reused=job.key in done,
            steps=job.steps,
            seconds=0.0 if job.key in done else seconds,
        )
        for job in jobs
    )
    value = 50.0 + 1000 * sum(stage.learning_rate for stage in trial.chain.stages)
    scores = tuple(
        Score(target=target.name, language="en", split="validation", metric="m", value=value, main=True, unseen=False)
        for target in trial.chain.targets
    )
    result = TrialResult(trial=trial, state="complete", started=0, seconds=1, objective=value, jobs=runs, scores=scores)
    schedule.ended(record.finish(result, [pa.table({"id": ["a"]})]))


def run_timed(plan: Plan, record: Record, seconds: float) -> tuple[Schedule, list[Trial]]:
    schedule, ran = Schedule(plan, record), []
    while isinstance(trial := schedule.next(), Trial):
        record.begin(trial)
        timed(trial, record, schedule, seconds)
        ran.append(trial)
    return schedule, ran


def spent(record: Record) -> float:
    return sum(run.seconds for result in record.ended for run in result.jobs)


def test_a_budget_ends_the_search_in_time_and_keeps_what_confirmation_needs(tmp_path: Path, record: Record) -> None:
    search = {"seed": 3, "budget": {"device_hours": 1}}
    plan = plan_of(tmp_path, 99, "chain", search=search, confirm={"top": 1, "seeds": 2})
    schedule, ran = run_timed(plan, record, 100.0)
    confirms = [trial for trial in ran if trial.phase == "confirm"]
    assert 2 <= len(confirms) <= 6  # baseline, the best chain and the one without its stages, with two seeds
    assert 2600 < spent(record) <= 3600
    assert "budget of 1 device hours" in schedule.why
    assert not schedule.exhausted


def test_an_automatic_search_ends_once_nothing_is_to_be_gained_and_says_so(tmp_path: Path, record: Record) -> None:
    plan = plan_in(tmp_path, {"search.trials": "auto", "search.algorithm": "chain"})
    schedule, ran = run_timed(plan, record, 10.0)
    assert 6 <= len(ran) < WHOLE_SPACE
    assert "expected to gain" in schedule.why
    best = max(record.complete, key=lambda result: result.objective or 0.0)
    assert best.objective == 53.0


def test_what_pays_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="`trials: auto` needs the model of `algorithm: chain`"):
        plan_in(tmp_path, {"search.trials": "auto", "search.algorithm": "tpe"})


def test_an_earlier_study_teaches_a_new_one(tmp_path: Path, record: Record) -> None:
    """The new study's first draw has the rate that the earlier one found to be the best."""
    plan = plan_of(tmp_path, 14, "chain")
    run_timed(plan, record, 10.0)
    later = plan_of(tmp_path, 3, "chain", search={"seed": 3, "from": [str(record.folder.path)]})
    with Record.drive(StudyFolder(tmp_path / "later"), later.as_dict()) as fresh:
        _, ran = run_timed(later, fresh, 10.0)
    assert ran[1].chain.stages[0].learning_rate == 3.0e-3


def test_an_earlier_study_that_is_not_there_is_an_error(tmp_path: Path, record: Record) -> None:
    plan = plan_of(tmp_path, 3, "chain", search={"from": [str(tmp_path / "nowhere")]})
    with pytest.raises(StudyError, match="nowhere holds no study"):
        Schedule(plan, record)


def test_a_chain_put_together_from_finished_jobs_does_not_count(tmp_path: Path, record: Record) -> None:
    rates = {"choice": [1.0e-3, 2.0e-3]}
    targets = [
        {"name": name, "task": "choice", "train_language": "en", "learning_rate": rates, "steps": 10} for name in "ab"
    ]
    plan = plan_of(tmp_path, 30, "chain", stages=[], targets=targets)
    _, ran = run_timed(plan, record, 10.0)
    assert len(ran) == 4
    keys: set[str] = set()
    free = []
    for trial in ran:
        own = {job.key for job in Costs(trial.seed).jobs(trial.chain)}
        free.append(own <= keys)
        keys |= own
    again = Schedule(plan, record)
    assert again._searched == len(ran) - sum(free)
