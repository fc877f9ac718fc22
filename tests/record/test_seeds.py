"""Gains over seeds: against scipy's test of a mean."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tunexfer.record.seeds import beyond_seeds, spread


def test_it_is_students_test_at_five_percent_where_all_seeds_agree() -> None:
    rng, outcomes = np.random.default_rng(1), []
    for _ in range(400):
        deltas = rng.normal(2.0, 1.5, size=rng.integers(2, 11))
        test = scipy.stats.ttest_1samp(deltas, 0)
        described = spread(deltas.tolist())
        assert (described["low"], described["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
        outcomes.append(beyond_seeds(deltas.tolist()))
        assert outcomes[-1] == (test.pvalue < 0.05 and (np.sign(deltas) == np.sign(deltas[0])).all())
    assert 100 < sum(outcomes) < 300


@pytest.mark.parametrize("deltas", [[], [7.0], [4.0, -6.0], [0.0, 0.0], [3.0, 0.0, 3.0]])
def test_one_seed_or_seeds_that_do_not_agree_are_never_enough(deltas: list[float]) -> None:
    assert not beyond_seeds(deltas)


def test_equal_gains_of_two_seeds_are() -> None:
    assert beyond_seeds([2.0, 2.0])
    assert beyond_seeds([-2.0, -2.0])
