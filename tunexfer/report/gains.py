"""What intermediate tasks and source languages do for each target: deltas against the baseline, averaged over trials.

Letters in shapes: T trials, R rows of a table (tasks, or tasks in a source language), V columns (targets or languages).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tunexfer.core.chain import Chain
from tunexfer.errors import StudyError
from tunexfer.report.comparison import main_scores
from tunexfer.report.section import Section
from tunexfer.report.study import Study
from tunexfer.report.style import DIVERGING, new_figure, styled

ANY = "any"
"""Stands for the source language where a row is of a task in whatever languages."""
MOST_ROWS = 40
"""Of more rows the heat map shows tasks alone; the table has all."""
_DARK, _LIGHT = "#111111", "#ffffff"
"""Numbers on pale and on strong colours."""


@dataclass(frozen=True)
class Transfer:
    """What each trial with an intermediate stage trained on, and how far it is ahead.

    That is: of the no-stage chain with its own target values, where the search ran one, else of the baseline.

    Of `fine_tunings`: the same of targets that no stage comes before, T of them, by the language they are trained in.
    """

    trained: pd.DataFrame
    """Shape (T, R), whether; columns (task, source language), `ANY` first; or the train languages."""
    languages: pd.DataFrame
    """Shape (T, V), points; columns (target, language)."""
    targets: pd.DataFrame
    """Shape (T, V), points: a column per target, the mean over languages unseen by both; over all where none is."""
    own: pd.DataFrame
    """Shape (T, V), whether a target's differences are to the chain with the trial's own target values."""


NONE = Transfer(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), pd.DataFrame())


def transfer(studies: Sequence[Study]) -> Transfer:
    """Of the search's own trials, each beside a chain of its own study; confirmations run the same chains again."""
    deltas: list[pd.DataFrame] = []
    chains: dict[tuple[int, int], Chain] = {}
    for place, study in enumerate(studies):
        scores = _searched(study)
        own = {number: study.chain(number) for number in scores["trial"].unique().tolist()}
        staged = {number: chain for number, chain in own.items() if chain.stages}
        chains |= {(place, number): chain for number, chain in staged.items()}
        scores = scores[scores["trial"].isin(list(staged))]
        known = scores["delta_own"].notna()
        # The chain with the trial's own target values trained them in the same language, and nothing else.
        fair = np.where(known, scores["unseen"], scores["unseen_by_both"])
        gain = scores["delta_own"].fillna(scores["delta"])
        deltas.append(scores.assign(place=place, own=known, fair=fair.astype(bool), gain=gain))
    if not chains:
        return NONE
    index = pd.MultiIndex.from_tuples(list(chains), names=["place", "trial"])
    return Transfer(_trained(chains.values(), index), *_deltas(pd.concat(deltas), index))


def fine_tunings(studies: Sequence[Study]) -> Transfer:
    """Of chains without a stage, where a study varies what a target is trained in: each fine-tuning by itself.

    It is beside the baseline. One that several trials share counts once, and the baseline's own doesn't.
    """
    deltas: list[pd.DataFrame] = []
    lines: dict[tuple[int, int, str], str] = {}
    for place, study in enumerate(studies):
        scores, baseline = _searched(study), study.baseline()
        plain = [chain for number in scores["trial"].unique() if not (chain := study.chain(int(number))).stages]
        languages: dict[str, set[str]] = {}
        for target in (target for chain in plain for target in chain.targets if target.train_language):
            languages.setdefault(target.name, set()).add(str(target.train_language))
        varied = [name for name, some in languages.items() if len(some) > 1]
        base = None if baseline is None else study.chain(baseline)
        seen = {(base.encoder, base.line(name)) for name in varied} if base else set()
        found: list[tuple[int, str]] = []
        for number in scores["trial"].unique().tolist():
            chain = study.chain(number)
            for name in varied if not chain.stages else ():
                line = chain.encoder, chain.line(name)
                if line not in seen:
                    seen.add(line)
                    found.append((number, name))
                    lines[place, number, name] = str(chain.target(name).train_language)
        kept = scores.astype({"target": str}).merge(pd.DataFrame(found, columns=["trial", "target"]))
        deltas.append(
            kept.assign(place=place, line=kept["target"], own=False, fair=kept["unseen_by_both"], gain=kept["delta"])
        )
    if not lines:
        return NONE
    index = pd.MultiIndex.from_tuples(list(lines), names=["place", "trial", "line"])
    columns = pd.Index(sorted(set(lines.values())), name="train language")
    values = [[column == language for column in columns] for language in lines.values()]
    return Transfer(pd.DataFrame(values, index=index, columns=columns), *_deltas(pd.concat(deltas), index))


