"""Panels side by side: what trials reached against a number, with a line of means."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tunexfer.report.strips import faint, reached, shortened
from tunexfer.report.style import BLUE, INK, ORANGE, WIDTH, new_figure, scatter, styled

MOST_PANELS = 12
MOST_VALUES = 8
"""Distinct numbers that have a mean each; of more, neighbours share one, in as many bins of equally many trials."""
MOST_TICKS = 4
ACROSS = 3


def means(numbers: pd.Series[float], values: pd.Series[float]) -> pd.DataFrame:
    """One row a number, or a bin of neighbours where there are many, ascending.

    low, high (the same where it is one number), trials, mean, sd (NaN with one trial), best
    """
    few = numbers.nunique() <= MOST_VALUES
    group = numbers.rank(method="dense") if few else pd.qcut(numbers, MOST_VALUES, labels=False, duplicates="drop")
    ends = numbers.groupby(group).agg(low="min", high="max")
    return pd.concat([ends, reached(values.groupby(group))], axis="columns").reset_index(drop=True)


@styled
def draw_panels(
    panels: Mapping[str, pd.Series[float]],
    values: pd.Series[float],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    reference: float | None = None,
) -> Figure:
    """A point a trial, and means with their standard errors on a line; as many panels as fit.

    panels: title -> the number of each trial that has one
    values: of every trial
    reference: place of a line across all panels
    """
    shown = list(panels.items())[:MOST_PANELS]
    across = min(ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    figure = new_figure(WIDTH * (1 + across) / (1 + ACROSS), 0.5 + 1.9 * down)
    grid = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for axes, (title, numbers) in zip(grid, shown, strict=False):
        _panel(axes, numbers, values.loc[numbers.index], log=log)
        axes.set_title(shortened(title, 28))
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=0.8, linestyle="--", zorder=1)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    return figure


def _panel(axes: Axes, numbers: pd.Series[float], values: pd.Series[float], *, log: bool) -> None:
    found = means(numbers, values)
    centre = np.sqrt(found["low"] * found["high"]) if log else (found["low"] + found["high"]) / 2
    error = found["sd"].fillna(0) / np.sqrt(found["trials"])
    scatter(axes, numbers, values, s=9, color=BLUE, alpha=faint(len(numbers)))
    axes.errorbar(centre, found["mean"], yerr=error, fmt="D-", markersize=4.5, color=ORANGE, zorder=3)
    if log:
        axes.set_xscale("log")
        axes.margins(x=0.15)
        if numbers.nunique() <= MOST_TICKS:
            axes.set_xticks(numbers.unique(), [f"{number:g}" for number in numbers.unique()])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(axis="x", which="minor", length=0)
