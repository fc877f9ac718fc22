"""A study made of a few numbers in memory, for tests of the sections' arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.trial import Trial, TrialResult


def stage(name: str, rate: float = 1e-4, steps: int = 100, **shares: float) -> Stage:
    """A stage on sources that are written `task_language=share`."""
    sources = tuple(Source(task=key.split("_")[0], language=key.split("_")[1]) for key in shares)
    mixture = Mixture(sources=sources, shares=tuple(shares.values()))
    return Stage(name=name, mixture=mixture, learning_rate=rate, steps=steps)


def chain(*stages: Stage, rate: float = 5e-4, train: str = "en", targets: tuple[str, ...] = ("intent",)) -> Chain:
    made = [Target(task=name, stage=stage(name, rate, 80, **{f"{name}_{train}": 1.0})) for name in targets]
    return Chain(suite="toy", encoder=Encoder(name="pico"), stages=stages, targets=tuple(made))


@dataclass
class Frames:
    """Stands for a `Study` whose trials ran `chains`; trial 0 is the baseline, all have one seed."""

    chains: list[Chain]
    gains: Mapping[tuple[int, str, str], float] = field(default_factory=dict)
    """Trial, target and language -> points over the baseline in the test split."""
    own: Mapping[int, float] = field(default_factory=dict)
    """Trial -> what its no-stage chain with the same target values gains over the baseline, where there is one."""
    objectives: list[float] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    name: str = "frames"
    plan: dict[str, Any] = field(default_factory=dict)

    def chain(self, trial: int) -> Chain:
        return self.chains[trial]

    def baseline(self) -> int | None:
        return 0

    @property
    def objective(self) -> dict[str, Any]:
        return {"maximize": "mean", "split": "validation", "languages": "train"}

    def scores(self) -> pd.DataFrame:
        rows = []
        for (trial, target, language), gain in self.gains.items():
            unseen = self.chains[trial].unseen(target, language)
            both = unseen and self.chains[0].unseen(target, language)
            own = gain - self.own[trial] if trial in self.own else float("nan")
            phase = "search" if trial else "baseline"
            rows.append((self.name, trial, phase, target, language, "test", 50 + gain, True, unseen, both, gain, own))
        columns = "study trial phase target language split value main unseen unseen_by_both delta delta_own".split()
        return pd.DataFrame(rows, columns=columns)

    @property
    def ended(self) -> list[TrialResult]:
        return [
            TrialResult(
                trial=Trial(number=number, phase="search" if number else "baseline", seed=7, point=point, chain=chain),
                state="complete",
                started=0.0,
                seconds=1.0,
                objective=objective,
            )
            for number, (chain, objective, point) in enumerate(
                zip(self.chains, self.objectives, self.points or [{}] * len(self.chains), strict=True)
            )
        ]
