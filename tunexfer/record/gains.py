"""Gains of a study's chains over the baseline, with the noise of seeds and rows: `noise` has the formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tunexfer.core.chain import Chain
from tunexfer.core.controls import equal_compute
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.trial import TrialResult
from tunexfer.record.noise import Gain, baseline_spread, gain, holm, kept_gain, sureness

ALL_TARGETS = "mean of targets"
RowNoise = Mapping[tuple[int | str, ...], tuple[float, float]]
"""Number of a search's trial and target, and of a gain over equal compute its control -> the variance of the gain
through the rows, and the independent groups of rows that this was estimated from. `ALL_TARGETS` stands for the mean."""


def reported(scores: pd.DataFrame) -> pd.DataFrame:
    """Select the scores to report: of the test split, or of validation for targets without test rows."""
    tested = scores.loc[scores["split"] == "test", "target"].unique()
    return scores[(scores["split"] == "test") | ~scores["target"].isin(tested)]


def mean_gains(scores: pd.DataFrame, value: str = "delta") -> pd.DataFrame:
    """Average each trial's gain over the unseen languages of a target, or all where none is unseen.

    returns: a row a trial, a column a target and `ALL_TARGETS`; NaN where there is nothing to compare with
    """
    main = reported(scores[scores["main"]])
    main = main[main["baseline"].notna()].astype({"target": str})
    has_unseen = main.groupby(["trial", "target"])["unseen_by_both"].transform("any")
    wide = main[main["unseen_by_both"] | ~has_unseen].pivot_table(index="trial", columns="target", values=value)
    wide[ALL_TARGETS] = wide.mean(axis=1, skipna=False)
    return wide


def confirmed_gains(
    complete: Sequence[TrialResult], scores: pd.DataFrame, baseline: Chain, rows: RowNoise
) -> list[dict[str, Any]]:
    """Estimate what each confirmed chain gains over its fresh seeds, corrected for all chains and targets.

    returns: `trial`, `seeds`, `chain` in words, and of each target and `ALL_TARGETS` in `gains`, None where it can't be
             compared: `mean`, `low`, `high`, `sd` over seeds, `same_sign` (seeds with the mean's sign), `p_holm`,
             `sure`
    """
    own = [result.trial for result in complete if result.trial.phase == "confirm"]
    gains, tested = mean_gains(scores), set(scores.loc[scores["split"] == "test", "target"].astype(str))
    chains = []
    searched = {result.trial.chain for result in complete if result.trial.phase == "search"}
    for chain in dict.fromkeys(trial.chain for trial in own if trial.chain != baseline and trial.chain in searched):
        number = min(
            (r.trial.number for r in complete if r.trial.chain == chain and r.trial.phase != "confirm"), default=0
        )
        runs = [trial.number for trial in own if trial.chain == chain and trial.number in gains.index]
        deltas = {name: gains.loc[runs, name].dropna() for name in _names(chain, gains)}
        estimates = {
            name: _estimate(values, rows.get((number, name), (0.0, math.inf))) for name, values in deltas.items()
        }
        chains.append((number, chain, len(runs), deltas, estimates))
    asked = [(number, name) for number, *_, found in chains for name in found if name != ALL_TARGETS]
    p_of = {(number, name): own.p for number, *_, found in chains for name, own in found.items() if own}
    adjusted = dict(zip(asked, holm([p_of.get(question, math.nan) for question in asked]), strict=True))
    means = [(number, ALL_TARGETS) for number, *_ in chains]
    adjusted |= dict(zip(means, holm([p_of.get(question, math.nan) for question in means]), strict=True))
    return [
        {
            "trial": number,
            "seeds": seeds,
            "chain": chain_in_words(chain),
            "gains": {
                name: _described(values, estimates[name], adjusted[number, name], name in tested or name == ALL_TARGETS)
                for name, values in deltas.items()
            },
        }
        for number, chain, seeds, deltas, estimates in chains
    ]


def _names(chain: Chain, gains: pd.DataFrame) -> list[str]:
    names = [target.name for target in chain.targets if target.name in gains.columns]
    return [*names, ALL_TARGETS] if len(names) > 1 else names


def _estimate(deltas: pd.Series[float], rows: tuple[float, float]) -> Gain | None:
    if not len(deltas):
        return None
    return gain(float(deltas.mean()), deltas.to_numpy(), seeds=len(deltas), rows=rows[0], clusters=rows[1])


def _described(deltas: pd.Series[float], estimate: Gain | None, p: float, tested: bool) -> dict[str, Any] | None:
    if not len(deltas):
        return None
    mean = float(deltas.mean())
    low, high = estimate.interval if estimate else (None, None)
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "sd": float(deltas.std()) if len(deltas) > 1 else None,
        "same_sign": int((deltas * mean > 0).sum()),
        "p_holm": None if math.isnan(p) else float(p),
        "sure": sureness(estimate, p, fresh=tested),
    }


def candidate_gains(
    trial: int, complete: Sequence[TrialResult], scores: pd.DataFrame, baseline: Chain, rows: RowNoise
) -> dict[str, dict[str, Any]]:
    """Estimate what a chain that was run once gains, with the spread of the baseline's own runs as that of a run.

    returns: target or `ALL_TARGETS` -> `mean`, `low`, `high`, and `kept`: what the gain is expected to be on new seeds,
             as the chain was the best of several; the last three None where the baseline was run once
    """
    gains = mean_gains(scores)
    if trial not in gains.index:
        return {}
    levels = mean_gains(scores, "value")
    again = [r.trial.number for r in complete if r.trial.chain == baseline and r.trial.number in levels.index]
    searched = [r.trial.number for r in complete if r.trial.phase == "search" and r.trial.number in gains.index]
    validated = scores[scores["main"] & (scores["split"] == "validation")].astype({"target": str})
    chosen_by = validated.pivot_table(index="trial", columns="target", values="value")
    chosen_by[ALL_TARGETS] = chosen_by.mean(axis=1)
    estimates: dict[str, dict[str, Any]] = {}
    own = {str(name): float(value) for name, value in gains.to_dict("index")[trial].items()}
    for name, delta in own.items():
        if math.isnan(delta):
            continue
        spread = baseline_spread(levels.loc[again, name].dropna())
        variance, clusters = rows.get((trial, name), (0.0, math.inf))
        estimate = gain(delta, spread, seeds=1, rows=variance, clusters=clusters)
        kept = None
        if estimate and trial in searched and name in chosen_by.columns:
            others = chosen_by.loc[chosen_by.index.isin(searched), name].dropna()
            shared = pd.concat([levels.loc[again, name], chosen_by[name]], axis=1, join="inner").dropna()
            if trial in others.index and len(shared) > 1:
                luck = float(np.cov(shared.to_numpy(), rowvar=False)[0, 1])
                kept = kept_gain(delta, others.to_numpy(), list(others.index).index(trial), luck)
        low, high = estimate.interval if estimate else (None, None)
        estimates[name] = {"mean": delta, "low": low, "high": high, "kept": kept}
    return estimates


def gains_over_equal_compute(
    result: TrialResult, complete: Sequence[TrialResult], scores: pd.DataFrame, baseline: Chain, rows: RowNoise
) -> list[dict[str, Any]]:
    """Estimate what a chain gains over each of `core.controls.equal_compute`, in the languages that both haven't seen.

    returns: one row a control and target that was run: `over`, `target`, `seeds`, and `mean`, `low`, `high`, `sd`,
             `same_sign`, `p_holm` (corrected over all rows), `sure`, as for a confirmed gain
    """
    main = reported(scores[scores["main"]]).astype({"target": str, "language": str})
    spread = mean_gains(scores, "value")
    again = [r.trial.number for r in complete if r.trial.chain == baseline and r.trial.number in spread.index]
    by_chain = runs_by_seed(complete)
    found = []
    for (over, target), control in equal_compute(result.trial.chain).items():
        own, other = fresh_or_own(by_chain[result.trial.chain], result), by_chain.get(control, {})
        pairs = [(own[seed], other[seed]) for seed in own if seed in other]
        deltas = pd.Series([_difference(main[main["target"] == target], *pair) for pair in pairs], dtype=float).dropna()
        if len(deltas):
            runs = deltas if len(deltas) > 1 else baseline_spread(spread.loc[again, target].dropna())
            row_noise, clusters = rows.get((result.trial.number, target, over), (0.0, math.inf))
            estimate = gain(float(deltas.mean()), runs, seeds=len(deltas), rows=row_noise, clusters=clusters)
            found.append((over, target, deltas, estimate, target in set(main.loc[main["split"] == "test", "target"])))
    adjusted = holm([estimate.p if estimate and len(deltas) > 1 else math.nan for *_, deltas, estimate, _ in found])
    return [
        {"over": over, "target": target, "seeds": len(deltas)}
        | (_described(deltas, estimate, p, tested and len(deltas) > 1) or {})
        for (over, target, deltas, estimate, tested), p in zip(found, adjusted, strict=True)
    ]


def runs_by_seed(complete: Sequence[TrialResult]) -> dict[Chain, dict[int, int]]:
    """Map each chain to its runs: seed -> number of the trial."""
    runs: dict[Chain, dict[int, int]] = {}
    for result in complete:
        runs.setdefault(result.trial.chain, {})[result.trial.seed] = result.trial.number
    return runs


def fresh_or_own(runs: Mapping[int, int], result: TrialResult) -> dict[int, int]:
    """Select the runs that a gain is computed from: those with other seeds than the search's, if there are any."""
    fresh = {seed: number for seed, number in runs.items() if seed != result.trial.seed}
    return fresh or {result.trial.seed: result.trial.number}


def _difference(scores: pd.DataFrame, after: int, before: int) -> float:
    """Average the difference of two trials over the languages unseen in both, or over all where none is."""
    sides = [scores[scores["trial"] == trial].set_index("language") for trial in (after, before)]
    table = sides[0].join(sides[1], how="inner", rsuffix="_before")
    unseen = table["unseen"] & table["unseen_before"]
    shown = table[unseen] if unseen.any() else table
    return float((shown["value"] - shown["value_before"]).mean())
