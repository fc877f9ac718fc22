"""Scores: one number for one target, language, split and metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tunexfer.core.chain import Chain, Target

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


def scores_of(
    chain: Chain,
    target: Target,
    metrics: Iterable[tuple[str, Split, Mapping[str, float]]],
    *,
    main: str,
    same: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Score, ...]:
    """Turn the metrics of a target's evaluation into scores.

    metrics: language, split, and each metric as a percentage
    main:    the metric that means and objectives read
    same:    task -> the task it counts as, where the suite calls two of them the same
    """
    return tuple(
        Score(
            target=target.name,
            language=language,
            split=split,
            metric=metric,
            value=value,
            main=metric == main,
            unseen=chain.unseen(target.name, language, same),
        )
        for language, split, values in metrics
        for metric, value in values.items()
    )


def forgetting_scores(
    chain: Chain,
    last: str,
    before: Iterable[Score],
    after: Iterable[tuple[str, Split, Mapping[str, float]]],
    *,
    same: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Score, ...]:
    """Compare a target's main scores with those of the same rows by the model of the last target trained on top of it.

    last:    that target's name
    before:  the target's own scores
    after:   the metrics of the second evaluation
    returns: one score for each language and split; none where the score was 0 before
    """
    again = {(language, split): values for language, split, values in after}
    return tuple(
        Score(
            target=score.target,
            language=score.language,
            split=score.split,
            metric=FORGETTING,
            value=forgetting(score.value, again[score.language, score.split][score.metric]),
            main=False,
            unseen=chain.unseen(last, score.language, same),
        )
        for score in before
        if score.main and score.value != 0 and (score.language, score.split) in again
    )


def forgetting(before: float, after: float) -> float:
    """Compute how much of a score is lost once another target has been trained on top, as a percentage of what it was.

    before:   above 0
    returns:  below 0 where the score rose

    Source: Thangaraj et al. 2024 (arXiv 2409.10965), (before - after) / before.
    """
    return 100 * (before - after) / before
