"""Goals of a trial, and who wins: expected values by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.objective import Objective, dominates
from tunexfer.core.scores import Score
from tunexfer.core.trial import Phase, Trial, TrialResult
from tunexfer.core.winners import allowed, best_by, best_of, front, losses


def stage(name: str, rate: float) -> Stage:
    mixture = Mixture(sources=(Source(task=name, language="en"),), shares=(1.0,))
    return Stage(name=name, mixture=mixture, learning_rate=rate, steps=1)


TARGETS = (Target(task="xnli", stage=stage("xnli", 1e-3)), Target(task="tags", stage=stage("tags", 1e-3)))


def chain(rate: float) -> Chain:
    """A chain with one stage of that rate; 0 stands for the baseline's."""
    stages = (stage("mnli", rate),) if rate else ()
    return Chain(suite="toy", encoder=Encoder(name="pico"), stages=stages, targets=TARGETS)


def result(number: int, rate: float, phase: Phase = "search", seed: int = 0, **facts: Any) -> TrialResult:
    trial = Trial(number=number, phase=phase, seed=seed, point={}, chain=chain(rate))
    return TrialResult(trial=trial, state="complete", started=0.0, seconds=1.0, **facts)


def scores(values: Mapping[str, Mapping[str, float]]) -> list[Score]:
    common: dict[str, Any] = {"split": "validation", "metric": "f1", "main": True, "unseen": True}
    return [
        Score(target=target, language=language, value=value, **common)
        for target, own in values.items()
        for language, value in own.items()
    ]


SCORES = scores({"xnli": {"en": 80.0, "de": 60.0}, "tags": {"en": 50.0, "de": 30.0}})


def test_several_goals_are_computed_from_the_same_scores() -> None:
    objective = Objective(maximize=["worst_language", "mean"], minimize="device_seconds", languages="all")
    assert objective.goals == ("worst_language", "mean", "device_seconds")
    values = objective.values(SCORES, chain(1e-3), 12.0)
    assert values == {"worst_language": (60 + 30) / 2, "mean": (70 + 40) / 2, "device_seconds": 12.0}
    assert objective.value(SCORES, chain(1e-3)) == values["worst_language"]  # the first one leads
    assert objective.several


def test_per_target_gives_each_target_its_mean_and_leads_by_the_mean_of_these() -> None:
    objective = Objective(maximize="per_target", languages="all")
    assert objective.by_target(SCORES, chain(1e-3)) == {"xnli": 70.0, "tags": 40.0}
    assert objective.value(SCORES, chain(1e-3)) == 55.0
    assert objective.several


def test_targets_without_scores_to_read_are_left_out() -> None:
    assert Objective(languages=["sw"]).by_target(SCORES, chain(0)) == {}
    assert Objective(languages=["de"]).by_target(SCORES[:2], chain(0)) == {"xnli": 60.0}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"mean": 2.0, "device_seconds": 5.0}, {"mean": 1.0, "device_seconds": 5.0}, True),
        ({"mean": 1.0, "device_seconds": 4.0}, {"mean": 1.0, "device_seconds": 5.0}, True),
        ({"mean": 2.0, "device_seconds": 6.0}, {"mean": 1.0, "device_seconds": 5.0}, False),
        ({"mean": 1.0, "device_seconds": 5.0}, {"mean": 1.0, "device_seconds": 5.0}, False),
    ],
)
def test_a_trial_dominates_another_if_it_is_nowhere_worse_and_somewhere_better(
    one: dict[str, float], other: dict[str, float], expected: bool
) -> None:
    assert dominates(one, other) is expected


def test_the_front_holds_what_nothing_else_beats_in_all_goals() -> None:
    objective = Objective(minimize="device_seconds")
    facts = [(50.0, 10.0), (60.0, 30.0), (55.0, 40.0), (58.0, 20.0)]
    results = [
        result(number, number * 1e-3, objective=mean, goals={"mean": mean, "device_seconds": seconds})
        for number, (mean, seconds) in enumerate(facts)
    ]
    results[0] = replace(results[0], trial=replace(results[0].trial, phase="baseline"))
    assert [one.trial.number for one in front(results, objective)] == [1, 3, 0]
    assert front(results, Objective()) == []


def with_targets(number: int, rate: float, xnli: float, tags: float, **more: Any) -> TrialResult:
    return result(number, rate, objective=(xnli + tags) / 2, by_target={"xnli": xnli, "tags": tags}, **more)


def test_a_chain_that_loses_more_than_allowed_in_one_target_is_not_recommended() -> None:
    results = [
        with_targets(0, 0, 60.0, 50.0, phase="baseline"),
        with_targets(1, 1e-3, 70.0, 48.5),  # best mean, 1.5 points lost in tags
        with_targets(2, 2e-3, 65.0, 49.0),  # exactly 1 point lost
    ]
    objective = Objective(no_target_below_baseline=1.0)
    assert losses(results, objective) == {1: {"tags": -1.5}}
    assert [one.trial.number for one in allowed(results, objective)] == [0, 2]
    assert best_of(results, objective) == results[2]
    assert best_of(results, Objective()) == results[1]


def test_fresh_seeds_take_part_in_what_a_chain_is_said_to_lose() -> None:
    results = [
        with_targets(0, 0, 60.0, 50.0, phase="baseline"),
        with_targets(1, 1e-3, 70.0, 48.5),
        with_targets(2, 0, 60.0, 48.0, phase="confirm", seed=1),
        with_targets(3, 1e-3, 70.0, 48.0, phase="confirm", seed=1),
    ]
    assert losses(results, Objective(no_target_below_baseline=1.0)) == {}  # -1.5 and 0: -0.75 on average


def test_a_target_s_winner_is_named_by_its_mean_over_fresh_seeds() -> None:
    own = [with_targets(0, 0, 60.0, 50.0, phase="baseline"), with_targets(1, 1e-3, 90.0, 50.0)]
    own.append(with_targets(2, 2e-3, 80.0, 50.0))
    values = {one.trial.number: one.by_target["xnli"] for one in own}
    assert best_by(own, values) == own[1]
    again = [
        result(3 + place, rate, phase="confirm", seed=1, by_target={"xnli": xnli})
        for place, (rate, xnli) in enumerate([(0, 60.0), (1e-3, 70.0), (2e-3, 75.0)])
    ]
    values |= {one.trial.number: one.by_target["xnli"] for one in again}
    assert best_by([*own, *again], values) == own[2]
