"""One number out of several goals: by hand, and over many draws."""

from __future__ import annotations

from typing import Any

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.objective import Objective
from tunexfer.core.trial import Phase, Trial, TrialResult
from tunexfer.search.goals import scalars


def result(number: int, phase: Phase = "search", **facts: Any) -> TrialResult:
    mixture = Mixture(sources=(Source(task="mnli", language="en"),), shares=(1.0,))
    stages = (Stage(name="mnli", mixture=mixture, learning_rate=number * 1e-3, steps=1),) if number else ()
    chain = Chain(
        suite="toy", encoder=Encoder(name="pico"), stages=stages, targets=(Target(task="a"), Target(task="b"))
    )
    trial = Trial(number=number, phase=phase, seed=0, point={}, chain=chain)
    return TrialResult(trial=trial, state="complete", started=0.0, seconds=1.0, **facts)


def test_one_goal_is_taken_as_it_is() -> None:
    results = [result(number, objective=50.0 + number) for number in range(3)]
    assert scalars(results, Objective(), 7) == {0: 50.0, 1: 51.0, 2: 52.0}


def test_several_goals_are_weighted_by_the_draw_and_each_best_in_one_goal_wins_some_draws() -> None:
    goals = [(50.0, 10.0), (60.0, 90.0), (40.0, 95.0)]
    results = [
        result(number, objective=mean, goals={"mean": mean, "device_seconds": seconds})
        for number, (mean, seconds) in enumerate(goals)
    ]
    objective = Objective(minimize="device_seconds")
    assert scalars(results, objective, 7) == scalars(results, objective, 7)
    draws = [scalars(results, objective, seed) for seed in range(40)]
    assert {max(values, key=values.__getitem__) for values in draws} == {0, 1}  # trial 2 is worse in both


def test_where_each_target_chooses_a_draw_is_for_one_target() -> None:
    results = [result(0, by_target={"a": 50.0, "b": 60.0}), result(1, by_target={"a": 55.0, "b": 40.0})]
    draws = [scalars(results, Objective(maximize="per_target"), seed) for seed in range(20)]
    assert {tuple(values.items()) for values in draws} == {((0, 50.0), (1, 55.0)), ((0, 60.0), (1, 40.0))}


def test_a_chain_that_breaks_the_constraint_counts_as_worse_than_every_other() -> None:
    results = [
        result(0, "baseline", objective=50.0, by_target={"a": 50.0}),
        result(1, objective=90.0, by_target={"a": 48.0}),
        result(2, objective=55.0, by_target={"a": 55.0}),
    ]
    values = scalars(results, Objective(no_target_below_baseline=1.0), 7)
    assert values == {0: 50.0, 1: 50.0 - 2.0, 2: 55.0}
