"""Gains by intermediate task, source language and target.

A prefix is an encoder with the stages before a target. Trials with the same prefix share its training noise, so they
are averaged first and count once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tunexfer.core.chain import Chain, Stage
from tunexfer.errors import StudyError
from tunexfer.record.gains import reported
from tunexfer.report.figures import DIVERGING, new_figure, styled
from tunexfer.report.section import Section
from tunexfer.report.study import Study

ANY = "any"
"""The source language of a row about a task in all its source languages together."""
NO_STAGE = "no stage"
"""The task of chains without a stage, where the study varies the language that a target is trained in."""
MOST_ROWS = 40
"""A heat map with more rows shows tasks alone; the table has every source language."""
_DARK, _LIGHT = "#111111", "#ffffff"
"""Numbers on pale and on strong colours."""


def transfer(studies: Sequence[Study]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the search's own trials with chains of their own study, target by target and language by language.

    The comparison is with the no-stage chain that has the trial's own target values where the study ran one, else with
    the baseline. Scores are of the test split where the target has one, else of validation.

    returns: gains, one row a prefix, target and language: study, prefix (a number), target, language; gain (points,
        mean over the prefix's trials); level (of the scores: halfway between a trial's and the one it is compared with,
        as half of the gain's noise is in either: Oldham 1962); unseen (in both chains); own (all compared with chains
        of their own target values). Sources, one row a prefix, task and source language: study, prefix, task,
        source_language, share (of the prefix's rows).
    """
    gains: list[pd.DataFrame] = []
    sources: list[tuple[str, int, str, str, float]] = []
    for study in studies:
        scores = _main_scores(study)
        chains = {int(trial): study.chain(int(trial)) for trial in scores["trial"].unique()}
        numbers: dict[Hashable, int] = {}
        rows = []
        for trial, target, stages, key in _prefixes(chains):
            if key not in numbers:
                numbers[key] = len(numbers)
                for (task, language), share in _shares(stages).items():
                    task = task if chains[trial].stages else NO_STAGE
                    sources.append((study.name, numbers[key], task, language, share))
            rows.append((trial, target, numbers[key], bool(chains[trial].stages)))
        prefixes = pd.DataFrame(rows, columns=["trial", "target", "prefix", "staged"])
        kinds: dict[str, Any] = {"trial": "int64", "target": str, "prefix": "int64", "staged": bool}
        table = scores.merge(prefixes.astype(kinds), on=["trial", "target"])
        own = table["staged"] & table["delta_own"].notna()
        # The no-stage chain with the same target values trained them in the same language and nothing else.
        unseen = table["unseen"].where(own, table["unseen_by_both"]).astype(bool)
        gain = table["delta_own"].where(own, table["delta"])
        level = table["value"] - gain / 2
        grouped = table.assign(gain=gain, level=level, unseen=unseen, own=own, study=study.name).groupby(
            ["study", "prefix", "target", "language"], as_index=False, sort=False
        )
        made = grouped.agg(gain=("gain", "mean"), level=("level", "mean"), unseen=("unseen", "all"), own=("own", "all"))
        gains.append(made.astype({"unseen": bool, "own": bool}))
    columns = ["study", "prefix", "task", "source_language", "share"]
    return pd.concat(gains, ignore_index=True), pd.DataFrame(sources, columns=columns)


def _main_scores(study: Study) -> pd.DataFrame:
    scores = study.scores().astype({"target": str, "language": str, "split": str})
    return reported(scores[scores["main"] & (scores["phase"] != "confirm") & scores["delta"].notna()])


def _prefixes(chains: dict[int, Chain]) -> Iterator[tuple[int, str, tuple[Stage, ...], Hashable]]:
    """Yield trial, target, the stages of the prefix, and what identifies it.

    Of chains without a stage the target's own fine-tuning counts as one where its language varies.
    """
    languages = defaultdict(set)
    for chain in chains.values():
        for target in chain.targets if not chain.stages else ():
            languages[target.name].add(target.train_language)
    for trial, chain in chains.items():
        for target in chain.targets:
            if chain.stages:
                yield trial, target.name, chain.stages, (chain.encoder, chain.stages)
            elif target.stage and len(languages[target.name]) > 1:
                yield trial, target.name, (target.stage,), (chain.encoder, chain.line(target.name))


