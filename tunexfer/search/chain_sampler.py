"""The chain sampler: it draws the chain with the largest expected improvement per second that is left to spend."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, ndtr

from tunexfer.core.chain import Chain
from tunexfer.core.objective import Objective
from tunexfer.core.scores import Score
from tunexfer.core.trial import Point, Trial, TrialResult
from tunexfer.plan.domains import Choice, Coordinate, Value
from tunexfer.plan.draws import replay
from tunexfer.search.chain_model import Array, ChainModel, ChainPosterior, Features, Recipes
from tunexfer.search.chain_pool import (
    Family,
    Option,
    Pool,
    draw_some,
    families_of,
    list_all,
    settings_key,
    stage_features,
    stage_key,
    target_features,
)
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import Sampler, Space

FLOOR = 0.05
"""Cost added to every chain, as a share of what a chain costs from nothing: improvement per second is not defined for
chains that cost nothing."""
MAX_COMBINED = 200_000
"""Chains up to which all are compared; of more, the best settings are found target by target."""
MAX_PAIRS = 3000
"""Pairs of stages and settings of a target whose uncertainty is computed; of more, those after the best stages."""
SHORTLIST = 64


@dataclass(frozen=True)
class _Standing:
    """The scores that a draw has to beat: the best that are expected of the chains that were run to their end."""

    mean: float
    """The best objective."""
    each: Mapping[str, float]
    """The best of each target alone."""
    limits: Mapping[str, float]
    """Score of each target below which a chain breaks the constraint; empty without one."""


@dataclass
class Candidates:
    """All chains of a pool, in parts: S stage recipes, and K settings of each family of targets."""

    means: list[Array]
    """Of each family its part of the expected objective, shape (S, K); where each target chooses its own chain, of the
    expected improvement."""
    sums: list[Array]
    """Of each family the sum of its targets' standard deviations, as parts of the objective."""
    squares: list[Array]
    """The sum of their variances."""
    seconds: list[Array]
    """That a family's jobs still take."""
    stage_seconds: Array
    """Shape (S,)."""
    rows: NDArray[np.intp]
    """Index in the pool of each of the S stage recipes."""
    safety: list[Array] | None = None
    """Logarithm of the chance that a family's targets keep the constraint; None without one."""

    def combined(self, score: Callable[..., Array]) -> tuple[Array, NDArray[np.intp]]:
        """Score combinations of stages and settings: all, or the best settings after each stage and their neighbours.

        returns: scores, shape (N,), and for each the index of stages and of each family's settings, shape (N, 1 + F)
        """
        counts = [mean.shape[1] for mean in self.means]
        if len(self.rows) * math.prod(counts) <= MAX_COMBINED:
            grids = np.indices((len(self.rows), *counts)).reshape(1 + len(counts), -1)
            return self._scored(grids, score)
        chosen = np.stack([np.arange(len(self.rows)), *(mean.argmax(1) for mean in self.means)])
        for last in (False, True):
            tried = []
            for place, count in enumerate(counts, start=1):
                grid = np.repeat(chosen, count, axis=1)
                grid[place] = np.tile(np.arange(count), len(self.rows))
                scores, _ = self._scored(grid, score)
                chosen[place] = scores.reshape(len(self.rows), count).argmax(1)
                tried.append(grid)
            if last:
                return self._scored(np.unique(np.concatenate([chosen, *tried], axis=1), axis=1), score)
        raise AssertionError("unreachable")

    def _scored(self, grid: NDArray[np.intp], score: Callable[..., Array]) -> tuple[Array, NDArray[np.intp]]:
        def total(parts: list[Array]) -> Array:
            return np.asarray(sum(part[grid[0], own] for part, own in zip(parts, grid[1:], strict=True)))

        seconds = self.stage_seconds[grid[0]] + total(self.seconds)
        safety = np.zeros_like(seconds) if self.safety is None else total(self.safety)
        return score(total(self.means), total(self.sums), total(self.squares), seconds, safety), grid.T


