"""Scores: one number for one target, language, split and metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]
FORGETTING = "forgetting"
"""The metric of a target that another goes on from: see `forgetting`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    target: str
    """The target's name: its task's, unless the space gives it one of its own."""
    language: str
    split: Split
    metric: str
    value: float
    """A percentage, 0 to 100; of forgetting, below 0 where the score rose."""
    main: bool
    """Whether `metric` is the task's main one, the only one that means and objectives read."""
    unseen: bool
    """Whether nothing that the scored model went through trained this task in this language: a zero-shot score."""


def unseen_by_both(after: Score, before: Score | None) -> bool:
    """Whether the difference between two chains' scores counts as a gain in an unseen language: it must be so for both.

    Else a chain that trained its target in German would be held, in English, against a baseline that trained it there.

    before: None where there is nothing to compare with; then `after` alone decides
    """
    return after.unseen and (before is None or before.unseen)


def forgetting(before: float, after: float) -> float:
    """How much of a score is lost once another target has been trained on top, as a percentage of what it was.

    before:   above 0
    returns:  below 0 where the score rose

    Source: Thangaraj et al. 2024 (arXiv 2409.10965), (before - after) / before.
    """
    return 100 * (before - after) / before
