from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tunexfer.tasks import bitext
from tunexfer.tasks.bitext import mine, nearest, tune_threshold, unify, unrepeated


def plane(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


X, Y = plane(0, 20, 45, 90, 130, 200), plane(2, 25, 50, 80, 170, 91, 40)
GOLD = {(5, 4), (0, 0), (3, 5), (4, 3)}


def sphere(seed: int, count: int, width: int = 24) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# Neighbours


@pytest.fixture(params=[(7, 5, 3), (32, 64, 1), (1024, 2048, 2)], ids=str)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several sizes of block, so that few rows go across many of them, by several threads."""
    monkeypatch.setattr(bitext, "X_BLOCK", request.param[0])
    monkeypatch.setattr(bitext, "Y_BLOCK", request.param[1])
    with threadpool_limits(request.param[2], user_api="blas"):
        yield


@pytest.mark.parametrize(("x_count", "y_count"), [(300, 200), (64, 128), (3, 50), (50, 3), (1, 1)])
@pytest.mark.usefixtures("blocks")
def test_neighbours_of_both_sides_are_those_of_a_full_search(x_count: int, y_count: int) -> None:
    x, y = sphere(1, x_count), sphere(2, y_count)
    for found, similarity in zip(nearest(x, y, 4), (x @ y.T, (x @ y.T).T), strict=True):
        expected = np.argsort(-similarity, axis=1)[:, :4]
        assert found.indices.tolist() == expected.tolist()
        assert found.similarity == pytest.approx(np.take_along_axis(similarity, expected, axis=1), abs=1e-6)


@pytest.mark.usefixtures("blocks")
def test_of_equal_neighbours_the_first_count() -> None:
    forward, backward = nearest(plane(*[10.0] * 40), plane(*[10.0] * 30), 4)
    for found in (forward, backward):
        assert found.similarity == pytest.approx(1.0)
        assert all(which == [0, 1, 2, 3] for which in found.indices.tolist())


def test_similarities_below_zero_count_as_well() -> None:
    forward, _ = nearest(plane(0), plane(100, 180, 120), 2)
    assert forward.indices.tolist() == [[0, 2]]


# Mining


def test_pairs_come_in_the_order_of_their_margin_each_sentence_once() -> None:
    """Expected numbers: XTREME's mining, run on these vectors."""
    mined = mine(X, Y)
    assert list(zip(mined.x.tolist(), mined.y.tolist(), strict=True)) == [(5, 4), (0, 0), (3, 5), (1, 1), (2, 2)]
    assert mined.score == pytest.approx([17.04048, 1.325621, 1.292063, 1.135623, 1.134895], rel=1e-6)


def test_the_threshold_lies_between_the_best_cut_and_the_next_score() -> None:
    mined = mine(X, Y)
    right = [(x, y) in GOLD for x, y in zip(mined.x.tolist(), mined.y.tolist(), strict=True)]
    threshold = tune_threshold(mined.score, right, len(GOLD))
    assert threshold == pytest.approx(1.2138429, abs=1e-6)
    assert (mined.score >= threshold).tolist() == [True, True, True, False, False]


def test_a_best_cut_at_the_end_of_the_list_takes_the_last_score() -> None:
    assert tune_threshold([3.0, 2.0, 1.0], [True, False, True], 2) == 1.0
    assert tune_threshold([3.0], [True], 1) == 3.0


def test_nothing_right_keeps_everything() -> None:
    assert tune_threshold([3.0, 2.0], [False, False], 5) == 0.0
    assert tune_threshold([], [], 5) == 0.0


def test_translations_are_found_among_many() -> None:
    x = sphere(1, 500)
    y = x[::-1] + 0.05 * sphere(2, 500)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    mined = mine(x, y)
    assert (mined.x + mined.y == 499).all()
    assert len(mined.x) == 500


def test_a_margin_over_a_mean_of_zero_breaks_nothing() -> None:
    mined = mine(plane(0, 180), plane(90, 270))
    assert len(set(mined.x.tolist())) == len(mined.x)


# Sentences that occur more than once


def test_equal_sentences_are_one_with_the_vector_of_the_last() -> None:
    assert unify(["a", "b", "a", "c"]).tolist() == [2, 1, 3]


def test_a_repeated_sentence_has_no_id() -> None:
    assert unrepeated(["a", "b", "a"], ["de-1", "de-2", "de-3"]) == {"b": "de-2"}
