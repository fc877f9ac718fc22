"""The model of the noise, against scipy, statsmodels and numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from tunexfer.plan.detect import detectable, seeds_to_detect
from tunexfer.record.noise import (
    Gain,
    baseline_spread,
    gain,
    holm,
    kept_gain,
    language_gains,
    moderated,
    sureness,
)


def test_without_row_noise_it_is_students_interval_and_test_of_a_mean() -> None:
    deltas = np.random.default_rng(1).normal(2.0, 1.5, size=6)
    result, test = gain(deltas.mean(), deltas, seeds=6), scipy.stats.ttest_1samp(deltas, 0)
    assert result is not None
    assert result.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert result.p == pytest.approx(test.pvalue)


def test_rows_and_seeds_add_up_with_degrees_of_freedom_between_theirs() -> None:
    """By hand: variances of 4 / 4 seeds = 1 and 0.5 have 3 and 29 degrees of freedom, 1.5 / (1 / 3 + 0.5 / 29)."""
    seeds = np.array([1.0, 1.0, 5.0, 5.0]) * math.sqrt(3) / 2  # variance 4
    result = gain(seeds.mean(), seeds, seeds=4, rows=0.5, clusters=30)
    assert result is not None
    assert result.se == pytest.approx(math.sqrt(1.5))
    assert result.df == pytest.approx(1.5 / (1 / 3 + 0.5 / 29))


@pytest.mark.parametrize("rows", [0.1, 0.3])
def test_three_seeds_with_some_noise_of_rows_claim_at_most_six_of_a_hundred(rows: float) -> None:
    """Where nothing is there: 5.8 of 100, with a standard deviation of 0.4; 7.8 with Satterthwaite's degrees."""
    rng = np.random.default_rng(1)
    through_rows = rng.normal(0, math.sqrt(rows), size=(4_000, 1))
    runs = through_rows + rng.normal(0, math.sqrt(3), size=(4_000, 3))
    results = [gain(study.mean(), study, seeds=3, rows=rows, clusters=200) for study in runs]
    assert np.mean([result is not None and result.p < 0.05 for result in results]) < 0.058 + 3 * 0.004


def test_two_seeds_take_no_certainty_from_the_rows() -> None:
    result = gain(1.0, [0.0, 2.0], seeds=2, rows=5.0, clusters=1000)
    assert result is not None
    assert result.df == 1


def test_one_run_shows_no_noise() -> None:
    assert gain(3.0, [3.0], seeds=1, rows=1.0) is None
    assert gain(3.0, [], seeds=1, rows=1.0) is None
    assert sureness(None, math.nan) == "candidate"


def test_a_difference_of_two_runs_has_twice_the_variance_of_one() -> None:
    scores = [50.0, 52.0, 54.0]  # variance 4
    assert baseline_spread(scores).var(ddof=1) == pytest.approx(8.0)
    single = gain(1.0, baseline_spread(scores), seeds=1)
    assert single is not None
    assert single.se == pytest.approx(math.sqrt(8.0))


def test_moderated_variances_keep_the_limit_of_limma() -> None:
    """By hand with 2 and 4 degrees of freedom: languages of one variance get log corrections of their chi-squares."""
    digamma_1, digamma_2 = -0.5772156649, 0.4227843351
    common = math.exp(math.log(3.0) - digamma_1 + math.log(1) + digamma_2 - math.log(2))
    values, df = moderated([3.0, 3.0, 3.0], 2)
    assert df == 6
    assert values == pytest.approx([(4 * common + 2 * 3.0) / 6] * 3)


def test_few_seeds_of_calm_and_wild_languages_get_closer_to_each_other() -> None:
    values, _ = moderated([0.1, 10.0], 2)
    assert 0.1 < values[0] < values[1] < 10.0
    assert moderated([0.0, 0.0], 2)[0].tolist() == [0.0, 0.0]


def test_q_tau_and_the_shrunken_mean_are_those_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(2.0, 3.0, size=12)
    runs = true + rng.normal(0, 1.0, size=(8, 12))
    rows = np.full(12, 0.2)
    result = language_gains(runs.mean(axis=0), runs, seeds=8, rows=rows)
    assert result is not None
    own = runs - runs.mean(axis=1, keepdims=True)
    noise = 12 / 11 * own.var(axis=0, ddof=1).mean() / 8 + rows
    theirs = combine_effects(runs.mean(axis=0), noise, method_re="dl")
    assert result.q == pytest.approx(theirs.q)
    assert result.tau == pytest.approx(math.sqrt(theirs.tau2))
    kept = theirs.tau2 / (theirs.tau2 + noise)
    assert result.shrunken == pytest.approx(theirs.mean_effect_re + kept * (runs.mean(axis=0) - theirs.mean_effect_re))
    assert result.differ


def test_what_moves_all_languages_together_makes_none_of_them_different() -> None:
    rng = np.random.default_rng(4)
    runs = 2.0 + rng.normal(0, 5.0, size=(5, 1)) + rng.normal(0, 0.5, size=(5, 10))
    result = language_gains(runs.mean(axis=0), runs, seeds=5, rows=np.zeros(10))
    assert result is not None
    assert not result.differ
    assert np.ptp(result.shrunken) <= np.ptp(runs.mean(axis=0))


@pytest.mark.parametrize(
    ("delta", "p_holm", "word"),
    [(3.0, 0.01, "clear"), (-3.0, 0.01, "harmful"), (3.0, 0.2, "likely"), (-3.0, 0.2, "open"), (0.1, 1.0, "open")],
)
def test_how_sure_a_gain_is_in_one_word(delta: float, p_holm: float, word: str) -> None:
    assert sureness(Gain(delta=delta, se=1.5, df=10), p_holm) == word
    assert sureness(Gain(delta=delta, se=1.5, df=10), p_holm, fresh=False) == "candidate"


def test_the_best_of_many_keeps_what_is_not_the_luck_of_its_run() -> None:
    """Validation scores of variance 4, of which 3 is the run's luck: three quarters of the lead was luck."""
    assert kept_gain(5.0, [48.0, 50.0, 52.0], 2, covariance=3.0) == pytest.approx(5.0 - 0.75 * 2)
    assert kept_gain(5.0, [48.0, 50.0, 52.0], 2, covariance=9.0) == pytest.approx(5.0 - 2)
    assert kept_gain(5.0, [48.0, 50.0, 52.0], 2, covariance=-1.0) == 5.0
    assert kept_gain(5.0, [48.0, 52.0], 1, covariance=1.0) == 5.0


def test_seeds_detect_what_the_non_central_t_says() -> None:
    for seeds in (4, 5, 8, 12):
        exact = TTestPower().solve_power(nobs=seeds, alpha=0.05, power=0.8) * 1.5
        assert detectable(seeds) == pytest.approx(exact, rel=0.06)
    assert detectable(1) == math.inf
    assert seeds_to_detect(2.0) == 7
    assert seeds_to_detect(0.01) == 30


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_never_falls() -> None:
    # by hand: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which is raised to the p-value before it
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([0.02, np.nan]) == pytest.approx([0.02, np.nan], nan_ok=True)
    assert np.isnan(holm([np.nan])).all()


def test_holm_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(10).uniform(0, 0.2, size=40)
    assert holm(p_values).tolist() == multipletests(p_values, method="holm")[1].tolist()
