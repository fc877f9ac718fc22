"""The mixture simplex: which share of a stage each task had, against the objective."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tunexfer.report.explored import Explored
from tunexfer.report.panels import draw_panels
from tunexfer.report.strips import reached, shortened
from tunexfer.report.style import INK, SEQUENTIAL, new_figure, scatter, styled

MOST_COUNTS = 24
"""Mixtures in the triangle that have their number of trials written beside them."""


def shares(explored: Explored, stage: str) -> pd.DataFrame:
    """Share of each task in the stage of that name, over its languages: a row a trial that has it, a column a task.

    Rows sum to 1. An empty table where no trial mixed tasks, as there is no share to choose then.
    """
    rows = {}
    for number, chain in explored.chains.items():
        for mixture in (one.mixture for one in chain.stages if one.name == stage):
            row: dict[str, float] = {}
            for source, share in zip(mixture.sources, mixture.shares, strict=True):
                row[source.task] = row.get(source.task, 0.0) + share
            rows[number] = row
    found = pd.DataFrame.from_dict(rows, orient="index").fillna(0.0)
    found.index.name = "trial"
    return found if ((found > 0).sum(axis="columns") > 1).any() else found.iloc[:0, :0]


def by_mixture(found: pd.DataFrame, objective: pd.Series[float]) -> pd.DataFrame:
    """One row a mixture, best mean first: its share of each task, trials, mean, sd, best."""
    tasks = list(found.columns)
    grouped = found.round(4).assign(objective=objective.loc[found.index]).groupby(tasks, sort=False)["objective"]
    return reached(grouped).sort_values("mean", ascending=False).reset_index()


def draw_mixtures(found: pd.DataFrame, explored: Explored) -> Figure:
    """Two tasks on a line, three in a triangle, and of more each task's share by itself."""
    objective = explored.objective.loc[found.index]
    if len(found.columns) == 3:
        return _triangle(by_mixture(found, objective))
    tasks = list(found.columns)[: 1 if len(found.columns) == 2 else None]
    return draw_panels(
        {task: found[task] for task in tasks},
        objective,
        x_label=f"share, the rest is {found.columns[1]} (dashed: the baseline)"
        if len(tasks) == 1
        else "share of the task (dashed: the baseline)",
        y_label="objective (validation)",
        reference=explored.baseline,
    )


@styled
def _triangle(mixtures: pd.DataFrame) -> Figure:
    """Each corner is one task alone; the nearer a mixture lies to it, the larger that task's share."""
    tasks = list(mixtures.columns[:3])
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    figure = new_figure(5.2, 4.0)
    axes = figure.subplots()
    _frame(axes, corners)
    places = mixtures[tasks].to_numpy() @ corners
    worst_first = mixtures["mean"].to_numpy().argsort()
    sizes = 25 + 100 * np.sqrt(mixtures["trials"] / mixtures["trials"].max())
    points = scatter(
        axes, *places[worst_first].T, c=mixtures["mean"].iloc[worst_first], s=sizes.iloc[worst_first],
        cmap=SEQUENTIAL, edgecolors=INK, linewidths=0.5,
    )  # fmt: skip
    if len(mixtures) <= MOST_COUNTS:
        axes.set_title("beside each mixture: its trials")
        for place, trials in zip(places, mixtures["trials"], strict=True):
            axes.annotate(str(trials), place, xytext=(8, 3), textcoords="offset points", fontsize=7)
    for corner, task, down in zip(corners, tasks, (-16, -16, 16), strict=True):
        axes.annotate(
            shortened(f"all {task}", 28), corner, xytext=(0, down), textcoords="offset points", ha="center", va="center"
        )
    bar = figure.colorbar(points, ax=axes, shrink=0.7, label="mean objective (validation)")
    bar.outline.set_visible(False)
    return figure


def _frame(axes: Axes, corners: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """The triangle with a grid line at every quarter."""
    for quarters in range(4):
        share = quarters / 4
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            ends = [share * corners[a] + (1 - share) * corners[other] for other in (b, c)]
            axes.plot(*np.transpose(ends), color=INK, linewidth=0.8 if share == 0 else 0.3, zorder=1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.margins(0.12)
