"""The race of the best chains over fresh seeds: made-up scores, rounds by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.objective import Objective
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.plan.space_file import Confirm
from tunexfer.search.confirm import LEVEL, candidates, clearly_behind, next_round

LANGUAGES = ("en", "de", "ru")
MEAN = Objective(languages="all")
PER_TARGET = Objective(languages="all", maximize="per_target")


def chain(rate: float) -> Chain:
    mixture = Mixture(sources=(Source(task="mnli", language="en"),), shares=(1.0,))
    stages = (Stage(name="mnli", mixture=mixture, learning_rate=rate, steps=1),) if rate else ()
    return Chain(suite="toy", encoder=Encoder(name="pico"), stages=stages, targets=(Target(task="a"), Target(task="b")))


def trial(number: int) -> Trial:
    return Trial(number=number, phase="search" if number else "baseline", seed=7, point={}, chain=chain(number * 1e-3))


def race(levels: Mapping[int, Mapping[str, float]], seeds: int, objective: Objective = MEAN, failing: Any = ()) -> Any:
    """Run a race to its end.

    levels:  trial -> target -> mean score; languages and seeds add the same pattern to all
    failing: pairs of a trial and a seed that fail
    returns: the trials of each round
    """
    runs, taken, rounds = {}, set(), []
    racers = [trial(number) for number in levels if number]
    while True:
        missing = next_round(
            trial(0), racers, Confirm(top=9, seeds=seeds), runs, lambda one: (one.chain, one.seed) in taken, objective
        )
        if not missing:
            return rounds
        rounds.append([(one.number, one.seed) for one in missing])
        for one in missing:
            taken.add((one.chain, one.seed))
            if (one.number, one.seed) not in failing:
                noise = np.random.default_rng([one.number, one.seed]).normal(0, 0.1, size=6)
                units = [(target, language) for target in ("a", "b") for language in LANGUAGES]
                runs[one.chain, one.seed] = {
                    (target, language): levels[one.number][target] + wobble
                    for (target, language), wobble in zip(units, noise, strict=True)
                }


def test_each_round_gives_the_baseline_and_every_racer_one_more_seed() -> None:
    level = {"a": 50.0, "b": 50.0}
    assert race({0: level, 1: level, 2: level}, seeds=2) == [
        [(0, 8), (1, 8), (2, 8)],
        [(0, 9), (1, 9), (2, 9)],
    ]


def test_a_chain_clearly_behind_is_dropped_after_two_seeds_and_the_baseline_never_is() -> None:
    levels = {0: {"a": 40.0, "b": 40.0}, 1: {"a": 60.0, "b": 60.0}, 2: {"a": 50.0, "b": 50.0}}
    rounds = race(levels, seeds=3)
    assert [[number for number, _ in trials] for trials in rounds] == [[0, 1, 2], [0, 1, 2], [0, 1]]


def test_chains_that_are_all_clearly_behind_the_baseline_end_the_race() -> None:
    levels = {0: {"a": 60.0, "b": 60.0}, 1: {"a": 50.0, "b": 50.0}, 2: {"a": 40.0, "b": 40.0}}
    assert len(race(levels, seeds=5)) == 2


def test_a_chain_that_leads_in_one_target_stays_where_each_target_chooses_its_own() -> None:
    levels = {
        0: {"a": 40.0, "b": 40.0},
        1: {"a": 60.0, "b": 50.0},
        2: {"a": 40.0, "b": 50.5},
        3: {"a": 45.0, "b": 45.0},
    }
    by_mean = race(levels, seeds=3)
    assert [number for number, _ in by_mean[-1]] == [0, 1]
    each = race(levels, seeds=3, objective=PER_TARGET)
    assert [number for number, _ in each[-1]] == [0, 1, 2]


def test_a_chain_whose_trial_failed_leaves_the_race() -> None:
    level = {"a": 50.0, "b": 50.0}
    rounds = race({0: level, 1: level, 2: level}, seeds=2, failing={(2, 8)})
    assert rounds == [[(0, 8), (1, 8), (2, 8)], [(0, 9), (1, 9)]]


@pytest.mark.parametrize("seed", range(20))
def test_clearly_behind_is_scipys_paired_t_test(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(0, 1, 8), random.normal(0.8, 1, 8)
    expected = stats.ttest_rel(one, other, alternative="less").pvalue < LEVEL
    assert clearly_behind((one - other).tolist()) is bool(expected)


def test_equal_differences_need_no_test() -> None:
    assert clearly_behind([-1.0, -1.0])
    assert not clearly_behind([0.0, 0.0])
    assert not clearly_behind([-5.0])


def ended(number: int, a: float, b: float) -> TrialResult:
    targets = {"a": a, "b": b}
    of = trial(number)
    return TrialResult(trial=of, state="complete", started=0.0, seconds=1.0, objective=(a + b) / 2, by_target=targets)


ENDED = [ended(0, 50, 50), ended(1, 60, 40), ended(2, 55, 54), ended(3, 45, 60)]


def chosen(top: int, objective: Objective = MEAN, racing: Any = (), model: Any = lambda chain: None) -> list[int]:
    confirm = Confirm(top=top, seeds=1)
    return [one.number for one in candidates(ENDED, confirm, objective, [chain(r) for r in racing], model)]


def test_the_best_by_objective_race_and_the_baseline_is_not_among_them() -> None:
    assert chosen(2) == [2, 3]
    assert chosen(9) == [2, 3, 1]


def test_a_model_ranks_by_what_it_expects() -> None:
    assert chosen(
        2, model=lambda chain: ({1e-3: 70.0, 2e-3: 55.0, 3e-3: 56.0}[chain.stages[0].learning_rate], 1.0)
    ) == [1, 3]


def test_chains_that_race_already_keep_their_places() -> None:
    assert chosen(2, racing=[1e-3]) == [1, 2]


def test_where_each_target_chooses_the_best_of_each_race() -> None:
    assert sorted(chosen(1, PER_TARGET)) == [1, 3]


def test_a_chain_that_breaks_the_constraint_does_not_race() -> None:
    constrained = Objective(languages="all", no_target_below_baseline=1.0)
    assert chosen(9, constrained) == [2]
