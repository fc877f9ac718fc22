"""Which choices decide whether a trial is among the best: PED-ANOVA over a study rebuilt from the record."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, create_trial
from pandas.api.types import is_numeric_dtype

from tunexfer.plan.domains import Domain, Range
from tunexfer.report.explored import Explored

BEST_SHARE = 0.25
"""Share of the trials that count as the best. Optuna's 0.1 is for hundreds of trials: of sixty with a plain effect it
leaves too few to see it by."""
BEST_LEAST = 5
"""The best are at least this many, as Optuna's documentation asks for."""
LEAST_TRIALS = 2 * BEST_LEAST
"""Of fewer trials nothing is estimated, nor for a coordinate that fewer have."""
MANY_TRIALS = 200
SHUFFLES, SHUFFLES_OF_MANY = 99, 19
"""How often values are shuffled, and of many trials, where each time takes long and effects are plain anyway."""
CHANCE = 0.05


def importances(explored: Explored) -> pd.DataFrame:
    """How much each coordinate decides whether a trial is among the best, most first; empty for too few trials.

    coordinate
    importance:  share of what all estimated coordinates explain, 0 to 1; NaN where too few trials have the coordinate
    by_chance:   what its values, shuffled among their trials, reach or exceed once in twenty times, on the same scale
    matters:     whether importance is above by_chance
    trials:      that have the coordinate: it may hang on an option that others didn't draw
    among_best:  how many of these are among the best
    options:     different values among them

    Source: Watanabe, Bansal and Hutter 2023 (PED-ANOVA, arXiv 2304.10255); coordinates that not every trial has are
    weighed by how many of all and of the best have them, as in arXiv 2601.20800. The shuffles are a permutation test.
    """
    points, count = explored.points, len(explored.points)
    columns = ["coordinate", "importance", "by_chance", "matters", "trials", "among_best", "options"]
    if count < LEAST_TRIALS:
        return pd.DataFrame(columns=columns)
    share = max(BEST_SHARE, BEST_LEAST / count)
    values = np.asarray(explored.objective, dtype=np.float64)
    best = values >= np.sort(values)[::-1][int(np.ceil(share * count)) - 1]
    table = pd.DataFrame(
        {
            "coordinate": points.columns,
            "trials": points.notna().sum().to_numpy(),
            "among_best": points[best].notna().sum().to_numpy(),
            "options": points.nunique().to_numpy(),
        }
    )
    enough = table.loc[(table["trials"] >= LEAST_TRIALS) & (table["options"] > 1), "coordinate"].tolist()
    found = _evaluate(points[enough], values, share, explored.domains)
    total = found[0].sum()
    scaled = pd.DataFrame(found / total if total > 0 else found, columns=enough)
    table["importance"] = table["coordinate"].map(scaled.iloc[0])
    shuffled = np.sort(scaled.iloc[1:], axis=0)[::-1]
    by_chance = shuffled[round(CHANCE * (len(shuffled) + 1)) - 1]
    table["by_chance"] = table["coordinate"].map(dict(zip(enough, by_chance, strict=True)))
    table["matters"] = table["importance"] > table["by_chance"]
    return table[columns].sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _evaluate(
    points: pd.DataFrame, values: NDArray[np.float64], share: float, known: Mapping[str, Domain]
) -> NDArray[np.float64]:
    """Importances on PED-ANOVA's own scale, shape (1 + shuffles, coordinates): as drawn, then shuffled."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    study.add_trials([create_trial(value=value) for value in values.tolist()])
    # Coordinates are given to the trials in place: Optuna copies each trial that is added and then compares the copied
    # distributions option by option, which takes ten times as long as all the rest.
    trials = study.get_trials(deepcopy=False)
    drawn: dict[str, tuple[list[FrozenTrial], NDArray[Any]]] = {}
    for name in points.columns:
        has = points[name].notna().to_numpy()
        drawn[name] = list(itertools.compress(trials, has)), points[name].to_numpy(dtype=object)[has]
        distribution = _distribution(points[name], known.get(name))
        for trial in drawn[name][0]:
            trial.distributions[name] = distribution
    evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
    rng = np.random.default_rng(0)
    rows = []
    for place in range(1 + (SHUFFLES if len(values) <= MANY_TRIALS else SHUFFLES_OF_MANY)):
        for name, (own, options) in drawn.items():
            for trial, option in zip(own, rng.permutation(options) if place else options, strict=True):
                trial.params[name] = option
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of coordinates that all trials but one have
            found = evaluator.evaluate(study, list(drawn))
        rows.append([found[name] for name in drawn])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(drawn))


def _distribution(drawn: pd.Series[Any], domain: Domain | None) -> BaseDistribution:
    """Of the options that some trial has: those never drawn would count as importance through the estimator's prior."""
    present = drawn.dropna()
    if not is_numeric_dtype(present):
        return CategoricalDistribution(sorted(present.unique()))
    low, high = float(present.min()), float(present.max())
    if not isinstance(domain, Range):
        return FloatDistribution(low, high)
    low, high = min(low, domain.low), max(high, domain.high)
    return FloatDistribution(low, high, log=domain.log, step=1 if domain.integer else None)
