"""Gains against the distance from the source language, and other sources against English."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats
import statsmodels.api as sm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tunexfer.errors import DataError
from tunexfer.record.noise import Array, holm, language_gains
from tunexfer.report.distances import MEASURES, distances, language
from tunexfer.report.figures import INK, PALETTE, new_figure, styled
from tunexfer.report.section import Section
from tunexfer.report.study import Study
from tunexfer.report.transfer import NO_STAGE, transfer

ENGLISH = "en"
LANGUAGES = 8
"""Target languages that a correlation takes."""
APART = 3
"""Languages that must differ from the commonest distance, or a measure only tells a few languages from the rest."""
RUNS = 3
"""Different stages from each source that an answer takes."""
PERMUTATIONS = 1_999
SIGNIFICANT = 0.05
ALIKE = 1.0
"""Points: a difference that is surely smaller is called none."""
MOST_SOURCES = 4
"""Only the sets of source languages with the most stages are shown."""
ALL, NEAR, FAR = "all languages", "nearer half", "further half"
FIRST = MEASURES[0]
"""The measure that halves the languages."""
PAIRS, CORRELATIONS, ADVANTAGE = (
    "Gain and distance of each language",
    "Rank correlation of gain and distance",
    "Other sources against English",
)
_SETTING = ["study", "tasks", "target_alone"]


def section(studies: Sequence[Study]) -> Section | None:
    """Relate gains in unseen languages to distances; None where no prefix has a gain in an unseen language."""
    gains = source_gains(*transfer(studies))
    if gains.empty:
        return None
    title = "Near and distant languages"
    codes = {*gains["language"], *(code for sources in gains["sources"] for code in sources.split("+")), ENGLISH}
    try:
        matrices = distances(sorted(codes))
    except DataError as error:
        return Section(key="typology", title=title, words=(f"{error} Then make the report again.",))
    pairs = language_pairs(gains, matrices)
    apart = languages_differ(gains)
    correlations = rank_correlations(pairs.merge(apart[apart["differ"]][["study", "sources"]]))
    advantage = against_english(gains, matrices[FIRST][ENGLISH])
    tables = {CORRELATIONS: correlations, ADVANTAGE: advantage, PAIRS: pairs}
    figure = "Gain against distance"
    shown = list(dict.fromkeys(correlations["measure"]))
    alt = f"Scatter of the gain in each language against its distance from the sources: {_listed(correlations)}"
    return Section(
        key="typology",
        title=title,
        words=(*_words(correlations, apart), _verdict(advantage)),
        tables={name: table for name, table in tables.items() if not table.empty},
        figures={figure: draw_pairs(pairs, shown)} if shown else {},
        alts={figure: alt} if shown else {},
        folded=frozenset({PAIRS}),
        shaded={PAIRS: ["gain"]} | ({ADVANTAGE: ["advantage"]} if len(advantage) else {}),
    )


def source_gains(gains: pd.DataFrame, origins: pd.DataFrame) -> pd.DataFrame:
    """Select the gains in unseen languages that are not sources of their own prefix.

    gains, origins: as `transfer` returns them

    returns: the columns of `gains`; sources (languages joined by `+`), weights (each language's share of the
        rows), tasks, and target_alone (the target of a chain without a stage, else empty)
    """
    rows = []
    for (study, prefix), part in origins.groupby(["study", "prefix"], sort=False):
        weights = part.groupby("source_language")["share"].sum()
        tasks = "+".join(sorted(part["task"].unique()))
        rows.append((study, prefix, "+".join(weights.index), tuple(weights.items()), tasks))
    trained = pd.DataFrame(rows, columns=["study", "prefix", "sources", "weights", "tasks"])
    gains = gains[gains["unseen"]].merge(trained.astype({"study": str, "prefix": "int64"}))
    gains = gains.assign(target_alone=gains["target"].where(gains["tasks"] == NO_STAGE, ""))
    own = [code in sources.split("+") for code, sources in zip(gains["language"], gains["sources"], strict=True)]
    return gains[~np.array(own, dtype=bool)]


def language_pairs(gains: pd.DataFrame, matrices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Average the gain of each set of sources in each language, with the distances between them.

    Means are over stages, then over targets, each target's own mean set to that of all: languages differ in targets.
    Of several sources the distance is the mean, each source by its share of the rows; NaN if one is unknown.
    """
    counts = gains.drop_duplicates(["study", "prefix"]).value_counts(["study", "sources"], sort=True)
    gains = gains.merge(counts.head(MOST_SOURCES).rename("prefixes").reset_index(), on=["study", "sources"])
    codes, mixtures = pd.factorize(gains["weights"])
    apart = [
        pd.DataFrame(
            {
                measure: sum(share * matrix.loc[source] for source, share in weights)
                for measure, matrix in matrices.items()
            }
        )
        for weights in mixtures
    ]
    far = pd.concat(apart, keys=range(len(mixtures)), names=["weights", "language"]).reset_index()
    placed = gains.assign(weights=codes).merge(far, on=["weights", "language"])
    cells = placed.groupby(["study", "sources", "prefixes", "target", "language"], as_index=False)
    means = cells[["gain", "level", *MEASURES]].mean()
    means[["gain", "level"]] -= means.groupby(["study", "sources", "target"])[["gain", "level"]].transform("mean")
    level = gains.groupby(["study", "sources", "target"])["gain"].mean().groupby(["study", "sources"]).mean()
    pairs = means.groupby(["study", "sources", "prefixes", "language"], as_index=False)[
        ["gain", "level", *MEASURES]
    ].mean()
    levels = level.loc[list(zip(pairs["study"], pairs["sources"], strict=True))].to_numpy()
    pairs["gain"] = (pairs["gain"] + levels).round(9)  # so that equal gains are ties in spite of rounding
    known = [language(code) for code in pairs["language"]]
    for at, name in enumerate(("name", "script", "family"), start=4):
        pairs.insert(at, name, [row[name] for row in known])
    return pairs