def _shares(stages: Sequence[Stage]) -> dict[tuple[str, str], float]:
    """Map each task and language to its share of the rows that the stages see."""
    rows: Counter[tuple[str, str]] = Counter()
    for stage in stages:
        for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True):
            rows[source.task, source.language] += share * stage.steps * stage.batch_size  # type: ignore[assignment]
    return {source: count / rows.total() for source, count in rows.items()}


def by_target(gains: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    """Average over prefixes, each with its mean over the target's unseen languages.

    returns: one row a task, source language (or `ANY`) and target: delta, sd over prefixes (NaN with one), prefixes,
        and own_baseline, the number of these that are compared with chains of their own target values
    """
    unseen = gains[gains["unseen"]]
    cells = unseen.groupby(["study", "prefix", "target"], as_index=False, sort=False)
    return _averages(cells.agg(gain=("gain", "mean"), own=("own", "all")), sources, ["target"])


def by_language(gains: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    """Average in every language, seen ones too: the columns of `by_target`, with language and unseen."""
    return _averages(gains, sources, ["target", "language", "unseen"])


def _averages(gains: pd.DataFrame, sources: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    tasks = sources[sources["task"] != NO_STAGE].drop_duplicates(["study", "prefix", "task"])
    trained = pd.concat([tasks.assign(source_language=ANY), sources.sort_values("source_language", kind="stable")])
    table = gains.merge(trained.drop(columns="share"), on=["study", "prefix"], suffixes=("", "_trained"))
    # `sort=False` keeps targets and languages in their own order and `ANY` before the source languages.
    order = pd.Categorical(table["source_language"], list(dict.fromkeys(trained["source_language"])))
    table = table.assign(order=order.codes).sort_values(["task", "order"], kind="stable")
    grouped = table.groupby(["task", "source_language", *by], sort=False)
    gain = grouped["gain"]
    columns = {"delta": gain.mean(), "sd": gain.std(), "prefixes": gain.size(), "own_baseline": grouped["own"].sum()}
    return pd.DataFrame(columns).reset_index()


def section(studies: Sequence[Study]) -> Section | None:
    """Make the heat map of tasks and targets with its tables; None where there is nothing to compare."""
    gains, sources = transfer(studies)
    means = by_target(gains, sources)
    if means.empty:
        return None
    figure = "Mean gain by intermediate task and target"
    tables = {
        "Gain by intermediate task": means,
        "Gain by intermediate task in each language": by_language(gains, sources),
    }
    return Section(
        key="transfer",
        title="What helps and what hurts",
        words=tuple(_words(studies, gains, means)),
        tables=tables,
        figures={figure: _draw_targets(means)},
        alts={figure: f"Heat map of the mean gain by intermediate task and target. {_extremes(means)}"},
        folded=frozenset(tables),
        shaded={title: ["delta"] for title in tables},
    )


def _words(studies: Sequence[Study], gains: pd.DataFrame, means: pd.DataFrame) -> Iterator[str]:
    yield (
        "Mean gain in points over the chains that trained on a task, alone or in a mixture, in the languages unseen "
        "both in the chain and in the one it is compared with. Trials with the same prefix (encoder and stages) count "
        "once; under each gain is the number of prefixes." + (" All studies are pooled." if len(studies) > 1 else "")
    )
    own = gains.groupby(["study", "prefix", "target"])["own"].all()
    yield (
        f"{int(own.sum())} of {len(own)} pairs of stages and target are compared with the chain without a stage that "
        "has the same target values (own_baseline in the tables), the others with the baseline; there, the effect of "
        "another learning rate or train language of the target is part of the gain."
    )
    yield f"{int((_whole(means)['delta'] < 0).sum())} of {len(_whole(means))} cells are below 0. {_extremes(means)}"
    if left_out := sorted(set(gains["target"]) - set(means["target"])):
        yield f"Left out, as no language is unseen in both chains: {', '.join(left_out)}."


def _whole(means: pd.DataFrame) -> pd.DataFrame:
    """Select the rows about tasks in all their source languages; of chains without a stage, all rows."""
    return means[(means["source_language"] == ANY) | (means["task"] == NO_STAGE)]


def _extremes(means: pd.DataFrame) -> str:
    rows = _whole(means).sort_values("delta", kind="stable")
    return f"Highest: {_cell(rows.iloc[-1])}. Lowest: {_cell(rows.iloc[0])}."


def _cell(row: Any) -> str:
    before = f"{row['task']} before {row['target']}"
    pair = f"{row['target']} trained in {row['source_language']}" if row["task"] == NO_STAGE else before
    return f"{pair}, {row['delta']:+.1f} points"


def draw_gains(studies: Sequence[Study], target: str | None = None) -> Figure:
    """Draw the heat map of tasks and targets, or of tasks and the languages of one target.

    raises: StudyError, if there is no gain to draw or no such target
    """
    gains, sources = transfer(studies)
    means = by_target(gains, sources)
    if means.empty:
        raise StudyError(
            "There is nothing to draw yet: it takes a complete baseline and a complete trial with an intermediate "
            "stage or another train language."
        )
    if target is None:
        return _draw_targets(means)
    if target not in (names := means["target"].unique()):
        raise StudyError(f"There is no target {target!r}. Targets: {', '.join(names)}.")
    languages = _averages(gains[gains["target"] == target], sources, ["language"])  # seen by some chains or not
    return heat_map(_whole(languages), ["language"], ["task", "source_language"])


def _draw_targets(means: pd.DataFrame) -> Figure:
    sources = means[["task", "source_language"]].drop_duplicates()
    split = sources.loc[sources["source_language"] != ANY, "source_language"].nunique() > 1
    shown = means if split and len(sources) <= MOST_ROWS else _whole(means)
    return heat_map(shown, ["task", "source_language"], ["target"])


@styled
def heat_map(means: pd.DataFrame, rows: list[str], columns: list[str]) -> Figure:
    """Draw each row of a tidy table as a cell: its delta in points and below it the number of prefixes.

    rows, columns: names of the columns that give the cell its place
    """
    wide = means.set_index([*rows, *columns])[["delta", "prefixes"]].unstack(columns, sort=False)
    mean, counts = wide["delta"], wide["prefixes"].to_numpy()
    down, across = _labels(mean.index), _labels(mean.columns)
    height, width = 0.36 * len(down) + 1.3, 0.62 * len(across) + 0.075 * max(map(len, down)) + 1.2
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    limit = float(np.nanmax(np.abs(mean.to_numpy()), initial=0.5))
    look: dict[str, Any] = {"cmap": DIVERGING, "norm": Normalize(-limit, limit), "edgecolors": _LIGHT, "linewidth": 0.5}
    cells = axes.pcolormesh(mean.to_numpy(), **look)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(across)) + 0.5, across, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(down)) + 0.5, down)
    for tick, name in zip(axes.get_yticklabels(), mean.index, strict=True):
        tick.set_fontweight("bold" if isinstance(name, tuple) and name[1] == ANY else "normal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (y, x), value in np.ndenumerate(mean.to_numpy()):
        if np.isnan(value):
            continue
        text: dict[str, Any] = {"ha": "center", "va": "center", "color": _LIGHT if abs(value) > 0.62 * limit else _DARK}
        axes.text(x + 0.5, y + 0.4, f"{round(value, 1) + 0.0:+.1f}", fontsize=8, in_layout=False, **text)
        axes.text(x + 0.5, y + 0.78, f"{counts[y, x]:.0f}", fontsize=5.5, in_layout=False, **text)
    bar = figure.colorbar(cells, ax=axes, label="points over the baseline", shrink=min(1.0, 2.5 / height), aspect=12)
    bar.outline.set_visible(False)
    return figure


def _labels(axis: pd.Index) -> list[str]:
    """Label tasks by their names, and source languages indented below them."""
    if axis.nlevels == 1:
        return [str(name) for name in axis]
    return [
        str(task) if language == ANY else f"{NO_STAGE}, in {language}" if task == NO_STAGE else f"in {language}"
        for task, language in axis
    ]
