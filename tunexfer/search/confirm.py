"""Confirmation: a race of the best chains and the baseline over fresh seeds, one round of a seed at a time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from scipy import stats

from tunexfer.core.chain import Chain
from tunexfer.core.objective import Objective
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.core.winners import allowed, searched
from tunexfer.plan.space_file import Confirm

LEVEL = 0.01
"""One-sided level of the test that drops a chain."""
MIN_SEEDS = 2
"""Fresh seeds before a chain can be dropped."""

Values = Mapping[tuple[str, str], float]
"""A trial's validation scores that the objective reads: target and language -> score."""
Runs = Mapping[tuple[Chain, int], Values]
"""Chain and seed of each complete confirming trial -> its values."""


def values_of(scores: Iterable[Score], chain: Chain, objective: Objective) -> dict[tuple[str, str], float]:
    """Select what two trials are compared by: each language, or where the lowest counts each target's lowest."""
    if objective.goals[0] == "worst_language":
        return {(target, "lowest"): value for target, value in objective.by_target(scores, chain).items()}
    read = objective.read(scores, chain)
    return {(target, language): value for target, own in read.items() for language, value in own.items()}


def candidates(
    complete: Sequence[TrialResult],
    confirm: Confirm,
    objective: Objective,
    racing: Iterable[Chain],
    posterior: Callable[[Chain], tuple[float, float] | None],
) -> list[Trial]:
    """Choose the chains that race: the best `top`, or where each target chooses its own chain the best of each.

    racing:    chains that an earlier run of the study has begun to confirm; they keep their places
    posterior: the model's mean and standard deviation of a chain's objective; None where there is no model
    returns:   their trials, the best first
    """
    own = [result for result in searched(allowed(complete, objective)) if result.trial.phase == "search"]

    def expected(result: TrialResult) -> float:
        model = None if objective.several else posterior(result.trial.chain)
        return model[0] if model else result.objective or 0.0

    begun = set(racing)
    marks: list[Callable[[TrialResult], float]] = [expected]
    if objective.per_target:
        targets = dict.fromkeys(target for result in own for target in result.by_target)
        marks = [lambda result, target=target: result.by_target.get(target, -math.inf) for target in targets]  # type: ignore[misc]
    chosen: dict[int, Trial] = {}
    for mark in marks:
        ranked = sorted(own, key=lambda r: (r.trial.chain not in begun, -mark(r), r.trial.number))
        if objective.per_target:
            ranked.sort(key=lambda r: (-mark(r), r.trial.number))
        chosen |= {result.trial.number: result.trial for result in ranked[: confirm.top]}
    return list(chosen.values())


def next_round(
    baseline: Trial,
    racers: Sequence[Trial],
    confirm: Confirm,
    runs: Runs,
    taken: Callable[[Trial], bool],
    objective: Objective,
) -> list[Trial]:
    """List the trials of the first round that is not complete; none when the race is over.

    Every round gives the baseline and each chain still in the race one more seed. The baseline is never dropped, as
    gains are differences to it; nor is a chain that is last, as its gain is what the study reports. A chain whose trial
    failed leaves the race.

    taken:   whether a trial was run or handed out already
    returns: trials with the numbers of those that they confirm
    """  # fmt: skip
    racing = list(racers)
    for fresh in range(1, confirm.count + 1):
        if not racing:
            return []
        again = [replace(trial, phase="confirm", seed=baseline.seed + fresh) for trial in (baseline, *racing)]
        if missing := [trial for trial in again if not taken(trial)]:
            return missing
        racing = [trial for trial in racing if (trial.chain, baseline.seed + fresh) in runs]
        seeds = [baseline.seed + seed for seed in range(1, fresh + 1)]
        if fresh >= MIN_SEEDS:
            racing = _still_racing(baseline, racing, seeds, runs, objective)
    return []


def _still_racing(
    baseline: Trial, racing: Sequence[Trial], seeds: Sequence[int], runs: Runs, objective: Objective
) -> list[Trial]:
    """Drop the chains that are clearly behind the leader: in every target, where each target chooses its own chain."""
    entrants = [trial for trial in (baseline, *racing) if all((trial.chain, seed) in runs for seed in seeds)]
    units = {unit for trial in entrants for seed in seeds for unit in runs[trial.chain, seed]}
    contests = [units]
    if objective.per_target:
        contests = [{unit for unit in units if unit[0] == target} for target in {target for target, _ in units}]
    staying: set[int] = set()
    for contest in contests:
        means = {trial.number: _mean(trial, seeds, runs, contest) for trial in entrants}
        leader = max(entrants, key=lambda trial: (means[trial.number], -trial.number))
        for trial in racing:
            pairs = [
                runs[trial.chain, seed][unit] - runs[leader.chain, seed][unit]
                for seed in seeds
                for unit in sorted(contest & runs[trial.chain, seed].keys() & runs[leader.chain, seed].keys())
            ]
            if trial is leader or not clearly_behind(pairs):
                staying.add(trial.number)
    return [trial for trial in racing if trial.number in staying]


def _mean(trial: Trial, seeds: Sequence[int], runs: Runs, units: set[tuple[str, str]]) -> float:
    """Average over seeds the mean over targets of the mean over languages, as the objective does."""
    own: dict[str, list[float]] = {}
    for seed in seeds:
        for unit, value in runs[trial.chain, seed].items():
            if unit in units:
                own.setdefault(unit[0], []).append(value)
    return statistics.fmean(map(statistics.fmean, own.values()))


def clearly_behind(differences: Sequence[float], level: float = LEVEL) -> bool:
    """Tell whether paired differences, one for each seed, target and language, are below 0 by a one-sided t-test."""
    if len(differences) < 2:
        return False
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    if deviation == 0:
        return mean < 0
    t = mean / (deviation / math.sqrt(len(differences)))
    return float(stats.t.cdf(t, len(differences) - 1)) < level
