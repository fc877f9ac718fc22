"""What a source language gained in each target language, and how that goes with distance.

The unit is the target language: trials of a study share stages, rows and a baseline, so they are averaged first, and
resamples draw languages, each with all it was scored on. N: languages, R: resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunexfer.core.chain import Chain
from tunexfer.report.distances import MEASURES
from tunexfer.report.paired import LEVEL
from tunexfer.report.study import Study

ENGLISH = "en"
LANGUAGES = 8
"""Target languages that it takes for an interval; fewer say nothing about languages at large."""
RESAMPLES = 2_000
"""Enough for the ends of an interval that is shown with two digits; there are hundreds of correlations."""
_DIGITS = 9
"""Kept of a value in points, so that equal ones are equal after least squares."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    low: float
    """Of the 95 % percentile interval (Efron and Tibshirani 1993, section 13.3), as `high`."""
    high: float

    @classmethod
    def of(cls, value: float, resampled: Array) -> Estimate:
        """resampled: shape (R,); NaN where a resample doesn't give a value"""
        known = resampled[~np.isnan(resampled)]
        if np.isnan(value) or not len(known):
            return cls(value, np.nan, np.nan)
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(value, float(low), float(high))


def resamples(languages: int, *, seed: int = 0) -> Array:
    """How often each language is in each resample of as many languages, shape (R, N)."""
    return np.random.default_rng(seed).multinomial(languages, [1 / languages] * languages, RESAMPLES).astype(np.float64)


def rank_correlation(x: Array, y: Array, counts: Array) -> Array:
    """Spearman's correlation in each resample: the product-moment correlation of mid-ranks, so ties are right.

    x, y:     shape (N,)
    counts:   shape (R, N), how often each pair is in the resample
    returns:  shape (R,); NaN where x or y doesn't vary

    Source: Spearman 1904, The Proof and Measurement of Association between Two Things; mid-ranks for ties as in Kendall
    and Gibbons 1990, Rank Correlation Methods, chapter 3.
    """
    weights = counts / counts.sum(axis=1, keepdims=True)
    ranks = [counts @ ((one < one[:, None]) + 0.5 * (one == one[:, None])).T for one in (x, y)]
    a, b = (rank - (weights * rank).sum(axis=1, keepdims=True) for rank in ranks)
    spread = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
    covariance = (weights * a * b).sum(axis=1)
    found: Array = np.divide(covariance, spread, out=np.full_like(spread, np.nan), where=spread > 1e-9)
    return found


def language_values(gains: pd.DataFrame, over: Sequence[str]) -> pd.Series:
    """One value a language where languages weren't all scored on the same: points, by language.

    gains:  columns `language`, `gain` and those of `over`, which say what it was scored on

    Least squares of the gain on language and on what it was scored on, the latter eliminated first; the value is the
    language's part plus the mean of the others'. Where every language was scored on everything, that is its plain mean.

    Source: Searle, Speed and Milliken 1980, Population Marginal Means in the Linear Model, The American Statistician
    34(4), of the two-way model without interaction; one factor is eliminated (absorbed) as in Searle 1987, Linear
    Models for Unbalanced Data, chapter 4.
    """
    rows, languages = pd.factorize(gains["language"], sort=True)
    columns = gains.groupby([*over], observed=True).ngroup().to_numpy()
    values = gains["gain"].to_numpy(dtype=np.float64)
    there = np.zeros((len(languages), columns.max() + 1))
    np.add.at(there, (rows, columns), 1.0)
    sizes = there.sum(axis=0)
    levels = np.bincount(columns, values) / sizes
    within = np.diag(there.sum(axis=1)) - there / sizes @ there.T
    parts = np.linalg.pinv(within, hermitian=True) @ (np.bincount(rows, values) - there @ levels)
    others = levels - parts @ there / sizes
    return pd.Series((parts + others.mean()).round(_DIGITS), index=pd.Index(languages, name="language"))


def trial_gains(study: Study) -> pd.DataFrame:
    """Gains over the baseline on the test split, in languages unseen by both: a row a trial, target and language.

    returns:  study, trial, target, language, gain (points);
        tasks, train: what the stages trained, and what the target was trained in
        sources:      languages of the stages, joined by `+`
        weights:      the same, each with its share of the rows drawn
        baseline:     whether it is the baseline's own chain

    A chain without stages has a source where the study varies the target's train language: that language.
    """
    scores = study.scores()
    main = scores[scores["main"] & (scores["split"] == "test")].astype({"target": "str", "language": "str"})
    kept = main[main["unseen_by_both"] & main["delta"].notna()]
    origins = pd.DataFrame(_origins(study, kept["trial"].unique().tolist()), columns=_ORIGIN)
    found = kept.rename(columns={"delta": "gain"})[["study", "trial", "target", "language", "gain"]]
    with_sources: pd.DataFrame = found.merge(origins, on=["trial", "target"])
    return with_sources


def languages_of(gains: pd.DataFrame) -> list[str]:
    """Every target and source language, and English."""
    sources = {language for weights in gains["weights"].unique() for language, _ in weights}
    return sorted({ENGLISH, *gains["language"].unique(), *sources})


def add_distances(gains: pd.DataFrame, distances: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The same rows and a column a measure: from the sources to the language, each source by its share of the rows.

    NaN where the distance from one of them isn't known.
    """
    codes, mixtures = pd.factorize(gains["weights"])
    found = {}
    for measure, matrix in distances.items():
        mixed = np.stack([sum(share * matrix.loc[source].to_numpy() for source, share in one) for one in mixtures])
        found[measure] = mixed[codes, matrix.columns.get_indexer(pd.Index(gains["language"]))]
    return gains.assign(**found)


def mean_gains(gains: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Gain and distances, means over trials; `trials` says of how many."""
    columns = {name: (name, "mean") for name in ("gain", *MEASURES) if name in gains}
    return gains.groupby([*by], as_index=False, observed=True).agg(**columns, trials=("trial", "nunique"))


_ORIGIN = ["trial", "target", "tasks", "train", "sources", "weights", "baseline"]
_Weights = tuple[tuple[str, float], ...]


def _origins(study: Study, trials: Sequence[int]) -> Iterator[tuple[int, str, str, str, str, _Weights, bool]]:
    """In the columns of `_ORIGIN`; targets without a source are left out."""
    chains = {number: study.chain(number) for number in trials}
    first = study.baseline()
    base = None if first is None else study.chain(first)
    trained: dict[str, set[str]] = {}
    for target in (target for chain in chains.values() for target in chain.targets if target.train_language):
        trained.setdefault(target.name, set()).add(str(target.train_language))
    for number, chain in chains.items():
        tasks = "+".join(sorted({task for stage in chain.stages for task in stage.mixture.tasks}))
        staged = _weights(chain)
        for target in chain.targets:
            train = target.train_language or ""
            varied = not tasks and len(trained.get(target.name, ())) > 1
            weights = {train: 1.0} if varied else staged
            if weights:
                parts = tuple(sorted(weights.items()))
                sources = "+".join(sorted(weights))
                yield number, target.name, tasks, train if tasks else "", sources, parts, chain == base


def _weights(chain: Chain) -> dict[str, float]:
    """Language -> its share of the rows that the stages see."""
    rows: dict[str, float] = {}
    for stage in chain.stages:
        for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True):
            rows[source.language] = rows.get(source.language, 0.0) + share * stage.steps * stage.batch_size
    return {language: count / sum(rows.values()) for language, count in rows.items()}
