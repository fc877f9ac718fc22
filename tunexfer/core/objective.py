"""The objective: what a search maximises, a number made of validation scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from tunexfer.core.chain import Chain
from tunexfer.core.scores import Score


class Objective(BaseModel):
    """What the search maximises: a mean over targets, of validation scores only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    maximize: Literal["mean", "worst_language"] = "mean"
    """`mean`: of each target's mean over languages; `worst_language`: of each target's lowest language."""
    split: Literal["validation"] = "validation"
    languages: Literal["train", "all"] | list[str] = "train"

    @field_validator("split", mode="before")
    @classmethod
    def _never_test(cls, value: Any) -> Any:
        if value == "test":
            raise ValueError("'test' can't choose a winner; use 'validation'. The report scores test once, at the end")
        return value

    def value(self, scores: Iterable[Score], chain: Chain) -> float:
        """The objective of one trial, a percentage.

        scores: the trial's; only main validation scores in the objective's languages are read
        raises: ValueError, if a target has none of them
        """
        means = []
        for target in chain.targets:
            mine = [
                score.value
                for score in scores
                if score.main and score.target == target.name and score.split == self.split
                if self.reads(target.train_language, score.language)
            ]
            if mine:
                means.append(min(mine) if self.maximize == "worst_language" else sum(mine) / len(mine))
        if not means:
            raise ValueError("no validation score that the objective reads")
        return sum(means) / len(means)

    def reads(self, train_language: str | None, language: str) -> bool:
        """Whether validation rows in `language` may choose, for a target trained in `train_language`."""
        if isinstance(self.languages, list):
            return language in self.languages
        return self.languages == "all" or language == train_language
