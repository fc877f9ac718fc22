"""Scores: one number for one task, language, split and metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    task: str
    language: str
    split: Split
    metric: str
    value: float
    """A percentage, 0 to 100."""
    main: bool
    """Whether `metric` is the task's main one, the only one that means and objectives read."""
    unseen: bool
    """Whether the chain trained this task in no stage in this language: a zero-shot score."""
