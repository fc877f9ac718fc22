"""Stopping rules: whether a trial of the search ends before all of its jobs have run.

A rule depends on what the record holds and on the trial's own scores, so a study that was interrupted and resumed
decides alike. The baseline and confirmation are never stopped, and test scores never reach a rule.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunexfer.core.chain import Chain
from tunexfer.core.trial import TrialResult
from tunexfer.plan.space_file import Stop

Chance = Callable[[Chain, Mapping[str, float]], float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The state of a trial after some of its jobs."""

    chain: Chain
    scores: Mapping[str, float]
    """Main validation scores so far, by `target/language`."""
    by_target: Mapping[str, float]
    """What the objective makes of them, for each target that was scored."""
    ended: Sequence[TrialResult]
    """The trials of the search that have ended, the baseline among them."""
    chance: Chance
    """The sampler's estimate that a chain with such scores beats the best one so far; None where it has no model."""


Rule = Callable[[Standing], str | None]
"""Returns why a trial is stopped, or None if it goes on."""


def never(standing: Standing) -> str | None:
    """Let every trial run to its end."""
    return None


def by_chance(threshold: float) -> Rule:
    """Make a rule that stops a trial whose chance to beat the best one so far is below a threshold."""

    def rule(standing: Standing) -> str | None:
        chance = standing.chance(standing.chain, standing.scores) if standing.scores else None
        if chance is None or chance >= threshold:
            return None
        return f"its chance to beat the best trial is {100 * chance:.1f} %, below {100 * threshold:g} %"

    return rule


def top_k(top: int, after: int) -> Rule:
    """Make a rule that stops a trial which, once `after` targets are scored, is not among the `top` best so far.

    Trials are compared by the mean over the targets that this one has scored; those that lack one of them don't count.

    Source: i-Epoch, which keeps the k best after the first epochs (arXiv 2307.15422, 2404.04111); here, after the first
    targets.
    """

    def rule(standing: Standing) -> str | None:
        targets = standing.by_target.keys()
        if len(targets) < after:
            return None
        others = [result.by_target for result in standing.ended if targets <= result.by_target.keys()]
        own = statistics.fmean(standing.by_target.values())
        ahead = sum(statistics.fmean(other[target] for target in targets) > own for other in others)
        if ahead < top:
            return None
        return f"{ahead} trials are better in {', '.join(targets)}; only the {top} best go on"

    return rule


RULES: dict[str, Callable[[Stop], Rule]] = {
    "off": lambda stop: never,
    "chance": lambda stop: by_chance(stop.chance),
    "top_k": lambda stop: top_k(stop.top, stop.after),
}