def _searched(study: Study) -> pd.DataFrame:
    """The search's own scores that have a baseline."""
    scores = main_scores(study)
    return scores[(scores["phase"] != "confirm") & scores["delta"].notna()]


def _deltas(scores: pd.DataFrame, index: pd.MultiIndex) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    keys = [*index.names, "target"]
    plain = scores.astype({"target": str, "language": str})
    languages = plain.set_index([*keys, "language"])["gain"].unstack(["target", "language"]).reindex(index)
    order = list(dict.fromkeys(plain["target"]))
    unseen, every, own = (
        grouped.unstack("target").reindex(index=index, columns=order)
        for grouped in (
            plain[plain["fair"]].groupby(keys)["gain"].mean(),
            plain.groupby(keys)["gain"].mean(),
            plain.groupby(keys)["own"].all(),
        )
    )
    return languages, unseen.fillna(every), own == True  # noqa: E712  NaN, of a target that isn't there, is not


def _trained(chains: Iterable[Chain], index: pd.MultiIndex) -> pd.DataFrame:
    sets = [
        {
            pair
            for stage in chain.stages
            for one in stage.mixture.sources
            for pair in ((one.task, one.language), (one.task, ANY))
        }
        for chain in chains
    ]
    rows = sorted(set().union(*sets), key=lambda pair: (pair[0], pair[1] != ANY, pair[1]))
    columns = pd.MultiIndex.from_tuples(rows, names=["task", "source language"])
    return pd.DataFrame([[row in one for row in rows] for one in sets], index=index, columns=columns, dtype=bool)


@dataclass(frozen=True)
class Averages:
    """Over the trials that trained on something. Three tables of shape (R, V)."""

    mean: pd.DataFrame
    """Points; NaN where there is no trial."""
    sd: pd.DataFrame
    """Over trials; NaN with fewer than two."""
    trials: pd.DataFrame


def average(trained: pd.DataFrame, deltas: pd.DataFrame) -> Averages:
    """trained: shape (T, R), whether; deltas: shape (T, V), points, NaN where a trial has none."""
    member = trained.to_numpy(dtype=np.float64).T
    values = deltas.to_numpy(dtype=np.float64)
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    count = member @ there
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = member @ filled / count
        square = member @ filled**2 - count * mean**2
        sd = np.sqrt(np.maximum(square, 0.0) / (count - 1))
    sd[count < 2] = np.nan
    made = (pd.DataFrame(one, index=trained.columns, columns=deltas.columns) for one in (mean, sd, count))
    mean_table, sd_table, count_table = made
    return Averages(mean_table, sd_table, count_table.astype(int))


def section(studies: Sequence[Study]) -> Section | None:
    """The heat map of tasks and targets, and per target its languages; of train languages, where there is no stage."""
    staged, plain = transfer(studies), fine_tunings(studies)
    words: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    shaded: dict[str, Sequence[str]] = {}
    figures: dict[str, Figure] = {}
    for found, by, counted in ((staged, "intermediate task", "trials"), (plain, "train language", "fine_tunings")):
        if found.trained.empty:
            continue
        whole, tasks = average(found.trained, found.targets), _tasks(found.trained)
        per_language = average(tasks, found.languages)
        figures[f"Mean gain by {by} and target"] = _draw_targets(found)
        words += _words(studies, found, whole) if found is staged else _plain_words(found)
        words += _down(whole, by, "before" if found is staged else "for")
        title = f"Gain by {by}"
        tables[title] = _long(whole, _own_counts(found, found.trained), counted)
        shaded[title] = ["delta"]
        if found is staged:
            tables["Gain by mixture"] = _by_mixture(found)
            shaded["Gain by mixture"] = list(found.targets.columns)
        for target in dict.fromkeys(found.targets.columns):
            title = f"{target}: gain by {by} in each language"
            tables[title] = _language_table(per_language, target, counted)
            shaded[title] = [str(column) for column in tables[title].columns[1:]]
        title = f"Gain by {by} in each language, with counts"
        tables[title] = _long(per_language, _own_counts(found, tasks, per_language.mean.columns), counted)
        shaded[title] = ["delta"]
    if not figures:
        return None
    return Section(
        key="gains",
        title="What helps and what hurts",
        words=tuple(words),
        tables=tables,
        figures=figures,
        folded=frozenset(tables),
        shaded=shaded,
    )


