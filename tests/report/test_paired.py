"""Intervals and p-values, against scipy's and against what can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from tunexfer.report.paired import Draws, Sums, draw, mean_draws
from tunexfer.report.row_sums import NUMBERS, TEXTS, row_sums
from tunexfer.tasks.metrics.labels import macro_f1, weighted_f1


def percent(sums: Any) -> Any:
    """Share of right rows: of how many are right, and of how many there are."""
    return 100 * sums[0] / sums[1]


def f1(sums: Any) -> Any:
    return 200 * sums[0] / (sums[1] + sums[2])


def accuracy_sums(after: Any, before: Any, clusters: Any = None) -> Sums:
    """One row a cluster, unless clusters say otherwise; one seed."""
    names = np.arange(len(after)) if clusters is None else np.asarray(clusters)
    codes, distinct = pd.factorize(names)
    sides = []
    for right in (after, before):
        rows = np.stack([np.asarray(right, dtype=float), np.ones(len(after))], axis=1)
        sides.append(np.stack([np.bincount(codes, weights=column) for column in rows.T], axis=1)[:, :, None])
    return Sums(clusters=distinct.astype(object), after=sides[0], before=sides[1], score=percent)


def only(sums: Sums, **options: Any) -> Draws:
    return draw({"de": sums}, **options)["de"]


@pytest.fixture
def right() -> tuple[Any, Any]:
    """Which of 300 rows two systems have right: about 70 and 60 in 100, mostly the same ones."""
    hard = np.random.default_rng(3).uniform(size=300)
    wobble = np.random.default_rng(4).normal(0, 0.1, size=300)
    return (hard < 0.7).astype(float), (hard + wobble < 0.6).astype(float)


def test_the_interval_is_the_one_scipy_gives(right: tuple[Any, Any]) -> None:
    theirs = scipy.stats.bootstrap(
        right,
        lambda a, b, axis: 100 * (a.mean(axis=axis) - b.mean(axis=axis)),
        paired=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    low, high = only(accuracy_sums(*right)).interval
    assert low == pytest.approx(theirs.low, abs=0.35)
    assert high == pytest.approx(theirs.high, abs=0.35)


def test_the_interval_of_a_ratio_of_sums_is_the_one_scipy_gives() -> None:
    rng = np.random.default_rng(6)
    gold = rng.integers(1, 6, size=200)
    sides = []
    for rate in (0.75, 0.65):
        hits = rng.binomial(gold, rate)
        sides.append(np.stack([hits, hits + rng.binomial(2, 0.3, size=200), gold], axis=1).astype(float))
    theirs = scipy.stats.bootstrap(
        (np.arange(200),),
        lambda rows: f1(sides[0][rows].sum(axis=0)) - f1(sides[1][rows].sum(axis=0)),
        vectorized=False,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    after, before = (side[:, :, None] for side in sides)
    mine = only(Sums(clusters=np.arange(200).astype(object), after=after, before=before, score=f1)).interval
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.4)


def test_the_p_value_is_that_of_a_paired_permutation_test(right: tuple[Any, Any]) -> None:
    after, before = right[0][:60], right[1][:60]
    theirs = scipy.stats.permutation_test(
        (after, before),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        permutation_type="samples",
        n_resamples=10_000,
        rng=np.random.default_rng(8),
    ).pvalue
    assert 0.001 < theirs < 0.5
    assert only(accuracy_sums(after, before)).p == pytest.approx(theirs, abs=0.02)


def test_eight_rows_that_all_change_the_same_way_have_the_p_value_of_the_sign_test() -> None:
    sums = accuracy_sums([1] * 8 + [0, 1], [0] * 8 + [0, 1])
    assert only(sums).p == pytest.approx(2 / 2**8, abs=0.003)


def test_chains_that_do_the_same_differ_by_nothing_for_sure() -> None:
    same = only(accuracy_sums([1, 0, 1], [1, 0, 1]))
    assert (same.delta, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)


def test_chance_alone_passes_for_a_difference_one_time_in_twenty() -> None:
    rng = np.random.default_rng(9)
    hard = rng.uniform(size=(400, 80))
    sides = [(hard + rng.normal(0, 0.3, size=hard.shape) < 0.5).astype(float) for _ in range(2)]
    result = [only(accuracy_sums(a, b), resamples=400).p < 0.05 for a, b in zip(*sides, strict=True)]
    assert 0.02 <= np.mean(result) <= 0.075


def test_rows_of_one_cluster_count_together(right: tuple[Any, Any]) -> None:
    once = only(accuracy_sums(*right))
    copies = [np.repeat(side, 4) for side in right]
    together = only(accuracy_sums(*copies, clusters=np.repeat(np.arange(300), 4)))
    apart = only(accuracy_sums(*copies))
    assert together.interval == pytest.approx(once.interval)
    assert together.p == pytest.approx(once.p)
    width = np.diff(once.interval)[0]
    assert np.diff(apart.interval)[0] == pytest.approx(width / 2, rel=0.1)  # four times the rows, half the width


def test_parallel_rows_are_drawn_together_in_all_languages(right: tuple[Any, Any]) -> None:
    """The mean over two languages with the same rows is no more certain than either; with rows of their own it is."""
    sums = accuracy_sums(*right)
    other = Sums(clusters=sums.clusters + 1000, after=sums.after, before=sums.before, score=percent)
    alike = mean_draws([*draw({"de": sums, "ru": sums}).values()])
    unlike = mean_draws([*draw({"de": sums, "ru": other}).values()])
    alone = np.diff(only(sums).interval)[0]
    assert np.diff(alike.interval)[0] == pytest.approx(alone, rel=0.05)
    assert np.diff(unlike.interval)[0] == pytest.approx(alone / np.sqrt(2), rel=0.07)


def test_the_variance_through_rows_is_the_part_that_seeds_share() -> None:
    """Two seeds: what rows do in common has variance 1, what they do to each alone has 4, and is not counted."""
    rng = np.random.default_rng(11)
    common, own = rng.normal(0, 1, size=20_000), rng.normal(0, 2, size=(20_000, 2))
    draws = Draws(0.0, common[:, None] + own, common, clusters=50)
    assert draws.rows == pytest.approx(1.0, abs=0.1)
    assert Draws(0.0, (common + own[:, 0])[:, None], common, clusters=50).rows == pytest.approx(5.0, abs=0.2)


def test_several_seeds_give_the_interval_of_their_mean(right: tuple[Any, Any]) -> None:
    single = accuracy_sums(*right)
    none = accuracy_sums(right[1], right[1])
    both = Sums(
        clusters=single.clusters,
        after=np.concatenate([single.after, none.after], axis=2),
        before=np.concatenate([single.before, none.before], axis=2),
        score=percent,
    )
    assert only(both).delta == pytest.approx(only(single).delta / 2)
    assert only(both).interval == pytest.approx(tuple(end / 2 for end in only(single).interval))


def rows(**columns: Any) -> dict[str, Any]:
    nothing = [np.nan] * len(next(iter(columns.values())))
    texts = {name: np.array(columns.get(name, nothing), dtype=object) for name in TEXTS}
    return texts | {name: np.array(columns.get(name, nothing), dtype=float) for name in NUMBERS}


@pytest.mark.parametrize(
    ("metric", "columns", "score"),
    [
        ("accuracy", {"correct": [1.0, 0.0, 1.0, 1.0]}, 75.0),
        ("exact_match", {"em": [1.0, 0.0], "f1": [1.0, 0.5]}, 50.0),
        ("f1", {"em": [1.0, 0.0], "f1": [1.0, 0.5]}, 75.0),
        ("mean", {"em": [1.0, 0.0], "f1": [1.0, 0.5]}, 62.5),
        ("precision", {"tp": [1, 2], "predicted": [2, 2], "gold_count": [1, 5]}, 75.0),
        ("recall", {"tp": [1, 2], "predicted": [2, 2], "gold_count": [1, 5]}, 50.0),
        ("f1", {"tp": [1, 2], "predicted": [2, 2], "gold_count": [1, 5]}, 60.0),
        ("f1", {"tp": [0, 0], "predicted": [0, 0], "gold_count": [1, 1]}, 0.0),
    ],
)
def test_a_metric_is_made_of_sums_over_rows(metric: str, columns: dict[str, Any], score: float) -> None:
    result = row_sums(metric, rows(**columns))
    assert result is not None
    assert float(result[1](result[0].sum(axis=1))) == pytest.approx(score)


@pytest.mark.parametrize(("metric", "mean"), [("macro_f1", macro_f1), ("weighted_f1", weighted_f1)])
def test_a_mean_of_f1_of_any_drawn_rows_is_the_metrics_own(metric: str, mean: Any) -> None:
    gold, predicted = list("aabbcab"), list("abbbcca")
    result = row_sums(metric, rows(gold=gold, prediction=predicted))
    assert result is not None
    for drawn in ([0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 5], [4, 4, 4], [2, 3, 6, 6]):
        weights = np.bincount(drawn, minlength=7).astype(float)
        expected = mean([gold[n] for n in drawn], [predicted[n] for n in drawn])
        assert float(result[1](result[0] @ weights)) == pytest.approx(100 * expected)


def test_rows_that_lack_what_a_metric_is_made_of_give_nothing() -> None:
    assert row_sums("accuracy", rows(em=[1.0])) is None
    assert row_sums("bleu", rows(correct=[1.0])) is None
