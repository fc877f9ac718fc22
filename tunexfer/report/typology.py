"""Whether a source language helps near or distant targets, by URIEL's distances."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tunexfer.errors import DataError
from tunexfer.report.distances import MEASURES, Language, distances, language
from tunexfer.report.labels import label_points
from tunexfer.report.section import Section
from tunexfer.report.source_gains import (
    ENGLISH,
    LANGUAGES,
    RESAMPLES,
    Array,
    Estimate,
    add_distances,
    language_values,
    languages_of,
    mean_gains,
    rank_correlation,
    resamples,
    trial_gains,
)
from tunexfer.report.study import Study
from tunexfer.report.style import BLUE, INK, ORANGE, new_figure, scatter, styled

MOST_SOURCES = 4
"""Of more sets of source languages, those with the most trials are looked at."""
ALL = "all"
NEAR, FAR, DIFFERENCE = "nearer half", "further half", "further minus nearer"
FIRST = MEASURES[0]
"""The measure that the answer goes by; the others are beside it."""
_TITLE = "Near and distant languages"
Flags = NDArray[np.bool_]
_SET = ["study", "sources"]
_SETTING = ["study", "tasks", "train", "target"]


@dataclass(frozen=True, kw_only=True)
class Findings:
    words: tuple[str, ...]
    correlations: pd.DataFrame
    """As `rank_correlations` gives them; the others likewise."""
    means: pd.DataFrame
    halves: pd.DataFrame
    pairs: pd.DataFrame
    advantages: pd.DataFrame


def section(studies: Sequence[Study]) -> Section | None:
    """Gain against distance, and other sources against English. None where no trial has a source and a baseline."""
    try:
        found = findings(studies)
    except DataError as error:
        return Section(key="typology", title=_TITLE, words=(f"{error} Then make the report again.",))
    if found is None:
        return None
    correlations, pairs, advantages = (
        "Rank correlation of gain and distance",
        "Gain and distance of each language",
        "Advantage over English in each language",
    )
    tables = {
        correlations: found.correlations,
        "Other sources against English": found.means,
        "Other sources against English, by distance from English": found.halves,
        pairs: found.pairs,
        advantages: found.advantages,
    }
    figures = {}
    for (study, sources), part in _sets(found.pairs):
        if part[[*MEASURES]].isna().all(axis=None):
            continue
        name = f"{sources} ({study})" if len(studies) > 1 else sources
        figures[f"Gain against distance, from {name}"] = draw_pairs(part)
    if not found.halves.empty:
        figures["Advantage over English against distance from English"] = draw_advantages(found.advantages)
    if not found.correlations.empty:
        figures[correlations] = draw_correlations(found.correlations, len(studies) > 1)
    there = {title: table for title, table in tables.items() if not table.empty}
    return Section(
        key="typology",
        title=_TITLE,
        words=found.words,
        tables=there,
        figures=figures,
        folded=frozenset([pairs, advantages]) & there.keys(),
        shaded={pairs: ["gain"]} | ({advantages: ["advantage"]} if advantages in there else {}),
    )


def findings(studies: Sequence[Study]) -> Findings | None:
    """All but the figures.

    raises: DataError, if there are no distances: `distances`
    """
    gains = pd.concat([trial_gains(study).assign(study=study.name) for study in studies], ignore_index=True)
    if gains["baseline"].all():
        return None
    matrices = distances(languages_of(gains))
    gains = add_distances(gains, matrices)
    tried = gains[~gains["baseline"].astype(bool)]
    sets = tried.groupby(_SET)["trial"].nunique().sort_values(ascending=False, kind="stable")
    tried = tried.merge(sets.head(MOST_SOURCES).index.to_frame(index=False), on=_SET)
    pairs = language_pairs(tried)
    correlations = rank_correlations(tried, pairs)
    compared = against_english(gains)
    means, halves = english_means(compared), english_halves(compared, matrices)
    return Findings(
        words=(*_words(len(sets), correlations, pairs), *_answer(gains, compared, means, halves)),
        correlations=correlations,
        means=means,
        halves=halves,
        pairs=pairs,
        advantages=english_languages(compared, matrices),
    )


def language_pairs(tried: pd.DataFrame) -> pd.DataFrame:
    """One row a set of sources and target language: the gain over targets and trials, in points, and the distances."""
    found = []
    for (study, sources), part in _sets(tried):
        cells = mean_gains(part, ["target", "language"])
        of_language = cells.groupby("language")
        table = pd.DataFrame(
            {
                "gain": language_values(cells, ["target"]),
                "targets": of_language["target"].nunique(),
                "trials": part.groupby("language")["trial"].nunique(),
                **{measure: of_language[measure].mean() for measure in MEASURES},
            }
        ).reset_index()
        named = _described(table["language"], sources.split("+"))
        found.append(pd.concat([table[["language"]], named, table.drop(columns="language")], axis=1))
        found[-1].insert(0, "study", study)
        found[-1].insert(1, "sources", sources)
    return pd.concat(found, ignore_index=True)


def _described(codes: Iterable[str], sources: Iterable[str]) -> pd.DataFrame:
    """Name, script and family of languages, and whether a source shares them."""
    rows = [language(code) for code in codes]
    origins = [language(code) for code in sources]
    return pd.DataFrame(
        {
            "name": [row.name for row in rows],
            "script": [row.script for row in rows],
            "family": [row.family for row in rows],
            "same_script": [_shared(row, origins, "script") for row in rows],
            "same_family": [_shared(row, origins, "family") for row in rows],
        }
    )


def _shared(one: Language, others: Sequence[Language], what: str) -> bool:
    return bool(getattr(one, what)) and any(getattr(one, what) == getattr(other, what) for other in others)


def rank_correlations(tried: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of gain with distance over target languages, each with a 95 % interval.

    One row a measure and set of sources (over targets, as in `language_pairs`), and a measure and target, as the mean
    over sets of sources; `all` sources is such a mean too. Only of at least `LANGUAGES` languages.
    """
    places = {code: at for at, code in enumerate(sorted(pairs["language"].unique()))}
    draws = np.vstack([np.ones(len(places)), resamples(len(places))])
    cells = mean_gains(tried, [*_SET, "target", "language"])
    columns = [*_SET, "target", "measure", "rho", "low", "high", "languages"]
    rows = []
    for measure in MEASURES:
        own: dict[tuple[str, str, str], tuple[Array, int]] = {}
        for (study, sources), part in _sets(pairs):
            own[study, sources, ALL] = _correlation(part, measure, places, draws)
        for (study, sources), part in _sets(cells) if cells["target"].nunique() > 1 else ():
            for target, one in part.groupby("target", sort=False):
                own[study, sources, str(target)] = _correlation(one, measure, places, draws)
        targets = list(dict.fromkeys(target for _, _, target in own))
        means = {(ALL, ALL, target): _mean([one for key, one in own.items() if key[2] == target]) for target in targets}
        for key, (values, count) in (means | {key: one for key, one in own.items() if key[2] == ALL}).items():
            if count >= LANGUAGES and not np.isnan(values[0]):
                found = Estimate.of(values[0], values[1:])
                rows.append((*key, measure, found.value, found.low, found.high, count))
    return pd.DataFrame(rows, columns=columns)


