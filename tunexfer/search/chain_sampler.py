"""The chain sampler: it draws the chain with the largest expected improvement per second that is left to spend."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from tunexfer.core.chain import Chain
from tunexfer.core.objective import DEVICE_SECONDS, Objective
from tunexfer.core.scores import Score
from tunexfer.core.trial import Point, Trial, TrialResult
from tunexfer.plan.draws import defaults, replay
from tunexfer.plan.space import SearchSpace
from tunexfer.search.chain_candidates import FLOOR, Candidates, log_improvement
from tunexfer.search.chain_model import Array, ChainModel, ChainPosterior, Described, Features
from tunexfer.search.chain_pool import (
    Pool,
    chain_key,
    draw_some,
    families_of,
    list_all,
    stage_features,
    stage_key,
    target_features,
)
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import Sampler

MAX_PAIRS = 3000
"""Pairs of stages and settings of a target whose uncertainty is computed; of more, those after the best stages."""
SHORTLIST = 64
"""Chains that are sorted by their score at first; more are only where all of these have been run."""

_Telling = tuple[str, Hashable, Hashable, Mapping[str, float]]
"""Target, stages, settings, and what they score in each goal."""


@dataclass(frozen=True)
class _Standing:
    """The scores that a draw has to beat: the best that are expected of the chains that were run to their end."""

    mean: float
    """The best objective."""
    each: Mapping[str, float]
    """The best of each target alone."""
    limits: Mapping[str, float]
    """Score of each target below which a chain breaks the constraint; empty without one."""


class ChainSearcher(Sampler):
    """Models each target's score and draws the chain with the largest expected improvement per remaining second.

    Jobs that are done or running cost nothing. A chain whose jobs are all done is drawn at once where it is expected to
    be better than all that were run.

    Where each target chooses its own chain, the improvement is the mean over targets of each target's expected
    improvement over its own best score. Under the constraint `no_target_below_baseline`, it is multiplied by the chance
    that every target keeps it, and the best so far is one that is believed to keep it. Several goals are joined with
    weights drawn anew for each draw, scaled to vary alike: what each target's model learns is their weighted sum.

    Source: EEIPU (Alwan et al. 2024, arXiv 2411.03731) for improvement per remaining cost with shared prefixes;
    Gardner et al. 2014 for expected improvement under a constraint.
    """

    reads_scores = True

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        costs: Costs | None = None,
        objective: Objective | None = None,
    ) -> None:
        """
        costs: of the search's jobs; by their rows alone until trials are told if not given
        """
        super().__init__(space, seed)
        self.objective, self.costs = objective or Objective(), costs or Costs(seed)
        self._pool = list_all(space)
        first = self._pool.stages[0].chain if self._pool else space.sample(defaults({}))[1]
        self._families = families_of(first)
        self._model = ChainModel([target.name for target in first.targets])
        self._told: set[Hashable] = set()
        """Target, stages, settings and seed of each score that was told: trials that share it tell it again."""
        self._taken: set[Hashable] = set()
        self._complete: dict[Hashable, Trial] = {}
        """The first trial of each chain that was run to its end."""
        self._weights = {self.objective.goals[0]: 1.0}
        self._goals: list[Mapping[str, float]] = []
        """Of the complete trials."""
        self._tellings: list[list[_Telling]] = []
        """All that was told, where there are several goals: it is weighted anew for each draw."""
        self._cached: tuple[int, Pool | None, ChainPosterior] | None = None

    def tell(self, result: TrialResult) -> None:
        self.learn(result)
        self.costs.add_done([run.key for run in result.jobs])
        if result.trial.phase != "confirm":
            key = chain_key(result.trial.chain, self._families)
            self._taken.add(key)
            if result.state == "complete":
                self._complete.setdefault(key, result.trial)
                self._goals.append(result.goals)

    def learn(self, result: TrialResult) -> None:
        chain, seed = result.trial.chain, result.trial.seed
        self.costs.time(result)
        told: list[_Telling] = []
        for target in (target.name for target in chain.targets if target.name in self._model.settings):
            stages, own = stage_key(chain), chain.line(target)
            mark = target, stages, own, seed
            if mark not in self._told and (values := self._values(result, target)):
                self._told.add(mark)
                self._model.stages.describe(stages, stage_features(chain))
                self._model.settings[target].describe(own, target_features(chain, target))
                told.append((target, stages, own, values))
        if len(self.objective.goals) > 1:
            self._tellings.append(told)
        self._teach(told)

    def _teach(self, told: Sequence[_Telling]) -> None:
        weights = self._weights.items()
        self._model.tell([(t, s, own, sum(w * values[goal] for goal, w in weights)) for t, s, own, values in told])

    def _weigh(self, seed: int) -> None:
        """Join the goals with new weights; before any trial is complete, all weigh alike."""
        goals = self.objective.goals
        table = np.array([[own[goal] for goal in goals] for own in self._goals] or [[0.0] * len(goals)])
        spread = np.where(table.std(0) > 0, table.std(0), 1.0)
        shares = np.random.default_rng(seed).dirichlet(np.ones(len(goals))) * spread[0] / spread
        signs = [-1.0 if goal == DEVICE_SECONDS else 1.0 for goal in goals]
        self._weights = dict(zip(goals, map(float, signs * shares), strict=True))
        self._model.forget()
        self._cached = None
        for told in self._tellings:
            self._teach(told)

    def turned_down(self, number: int, point: Point) -> None:
        self._taken.add(chain_key(self.space.chain(point), self._families))

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        seed = self.seed_of(number, attempt)
        if len(self.objective.goals) > 1:
            self._weigh(seed)
        pool = self._pool or draw_some(self.space, seed, [trial.point for trial in self._best(5)])
        self.gain_per_chain = None
        chosen = self._choose(pool, running, seed)
        if chosen is None:
            return None if pool.complete else super().ask(number, attempt, running)
        return self.space.sample(replay(pool.point(chosen)))

    def posterior(self, chain: Chain) -> tuple[float, float] | None:
        if not self._complete:
            return None
        means, covariance, _ = self._believed(chain)
        return float(means.mean()), math.sqrt(float(covariance.sum())) / len(means)

    def chance(self, chain: Chain, scores: Mapping[str, float]) -> float | None:
        """Estimate the probability that a chain beats the best so far; None before there is one.

        The scores of finished targets tell of the others: the model's errors for the targets of one chain correlate.
        """
        if not self._complete:
            return None
        names = [(name.rpartition("/"), value) for name, value in scores.items()]
        given = [
            Score(target=target, language=language, split="validation", metric="", value=value, main=True, unseen=False)
            for (target, _, language), value in names
        ]
        means, covariance, posterior = self._believed(chain)
        by_target = self.objective.by_target(given, chain)
        values = [by_target.get(target) for target in self._scored]
        known = np.array([value is not None for value in values])
        if known.any():
            noise = [posterior.targets[target].noise for target in self._scored]
            told = np.array([value for value in values if value is not None])
            gain = np.linalg.solve(
                covariance[np.ix_(known, known)] + np.diag(noise)[np.ix_(known, known)], covariance[known]
            ).T
            means, covariance = means + gain @ (told - means[known]), covariance - gain @ covariance[known]
        deviation = math.sqrt(max(float(covariance.sum()), 1e-12)) / len(means)
        return float(ndtr((float(means.mean()) - self._standing(posterior).mean) / deviation))

    def _believed(self, chain: Chain) -> tuple[Array, Array, ChainPosterior]:
        """Compute mean and covariance of the scores of a chain's targets."""
        posterior = self._now(self._pool)
        known = all(chain.line(target) in posterior.settings[target] for target in self._scored)
        if not known or stage_key(chain) not in posterior.stages:
            posterior = self._model.posterior(*_recipes(None, [chain]), {})
        row = np.array([posterior.stages[stage_key(chain)]])
        means, deviations = [], []
        for target in self._scored:
            column = posterior.settings[target][chain.line(target)]
            means.append(posterior.targets[target].means[row[0], column])
            deviations.append(posterior.targets[target].deviations(row)[0, column])
        return np.array(means), _correlated(np.array(deviations), posterior.correlation), posterior

    @property
    def _scored(self) -> list[str]:
        """List the targets that have scores which the objective reads; all, before the first."""
        scored = [target for target in self._model.targets if self._model.settings[target].place]
        return scored or list(self._model.targets)

    def _choose(self, pool: Pool, running: Sequence[Trial], seed: int) -> tuple[int, ...] | None:
        """Choose the chain to run next: indices of its stage recipe and of each family's settings in the pool."""
        chains = [trial.chain for trial in running]
        pending = {
            target: [(stage_key(chain), chain.line(target)) for chain in chains] for target in self._model.targets
        }
        posterior = self._model.posterior(*_recipes(pool, chains), pending) if running else self._now(pool)
        busy = {job.key for trial in running for job in self.costs.jobs(trial.chain, trial.seed)}
        taken = self._taken | {chain_key(chain, self._families) for chain in chains}
        standing = self._standing(posterior)
        candidates, rows, whole = self._candidates(pool, posterior, busy, standing, chains)
        best, each = standing.mean, self.objective.per_target
        noise = np.random.default_rng(seed)

        def free(mean: Array, deviation: Array, seconds: Array, safety: Array) -> Array:
            return np.where((seconds <= 0) & (mean > best + 1e-9) & (safety >= math.log(0.5)), mean, -np.inf)

        def gain(mean: Array, deviation: Array, seconds: Array, safety: Array) -> Array:
            improvement = np.log(np.maximum(mean, 1e-300)) if each else log_improvement(mean - best, deviation)
            return improvement + safety - np.log(seconds + FLOOR * whole) + 1e-6 * noise.random(len(mean))

        for score in (gain,) if each else (free, gain):
            scores, grid = candidates.combined(score)
            for place in _from_the_best(scores):
                indices = rows[grid[place][0]], *grid[place][1:]
                if pool.key(indices) not in taken:
                    if score is gain:
                        self.gain_per_chain = float(np.exp(scores[place]) * whole)
                    return indices
        return None

    def _candidates(
        self, pool: Pool, posterior: ChainPosterior, busy: set[str], standing: _Standing, running: Sequence[Chain]
    ) -> tuple[Candidates, NDArray[np.intp], float]:
        """Compute what is believed of every part of a chain, and what it still costs.

        returns: besides, the index in the pool of each of the candidates' stages, and the seconds of a usual chain
        """
        scored, each = self._scored, self.objective.per_target
        places = np.array([posterior.stages[option.key] for option in pool.stages])
        columns = {
            target: np.array([posterior.settings[target][option.chain.line(target)] for option in options])
            for family, options in pool.settings.items()
            for target in family
        }
        highest = [posterior.targets[target].means[places][:, columns[target]].max(1) for target in scored]
        ahead = [values - standing.each[target] for target, values in zip(scored, highest, strict=True)]
        expected = np.max(ahead, axis=0) if each else sum(highest)
        most = max(20, MAX_PAIRS // max(len(options) for options in pool.settings.values()))
        rows = np.sort(np.argsort(-np.asarray(expected), kind="stable")[:most])
        stage_seconds, seconds, whole = self._remaining(pool, rows, busy)
        parts: dict[str, list[Array]] = {"means": [], "sums": [], "squares": [], "safety": []}
        for family in self._families:
            part = {name: np.zeros((len(rows), len(pool.settings[family]))) for name in parts}
            for target in (target for target in family if target in scored):
                mean = posterior.targets[target].means[places[rows]][:, columns[target]]
                deviation = posterior.targets[target].deviations(places[rows])[:, columns[target]]
                if standing.limits:
                    part["safety"] += log_ndtr((mean - standing.limits[target]) / deviation)
                if each:  # the improvements of targets add up, so they take the place of the mean
                    new = ~self._scored_pairs(posterior, target, running)[places[rows]][:, columns[target]]
                    mean = np.where(new, np.exp(log_improvement(mean - standing.each[target], deviation)), 0.0)
                part["means"] += mean / len(scored)
                part["sums"] += deviation / len(scored)
                part["squares"] += (deviation / len(scored)) ** 2
            for name, own in part.items():
                parts[name].append(own)
        candidates = Candidates(
            seconds=seconds, stage_seconds=stage_seconds, correlation=posterior.correlation, **parts
        )
        return candidates, rows, whole

    def _scored_pairs(self, posterior: ChainPosterior, target: str, running: Sequence[Chain]) -> NDArray[np.bool_]:
        """Tell which pairs of stages and settings of a target were scored in a complete trial or are being scored.

        Another trial of such a pair is no improvement: trials of one seed give the same scores.
        """
        table = np.zeros((len(posterior.stages), len(posterior.settings[target])), dtype=bool)
        for chain in (*(trial.chain for trial in self._complete.values()), *running):
            table[posterior.stages[stage_key(chain)], posterior.settings[target][chain.line(target)]] = True
        return table

    def _remaining(self, pool: Pool, rows: NDArray[np.intp], busy: set[str]) -> tuple[Array, list[Array], float]:
        """Estimate the seconds that stages and settings still take, and those of a usual chain from nothing."""
        counts = {family: len(options) for family, options in pool.settings.items()}
        stage_seconds, whole = np.zeros(len(rows)), []
        seconds = [np.zeros((len(rows), counts[family])) for family in self._families]
        fresh: dict[Any, list[list[float]]] = {}

        def free(key: str) -> bool:
            return key in busy or self.costs.is_done(key)

        for row, place in enumerate(rows):
            stages = pool.stages[place].chain
            if stages.encoder not in fresh:
                fresh[stages.encoder] = self._own_seconds(pool, stages, lambda key: False)
            own = fresh[stages.encoder]
            jobs = [job for job in self.costs.jobs(stages) if job.stage and job.stage in stages.stages]
            left = [job for job in jobs if not free(job.key)]
            stage_seconds[row] = sum(map(self.costs.seconds, left))
            whole.append(sum(map(self.costs.seconds, jobs)) + sum(statistics.fmean(each) for each in own))
            if not left:
                own = self._own_seconds(pool, stages, free)
            for part, each in zip(seconds, own, strict=True):
                part[row] = each
        return stage_seconds, seconds, statistics.median(whole)

    def _own_seconds(self, pool: Pool, stages: Chain, free: Callable[[str], bool]) -> list[list[float]]:
        """Estimate what each setting of each family takes after some stages."""
        options = [pool.settings[family] for family in self._families]
        costs: list[list[float]] = [[] for _ in options]
        for place in range(max(map(len, options))):
            chosen = [own[place % len(own)].chain for own in options]
            targets = {
                name: of.target(name) for family, of in zip(self._families, chosen, strict=True) for name in family
            }
            chain = replace(stages, targets=tuple(targets[target.name] for target in stages.targets))
            jobs = self.costs.jobs(chain)
            for cost, own, family in zip(costs, options, self._families, strict=True):
                if place < len(own):
                    mine = [job for job in jobs if job.name in family and job.stage not in stages.stages]
                    cost.append(sum(self.costs.seconds(job) for job in mine if not free(job.key)))
        return costs

    def _now(self, pool: Pool | None) -> ChainPosterior:
        """Compute what is believed of a pool and of all that was observed, once for each number of trials told."""
        if self._cached is None or self._cached[:2] != (self._model.tellings, pool):
            self._cached = self._model.tellings, pool, self._model.posterior(*_recipes(pool, ()), {})
        return self._cached[2]

    def _values(self, result: TrialResult, target: str) -> dict[str, float]:
        """Compute what a target has of each goal, of which a chain has the mean; nothing without scores that count."""
        chain, goals = result.trial.chain, self.objective.goals
        mine = [score for score in result.scores if score.target == target]
        values = {goal: self.objective.by_target(mine, chain, goal) for goal in goals if goal != DEVICE_SECONDS}
        if not all(values.values()):
            return {}
        own = {goal: by_target[target] for goal, by_target in values.items()}
        return own | ({DEVICE_SECONDS: self._seconds_of(chain, target)} if DEVICE_SECONDS in goals else {})

    def _seconds_of(self, chain: Chain, target: str) -> float:
        """Estimate a target's seconds so that their mean over targets is what all jobs of the chain take."""
        jobs = self.costs.jobs(chain)
        stages = sum(self.costs.seconds(job) for job in jobs if job.stage in chain.stages)
        own = sum(self.costs.seconds(job) for job in jobs if job.name == target and job.stage not in chain.stages)
        return stages + len(chain.targets) * own

    def _best(self, count: int) -> list[Trial]:
        """Return the trials of the chains that are expected to be best, of those that were run to their end."""
        if not self._complete:
            return []
        table, _ = self._expected(self._now(self._pool))
        order = (table - table.max(1, keepdims=True)).max(0) if self.objective.per_target else _mean(table)
        trials = [*self._complete.values()]
        return [trials[place] for place in np.argsort(-order, kind="stable")[:count]]

    def _expected(self, posterior: ChainPosterior) -> tuple[Array, dict[str, float]]:
        """Compute the expected scores of every chain that was run to its end, and the limits that the constraint sets.

        returns: scores, shape (targets, chains), -inf of chains that are expected to break the constraint
        """
        chains = [trial.chain for trial in self._complete.values()]
        rows = [posterior.stages[stage_key(chain)] for chain in chains]
        table = np.zeros((len(self._scored), len(chains)))
        for values, target in zip(table, self._scored, strict=True):
            columns = [posterior.settings[target][chain.line(target)] for chain in chains]
            values[:] = posterior.targets[target].means[rows, columns]
        points = self.objective.no_target_below_baseline
        phases = [trial.phase for trial in self._complete.values()]
        if points is None or "baseline" not in phases:
            return table, {}
        limits = table[:, phases.index("baseline")] - points
        table[:, (table < limits[:, None]).any(0)] = -np.inf
        return table, dict(zip(self._scored, map(float, limits), strict=True))

    def _standing(self, posterior: ChainPosterior) -> _Standing:
        if not self._complete:
            centres = {target: posterior.targets[target].centre for target in self._scored}
            return _Standing(statistics.fmean(centres.values()), centres, {})
        table, limits = self._expected(posterior)
        each = dict(zip(self._scored, map(float, table.max(1)), strict=True))
        return _Standing(float(_mean(table).max()), each, limits)


def _mean(table: Array) -> Array:
    """Average over targets, in their order."""
    return np.asarray(sum(table) / len(table))


def _recipes(pool: Pool | None, chains: Sequence[Chain]) -> tuple[Described, dict[str, Described]]:
    """Describe the stages and, by target, the settings in a pool and those of some chains."""
    stages = {option.key: stage_features(option.chain) for option in pool.stages} if pool else {}
    stages |= {stage_key(chain): stage_features(chain) for chain in chains}
    owners = [(option.chain, family) for family, own in (pool.settings if pool else {}).items() for option in own]
    owners += [(chain, tuple(target.name for target in chain.targets)) for chain in chains]
    settings: dict[str, dict[Hashable, Features]] = {}
    for chain, family in owners:
        for target in family:
            settings.setdefault(target, {})[chain.line(target)] = target_features(chain, target)
    return stages, dict(settings)


def _correlated(deviations: Array, correlation: float) -> Array:
    """Return the covariance of errors that all correlate alike."""
    return np.outer(deviations, deviations) * (correlation + (1 - correlation) * np.eye(len(deviations)))


def _from_the_best(scores: Array) -> Iterator[int]:
    """Yield the places of scores, the highest first, without those of minus infinity; few are sorted at first."""
    most = SHORTLIST
    while True:
        order = np.argsort(-scores, kind="stable") if most >= len(scores) else _top(scores, most)
        yield from (int(place) for place in order if scores[place] > -np.inf)
        if most >= len(scores):
            return
        most *= 8


def _top(scores: Array, count: int) -> NDArray[np.intp]:
    best = np.argpartition(-scores, count)[:count]
    return best[np.argsort(-scores[best], kind="stable")]
