"""What mattered: which choices decide, what each option reached, learning rates, mixtures, source languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from tunexfer.core.chain import Stage
from tunexfer.report.explored import Explored
from tunexfer.report.mixtures import by_mixture, draw_mixtures, shares
from tunexfer.report.panels import MOST_VALUES, draw_panels, means
from tunexfer.report.ped_anova import BEST_LEAST, BEST_SHARE, CHANCE, LEAST_TRIALS, importances
from tunexfer.report.section import Section
from tunexfer.report.strips import draw_strips, shortened, summary
from tunexfer.report.study import Study
from tunexfer.report.style import BLUE, ORANGE, WIDTH, new_figure, styled

MOST_BARS = 20
OBJECTIVE = "objective (validation)"


def section(studies: Sequence[Study]) -> Section | None:
    """What mattered in each study by itself; None where no search has two complete trials to compare."""
    explored = [one for one in map(Explored, studies) if len(one.points) > 1]
    if not explored:
        return None
    words = [
        f"Everything here is measured by the objective, {_objectives(explored)}. Other choices vary along with "
        "the one that is shown, and a searcher goes back to what looks promising: read differences as hints."
    ]
    tables: dict[str, list[pd.DataFrame]] = {}
    figures: dict[str, Figure] = {}
    for one in explored:
        name = f" ({one.study.name})" if len(explored) > 1 else ""
        ranked = importances(one)
        common = [name for name in one.points.columns if one.points[name].notna().mean() >= 0.5]
        order = sorted(ranked["coordinate"].tolist() or one.points.columns, key=lambda name: name not in common)
        for said, found, drawn in (
            _importances(ranked, len(one.points)), _options(one, order), _rates(one), _mixtures(one), _languages(one),
        ):  # fmt: skip
            words += [f"{one.study.name}: {sentence}" if name else sentence for sentence in said]
            for title, table in found.items():
                tables.setdefault(title, []).append(_of(one.study, table) if name else table)
            figures |= {f"{title}{name}": figure for title, figure in drawn.items()}
    return Section(
        key="what_mattered",
        title="What mattered",
        words=tuple(words),
        tables={title: pd.concat(parts, ignore_index=True) for title, parts in tables.items()},
        figures=figures,
    )


Part = tuple[list[str], dict[str, pd.DataFrame], dict[str, Figure]]
"""Sentences, tables by title, figures by title."""


def _of(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.Series(study.name, index=table.index, name="study"), table], axis="columns")


def _objectives(explored: Sequence[Explored]) -> str:
    """In words: the one that all studies have, or each one's own."""
    own = {one.study.name: _objective(one.study) for one in explored}
    if len(set(own.values())) == 1:
        return next(iter(own.values()))
    return "which differs: " + "; ".join(f"{name}, {words}" for name, words in own.items())


def _objective(study: Study) -> str:
    found = study.objective
    if not found:
        return "which reads validation scores alone"
    languages = found["languages"] if isinstance(found["languages"], str) else " ".join(found["languages"])
    what = "worst language" if found["maximize"] == "worst_language" else "mean"
    return f"the mean over targets of each one's {what} in validation scores (languages: {languages})"


def _importances(table: pd.DataFrame, count: int) -> Part:
    """Which choices decide whether a trial is among the best."""
    title = "Importance of each choice"
    if table.empty:
        return [f"{count} trials are too few to tell which choice matters most; it takes {LEAST_TRIALS}."], {}, {}
    estimated = table[table["importance"].notna()]
    said = [_decides(estimated, count)]
    rare = table[table["trials"] < LEAST_TRIALS]
    if few := [f"{name} ({trials})" for name, trials in zip(rare["coordinate"], rare["trials"], strict=True)]:
        said.append(
            f"How much these matter can't be told, as fewer than {LEAST_TRIALS} trials have them: {', '.join(few)}."
        )
    if single := table.loc[(table["options"] == 1) & (table["trials"] >= LEAST_TRIALS), "coordinate"].tolist():
        said.append(f"Drawn with one value only, so nothing is known of the others: {', '.join(single)}.")
    return said, {title: table}, {title: _bars(estimated)} if len(estimated) else {}


def _decides(estimated: pd.DataFrame, count: int) -> str:
    how = (
        f"Importance says how much a choice decides whether a trial is among the best {BEST_SHARE:.0%}, at least "
        f"{BEST_LEAST} (PED-ANOVA over {count} trials); "
        "chance is what the same values, shuffled among their trials, reach once in twenty times, each choice by "
        f"itself: of {len(estimated)} choices without an effect {len(estimated) * CHANCE:.1f} would be above it."
    )
    above = estimated[estimated["matters"]]
    if above.empty:
        return f"{how} In so many trials no choice can be told from chance this way."
    rows = zip(above["coordinate"], above["importance"], above["trials"], strict=True)
    shown = ", ".join(f"{name} ({importance:.0%}, in {trials} trials)" for name, importance, trials in rows)
    return f"{how} Above chance: {shown}."


