"""The trials that a study recommends: the best one, the Pareto front, and those that a constraint rules out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from tunexfer.core.chain import Chain
from tunexfer.core.objective import Objective, dominates
from tunexfer.core.trial import TrialResult


def best_of(complete: Iterable[TrialResult], objective: Objective | None = None) -> TrialResult | None:
    """Choose the trial whose chain the study recommends, of the search's own trials and the baseline.

    It has the highest objective; see `best_by` for chains that were confirmed. With an objective, chains that break
    its constraint are left out.
    """
    ended = [result for result in complete if result.objective is not None]
    values = {result.trial.number: result.objective for result in ended if result.objective is not None}
    return best_by(allowed(ended, objective) if objective else ended, values)


def best_by(complete: Iterable[TrialResult], values: Mapping[int, float]) -> TrialResult | None:
    """Choose the search's own trial with the highest value, the first of equals.

    Of chains that were run again with fresh seeds, only those with the most of them are in question, and the highest
    mean over these seeds decides: the highest of many values is partly luck.

    values: number of a trial, of those that confirm too -> what to compare; others are ignored
    """
    ended = [result for result in complete if result.trial.number in values]
    again: dict[Chain, list[float]] = {}
    for result in ended:
        if result.trial.phase == "confirm":
            again.setdefault(result.trial.chain, []).append(values[result.trial.number])
    own = [result for result in ended if result.trial.phase != "confirm"]
    most = max(map(len, again.values()), default=0)
    confirmed = [result for result in own if most and len(again.get(result.trial.chain, ())) == most]
    if len(confirmed) < 2:  # the baseline alone is confirmed so far
        return max(own, key=lambda result: (values[result.trial.number], -result.trial.number), default=None)
    return max(confirmed, key=lambda result: (statistics.fmean(again[result.trial.chain]), -result.trial.number))


def searched(complete: Iterable[TrialResult]) -> list[TrialResult]:
    """Select the search's own trials that have an objective, the baseline among them; none that confirms."""
    return [result for result in complete if result.trial.phase != "confirm" and result.objective is not None]


def highest(complete: Iterable[TrialResult]) -> TrialResult | None:
    """Choose the search's own trial with the highest objective, the first of equals, whatever was confirmed."""
    return max(searched(complete), key=lambda result: (result.objective, -result.trial.number), default=None)


def fresh_objectives(complete: Iterable[TrialResult]) -> dict[Chain, list[float]]:
    """Map each chain to its objectives by the fresh seeds that it was confirmed with."""
    fresh: dict[Chain, list[float]] = {}
    for result in complete:
        if result.trial.phase == "confirm" and result.objective is not None:
            fresh.setdefault(result.trial.chain, []).append(result.objective)
    return fresh


def front(complete: Iterable[TrialResult], objective: Objective) -> list[TrialResult]:
    """Select the search's own trials that no other beats in all goals at once, the highest leading goal first.

    returns: nothing, if there is one goal alone or each target chooses its own chain
    """
    if len(objective.goals) == 1:
        return []
    own = [result for result in searched(allowed(complete, objective)) if result.goals]
    best = [result for result in own if not any(dominates(other.goals, result.goals) for other in own)]
    return sorted(best, key=lambda result: (-(result.objective or 0.0), result.trial.number))


def allowed(complete: Iterable[TrialResult], objective: Objective) -> list[TrialResult]:
    """Leave out the trials of every chain that breaks the objective's constraint."""
    ended = list(complete)
    numbers = losses(ended, objective)
    chains = {result.trial.chain for result in ended if result.trial.number in numbers}
    return [result for result in ended if result.trial.chain not in chains]


def losses(complete: Iterable[TrialResult], objective: Objective) -> dict[int, dict[str, float]]:
    """Compute what breaks the constraint `no_target_below_baseline`: number of a search's trial -> target -> points.

    The points are the target's mean difference to the baseline over all seeds that both were run with, below 0.
    """
    most = objective.no_target_below_baseline
    ended = [result for result in complete if result.by_target]
    before = next((result.trial.chain for result in ended if result.trial.phase == "baseline"), None)
    if most is None or before is None:
        return {}
    runs: dict[Chain, dict[int, Mapping[str, float]]] = {}
    for result in ended:
        runs.setdefault(result.trial.chain, {})[result.trial.seed] = result.by_target
    broken = {}
    for result in ended:
        if result.trial.phase == "search":
            differences = _differences(runs[result.trial.chain], runs[before])
            if lost := {target: points for target, points in differences.items() if points < -most}:
                broken[result.trial.number] = lost
    return broken


def _differences(
    runs: Mapping[int, Mapping[str, float]], before: Mapping[int, Mapping[str, float]]
) -> dict[str, float]:
    """Average each target's differences over the seeds that both chains were run with."""
    differences: dict[str, list[float]] = {}
    for seed in runs.keys() & before.keys():
        for target, value in runs[seed].items():
            if target in before[seed]:
                differences.setdefault(target, []).append(value - before[seed][target])
    return {target: statistics.fmean(values) for target, values in differences.items()}
