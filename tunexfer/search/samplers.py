"""Samplers: they choose the next point, by Optuna's samplers, at random, or by enumeration. Ray is not used here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import BaseTrial, FixedTrial, TrialState, create_trial

from tunexfer.core.chain import Chain
from tunexfer.core.graph import fingerprint
from tunexfer.core.objective import Objective
from tunexfer.core.trial import Point, State, Trial, TrialResult
from tunexfer.plan.domains import Ask, Choice, Coordinate, Value
from tunexfer.plan.draws import at_random
from tunexfer.plan.space import SearchSpace
from tunexfer.search.goals import scalars

STARTUP = 5
"""Complete trials that are drawn by chance before a model has a say: a study here has tens of trials, not hundreds."""
TPE_CANDIDATES = 6
"""Points of which TPE proposes the most promising. With Optuna's 24 it proposes its favourite again and again where a
space has few values, and since no chain is run twice, chance had the say in nine draws of ten."""
ATTEMPTS = 30
"""Repeated chains in a row after which one of Optuna's samplers leaves the draw to chance."""
ENDINGS: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "stopped": TrialState.PRUNED,
}


class Sampler:
    """Draws by chance. Each draw has a seed of its own, so a study that was stopped and resumed draws what it would
    have drawn without the interruption."""

    reads_scores = False
    """Whether `tell` reads a result's scores: after a restart these have to be read from disk."""
    gain_per_chain: float | None = None
    """Points that the last draw is expected to gain for the seconds of a whole chain; None where nothing is expected:
    it was drawn without a model, or its jobs are all done."""

    def __init__(self, space: SearchSpace, seed: int, *, objective: Objective | None = None) -> None:
        self.space, self.seed, self.objective = space, seed, objective or Objective()

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        """Draw a point for trial `number`; None when there are no more.

        attempt: how many points for this trial were turned down already
        running: the trials that have begun and have not ended
        """
        return self.space.sample(at_random(self.seed_of(number, attempt)))

    def tell(self, result: TrialResult) -> None:
        """Learn from a trial of any phase that has ended, in this run of the study or an earlier one.

        result: with the scores and jobs that were finished, also of a trial that failed or was stopped half-way
        """

    def learn(self, result: TrialResult) -> None:
        """Learn from a trial of another study."""

    def turned_down(self, number: int, point: Point) -> None:
        """Learn that the point drawn for trial `number` makes a chain that has been run already."""

    def chance(self, chain: Chain, scores: Mapping[str, float]) -> float | None:
        """Estimate the probability that a chain beats the best one so far; None from a sampler without a model.

        scores: the main validation scores that the chain has so far, by `target/language`
        """
        return None

    def posterior(self, chain: Chain) -> tuple[float, float] | None:
        """Estimate mean and standard deviation of a chain's objective; None from a sampler without a model."""
        return None

    def seed_of(self, number: int, attempt: int) -> int:
        """Derive the seed of one draw."""
        return int(fingerprint([self.seed, number, attempt])[:8], 16)


class OptunaSampler(Sampler):
    """Draws with one of Optuna's samplers, which sees the objective of each trial, or where there are several goals or
    a constraint what `scalars` makes of them for this draw.

    A new one is made for each draw, with the draw's own seed: it keeps nothing but what the study of Optuna's holds.
    """

    def __init__(
        self, space: SearchSpace, seed: int, make: Callable[[int], BaseSampler], *, objective: Objective | None = None
    ) -> None:
        """
        make: makes the sampler of one draw from a seed
        """
        super().__init__(space, seed, objective=objective)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(direction="maximize")
        self._make = make
        self._restates = self.objective.several or self.objective.no_target_below_baseline is not None
        self._complete: list[TrialResult] = []
        """Trials of the search and the baseline, where each draw values them anew."""
        self._open: dict[int, optuna.Trial] = {}

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        if attempt >= ATTEMPTS:
            return super().ask(number, attempt, running)
        if self._restates:
            self._restate(self.seed_of(number, attempt), running)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self._make(self.seed_of(number, attempt))
        self._open[number] = self.study.ask()
        return self.space.sample(suggest(self._open[number]))

    def tell(self, result: TrialResult) -> None:
        if self._restates and result.state == "complete" and result.trial.phase != "confirm":
            self._complete.append(result)
        if result.trial.phase != "search":
            return
        trial, state = self._open.pop(result.trial.number, None), ENDINGS[result.state]
        value = result.objective if result.state == "complete" else None
        if trial is not None:
            self.study.tell(trial, value, state=state)
            return
        self._add(result.trial.point, state, value)

    def turned_down(self, number: int, point: Point) -> None:
        if (trial := self._open.pop(number, None)) is not None:
            self.study.tell(trial, state=TrialState.FAIL)

    def _restate(self, seed: int, running: Sequence[Trial]) -> None:
        """Begin Optuna's study anew with the values that count for this draw."""
        values = scalars(self._complete, self.objective, seed)
        self.study, self._open = optuna.create_study(direction="maximize"), {}
        for result in self._complete:
            if result.trial.phase == "search" and result.trial.number in values:
                self._add(result.trial.point, TrialState.COMPLETE, values[result.trial.number])
        for trial in running:
            if trial.phase == "search":
                self._add(trial.point, TrialState.RUNNING, None)

    def _add(self, point: Point, state: TrialState, value: float | None) -> None:
        distributions = self._distributions(point)
        self.study.add_trial(create_trial(state=state, params=point, distributions=distributions, value=value))

    def _distributions(self, point: Point) -> dict[str, BaseDistribution]:
        trial = FixedTrial(point)
        self.space.sample(suggest(trial))
        return trial.distributions


def suggest(trial: BaseTrial) -> Ask:
    """Draw each coordinate with an Optuna trial."""

    def ask(name: str, domain: Coordinate) -> Value:
        if isinstance(domain, Choice):
            return str(trial.suggest_categorical(name, domain.labels))
        if domain.integer:
            return trial.suggest_int(name, int(domain.low), int(domain.high))
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log)

    return ask


def tpe(seed: int) -> BaseSampler:
    return TPESampler(
        n_startup_trials=STARTUP,
        n_ei_candidates=TPE_CANDIDATES,
        multivariate=True,
        group=True,
        constant_liar=True,
        seed=seed,
    )


def gp(seed: int) -> BaseSampler:
    return GPSampler(n_startup_trials=STARTUP, seed=seed)
