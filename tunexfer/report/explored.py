"""What of its space a search has explored: the point of each complete trial, and its objective."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tunexfer.plan.domains import Choice, Domain, DomainError, parse, walk
from tunexfer.report.study import Study

SEARCHED = ("encoder", "stages", "targets", "training")
"""The blocks of a space that hold domains."""
NO_STAGE = "none"
"""The option of a stage's `tasks` that means: no stage."""
_STAGE_TASKS = re.compile(r"stages\[\d+\]\.tasks")


class Explored:
    """The search's own complete trials. Confirmations are left out: they run chains of others with other seeds."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.domains = domains(study.plan)
        trials = study.trials()
        own = trials[(trials["state"] == "complete") & (trials["phase"] != "confirm") & trials["objective"].notna()]
        baseline = study.baseline()
        self.baseline: float | None = own["objective"].to_dict().get(baseline)
        """The baseline's objective; None where there is none."""
        points = study.coordinates().loc[own.index]
        if baseline in points.index:
            points = self._place(points, baseline)
        self.points = points.dropna(axis="columns", how="all")
        """One row a trial, one column a coordinate that any of them has. The baseline is among them where the space
        holds it."""
        self.objective: pd.Series[float] = own["objective"].loc[points.index]
        self.chains = {int(number): study.chain(int(number)) for number in points.index}

    def _place(self, points: pd.DataFrame, baseline: int | None) -> pd.DataFrame:
        """With the baseline as the point of the space that it is: no stage drawn; without it where it is none."""
        open_stages = [name for name in points.columns if _STAGE_TASKS.fullmatch(name)]
        stages = self.study.plan.get("identity", {}).get("stages", open_stages)
        may_be_none = [name for name in open_stages if NO_STAGE in self._options(points[name])]
        if len(may_be_none) < len(stages):
            return points.drop(index=baseline)
        placed = points.astype(dict.fromkeys(open_stages, object))
        placed.loc[baseline, open_stages] = NO_STAGE
        return placed

    def _options(self, drawn: pd.Series[Any]) -> set[str]:
        domain = self.domains.get(str(drawn.name))
        return set(domain.labels) if isinstance(domain, Choice) else set(drawn.dropna())


def domains(plan: Mapping[str, Any]) -> dict[str, Domain]:
    """Name of each coordinate -> its domain, of the space in `plan.yaml`; empty where that can't be read.

    Shares aren't among them: their coordinates hang on which sources were drawn.
    """
    identity = plan.get("identity", {})
    problems: list[DomainError] = []
    return dict(walk({key: parse(identity.get(key), key, problems) for key in SEARCHED}))
