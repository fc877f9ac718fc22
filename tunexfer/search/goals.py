"""One number for samplers that maximise one: several goals are weighted anew for each draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tunexfer.core.objective import DEVICE_SECONDS, Objective
from tunexfer.core.trial import TrialResult
from tunexfer.core.winners import losses

AUGMENTED = 0.05
"""Weight of the sum beside the minimum, as in ParEGO: of two trials with equal minima the one better elsewhere wins."""


def scalars(results: Sequence[TrialResult], objective: Objective, seed: int) -> dict[int, float]:
    """Compute what the next draw maximises: number of a complete trial -> value.

    One goal is taken as it is. Several are scaled to [0, 1] over the trials and joined by an augmented Chebyshev
    function with weights drawn for this draw. Where each target chooses its own chain, a draw is for one target, at
    random. A chain that breaks the constraint counts as worse than every other, by the points that it loses.

    results: complete trials of the search and the baseline
    seed:    of the draw

    Source: ParEGO (Knowles 2006), equation 2; here all is maximised.
    """
    random, pursued = np.random.default_rng(seed), {r.trial.number: _pursued(r, objective) for r in results}
    names = list(dict.fromkeys(name for own in pursued.values() for name in own))
    if not names:
        return {}
    numbers = [number for number, own in pursued.items() if own.keys() == set(names)]
    table = np.array([[pursued[number][name] for name in names] for number in numbers])
    if objective.per_target:
        values = table[:, random.integers(len(names))]
    elif len(names) == 1:
        values = table[:, 0]
    else:
        low, high = table.min(0), table.max(0)
        scaled = (table - low) / np.where(high > low, high - low, 1.0)
        weighted = random.dirichlet(np.ones(len(names))) * scaled
        values = weighted.min(1) + AUGMENTED * weighted.sum(1)
    broken = losses(results, objective)
    worst = float(values.min())
    return {
        number: worst + sum(broken[number].values()) if number in broken else float(value)
        for number, value in zip(numbers, values, strict=True)
    }


def _pursued(result: TrialResult, objective: Objective) -> Mapping[str, float]:
    """Name the numbers that a draw may maximise."""
    if objective.per_target:
        return result.by_target
    if len(objective.goals) == 1:
        return {} if result.objective is None else {objective.goals[0]: result.objective}
    return {goal: -value if goal == DEVICE_SECONDS else value for goal, value in result.goals.items()}
