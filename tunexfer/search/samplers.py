"""Samplers: they choose the next point by Optuna's TPE, at random, or by enumeration. Ray is not used here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import BaseTrial, FixedTrial, TrialState, create_trial

from tunexfer.core.chain import Chain
from tunexfer.core.graph import fingerprint
from tunexfer.core.trial import Point
from tunexfer.plan.domains import Ask, Choice, Coordinate, Value
from tunexfer.plan.draws import at_random

TPE_STARTUP = 5
"""Complete trials that are drawn by chance before TPE has a say: a study here has tens of trials, not hundreds."""
TPE_CANDIDATES = 6
"""Points of which TPE proposes the most promising. With Optuna's 24 it proposes its favourite again and again where a
space has few values, and since no chain is run twice, chance had the say in nine draws of ten."""
TPE_ATTEMPTS = 30
"""Repeated chains in a row after which TPE leaves the draw to chance."""


class Space(Protocol):
    """The part of `SearchSpace` that samplers use."""

    def sample(self, ask: Ask) -> tuple[Point, Chain]: ...

    def chain(self, point: Point) -> Chain: ...

    def grid(self) -> Iterator[Point]: ...


class Sampler:
    """Draws by chance. Each draw has a seed of its own, so a study that was broken off and continued draws what it
    would have drawn in one go."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def ask(self, number: int, attempt: int) -> tuple[Point, Chain] | None:
        """A point for trial `number`; None when there are no more.

        attempt: how many points for this trial were turned down already
        """
        return self.space.sample(at_random(self.seed_of(number, attempt)))

    def tell(self, number: int, point: Point, value: float | None) -> None:
        """How a trial did, drawn here or in an earlier run of the study; None: it failed, or was turned down."""

    def seed_of(self, number: int, attempt: int) -> int:
        return int(fingerprint([self.seed, number, attempt])[:8], 16)


class TPEProposals(Sampler):
    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(direction="maximize")
        self._open: dict[int, optuna.Trial] = {}

    def ask(self, number: int, attempt: int) -> tuple[Point, Chain] | None:
        if attempt >= TPE_ATTEMPTS:
            return super().ask(number, attempt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = TPESampler(
                n_startup_trials=TPE_STARTUP,
                n_ei_candidates=TPE_CANDIDATES,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=self.seed_of(number, attempt),
            )
        self._open[number] = self.study.ask()
        return self.space.sample(suggest(self._open[number]))

    def tell(self, number: int, point: Point, value: float | None) -> None:
        trial = self._open.pop(number, None)
        if trial is not None:
            self.study.tell(trial, value, state=TrialState.FAIL if value is None else None)
        elif value is not None:
            self.study.add_trial(create_trial(params=point, distributions=self._distributions(point), value=value))

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


class GridSampler(Sampler):
    """Every point of the space once, in the order of the file."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        self._points = space.grid()

    def ask(self, number: int, attempt: int) -> tuple[Point, Chain] | None:
        point = next(self._points, None)
        return None if point is None else (point, self.space.chain(point))


ALGORITHMS: dict[str, Callable[[Space, int], Sampler]] = {
    "tpe": TPEProposals,
    "random": Sampler,
    "grid": GridSampler,
}