class ChainSearcher(Sampler):
    """Models each target's score and draws the chain with the largest expected improvement per remaining second.

    Jobs that are done or running cost nothing. A chain whose jobs are all done is drawn at once where it is expected to
    be better than all that were run.

    Where each target chooses its own chain, the improvement is the mean over targets of each target's expected
    improvement over its own best score. Under the constraint `no_target_below_baseline`, it is multiplied by the chance
    that every target keeps it, and the best so far is one that is believed to keep it.

    Source: EEIPU (Alwan et al. 2024, arXiv 2411.03731) for improvement per remaining cost with shared prefixes;
    Gardner et al. 2014 for expected improvement under a constraint.
    """

    reads_scores = True

    def __init__(
        self,
        space: Space,
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
        first = self._pool.stages[0].chain if self._pool else space.sample(_first)[1]
        self._families = families_of(first)
        self._model = ChainModel([target.name for target in first.targets])
        self._told: set[Hashable] = set()
        """Target, stages, settings and seed of each score that was told: trials that share it tell it again."""
        self._taken: set[Hashable] = set()
        self._complete: dict[Hashable, Trial] = {}
        """The first trial of each chain that was run to its end."""
        self._cached: tuple[int, Pool | None, ChainPosterior] | None = None

    def tell(self, result: TrialResult) -> None:
        self.learn(result)
        self.costs.add_done([run.key for run in result.jobs])
        if result.trial.phase != "confirm":
            key = self._key(result.trial.chain)
            self._taken.add(key)
            if result.state == "complete":
                self._complete.setdefault(key, result.trial)

    def learn(self, result: TrialResult) -> None:
        chain = result.trial.chain
        self.costs.time(result)
        told = []
        for target in (target.name for target in chain.targets if target.name in self._model.settings):
            stages, own = stage_key(chain), chain.line(target)
            mark = target, stages, own, result.trial.seed
            if mark not in self._told and (value := self._value(chain, target, result.scores)) is not None:
                self._told.add(mark)
                self._model.stages.describe(stages, stage_features(chain))
                self._model.settings[target].describe(own, target_features(chain, target))
                told.append((target, stages, own, value))
        self._model.tell(told)

    def turned_down(self, number: int, point: Point) -> None:
        self._taken.add(self._key(self.space.chain(point)))

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        seed = self.seed_of(number, attempt)
        pool = self._pool or draw_some(self.space, seed, [trial.point for trial in self._best(5)])
        chosen = self._choose(pool, running, seed)
        if chosen is None:
            return None if pool.complete else super().ask(number, attempt, running)
        stages, settings = chosen
        return self.space.sample(replay(pool.point(stages, settings)))

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
        values = [self._value(chain, target, given) for target in self._scored]
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
            posterior = self._model.posterior(_recipes(None, [chain]), {})
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

    def _choose(self, pool: Pool, running: Sequence[Trial], seed: int) -> tuple[Option, dict[Family, Option]] | None:
        chains = [trial.chain for trial in running]
        pending = {
            target: [(stage_key(chain), chain.line(target)) for chain in chains] for target in self._model.targets
        }
        posterior = self._model.posterior(_recipes(pool, chains), pending) if running else self._now(pool)
        busy = {job.key for trial in running for job in self.costs.jobs(trial.chain, trial.seed)}
        taken = self._taken | {self._key(trial.chain) for trial in running}
        standing = self._standing(posterior)
        candidates, floor = self._candidates(pool, posterior, busy, standing, chains)
        best, each = standing.mean, self.objective.per_target
        correlation = posterior.correlation
        noise = np.random.default_rng(seed)

        def free(mean: Array, sums: Array, squares: Array, seconds: Array, safety: Array) -> Array:
            return np.where((seconds <= 0) & (mean > best + 1e-9) & (safety >= math.log(0.5)), mean, -np.inf)

        def gain(mean: Array, sums: Array, squares: Array, seconds: Array, safety: Array) -> Array:
            if each:
                improvement = np.log(np.maximum(mean, 1e-300))
            else:
                deviation = np.sqrt((1 - correlation) * squares + correlation * sums**2)
                improvement = log_improvement(mean - best, deviation)
            return improvement + safety - np.log(seconds + FLOOR * floor) + 1e-6 * noise.random(len(mean))

        for score in (gain,) if each else (free, gain):
            scores, grid = candidates.combined(score)
            place = self._first_untaken(pool, candidates, scores, grid, taken)
            if place is not None:
                self.gain_per_chain = None if score is free else float(np.exp(scores[place]) * floor)
                return self._options(pool, candidates, grid[place])
        return None

    def _first_untaken(
        self, pool: Pool, candidates: Candidates, scores: Array, grid: NDArray[np.intp], taken: set[Hashable]
    ) -> int | None:
        """Return the place of the best combination whose chain was not run yet."""
        most = SHORTLIST
        while True:
            order = np.argsort(-scores, kind="stable") if most >= len(scores) else _top(scores, most)
            for place in order:
                if scores[place] == -np.inf:
                    return None
                stages, settings = self._options(pool, candidates, grid[place])
                if (stages.key, *(settings[family].key for family in self._families)) not in taken:
                    return int(place)
            if most >= len(scores):
                return None
            most *= 8

    def _options(
        self, pool: Pool, candidates: Candidates, indices: NDArray[np.intp]
    ) -> tuple[Option, dict[Family, Option]]:
        own = {family: pool.settings[family][at] for family, at in zip(self._families, indices[1:], strict=True)}
        return pool.stages[candidates.rows[indices[0]]], own

    def _candidates(
        self, pool: Pool, posterior: ChainPosterior, busy: set[str], standing: _Standing, running: Sequence[Chain]
    ) -> tuple[Candidates, float]:
        """Compute what is believed of every part of a chain, and what it still costs; and the cost of a whole chain."""
        scored, each = self._scored, self.objective.per_target
        places = np.array([posterior.stages[option.key] for option in pool.stages])
        columns = {
            target: np.array([posterior.settings[target][_line(option, target)] for option in pool.settings[family]])
            for family in self._families
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
        return Candidates(seconds=seconds, stage_seconds=stage_seconds, rows=rows, **parts), whole

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
            self._cached = self._model.tellings, pool, self._model.posterior(_recipes(pool, ()), {})
        return self._cached[2]

    def _key(self, chain: Chain) -> Hashable:
        return stage_key(chain), *(settings_key(chain, family) for family in self._families)

    def _value(self, chain: Chain, target: str, scores: Sequence[Score]) -> float | None:
        """Compute a target's part of the objective; None where none of its scores counts."""
        mine = [score for score in scores if score.target == target]
        try:
            return self.objective.value(mine, chain)
        except ValueError:
            return None

    def expected_best(self) -> Trial | None:
        """Return the trial of the chain with the highest expected objective, of those that were run to their end."""
        best = self._best(1)
        return best[0] if best else None

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


def _first(name: str, domain: Coordinate) -> Value:
    return domain.labels[0] if isinstance(domain, Choice) else domain.low


def _mean(table: Array) -> Array:
    """Average over targets, in their order."""
    return np.asarray(sum(table) / len(table))


def _line(option: Option, target: str) -> Hashable:
    return option.chain.line(target)


def _recipes(pool: Pool | None, chains: Sequence[Chain]) -> Recipes:
    """Describe the recipes in a pool and those of some chains."""
    stages = {option.key: stage_features(option.chain) for option in pool.stages} if pool else {}
    stages |= {stage_key(chain): stage_features(chain) for chain in chains}
    owners = [(option.chain, family) for family, own in (pool.settings if pool else {}).items() for option in own]
    owners += [(chain, tuple(target.name for target in chain.targets)) for chain in chains]
    settings: dict[str, dict[Hashable, Features]] = {}
    for chain, family in owners:
        for target in family:
            settings.setdefault(target, {})[chain.line(target)] = target_features(chain, target)
    return Recipes(stages, settings)


def _correlated(deviations: Array, correlation: float) -> Array:
    """Return the covariance of errors that all correlate alike."""
    return np.outer(deviations, deviations) * (correlation + (1 - correlation) * np.eye(len(deviations)))


def _top(scores: Array, count: int) -> NDArray[np.intp]:
    best = np.argpartition(-scores, count)[:count]
    return best[np.argsort(-scores[best], kind="stable")]


def log_improvement(ahead: Array, deviation: Array) -> Array:
    """Compute the logarithm of the expected improvement of normal variables, far below the best as well.

    ahead:   mean minus the best so far

    Source: Ament et al. 2023 (arXiv 2310.20708), equation 9.
    """
    z = ahead / deviation
    low = np.minimum(z, -1.0)
    tail = math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2)) * -low
    below = -0.5 * low**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(1.0 - tail, 1e-12 / low**2))
    near = np.maximum(z, -1.0)
    above = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * ndtr(near))
    return np.asarray(np.log(deviation) + np.where(z > -1.0, above, below))
