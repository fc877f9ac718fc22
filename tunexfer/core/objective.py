"""The objective: what a search pursues, numbers made of validation scores and of the devices' time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tunexfer.core.chain import Chain
from tunexfer.core.scores import Score

Goal = Literal["mean", "worst_language"]
DEVICE_SECONDS = "device_seconds"


class Objective(BaseModel):
    """The goals of a search: means over targets, of validation scores only, and if asked for the time they take."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    maximize: Goal | Literal["per_target"] | list[Goal] = "mean"
    """`mean`: of each target's mean over languages; `worst_language`: of each target's lowest language; `per_target`:
    each target's mean over languages, with a chain of its own; a list: several of the first two at once."""
    minimize: Literal["device_seconds"] | None = None
    """Seconds that devices need for all jobs of a chain, pursued beside what is maximised."""
    no_target_below_baseline: Annotated[float, Field(ge=0)] | None = None
    """Points that a target may lose against the baseline; a chain that loses more is never recommended."""
    split: Literal["validation"] = "validation"
    languages: Literal["train", "all"] | list[str] = "train"

    @field_validator("split", mode="before")
    @classmethod
    def _never_test(cls, value: Any) -> Any:
        if value == "test":
            raise ValueError("'test' can't choose a winner; use 'validation'. The report scores test once, at the end")
        return value

    @field_validator("maximize", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        names = get_args(Goal)
        if isinstance(value, list):
            if not value or len({*map(str, value)}) < len(value) or not all(name in names for name in value):
                raise ValueError(
                    f"a list holds one or more of {', '.join(names)}, each once; got {value}. `device_seconds` goes "
                    "under `minimize`, and `per_target` stands alone"
                )
        elif value not in (*names, "per_target"):
            raise ValueError(f"expected mean, worst_language, per_target, or a list of the first two; got {value!r}")
        return value

    @property
    def per_target(self) -> bool:
        """Tell whether each target chooses its own chain."""
        return self.maximize == "per_target"

    @property
    def goals(self) -> tuple[str, ...]:
        """Name the numbers that every trial gets, the leading one first: that is the one `value` computes."""
        leading = ["mean"] if self.maximize == "per_target" else self.maximize
        named = [leading] if isinstance(leading, str) else leading
        return (*named, *([self.minimize] if self.minimize else []))

    @property
    def several(self) -> bool:
        """Tell whether there is more than one number to pursue, so that no single chain need be the best in all."""
        return self.per_target or len(self.goals) > 1

    def value(self, scores: Iterable[Score], chain: Chain) -> float:
        """Compute the leading goal of one trial, a percentage.

        scores: the trial's; only main validation scores in the objective's languages are read
        raises: ValueError, if a target has none of them
        """
        values = self.by_target(scores, chain)
        if not values:
            raise ValueError("no validation score that the objective reads")
        return sum(values.values()) / len(values)

    def by_target(self, scores: Iterable[Score], chain: Chain, goal: str | None = None) -> dict[str, float]:
        """Compute the percentage of each target that has scores which the objective reads; goals are means of these.

        goal: `mean` or `worst_language`; the leading one by default
        """
        summary = min if (goal or self.goals[0]) == "worst_language" else _mean
        return {target: summary(values.values()) for target, values in self.read(scores, chain).items()}

    def values(self, scores: Iterable[Score], chain: Chain, seconds: float) -> dict[str, float]:
        """Compute all of `goals` for one trial.

        seconds: that its jobs take on a device, each once, whether they ran for this trial or another
        """
        scores = list(scores)
        computed = {
            goal: _mean(self.by_target(scores, chain, goal).values()) for goal in self.goals if goal != DEVICE_SECONDS
        }
        return computed | ({DEVICE_SECONDS: seconds} if self.minimize else {})

    def read(self, scores: Iterable[Score], chain: Chain) -> dict[str, dict[str, float]]:
        """Select what may choose: target -> language -> main validation score, targets in the chain's order."""
        trained = {target.name: target.train_language for target in chain.targets}
        selected: dict[str, dict[str, float]] = {name: {} for name in trained}
        for score in scores:
            if score.main and score.split == self.split and self.reads(trained[score.target], score.language):
                selected[score.target][score.language] = score.value
        return {name: values for name, values in selected.items() if values}

    def reads(self, train_language: str | None, language: str) -> bool:
        """Tell whether validation rows in `language` may choose, for a target trained in `train_language`."""
        if isinstance(self.languages, list):
            return language in self.languages
        return self.languages == "all" or language == train_language


def dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Tell whether one trial's goals are nowhere worse than another's and somewhere better."""
    ahead = [_gain(goal, one[goal], value) for goal, value in other.items()]
    return min(ahead) >= 0 and max(ahead) > 0


def _gain(goal: str, value: float, before: float) -> float:
    return before - value if goal == DEVICE_SECONDS else value - before


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
