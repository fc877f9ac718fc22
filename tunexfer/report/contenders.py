"""The chains worth a close look: those that were confirmed, or else the best of the search, against the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from tunexfer.report.comparison import Comparison, Run, compare_runs
from tunexfer.report.study import Study

SHOWN = 3
"""Chains of a search without confirmation."""


@dataclass(frozen=True)
class Contender:
    """A chain, and the runs that tell how it does against the baseline."""

    study: Study
    trial: int
    """Its number in the search."""
    pairs: tuple[tuple[Run, Run], ...]
    """The chain and the baseline, once per seed."""
    fresh: bool
    """Whether the seeds are others than the one it was chosen by."""
    objective: float
    """Mean over the seeds; validation."""
    baseline_objective: float

    @property
    def stages(self) -> str:
        return str(self.study.trials().loc[self.trial, "stages"])

    @property
    def chain(self) -> str:
        return str(self.study.trials().loc[self.trial, "chain"])

    @property
    def ahead(self) -> bool:
        """Whether its objective is above the baseline's."""
        return self.objective > self.baseline_objective

    @cached_property
    def comparison(self) -> Comparison:
        return compare_runs(self.pairs)


@lru_cache(maxsize=16)
def contenders(study: Study) -> tuple[Contender, ...]:
    """Best objective first, the baseline itself left out; none without a baseline or another complete chain."""
    baseline = study.baseline()
    if baseline is None:
        return ()
    trials = study.trials()
    objectives = trials["objective"]
    own = trials[(trials["phase"] == "search") & objectives.notna() & trials.index.isin(study.scores()["trial"])]
    ranked = [int(number) for number in own.sort_values("objective", ascending=False, kind="stable").index]
    seed_of = trials["seed"].to_dict()
    baselines = {seed_of[number]: number for number in study.repeats(baseline)}
    found = []
    for number in ranked:
        if study.chain(number) == study.chain(baseline):
            continue
        again = [n for n in study.repeats(number) if seed_of[n] in baselines]
        runs = [(n, baselines[seed_of[n]]) for n in again] or [(number, baseline)]
        found.append(
            Contender(
                study,
                number,
                tuple((Run(study, one), Run(study, other)) for one, other in runs),
                bool(again),
                float(objectives[[one for one, _ in runs]].mean()),
                float(objectives[[other for _, other in runs]].mean()),
            )
        )
    confirmed = [one for one in found if one.fresh]
    if not confirmed:
        return tuple(found[:SHOWN])
    best = study.best()
    return tuple(sorted(confirmed, key=lambda one: (one.trial != best, -one.objective)))
