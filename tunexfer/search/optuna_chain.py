"""The chain sampler for people who bring their own trainer: a sampler for a study of Optuna's."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from tunexfer.search.chain_candidates import FLOOR, Candidates, log_improvement
from tunexfer.search.chain_model import Array, ChainModel, ChainPosterior, Feature, Features

STARTUP = 4
"""Complete trials that are drawn by chance before the model has a say."""
MAX_LISTED, DRAWN = 256, 64
"""Values of the stages, or of a target's settings, up to which all are compared, and how many are drawn else."""
Space = dict[str, BaseDistribution]
Values = tuple[tuple[str, Any], ...]
"""Names and values of some parameters."""


class ChainSampler(BaseSampler):
    """Draws chains in a study that has one value for each target, each to be maximised.

    A parameter whose name begins with a target's name and a dot (`ner.rate`) is that target's own; all others are about
    the stages that the targets share. All parameters are suggested in every trial. What is pursued is the mean of the
    values by the second: a trial may say what its parts took as the user attribute `seconds`, a mapping of `stages` and
    the targets' names to seconds; where none does, all parts count alike. Stages that a trial ran before, and a target
    with the same settings after the same stages, count as free: keep their models and scores.
    """

    def __init__(self, targets: Sequence[str], seed: int | None = None) -> None:
        """
        targets: their names, in the order of a trial's values
        """
        self.targets = tuple(targets)
        self._random = RandomSampler(seed)
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Space:
        return IntersectionSearchSpace().calculate(study)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Space) -> dict[str, Any]:
        """Draw the chain with the largest expected improvement per remaining second.

        raises: ValueError, if the study has another number of values than there are targets
        """
        if len(study.directions) != len(self.targets):
            raise ValueError(
                f"the study has {len(study.directions)} values and the sampler {len(self.targets)} targets; "
                f"create it with directions=['maximize'] * {len(self.targets)}"
            )
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if len(complete) < STARTUP or not search_space:
            return {}
        draw = _Draw(self.targets, search_space, complete, self._rng)
        return draw.best()