def _correlation(part: pd.DataFrame, measure: str, places: Mapping[str, int], draws: Array) -> tuple[Array, int]:
    """The correlation in all languages and in each resample, and in how many languages; none with too few."""
    known = part[part[measure].notna()]
    if len(known) < LANGUAGES:
        return np.full(len(draws), np.nan), 0
    counts = draws[:, [places[code] for code in known["language"]]]
    return rank_correlation(known[measure].to_numpy(), known["gain"].to_numpy(), counts), len(known)


def _mean(parts: Sequence[tuple[Array, int]]) -> tuple[Array, int]:
    """Of those that there are."""
    own = [values for values, count in parts if count and not np.isnan(values[0])]
    return (np.mean(own, axis=0), max(count for _, count in parts)) if own else (np.full(1, np.nan), 0)


def against_english(gains: pd.DataFrame) -> pd.DataFrame:
    """By how much other sources are ahead of English alone, in each target language: `gain`, points.

    Paired are means over trials of one study that share their intermediate tasks (or, without stages, the target) and
    what the target was trained in. Mixtures with English in them are on neither side.
    """
    cells = mean_gains(gains, [*_SETTING, "sources", "language"]).drop(columns=list(MEASURES))
    other = cells[[ENGLISH not in sources.split("+") for sources in cells["sources"]]]
    english = cells[cells["sources"] == ENGLISH].drop(columns="sources")
    found = other.merge(english, on=[*_SETTING, "language"], suffixes=("", "_english"))
    return found.assign(gain=found["gain"] - found["gain_english"]).drop(columns="gain_english")


