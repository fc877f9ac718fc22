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
    """What each trial with an intermediate stage trained on, and how far it is ahead of the baseline of its seed."""

    trained: pd.DataFrame
    """Shape (T, R), whether; columns (task, source language), `ANY` first."""
    languages: pd.DataFrame
    """Shape (T, V), points; columns (target, language)."""
    targets: pd.DataFrame
    """Shape (T, V), points: a column per target, the mean over unseen languages; over all where none is unseen."""


def transfer(studies: Sequence[Study]) -> Transfer:
    """Of the search's own trials, each beside its own study's baseline; confirmations run the same chains again."""
    deltas: list[pd.DataFrame] = []
    chains: dict[tuple[int, int], Chain] = {}
    for place, study in enumerate(studies):
        scores = main_scores(study)
        scores = scores[(scores["phase"] != "confirm") & scores["delta"].notna()]
        own = {number: study.chain(number) for number in scores["trial"].unique().tolist()}
        staged = {number: chain for number, chain in own.items() if chain.stages}
        chains |= {(place, number): chain for number, chain in staged.items()}
        deltas.append(scores[scores["trial"].isin(list(staged))].assign(place=place))
    if not chains:
        return Transfer(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    index = pd.MultiIndex.from_tuples(list(chains), names=["place", "trial"])
    return Transfer(_trained(chains.values(), index), *_deltas(pd.concat(deltas), index))


def _deltas(scores: pd.DataFrame, index: pd.MultiIndex) -> tuple[pd.DataFrame, pd.DataFrame]:
    keys = ["place", "trial", "task", "language"]
    plain = scores.astype({"task": str, "language": str})
    languages = plain.set_index(keys)["delta"].unstack(["task", "language"]).reindex(index)
    every, unseen = (
        one.groupby(keys[:3])["delta"].mean().unstack("task").reindex(index) for one in (plain, plain[plain["unseen"]])
    )
    order = list(dict.fromkeys(plain["task"]))
    targets = unseen.reindex(columns=order).fillna(every.reindex(columns=order))
    return languages, targets


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
    """The heat map of tasks and targets, and per target its languages."""
    found = transfer(studies)
    if found.trained.empty:
        return None
    whole = average(found.trained, found.targets)
    per_language = average(_tasks(found.trained), found.languages)
    tables = {"Gain by intermediate task": _long(whole), "Gain by mixture": _by_mixture(found)}
    shaded = {"Gain by intermediate task": ["delta"], "Gain by mixture": list(found.targets.columns)}
    for target in found.targets.columns:
        title = f"{target}: gain by intermediate task in each language"
        tables[title] = _language_table(per_language, target)
        shaded[title] = [str(column) for column in tables[title].columns[1:]]
    return Section(
        key="gains",
        title="What helps and what hurts",
        words=tuple(_words(studies, whole)),
        tables=tables,
        figures={"Mean gain by intermediate task and target": _draw_targets(found)},
        folded=frozenset(tables),
        shaded=shaded,
    )


def _tasks(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that are of a task in whatever languages."""
    return table.loc[:, table.columns.get_level_values(1) == ANY]


def _long(averages: Averages) -> pd.DataFrame:
    """One row per task, source language and target."""
    parts = {"delta": averages.mean, "sd": averages.sd, "trials": averages.trials}
    made = pd.DataFrame(
        {name: table.rename_axis(columns="target").stack(future_stack=True) for name, table in parts.items()}
    )
    return made[made["trials"] > 0].reset_index()


def _language_table(averages: Averages, target: str) -> pd.DataFrame:
    """One row per language of the target, one column per task; the heading says over how many trials."""
    mean, trials = pd.DataFrame(averages.mean[target]), pd.DataFrame(averages.trials[target])
    made = mean.T.rename_axis(index="language")
    made.columns = pd.Index([f"{task} ({_span(trials.loc[task, ANY])})" for task, _ in mean.index])
    return made.reset_index()


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low} trials" if low == high else f"{low} to {high} trials"


def _by_mixture(found: Transfer) -> pd.DataFrame:
    """One row per set of sources that some trial trained on, whatever their shares and learning rates."""
    sources = found.trained.loc[:, found.trained.columns.get_level_values(1) != ANY]
    names = ["/".join(pair) for pair in sources.columns.to_flat_index()]
    keys = pd.Series([" + ".join(compress(names, row)) for row in sources.to_numpy()], sources.index, name="sources")
    grouped = found.targets.groupby(keys)
    made = grouped.mean()
    made.insert(0, "trials", grouped.size())
    return made.sort_values("trials", ascending=False, kind="stable").reset_index()


def _words(studies: Sequence[Study], whole: Averages) -> Iterator[str]:
    mean = whole.mean[whole.mean.index.get_level_values(1) == ANY]
    cells = pd.Series(mean.stack(future_stack=True)).dropna()
    down = int((cells < 0).sum())
    yield (
        "Mean difference to the baseline, in points, over the trials whose stages trained on a task, alone or mixed "
        "with others; in unseen languages of the test split where there are any. Under each number: how many trials."
        + (" Trials of all studies together, each beside its own baseline." if len(studies) > 1 else "")
    )
    if down:
        place: Any = cells.idxmin()
        (task, _, target), worst = place, float(cells.min())
        yield (
            f"{down} of {len(cells)} pairs of intermediate task and target are below the baseline on average; the "
            f"lowest is {task} before {target}, {worst:+.1f} points."
        )
    else:
        yield f"None of the {len(cells)} pairs of intermediate task and target is below the baseline on average."


def draw_gains(studies: Sequence[Study], target: str | None = None) -> Figure:
    """The heat map of intermediate tasks and targets; of tasks and languages for one target.

    raises: StudyError, if no trial with an intermediate stage has a baseline, or there is no such target
    """
    found = transfer(studies)
    if found.trained.empty:
        raise StudyError("There is no complete trial with an intermediate stage and a baseline yet: nothing to draw.")
    if target is None:
        return _draw_targets(found)
    if target not in found.targets.columns:
        raise StudyError(f"There is no target {target!r}. Targets: {', '.join(map(str, found.targets.columns))}.")
    made = average(_tasks(found.trained), pd.DataFrame(found.languages[target]))
    return heat_map(made.mean.T, made.trials.T)


def _draw_targets(found: Transfer) -> Figure:
    made = average(found.trained if _worth_splitting(found.trained) else _tasks(found.trained), found.targets)
    return heat_map(made.mean, made.trials)


def _worth_splitting(trained: pd.DataFrame) -> bool:
    languages = set(trained.columns.get_level_values(1)) - {ANY}
    return len(languages) > 1 and len(trained.columns) <= MOST_ROWS


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