def languages_differ(gains: pd.DataFrame) -> pd.DataFrame:
    """Ask Cochran's Q for each set of sources whether languages differ by more than its stages do among themselves.

    What all stages have in common, the noise of their baseline's run, counts as a difference: this only sorts out what
    can't be related to distances, and `rank_correlations` tests it.

    returns: study, sources, prefixes, differ; False with fewer than `RUNS` prefixes
    """
    rows = []
    for (study, sources), part in gains.groupby(["study", "sources"], sort=False):
        runs = part.pivot_table(index="prefix", columns=["target", "language"], values="gain").dropna(axis=1)
        runs -= runs.T.groupby(level="target").transform("mean").T.mean()  # targets differ, which is no matter here
        found = language_gains(runs.mean(), runs, seeds=len(runs), rows=np.zeros(runs.shape[1])) if runs.size else None
        rows.append((study, sources, len(runs), len(runs) >= RUNS and bool(found and found.differ)))
    return pd.DataFrame(rows, columns=["study", "sources", "prefixes", "differ"])


def rank_correlations(pairs: pd.DataFrame) -> pd.DataFrame:
    """Correlate gain and distance over languages by Spearman's partial rho, given the level of the scores.

    returns: study, sources, measure, rho, p, languages, p_holm (corrected over all rows); no row for fewer than
        `LANGUAGES`, nor where fewer than `APART` differ from the commonest distance
    """
    rows = []
    for (study, sources), part in pairs.groupby(["study", "sources"], sort=False):
        for measure in MEASURES:
            known = part[part[measure].notna()]
            few = len(known) < LANGUAGES or len(known) - known[measure].value_counts().max() < APART
            if few or known["gain"].nunique() == 1:
                continue
            families = known["family"].where(known["family"] != "", known["language"])
            x, gain, level = known[[measure, "gain", "level"]].to_numpy(dtype=float).T
            rows.append((study, sources, measure, *partial_rho(x, gain, level, families.to_numpy()), len(known)))
    table = pd.DataFrame(rows, columns=["study", "sources", "measure", "rho", "p", "languages"])
    return table.assign(p_holm=holm(table["p"]))


