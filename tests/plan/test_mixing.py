"""Shares against the published formula: spec values of examples-proportional and temperature mixing."""

import math

import pytest

from tunexfer.core.chain import Source
from tunexfer.plan.mixing import fixed_shares, temperature_shares

MNLI, SQUAD, SWAG = (Source(task=task, language="en") for task in ("mnli", "squad", "hellaswag"))
SIZES = {MNLI: 392_702, SQUAD: 87_599, SWAG: 39_905}


@pytest.mark.parametrize(
    ("temperature", "cap", "expected"),
    [
        (1, None, [0.7549, 0.1684, 0.0767]),
        (1, 2**17, [0.5069, 0.3388, 0.1543]),
        (2, 2**17, [0.4221, 0.3450, 0.2329]),
        (2, None, [0.5583, 0.2637, 0.1780]),
        (5, None, [0.4213, 0.3121, 0.2667]),
    ],
)
def test_shares_of_the_papers_tasks(temperature: float, cap: int | None, expected: list[float]) -> None:
    assert temperature_shares(SIZES, temperature=temperature, cap=cap) == pytest.approx(expected, abs=5e-5)


def test_infinite_temperature_draws_every_source_equally() -> None:
    assert temperature_shares(SIZES, temperature=math.inf) == pytest.approx([1 / 3] * 3)


def test_fixed_shares_of_a_task_are_split_by_rows_and_normalised_over_what_was_drawn() -> None:
    sizes = {
        Source(task="a", language="en"): 300,
        Source(task="a", language="de"): 100,
        Source(task="b", language="en"): 5,
    }
    assert fixed_shares(sizes, {"a": 0.5, "b": 0.5, "not_drawn": 7.0}) == pytest.approx([0.375, 0.125, 0.5])


def test_a_share_for_one_language_goes_before_its_tasks() -> None:
    sizes = {Source(task="a", language="en"): 300, Source(task="a", language="de"): 100}
    assert fixed_shares(sizes, {"a": 0.2, "a/de": 0.6}) == pytest.approx([0.25, 0.75])


def test_a_source_without_a_share_is_named() -> None:
    with pytest.raises(KeyError, match="hellaswag"):
        fixed_shares(SIZES, {"mnli": 1.0, "squad": 1.0})
