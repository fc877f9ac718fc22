"""The samplers by the names that a space file gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scipy.stats.qmc import Halton

from tunexfer.core.chain import Chain
from tunexfer.core.trial import Point, Trial
from tunexfer.plan.domains import Choice, Coordinate, Value
from tunexfer.plan.plan import Plan
from tunexfer.plan.space import SearchSpace
from tunexfer.search.chain_sampler import ChainSearcher
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import OptunaSampler, Sampler, gp, tpe


class _GridSampler(Sampler):
    """Draws every point of the space once, in the order of the file."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        self.points = space.grid()

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        point = next(self.points, None)
        return None if point is None else (point, self.space.chain(point))


class _HaltonSampler(Sampler):
    """Draws points that cover the space evenly: the scrambled Halton sequence, a dimension for each coordinate."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._places = {name: place for place, name in enumerate(space.coordinates)}

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        if attempt:
            return super().ask(number, attempt, running)
        row = Halton(len(self._places), rng=self.seed).fast_forward(number).random()[0]

        def ask(name: str, domain: Coordinate) -> Value:
            share = float(row[self._places[name]])
            if isinstance(domain, Choice):
                return domain.labels[int(share * len(domain.labels))]
            if domain.integer:
                return int(domain.low) + int(share * (domain.high - domain.low + 1))
            return (
                domain.low * (domain.high / domain.low) ** share
                if domain.log
                else (domain.low + share * (domain.high - domain.low))
            )

        return self.space.sample(ask)


ALGORITHMS: dict[str, Callable[[Plan, Costs], Sampler]] = {
    "chain": lambda plan, costs: ChainSearcher(plan.space, plan.seed, costs, plan.objective),
    "tpe": lambda plan, costs: OptunaSampler(plan.space, plan.seed, tpe, objective=plan.objective),
    "gp": lambda plan, costs: OptunaSampler(plan.space, plan.seed, gp, objective=plan.objective),
    "qmc": lambda plan, costs: _HaltonSampler(plan.space, plan.seed),
    "random": lambda plan, costs: Sampler(plan.space, plan.seed),
    "grid": lambda plan, costs: _GridSampler(plan.space, plan.seed),
}
"""The names are those of `Algorithm` in `plan/space_file.py`."""