def _by_other(compared: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All other sources together, then each set of them where there are several."""
    if not compared.empty:
        yield ALL, compared
    if compared["sources"].nunique() > 1:
        yield from ((str(sources), part) for sources, part in compared.groupby("sources", sort=False))


def _advantage(compared: pd.DataFrame) -> pd.Series:
    """In points, by language."""
    return language_values(compared, [*_SETTING, "sources"])


def english_means(compared: pd.DataFrame) -> pd.DataFrame:
    """The mean advantage over target languages, its interval (NaN for fewer than `LANGUAGES`), trials of each side."""
    rows = []
    for sources, part in _by_other(compared):
        values = _advantage(part)
        found = _weighted(values.to_numpy(), np.ones((1, len(values)), dtype=bool), resamples(len(values)))[0]
        chains = [*_SETTING[:-1]]
        trials = part.groupby([*chains, "sources"])["trials"].max().sum()
        english = part.groupby(chains)["trials_english"].max().sum()
        rows.append((sources, int(trials), int(english), len(values), *_numbers(found, len(values))))
    return pd.DataFrame(rows, columns=["sources", "trials", "trials_english", "languages", "advantage", "low", "high"])


def english_halves(compared: pd.DataFrame, matrices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The same in the halves of the languages that are nearer to English and further from it, and their difference.

    The halves part at the median distance; where half of the languages or more are as far as can be, these are the
    further half. The two halves of a resample have the languages of it that belong to them.
    """
    rows = []
    for sources, part in _by_other(compared):
        values = _advantage(part)
        for measure in MEASURES:
            distance = matrices[measure].loc[ENGLISH].reindex(values.index)
            known = distance.notna().to_numpy()
            own, apart = values.to_numpy()[known], distance.to_numpy()[known]
            if len(own) < LANGUAGES:
                continue
            middle = np.median(apart)
            further = apart > middle if (apart > middle).any() else apart >= middle
            near, far = _weighted(own, np.stack([~further, further]), resamples(len(own)))
            parts = {NEAR: (near, ~further), FAR: (far, further), DIFFERENCE: (far - near, further | ~further)}
            for half, (found, members) in parts.items():
                span = (apart[members].min(), apart[members].max()) if members.any() else (np.nan, np.nan)
                rows.append((sources, measure, half, int(members.sum()), *span, *_numbers(found, len(own))))
    names = ["sources", "measure", "languages_are", "languages", "from", "to", "advantage", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _weighted(values: Array, members: Flags, draws: Array) -> Array:
    """Means of some languages' values: first in all languages, then in each resample.

    values: shape (N,); members: shape (H, N); draws: shape (R, N); returns: shape (H, 1 + R), NaN where none was drawn
    """
    counts = np.vstack([np.ones(len(values)), draws])
    drawn = members @ counts.T
    sums = (members * values) @ counts.T
    return np.divide(sums, drawn, out=np.full_like(sums, np.nan), where=drawn > 0)


def _numbers(found: Array, languages: int) -> tuple[float, float, float]:
    one = Estimate.of(float(found[0]), found[1:] if languages >= LANGUAGES else np.array([]))
    return one.value, one.low, one.high


def english_languages(compared: pd.DataFrame, matrices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a target language: the advantage of all other sources together, and the distance from English."""
    if compared.empty:
        return pd.DataFrame()
    values = _advantage(compared)
    apart = {f"{measure}_from_english": matrices[measure].loc[ENGLISH].reindex(values.index) for measure in MEASURES}
    table = pd.DataFrame({"advantage": values, **apart}).rename_axis("language").reset_index()
    return pd.concat(
        [table[["language"]], _described(table["language"], [ENGLISH]), table.drop(columns="language")], axis=1
    )


def _sets(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Its parts by study and set of sources."""
    for (study, sources), part in table.groupby(_SET, sort=False):
        yield (str(study), str(sources)), part


def _words(sets: int, correlations: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    yield (
        "Gain: points over the baseline on the test split, in languages that nothing before trained the task in; means "
        "over trials, and over targets with each target's own level taken out where languages differ in targets. "
        "Distances: URIEL's (Littell et al. 2017), by the package urielplus (Khan et al. 2025), CC BY-SA 4.0; of "
        "several source languages the mean, each by its share of the rows drawn. In the figures, what has no room for "
        "its label stands without."
    )
    if sets > MOST_SOURCES:
        yield f"Of {sets} sets of source languages, the {MOST_SOURCES} with the most trials are shown."
    unknown = sorted(pairs.loc[pairs[[*MEASURES]].isna().any(axis=1), "language"].unique())
    if unknown:
        yield f"URIEL knows too little for some of the distances of: {', '.join(unknown)}."
    whole = correlations[correlations["target"] == ALL]
    summary = whole[whole["sources"] == ALL].to_dict("records")
    found = ["{measure} {rho:+.2f} [{low:+.2f}, {high:+.2f}]".format_map(row) for row in summary]
    if not found:
        yield f"Rank correlations need {LANGUAGES} unseen languages with a known distance; there are fewer."
        return
    count = int(whole["languages"].max())
    yield (
        f"Spearman's correlation of gain with distance over up to {count} languages, mean over the sets of sources: "
        f"{'; '.join(found)}. Below 0: near languages gain more. The 95 % intervals draw languages anew "
        f"(percentile bootstrap, {RESAMPLES:,} resamples) and aren't corrected for looking at four distances."
    )


def _answer(gains: pd.DataFrame, compared: pd.DataFrame, means: pd.DataFrame, halves: pd.DataFrame) -> Iterator[str]:
    question = "Does another source than English help distant languages more than English?"
    if compared.empty:
        yield f"{question} This can't be answered here: {_why_not(gains)}"
        return
    every = means[means["sources"] == ALL].to_dict("records")[0]
    together = halves[halves["sources"] == ALL].to_dict("records")
    own = {row["languages_are"]: row for row in together if row["measure"] == FIRST}
    if not own or np.isnan(every["low"]):
        yield (
            f"{question} Over the {every['languages']} unseen languages that have a known distance, other sources are "
            f"{every['advantage']:+.1f} points against English on the same intermediate tasks. It takes {LANGUAGES} "
            "languages to tell more."
        )
        return
    if own[FAR]["low"] > 0:
        verdict = "Yes, in this study."
    elif own[FAR]["high"] < 0:
        verdict = "No: in this study English helps them more."
    else:
        verdict = "This study can't tell: the interval holds 0."
    others = [row for row in together if row["languages_are"] == FAR and row["measure"] != FIRST]
    rest = "; ".join(f"{row['measure']} {_interval(row)}" for row in others)
    yield (
        f"{question} {verdict} In the half of the languages that is further from English ({FIRST} distance), other "
        f"sources are {_interval(own[FAR])} points against English on the same intermediate tasks, in the nearer half "
        f"{_interval(own[NEAR])}, a difference of {_interval(own[DIFFERENCE])}. Further half by the other distances: "
        f"{rest}. Over all {every['languages']} languages: {_interval(every)}."
    )
    yield (
        f"The intervals are over languages; the noise of training isn't in them: without English there are "
        f"{every['trials']} trials, with English alone {every['trials_english']}."
    )


def _interval(row: Mapping[Hashable, Any]) -> str:
    return f"{row['advantage']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"


def _why_not(gains: pd.DataFrame) -> str:
    """Why no trials from English and from other languages go together."""
    english = gains[gains["sources"] == ENGLISH]
    other = gains[[ENGLISH not in sources.split("+") for sources in gains["sources"]]]
    if english.empty:
        return "no trial has English as its only source language."
    if other.empty:
        return "every trial has English among its source languages."
    alone, without = (", ".join(sorted(set(part["tasks"]) - {""})) or "no task" for part in (english, other))
    return f"no intermediate tasks were trained both in English alone ({alone}) and without English ({without})."


@styled
def draw_pairs(pairs: pd.DataFrame) -> Figure:
    """Gain against each of the four distances, for one set of sources; `pairs` as `language_pairs` gives them."""
    axes_of = {measure: f"{measure} distance from {pairs['sources'].iloc[0]}" for measure in MEASURES}
    return _panels(pairs, "gain", axes_of, "gain, points", "the source's")


@styled
def draw_advantages(advantages: pd.DataFrame) -> Figure:
    """By how much other sources are ahead of English; `advantages` as `english_languages` gives them."""
    axes_of = {f"{measure}_from_english": f"{measure} distance from English" for measure in MEASURES}
    return _panels(advantages, "advantage", axes_of, "ahead of English, points", "English's")


def _panels(table: pd.DataFrame, value: str, axes_of: Mapping[str, str], label: str, whose: str) -> Figure:
    """A panel a distance; colour: family, mark: script.

    axes_of: column of distances -> what its axis says
    """
    figure = new_figure(height=6.2)
    panels = figure.subplots(2, 2, sharey=True)
    looks = {
        (family, script): {"color": BLUE if family else ORANGE, "marker": "o" if script else "^", "s": 16}
        for family in (True, False)
        for script in (True, False)
    }
    for axes, (column, name) in zip(panels.flat, axes_of.items(), strict=True):
        axes.axhline(0, color=INK, linewidth=0.6, zorder=1)
        for (family, script), look in looks.items():
            part = table[(table["same_family"] == family) & (table["same_script"] == script)]
            scatter(axes, part[column], part[value], **look)
        axes.margins(0.08)
        axes.set_xlabel(name)
    for axes in panels[:, 0]:
        axes.set_ylabel(label)
    words = [
        f"{'' if family else 'not '}{whose} family, {'' if script else 'not '}its script" for family, script in looks
    ]
    handles = [panels[0, 0].scatter([], [], linewidths=0, **look) for look in looks.values()]
    figure.legend(handles, words, loc="outside upper left", ncols=2, handletextpad=0.2)
    engine = figure.get_layout_engine()
    assert engine
    engine.execute(figure)
    for axes, column in zip(panels.flat, axes_of, strict=True):
        known = table[table[column].notna()]
        label_points(axes, known[column], known[value], known["language"].tolist())
    figure.set_layout_engine("none")  # labels stand where there was room
    return figure


@styled
def draw_correlations(correlations: pd.DataFrame, several: bool) -> Figure:
    """A row a set of sources or a target, a panel a measure; `correlations` as `rank_correlations` gives them."""
    keys = list(dict.fromkeys(zip(*(correlations[name] for name in ("study", "sources", "target")), strict=True)))
    keys.sort(key=lambda key: (key[1] != ALL, key[2] != ALL))
    names = [_row_name(study, sources, target, several) for study, sources, target in keys]
    figure = new_figure(height=1.0 + 0.24 * len(keys))
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    for axes, measure in zip(panels, MEASURES, strict=True):
        axes.axvline(0, color=INK, linewidth=0.6, zorder=1)
        for row in correlations[correlations["measure"] == measure].to_dict("records"):
            at = keys.index((row["study"], row["sources"], row["target"]))
            axes.plot([row["low"], row["high"]], [at, at], color=BLUE, linewidth=1.2)
            axes.plot(row["rho"], at, "o", color=BLUE, markersize=4)
        axes.set(xlim=(-1, 1), title=measure)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "", "0", "", "1"])
    panels[0].set_yticks(range(len(keys)), names)
    panels[0].invert_yaxis()
    figure.supxlabel("rank correlation of gain and distance; below 0, near languages gain more", fontsize=9, color=INK)
    return figure


def _row_name(study: str, sources: str, target: str, several: bool) -> str:
    if sources == ALL:
        return "mean of all" if target == ALL else f"target {target}"
    return f"from {sources} ({study})" if several else f"from {sources}"