@styled
def _bars(estimated: pd.DataFrame) -> Figure:
    shown = estimated.head(MOST_BARS)
    figure = new_figure(WIDTH, 0.8 + 0.24 * len(shown))
    axes = figure.subplots()
    places = [-float(place) for place in range(len(shown))]
    axes.barh(places, shown["importance"], height=0.6, color=BLUE)
    axes.scatter(shown["by_chance"], places, marker="|", s=120, linewidths=2, color=ORANGE, zorder=3, label="chance")
    left = f" ({MOST_BARS} choices of {len(estimated)})" if len(estimated) > MOST_BARS else ""
    axes.set(xlabel=f"importance, share of all{left}", xlim=(0, None), yticks=places)
    axes.set_yticklabels([shortened(name, 48) for name in shown["coordinate"]])
    axes.tick_params(axis="y", length=0)
    for place, trials in zip(places, shown["trials"], strict=True):
        axes.text(1.01, place, str(trials), transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.text(1.01, 0.6, "trials", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return figure


def _options(explored: Explored, order: Sequence[str]) -> Part:
    """What trials with each option reached; `order` of the coordinates."""
    groups = {name: _texts(explored.points[name].dropna()) for name in order}
    groups = {name: texts for name, texts in groups.items() if texts.nunique() > 1}
    title = "Objective by option"
    if not groups:
        return [], {}, {}
    table = _summaries(groups, explored.objective, "coordinate")
    if explored.baseline is not None:
        table["delta"] = table["mean"] - explored.baseline
    return [], {title: table}, {title: _strips(groups, explored.objective, OBJECTIVE, explored.baseline)}


def _texts(drawn: pd.Series[Any]) -> pd.Series[str]:
    """Options are text; numbers are binned."""
    if not pd.api.types.is_numeric_dtype(drawn):
        return drawn.astype(str)
    if drawn.nunique() <= MOST_VALUES:
        return drawn.map("{:g}".format)
    bins = pd.qcut(drawn, MOST_VALUES // 2, duplicates="drop")
    return bins.map(lambda ends: f"{ends.left:.3g} to {ends.right:.3g}").astype(str)


def _summaries(groups: Mapping[str, pd.Series[str]], values: pd.Series[float], heading: str) -> pd.DataFrame:
    found = [summary(values.loc[texts.index], texts).assign(**{heading: name}) for name, texts in groups.items()]
    table = pd.concat(found, ignore_index=True)
    return table[[heading, *(name for name in table.columns if name != heading)]]


def _strips(
    groups: Mapping[str, pd.Series[str]], values: pd.Series[float], label: str, baseline: float | None
) -> Figure:
    parted = {
        name: {
            option: values.loc[texts.index[texts == option]]
            for option in summary(values.loc[texts.index], texts)["option"]
        }
        for name, texts in groups.items()
    }
    return draw_strips(parted, label, None if baseline is None else ("baseline", baseline))


def _rates(explored: Explored) -> Part:
    """The objective against each learning rate that varies."""
    rates = _varying(explored, lambda stage: stage.learning_rate)
    title = "Objective by learning rate"
    if not rates:
        return [], {}, {}
    rows = [means(rate, explored.objective.loc[rate.index]).assign(stage=name) for name, rate in rates.items()]
    table = pd.concat(rows, ignore_index=True).rename(columns={"low": "learning_rate", "high": "to"})
    figure = draw_panels(
        rates,
        explored.objective,
        x_label="learning rate (dashed: the baseline)",
        y_label=OBJECTIVE,
        log=True,
        reference=explored.baseline,
    )
    return [], {title: table[["stage", *table.columns.drop("stage")]]}, {title: figure}


def _varying(explored: Explored, of: Callable[[Stage], Any]) -> dict[str, pd.Series[Any]]:
    """Name of each stage, then of each target -> what `of` gives in the trials that have it, where that varies."""
    found: dict[str, dict[int, Any]] = {}
    for number, chain in explored.chains.items():
        for stage in chain.stages:
            found.setdefault(stage.name, {})[number] = of(stage)
    for number, chain in explored.chains.items():
        for target in chain.targets:
            if target.stage:
                found.setdefault(target.name, {})[number] = of(target.stage)
    return {name: pd.Series(values) for name, values in found.items() if len(set(values.values())) > 1}


def _source_languages(stage: Stage) -> str:
    return "+".join(dict.fromkeys(source.language for source in stage.mixture.sources))


def _mixtures(explored: Explored) -> Part:
    """What each mixture of tasks reached."""
    names = dict.fromkeys(stage.name for chain in explored.chains.values() for stage in chain.stages)
    tables, figures = {}, {}
    for name in names:
        found = shares(explored, name)
        if found.empty:
            continue
        title = f"Mixture of {name}"
        tables[title] = by_mixture(found, explored.objective)
        figures[title] = draw_mixtures(found, explored)
    return [], tables, figures


def _languages(explored: Explored) -> Part:
    """The delta by what languages a stage or a target was trained in, where that varies."""
    title, baseline = "Delta by source language", explored.baseline
    groups = _varying(explored, _source_languages)
    if not groups:
        return [], {}, {}
    if baseline is None:
        return ["There is no delta by source language, as the baseline is missing."], {}, {}
    delta = explored.objective - baseline
    label = "objective (validation) minus the baseline's, points"
    return [], {title: _summaries(groups, delta, "stage")}, {title: _strips(groups, delta, label, 0.0)}