class _Draw:
    """One draw: what was observed, what could be tried, and what is expected of it."""

    def __init__(
        self, targets: Sequence[str], space: Space, complete: Sequence[FrozenTrial], rng: np.random.Generator
    ) -> None:
        self.targets, self.space, self.rng = targets, space, rng
        self.own = {target: [name for name in space if name.startswith(f"{target}.")] for target in targets}
        settings = {name for names in self.own.values() for name in names}
        self.common = [name for name in space if name not in settings]
        self.complete = complete
        self.stages = self._options(self.common)
        self.settings = {target: self._options(names) for target, names in self.own.items()}

    def best(self) -> dict[str, Any]:
        """Return the parameters of the best chain that was not run yet; of all, where every chain was run."""
        posterior = self._posterior()
        candidates = self._candidates(posterior)
        whole = float(np.mean(candidates.stage_seconds)) + sum(float(part.mean()) for part in candidates.seconds)
        best = self._expected(posterior).max()

        def gain(mean: Array, deviation: Array, seconds: Array, safety: Array) -> Array:
            return log_improvement(mean - best, deviation) - np.log(seconds + FLOOR * (whole or 1.0))

        scores, grid = candidates.combined(gain)
        run = {self._values(trial.params, list(self.space)) for trial in self.complete}
        for place in np.argsort(-scores, kind="stable"):
            params = dict(self.stages[grid[place][0]])
            for target, index in zip(self.targets, grid[place][1:], strict=True):
                params |= dict(self.settings[target][index])
            if self._values(params, list(self.space)) not in run:
                break
        return params

    def _posterior(self) -> ChainPosterior:
        model = ChainModel(self.targets)
        told: set[Hashable] = set()
        for trial in self.complete:
            stages, scores = self._values(trial.params, self.common), []
            model.stages.describe(stages, self._features(stages))
            for target, value in zip(self.targets, trial.values, strict=True):
                own = self._values(trial.params, self.own[target])
                model.settings[target].describe(own, self._features(own))
                if (target, stages, own) not in told:
                    told.add((target, stages, own))
                    scores.append((target, stages, own, value))
            model.tell(scores)
        settings = {target: self._described(keys) for target, keys in self.settings.items()}
        return model.posterior(self._described(self.stages), settings, {})

    def _candidates(self, posterior: ChainPosterior) -> Candidates:
        rows = np.array([posterior.stages[key] for key in self.stages])
        took = {name: self._seconds(name) for name in ("stages", *self.targets)}
        trained = {self._values(trial.params, self.common) for trial in self.complete}
        means, deviations, seconds = [], [], []
        for target in self.targets:
            columns = np.array([posterior.settings[target][key] for key in self.settings[target]])
            means.append(posterior.targets[target].means[rows][:, columns] / len(self.targets))
            deviations.append(posterior.targets[target].deviations(rows)[:, columns] / len(self.targets))
            scored = {
                (self._values(t.params, self.common), self._values(t.params, self.own[target])) for t in self.complete
            }
            done = [[(stages, own) in scored for own in self.settings[target]] for stages in self.stages]
            seconds.append(np.where(done, 0.0, took[target]))
        return Candidates(
            means=means,
            sums=deviations,
            squares=[deviation**2 for deviation in deviations],
            seconds=seconds,
            stage_seconds=np.array([0.0 if key in trained else took["stages"] for key in self.stages]),
            correlation=posterior.correlation,
        )

    def _expected(self, posterior: ChainPosterior) -> Array:
        """Compute the expected mean of every trial's values."""
        stages = [posterior.stages[self._values(trial.params, self.common)] for trial in self.complete]
        parts = []
        for target in self.targets:
            columns = [posterior.settings[target][self._values(t.params, self.own[target])] for t in self.complete]
            parts.append(posterior.targets[target].means[stages, columns])
        return np.asarray(np.mean(parts, axis=0))

    def _seconds(self, part: str) -> float:
        known = [trial.user_attrs.get("seconds", {}).get(part) for trial in self.complete]
        return statistics.median([float(seconds) for seconds in known if seconds is not None] or [1.0])

    def _options(self, names: Sequence[str]) -> list[Values]:
        """List all values of some parameters; where these are too many, those of past trials and some by chance."""
        listed = [_listed(self.space[name]) for name in names]
        if all(values is not None for values in listed) and math.prod(len(v or ()) for v in listed) <= MAX_LISTED:
            return [tuple(zip(names, values, strict=True)) for values in itertools.product(*(v or () for v in listed))]
        past = [self._values(trial.params, names) for trial in self.complete]
        drawn = [tuple((name, self._random(self.space[name])) for name in names) for _ in range(DRAWN)]
        return list(dict.fromkeys([*past[-DRAWN:], *drawn]))

    def _random(self, distribution: BaseDistribution) -> Any:
        if (values := _listed(distribution)) is not None:
            return values[int(self.rng.integers(len(values)))]
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
        log = distribution.log  # type: ignore[attr-defined]
        value = float(np.exp(self.rng.uniform(np.log(low), np.log(high))) if log else self.rng.uniform(low, high))
        return round(value) if isinstance(distribution, IntDistribution) else value

    def _values(self, params: Mapping[str, Any], names: Sequence[str]) -> Values:
        return tuple((name, params[name]) for name in names)

    def _described(self, keys: Sequence[Values]) -> dict[Hashable, Features]:
        return {key: self._features(key) for key in keys}

    def _features(self, values: Values) -> Features:
        return {name: _feature(self.space[name], value) for name, value in values}


def _listed(distribution: BaseDistribution) -> Sequence[Any] | None:
    """List a distribution's values; None where these are too many."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if getattr(distribution, "step", None) is None or getattr(distribution, "log", False):
        return None
    low, step = distribution.low, distribution.step  # type: ignore[attr-defined]
    count = round((distribution.high - low) / step) + 1  # type: ignore[attr-defined]
    return [low + place * step for place in range(count)] if count <= MAX_LISTED else None


def _feature(distribution: BaseDistribution, value: Any) -> Feature:
    """Describe a value: a category, or its place in the range."""
    if isinstance(distribution, CategoricalDistribution):
        return str(value)
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    if distribution.log:  # type: ignore[attr-defined]
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / ((high - low) or 1.0))
