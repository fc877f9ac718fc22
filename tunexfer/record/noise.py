"""Model of the noise in a gain: what scored rows, runs and languages contribute. `docs/statistics.md` explains it.

Letters in shapes: S seeds, R runs, L languages, M questions, N chains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

LEVEL = 0.95
PRIOR_DF = 4.0
"""Degrees of freedom that a target's other languages lend to the variance of one of them."""
LIKELY = 0.2
"""Two-sided p-value below which a gain that is not clear is called likely."""

Array = NDArray[np.float64]
Sureness = Literal["clear", "likely", "open", "harmful", "candidate"]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A difference between two chains in points, with its standard error and the error's degrees of freedom."""

    delta: float
    se: float
    df: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, in points."""
        return float(stats.t.ppf((1 + LEVEL) / 2, self.df)) * self.se

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval by Student's t, in points."""
        return self.delta - self.half_width, self.delta + self.half_width

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference."""
        if self.se == 0:
            return float(self.delta == 0)
        return float(2 * stats.t.sf(abs(self.delta) / self.se, self.df))


def gain(delta: float, runs: ArrayLike, *, seeds: int, rows: float = 0.0, clusters: float = math.inf) -> Gain | None:
    """Estimate a gain from a few seeds: delta +- t sqrt(s2 / S + v).

    delta:    mean over `seeds`, points
    runs:     differences of single runs, shape (R,), whose variance s2 is that of a seed; those of `delta` itself, or
              of other runs where it has one seed (`baseline_spread`)
    rows:     v, the variance of `delta` through the sample of rows that all seeds share
    clusters: independent groups of rows that `rows` was estimated from
    returns:  None with fewer than two runs: then the variance between runs is unknown
    """
    values = np.asarray(runs, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return combined(delta, float(values.var(ddof=1)) / seeds, len(values) - 1, rows, clusters - 1)


def combined(delta: float, seeds: float, seeds_df: float, rows: float, rows_df: float) -> Gain:
    """Add two variances, each with its degrees of freedom.

    The sum has the harmonic mean of both degrees of freedom, weighted by the variances. Satterthwaite's (1946) weights
    are the squares, which suits many seeds: where the variance of three happens to come out small, the rows' degrees of
    freedom take over, and 7.8 % of the tests of no difference are significant at 5 % (here 5 % on average, as
    `benchmarks/calibration.py` prints). One degree of freedom lends no certainty to another.
    """
    total = seeds + rows
    spent = seeds / seeds_df + (rows / rows_df if rows_df > 0 else math.inf)
    shared = seeds_df > 1 and total > 0 and math.isfinite(spent)
    df = total / spent if shared else min(seeds_df, max(rows_df, 1.0))
    return Gain(delta=delta, se=math.sqrt(total), df=max(1.0, df))


def baseline_spread(scores: ArrayLike) -> Array:
    """Scale a baseline's scores so that their variance is that of a difference between two runs with one seed each.

    scores: shape (R,) or (R, L), one row a seed
    """
    values = np.asarray(scores, dtype=np.float64)
    scaled: Array = math.sqrt(2) * (values - values.mean(axis=0))
    return scaled


def moderated(variances: ArrayLike, df: float, prior_df: float = PRIOR_DF) -> tuple[Array, float]:
    """Shrink the variances of a target's languages towards their common one: few seeds know each of them badly.

    variances: shape (L,), each with `df` degrees of freedom
    returns:   the variances, shape (L,), and their degrees of freedom

    Source: Smyth 2004, Linear Models and Empirical Bayes Methods, Statistical Applications in Genetics and Molecular
    Biology 3(1), equations for s0 and the posterior variance, with the prior's degrees of freedom given.
    """
    values = np.asarray(variances, dtype=np.float64)
    positive = values[values > 0]
    if not len(positive):
        return values, df
    logs = np.log(positive) - special.digamma(df / 2) + math.log(df / 2)
    common = math.exp(float(logs.mean()) + special.digamma(prior_df / 2) - math.log(prior_df / 2))
    return (prior_df * common + df * values) / (prior_df + df), prior_df + df


@dataclass(frozen=True, kw_only=True)
class LanguageGains:
    """The gains of one chain in the languages of one target."""

    gains: tuple[Gain, ...]
    shrunken: Array
    """Shape (L,): each language's gain drawn towards their mean by as much as it is noise; points."""
    q: float
    """Cochran's Q: how far languages are from their mean, in units of their noise; about L - 1 where none differs."""
    q_p: float
    """P-value of no difference between languages."""
    tau: float
    """Standard deviation of the true gains over languages, points; 0 where noise explains all of it."""

    @property
    def differ(self) -> bool:
        """Tell whether languages gain differently, so that ranking them says something."""
        return self.q_p < 1 - LEVEL