def partial_rho(x: Array, y: Array, given: Array, families: NDArray[Any]) -> tuple[float, float]:
    """Compute Spearman's correlation of x and y given a third variable, and its two-sided p-value.

    x, y, given, families: shape (L,)

    Relatives have gains and distances in common, so languages are exchanged within their families alone: what remains
    of y's ranks after the third variable's is permuted (Freedman and Lane 1983; Winkler et al. 2015 for the blocks).
    """
    ranks = np.column_stack([scipy.stats.rankdata(values) for values in (x, y, given)])
    ranks -= ranks.mean(axis=0)
    third = ranks[:, 2]
    own = ranks[:, :2] - np.outer(third, third @ ranks[:, :2]) / max(third @ third, 1.0)
    lengths = np.sqrt((own**2).sum(axis=0))
    if (lengths < 1e-9).any():
        return 0.0, 1.0
    codes = pd.factorize(families)[0]
    shuffled = np.argsort(np.random.default_rng(0).random((PERMUTATIONS, len(x))) + codes, axis=1)
    order = np.empty_like(shuffled)
    order[:, np.argsort(codes, kind="stable")] = shuffled
    rho, drawn = own[:, 0] @ own[:, 1], own[order, 1] @ own[:, 0]
    hits = int((np.abs(drawn) >= abs(rho) - 1e-9).sum())
    return float(rho / lengths.prod()), (1 + hits) / (1 + PERMUTATIONS)


def against_english(gains: pd.DataFrame, from_english: pd.Series[float]) -> pd.DataFrame:
    """Compare prefixes without English with those from English alone, on the same tasks of the same study.

    returns: one row for all target languages, the half nearer to English and the further one: languages, prefixes,
        prefixes_english, advantage (points), low, high (95 % interval), p_alike (that the difference is `ALIKE` or
        more: two one-sided tests, Schuirmann 1987); empty where nothing can be compared

    Sources with fewer than `RUNS` prefixes are left out, unless there are no others: then the last three are NaN. The
    units are prefixes, each with its mean gain over targets and languages that none of them had as a source: where all
    have the same cells, this least squares on tasks and source is a mixed model with a random effect of the run, with
    Student's t over runs in place of its normal distribution.
    """
    english = gains["sources"] == ENGLISH
    other = [ENGLISH not in sources.split("+") for sources in gains["sources"]]
    gains = gains.assign(other=other)[english | np.array(other, dtype=bool)]
    sides = gains.groupby(_SETTING)["other"].transform("nunique") if len(gains) else gains["other"]
    compared = gains[sides == 2]
    enough = compared[compared.groupby([*_SETTING, "sources"])["prefix"].transform("nunique") >= RUNS]
    told = bool(len(enough)) and bool((enough.groupby(_SETTING)["other"].nunique() == 2).all())
    compared = enough if told else compared
    sources = {code for joined in compared["sources"] for code in joined.split("+")}
    compared = compared[~compared["language"].isin(sources)]
    distance = from_english.reindex(sorted(compared["language"].unique())).dropna()
    groups = {
        ALL: set(compared["language"]),
        NEAR: set(distance.index[distance <= distance.median()]),
        FAR: set(distance.index[distance > distance.median()]),
    }
    rows = []
    for name, members in groups.items():
        part = compared[compared["language"].isin(members)]
        if part.groupby("other").ngroups == 2:
            rows.append((name, part["language"].nunique(), *_advantage(part, told)))
    columns = ["languages_are", "languages", "prefixes", "prefixes_english", "advantage", "low", "high", "p_alike"]
    return pd.DataFrame(rows, columns=columns)


def _advantage(part: pd.DataFrame, told: bool) -> tuple[int, int, float, float, float, float]:
    """Count the prefixes of both sides and estimate how far the other one is ahead."""
    units = part.groupby([*_SETTING, "prefix", "other", "target"])["gain"].mean()
    means = units.groupby([*_SETTING, "prefix", "other"]).mean().reset_index()
    settings = pd.get_dummies(means.groupby(_SETTING).ngroup(), dtype=float).to_numpy()
    other = means["other"].to_numpy(dtype=float)
    fit = sm.OLS(means["gain"].to_numpy(), np.column_stack([other, settings])).fit()
    advantage, error = float(fit.params[0]), float(fit.bse[0])
    low = high = p = np.nan
    if told and fit.df_resid > 0:
        low, high = fit.conf_int()[0]
        p = scipy.stats.t.sf((ALIKE - abs(advantage)) / max(error, 1e-12), fit.df_resid)
    return int(other.sum()), int((1 - other).sum()), advantage, float(low), float(high), float(p)


