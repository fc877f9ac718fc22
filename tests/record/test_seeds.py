"""When a gain is more than what other seeds would have made of it: against scipy's test of a mean."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from tunexfer.record.seeds import beyond_seeds


def test_it_is_students_test_at_five_percent_where_all_seeds_agree() -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        deltas = rng.normal(2.0, 1.5, size=rng.integers(2, 11))
        expected = scipy.stats.ttest_1samp(deltas, 0).pvalue < 0.05 and (np.sign(deltas) == np.sign(deltas[0])).all()
        found.append(beyond_seeds(deltas.tolist()))
        assert found[-1] == expected
    assert 100 < sum(found) < 300


@pytest.mark.parametrize("deltas", [[], [7.0], [4.0, -6.0], [0.0, 0.0], [3.0, 0.0, 3.0]])
def test_one_seed_or_seeds_that_do_not_agree_are_never_enough(deltas: list[float]) -> None:
    assert not beyond_seeds(deltas)


def test_equal_gains_of_two_seeds_are() -> None:
    assert beyond_seeds([2.0, 2.0])
    assert beyond_seeds([-2.0, -2.0])