def language_gains(
    deltas: ArrayLike, runs: ArrayLike, *, seeds: int, rows: ArrayLike, clusters: float = math.inf
) -> LanguageGains | None:
    """Estimate the gain of each language, and whether languages differ at all.

    deltas: means over `seeds`, shape (L,)
    runs:   differences of single runs, shape (R, L), as for `gain`
    rows:   variances through the rows, shape (L,)
    returns: None with fewer than two runs

    Noise that moves all languages together, which the runs' means show, is no difference between languages. Q has one
    noise for all languages, their mean: weights from a noise each, which few runs and rows know badly, make it too
    large (8 % of absent differences are significant at 5 %). It is referred to F rather than chi-square, as that noise
    is an estimate too. Source of Q and tau: DerSimonian and Laird 1986, Meta-Analysis in Clinical Trials, Controlled
    Clinical Trials 7(3); of the shrinkage: Morris 1983, Parametric Empirical Bayes Inference, JASA 78(381).
    """
    values, single = np.asarray(deltas, dtype=np.float64), np.asarray(runs, dtype=np.float64)
    row_variances = np.asarray(rows, dtype=np.float64)
    if len(single) < 2 or not np.isfinite(single).all():
        return None
    variances, df = moderated(single.var(axis=0, ddof=1), len(single) - 1)
    gains = tuple(
        combined(float(delta), float(variance) / seeds, df, float(row), clusters - 1)
        for delta, variance, row in zip(values, variances, row_variances, strict=True)
    )
    if len(values) < 2:
        return LanguageGains(gains=gains, shrunken=values, q=0.0, q_p=1.0, tau=0.0)
    own = single - single.mean(axis=1, keepdims=True)
    scale = len(values) / (len(values) - 1)  # subtracting the mean took a language's share
    apart = float(scale * own.var(axis=0, ddof=1).mean()) / seeds
    noise = np.maximum(apart + row_variances, 1e-12)
    usual, differences, mean = float(noise.mean()), len(values) - 1, float(values.mean())
    q = float(((values - mean) ** 2).sum()) / usual
    tau2 = max(0.0, q / differences - 1) * usual
    q_df = (len(single) - 1) * differences / max(apart / usual, 1e-6) ** 2
    q_p = float(stats.f.sf(q / differences, differences, q_df))
    kept = tau2 / (tau2 + noise)
    return LanguageGains(gains=gains, shrunken=mean + kept * (values - mean), q=q, q_p=q_p, tau=math.sqrt(tau2))


def holm(p_values: ArrayLike) -> Array:
    """Adjust the p-values of a family, which bounds the chance of any false claim; NaN stays NaN.

    With m p-values in rising order, p'(i) is the largest of min(1, (m - j + 1) p(j)) over j up to i. The same as
    `statsmodels.stats.multitest.multipletests`, whose import takes seconds.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    adjusted = np.array(p_values, dtype=np.float64)
    order = np.argsort(adjusted)[: np.count_nonzero(~np.isnan(adjusted))]  # NaN comes last
    raised = np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum(1.0, raised)
    return adjusted


def sureness(result: Gain | None, p_holm: float, *, fresh: bool = True) -> Sureness:
    """Say in a word how sure a gain is.

    p_holm: corrected over the targets and chains that were asked about
    fresh:  whether the seeds are others than those that selected the chain
    returns: `candidate` without fresh replicates; `clear` or `harmful` where p_holm < 0.05; `likely` for a gain whose
             uncorrected p < 0.2; else `open`
    """
    if result is None or not fresh:
        return "candidate"
    if p_holm < 1 - LEVEL:
        return "clear" if result.delta > 0 else "harmful"
    return "likely" if result.delta > 0 and result.p < LIKELY else "open"


def kept_gain(gain: float, chosen_by: ArrayLike, place: int, covariance: float) -> float:
    """Estimate what a gain is expected to keep on new seeds, given that its chain was the best of several.

    gain:       of the chain, on test rows; points
    chosen_by:  validation scores of all chains that were in question, shape (N,); the chain's own is at `place`
    covariance: between validation and test scores of one chain over seeds: the luck of a run that both share
    returns:    `gain` without the luck that its validation score implies, a posterior mean; `gain` of fewer than three

    Source: Efron 2011, Tweedie's Formula and Selection Bias, JASA 106(496), with a normal prior (James and Stein 1961).
    """
    values = np.asarray(chosen_by, dtype=np.float64)
    total = float(values.var(ddof=1)) if len(values) > 2 else 0.0
    if total == 0:
        return gain
    share = min(max(covariance, 0.0), total) / total
    return gain - share * float(values[place] - values.mean())
