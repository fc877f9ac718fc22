"""The winner of each target alone: the trial that its validation scores choose, and what that gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tunexfer.core.objective import Objective
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.trial import TrialResult
from tunexfer.core.winners import allowed, best_by, searched
from tunexfer.record.gains import reported


def winners(complete: Sequence[TrialResult], scores: pd.DataFrame, objective: Objective) -> dict[str, dict[str, Any]]:
    """Choose a trial for each target by the target's own validation scores.

    Where each target chooses its own chain, confirmation races the best of each, and fresh seeds decide. Otherwise it
    races the best of all targets together, among which a target's own best need not be: the search's trials decide.

    scores:  the columns of `score_table`
    returns: target -> `trial`, `value` (the validation score that it is chosen by), `chain` in words, and of its
             reported scores `split`, `metric`, `languages` (their number), `unseen` (whether the means are over unseen
             languages), and the means `baseline`, `score`, `delta`, over fresh seeds where the chain was confirmed
    """
    values, permitted = _values(complete, scores, objective), allowed(complete, objective)
    if not objective.per_target:
        permitted = searched(permitted)
    rows: dict[str, dict[str, Any]] = {}
    for target in dict.fromkeys(target.name for result in complete for target in result.trial.chain.targets):
        own = {trial: value for (name, trial), value in values.items() if name == target}
        if winner := best_by(permitted, own):
            number, chain = winner.trial.number, winner.trial.chain
            again = [r.trial.number for r in complete if r.trial.phase == "confirm" and r.trial.chain == chain]
            main = scores[(scores["target"] == target) & scores["main"]]
            fresh = main[main["trial"].isin(again) & main["baseline"].notna()]
            mine = fresh if len(fresh) else main[main["trial"] == number]
            about = {"trial": number, "value": own[number], "chain": chain_in_words(chain)}
            rows[target] = about | _means(mine)
    return rows


def mean_row(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Average the winners over targets: `value`, and of targets that have a baseline `baseline`, `score`, `delta`."""
    compared = [row for row in rows.values() if row["delta"] is not None]
    named = {"value": list(rows.values()), "baseline": compared, "score": compared, "delta": compared}
    return {name: sum(row[name] for row in some) / len(some) for name, some in named.items() if some}


def _values(
    complete: Sequence[TrialResult], scores: pd.DataFrame, objective: Objective
) -> dict[tuple[str, int], float]:
    """Compute what the objective reads of each target in each trial, those that confirm too."""
    trained = pd.DataFrame(
        [
            (result.trial.number, target.name, target.train_language)
            for result in complete
            for target in result.trial.chain.targets
        ],
        columns=["trial", "target", "train_language"],
    )
    rows = scores[scores["main"] & (scores["split"] == objective.split)].astype({"target": str, "language": str})
    rows = rows[["trial", "target", "language", "value"]].merge(trained, on=["trial", "target"])
    if objective.languages == "train":
        rows = rows[rows["language"] == rows["train_language"]]
    elif objective.languages != "all":
        rows = rows[rows["language"].isin(objective.languages)]
    groups = rows.groupby(["target", "trial"])["value"]
    values = groups.min() if objective.goals[0] == "worst_language" else groups.mean()
    named: dict[Any, float] = values.to_dict()
    return {(target, int(trial)): value for (target, trial), value in named.items()}


def _means(rows: pd.DataFrame) -> dict[str, Any]:
    """Average the scores of unseen languages where there are any, of test rows where there are any."""
    shown = reported(rows)
    compared = shown[shown["baseline"].notna()]
    unseen = bool(compared["unseen_by_both"].any())
    some = compared[compared["unseen_by_both"]] if unseen else compared
    means = {"baseline": some["baseline"], "score": some["value"], "delta": some["delta"]}
    return {
        "split": next(iter(shown["split"]), None),
        "metric": next(iter(shown["metric"]), None),
        "languages": int(some["language"].nunique()),
        "unseen": unseen,
        **{name: float(column.mean()) if len(some) else None for name, column in means.items()},
    }