def _tasks(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that are of a task in whatever languages; all, where they are of train languages."""
    return table.loc[:, table.columns.get_level_values(1) == ANY] if table.columns.nlevels > 1 else table


def _own_counts(found: Transfer, trained: pd.DataFrame, columns: pd.Index | None = None) -> pd.DataFrame:
    """Of how many trials in each cell the difference is to the chain with the trial's own target values.

    columns: (target, language) for a table of languages; by default there is a column a target
    """
    if columns is None:
        return average(trained, found.targets.where(found.own)).trials
    own = found.own[columns.get_level_values("target")].to_numpy()
    return average(trained, found.languages[columns].where(own)).trials


def _long(averages: Averages, own: pd.DataFrame, counted: str) -> pd.DataFrame:
    """One row per cell: what was trained, target (and language), delta, sd, how many, and how many of them `own`."""
    parts = {"delta": averages.mean, "sd": averages.sd, counted: averages.trials, "own_baseline": own}
    if counted != "trials":
        del parts["own_baseline"]  # all are beside the baseline
    made = pd.DataFrame(
        {
            name: (table.rename_axis(columns="target") if table.columns.nlevels == 1 else table).stack(
                list(range(table.columns.nlevels)), future_stack=True
            )
            for name, table in parts.items()
        }
    )
    return made[made[counted] > 0].reset_index()


def _language_table(averages: Averages, target: str, counted: str) -> pd.DataFrame:
    """One row per language of the target, one column per task; the heading says over how many trials."""
    mean, trials = pd.DataFrame(averages.mean[target]), pd.DataFrame(averages.trials[target])
    made = mean.T.rename_axis(index="language")
    names = [name[0] if isinstance(name, tuple) else name for name in mean.index]
    spans = [_span(trials.loc[name], counted.replace("_", "-")) for name in mean.index]
    made.columns = pd.Index([f"{name} ({span})" for name, span in zip(names, spans, strict=True)])
    return made.reset_index()


def _span(counts: pd.Series, counted: str) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low} {counted}" if low == high else f"{low} to {high} {counted}"


def _by_mixture(found: Transfer) -> pd.DataFrame:
    """One row per set of sources that some trial trained on, whatever their shares and learning rates."""
    sources = found.trained.loc[:, found.trained.columns.get_level_values(1) != ANY]
    names = ["/".join(pair) for pair in sources.columns.to_flat_index()]
    keys = pd.Series([" + ".join(compress(names, row)) for row in sources.to_numpy()], sources.index, name="sources")
    grouped = found.targets.groupby(keys)
    made = grouped.mean()
    made.insert(0, "trials", grouped.size())
    return made.sort_values("trials", ascending=False, kind="stable").reset_index()


def _words(studies: Sequence[Study], found: Transfer, whole: Averages) -> Iterator[str]:
    yield (
        "Mean difference, in points, over the trials whose stages trained on a task, alone or mixed with others; in "
        "languages of the test split that are unseen by both chains, where there are any. Under each number: how many "
        "trials."
        + (" Trials of all studies together, each beside a chain of its own study." if len(studies) > 1 else "")
    )
    there, own = int(found.targets.notna().to_numpy().sum()), int(found.own.to_numpy().sum())
    said = "beside the chain without a stage that has the trial's own target values"
    if own == there:
        yield f"All {there} pairs of trial and target are {said}."
    else:
        yield (
            f"Of {there} pairs of trial and target {own} are {said}, {there - own} beside the baseline, as no such "
            "chain was run: there another learning rate or train language of the target counts as if the stage had "
            "done it. In the tables: own_baseline."
        )
    if len(whole.mean) > MOST_ROWS and _several(found.trained):
        yield (
            f"The figure has a row a task; by source language there would be {len(whole.mean)}, which are in the "
            "table alone."
        )


def _plain_words(found: Transfer) -> Iterator[str]:
    yield (
        "Chains without a stage, by the language that a target was trained in: the mean difference to the baseline, in "
        "points, in languages of the test split that are unseen by both, where there are any. Under each number: how "
        f"many fine-tunings, of {len(found.trained)}; trials that share one count once, the baseline's own not."
    )


def _down(whole: Averages, by: str, relation: str) -> Iterator[str]:
    """How many cells are below 0, and which is lowest."""
    tasks = whole.mean.index.get_level_values(-1) == ANY if whole.mean.index.nlevels > 1 else slice(None)
    cells = pd.Series(whole.mean[tasks].stack(future_stack=True)).dropna()
    down = int((cells < 0).sum())
    if not down:
        yield f"None of the {len(cells)} pairs of {by} and target is below 0 on average."
        return
    place: Any = cells.idxmin()
    yield (
        f"{down} of {len(cells)} pairs of {by} and target are below 0 on average; the lowest is {place[0]} {relation} "
        f"{place[-1]}, {float(cells.min()):+.1f} points."
    )


def draw_gains(studies: Sequence[Study], target: str | None = None) -> Figure:
    """The heat map of intermediate tasks (without stages: train languages) and targets; with languages for one target.

    raises: StudyError, if no trial has a baseline and either a stage or another train language, or there is no such
        target
    """
    found = transfer(studies)
    if found.trained.empty:
        found = fine_tunings(studies)
    if found.trained.empty:
        raise StudyError(
            "There is no complete trial yet with a baseline, and with an intermediate stage or another train language: "
            "nothing to draw."
        )
    if target is None:
        return _draw_targets(found)
    if target not in found.targets.columns:
        raise StudyError(f"There is no target {target!r}. Targets: {', '.join(map(str, found.targets.columns))}.")
    made = average(_tasks(found.trained), pd.DataFrame(found.languages[target]))
    return heat_map(made.mean.T, made.trials.T)


def _draw_targets(found: Transfer) -> Figure:
    split = _several(found.trained) and len(found.trained.columns) <= MOST_ROWS
    made = average(found.trained if split else _tasks(found.trained), found.targets)
    return heat_map(made.mean, made.trials)


def _several(trained: pd.DataFrame) -> bool:
    """Whether the stages' sources are in several languages."""
    return trained.columns.nlevels > 1 and len(set(trained.columns.get_level_values(1)) - {ANY}) > 1


@styled
def heat_map(mean: pd.DataFrame, trials: pd.DataFrame) -> Figure:
    """mean: points, shape (R, V), NaN where there is no trial; trials: how many, of the same shape"""
    rows, columns = (_labels(axis) for axis in (mean.index, mean.columns))
    height, width = 0.36 * len(rows) + 1.3, 0.62 * len(columns) + 0.075 * max(map(len, rows)) + 1.2
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    limit = float(np.nanmax(np.abs(mean.to_numpy()), initial=0.5))
    norm = Normalize(-limit, limit)
    cells = axes.pcolormesh(mean.to_numpy(), cmap=DIVERGING, norm=norm, edgecolors=_LIGHT, linewidth=0.5)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    for tick, row in zip(axes.get_yticklabels(), mean.index, strict=True):
        tick.set_fontweight("bold" if isinstance(row, tuple) and row[1] == ANY else "normal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (y, x), value in np.ndenumerate(mean.to_numpy()):
        if not np.isnan(value):
            colour = _LIGHT if abs(value) > 0.62 * limit else _DARK
            for text, size, down in ((f"{round(value, 1) + 0.0:+.1f}", 8, 0.4), (str(trials.iat[y, x]), 5.5, 0.78)):
                axes.text(
                    x + 0.5, y + down, text, ha="center", va="center", color=colour, fontsize=size, in_layout=False
                )
    bar = figure.colorbar(cells, ax=axes, label="points over the baseline", shrink=min(1.0, 2.5 / height), aspect=12)
    bar.outline.set_visible(False)
    return figure


def _labels(axis: pd.Index) -> list[str]:
    """A source language stands indented below its task."""
    if axis.nlevels == 1:
        return [str(name) for name in axis]
    return [str(task) if language == ANY else f"in {language}" for task, language in axis]
