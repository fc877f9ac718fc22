"""The samplers by the names that a space file gives them."""

from __future__ import annotations

from collections.abc import Callable

from tunexfer.plan.plan import Plan
from tunexfer.search.chain_sampler import ChainSearcher
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import GridSampler, HaltonSampler, OptunaSampler, Sampler, gp, tpe

ALGORITHMS: dict[str, Callable[[Plan, Costs], Sampler]] = {
    "chain": lambda plan, costs: ChainSearcher(plan.space, plan.seed, costs, plan.objective),
    "tpe": lambda plan, costs: OptunaSampler(plan.space, plan.seed, tpe, objective=plan.objective),
    "gp": lambda plan, costs: OptunaSampler(plan.space, plan.seed, gp, objective=plan.objective),
    "qmc": lambda plan, costs: HaltonSampler(plan.space, plan.seed, plan.space.coordinates),
    "random": lambda plan, costs: Sampler(plan.space, plan.seed),
    "grid": lambda plan, costs: GridSampler(plan.space, plan.seed),
}
"""The names are those of `Algorithm` in `plan/space_file.py`."""