def _words(correlations: pd.DataFrame, apart: pd.DataFrame) -> Iterator[str]:
    yield (
        "Gains are in points over the baseline, in unseen languages that are not sources themselves: means over "
        "stages, then over targets with each target's level taken out. Distances are URIEL's (Littell et al. 2017), "
        "from the package urielplus (Khan et al. 2025), CC BY-SA 4.0; of several source languages the mean, by rows."
    )
    if len(correlations):
        yield (
            f"Spearman's correlation of gain with distance, given the level of the scores: {_listed(correlations)} "
            "Below 0, near languages gain more. p permutes languages within their families. Significant after Holm's "
            f"correction: {int((correlations['p_holm'] < SIGNIFICANT).sum())} of {len(correlations)}. Left out are "
            f"measures that tell fewer than {APART} of at least {LANGUAGES} languages from the others."
        )
    if few := apart.loc[apart["prefixes"] < RUNS, "sources"].tolist():
        yield (
            f"Whether gains fall with distance cannot be told for sources with fewer than {RUNS} different stages: "
            f"{', '.join(few)}."
        )
    if alike := apart.loc[(apart["prefixes"] >= RUNS) & ~apart["differ"], "sources"].tolist():
        yield f"No language can be told from the others (Cochran's Q), so no distance explains any: {', '.join(alike)}."


def _listed(correlations: pd.DataFrame) -> str:
    rows = correlations.to_dict("records")
    return "; ".join("from {sources}, {measure} {rho:+.2f} (p = {p:.3f})".format_map(row) for row in rows) + "."


def _verdict(advantage: pd.DataFrame) -> str:
    question = "Does another source than English help distant languages more?"
    rows = advantage.set_index("languages_are")
    if FAR not in rows.index:
        return (
            f"{question} This cannot be answered: it takes stages from English alone and stages without English on the "
            "same intermediate tasks, and target languages at different distances from English."
        )
    far = rows.loc[FAR].to_dict()
    counts = f"{far['prefixes']:.0f} stages from other sources and {far['prefixes_english']:.0f} from English"
    if np.isnan(far["low"]):
        return f"{question} This cannot be told: it takes {RUNS} different stages from each source; there are {counts}."
    if far["low"] > 0:
        answer = "Yes, in this study"
    elif far["high"] < 0:
        answer = "No, in this study English helps them more"
    elif far["p_alike"] < SIGNIFICANT:
        answer = f"No difference larger than {ALIKE:g} point"
    else:
        answer = "This cannot be told, as the interval includes 0"
    interval = "{advantage:+.1f} points [{low:+.1f}, {high:+.1f}]"
    halves = f" In the nearer half: {interval.format_map(rows.loc[NEAR].to_dict())}." if NEAR in rows.index else ""
    return (
        f"{question} {answer}: in the {far['languages']:.0f} languages further from English ({FIRST} distance), other "
        f"sources are {interval.format_map(far)} ahead, over {counts} on the same intermediate tasks.{halves}"
    )


@styled
def draw_pairs(pairs: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Draw gain against each distance, a colour a set of sources, each language as its code."""
    figure = new_figure(height=3.2 if len(measures) < 3 else 6.0)
    panels = figure.subplots(-(-len(measures) // 2), min(2, len(measures)), sharey=True, squeeze=False).flatten()
    several = pairs["study"].nunique() > 1
    for axes, measure in zip(panels, measures, strict=False):
        axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
        for colour, ((study, sources), part) in zip(
            PALETTE, pairs.groupby(["study", "sources"], sort=False), strict=False
        ):
            label = f"from {sources} ({study})" if several else f"from {sources}"
            axes.scatter(part[measure], part["gain"], s=5, color=colour, linewidths=0, label=label)
            for row in part[part[measure].notna()].itertuples():
                at = (float(getattr(row, measure)), float(row.gain))  # type: ignore[arg-type]
                axes.annotate(
                    str(row.language), at, xytext=(2, 2), textcoords="offset points", fontsize=6, color=colour
                )
        axes.set(xlabel=f"{measure} distance")
    for axes in panels[len(measures) :]:
        axes.set_visible(False)
    for axes in panels[::2]:
        axes.set_ylabel("gain, points")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=MOST_SOURCES)
    return figure
