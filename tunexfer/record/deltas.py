"""Every score of a trial beside the baseline's: what the intermediate stages gained, in points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tunexfer.core.chain import Encoder, Target
from tunexfer.core.scores import FORGETTING, Score, unseen_by_both
from tunexfer.core.trial import TrialResult

_Key = tuple[str, str, str, str]


class Deltas:
    """Looks up what to compare with among the complete trials of a study."""

    def __init__(self, complete: Iterable[TrialResult]) -> None:
        self._baselines: dict[int, dict[_Key, Score]] = {}
        self._own: dict[tuple[Encoder, tuple[Target, ...], int], dict[_Key, Score]] = {}
        complete = list(complete)
        chains = {ended.trial.chain for ended in complete if ended.trial.phase == "baseline"}
        for ended in complete:
            trial, values = ended.trial, {_key(score): score for score in ended.scores}
            if trial.chain in chains:
                self._baselines[trial.seed] = values
            for target in trial.chain.targets if not trial.chain.stages else ():
                self._own[trial.chain.encoder, trial.chain.line(target.name), trial.seed] = values

    def has_baseline(self, seed: int) -> bool:
        return seed in self._baselines

    def baseline(self, score: Score, seed: int) -> Score | None:
        """The same score of the baseline with that seed."""
        return self._baselines.get(seed, {}).get(_key(score))

    def rows(self, ended: TrialResult) -> Iterator[dict[str, Any]]:
        """One per score, in the columns of `SCORES_SCHEMA` without the study's name."""
        trial, chain = ended.trial, ended.trial.chain
        for score in ended.scores:
            scored_by = chain.followed[score.target].name if score.metric == FORGETTING else score.target
            own = self._own.get((chain.encoder, chain.line(scored_by), trial.seed), {}).get(_key(score))
            baseline = self.baseline(score, trial.seed)
            yield {
                "trial": trial.number,
                "phase": trial.phase,
                "seed": trial.seed,
                "target": score.target,
                "language": score.language,
                "split": score.split,
                "metric": score.metric,
                "value": score.value,
                "main": score.main,
                "unseen": score.unseen,
                "unseen_by_both": unseen_by_both(score, baseline),
                "baseline": None if baseline is None else baseline.value,
                "delta": None if baseline is None else score.value - baseline.value,
                "delta_own": None if own is None else score.value - own.value,
            }


def _key(score: Score) -> _Key:
    return score.target, score.language, score.split, score.metric
