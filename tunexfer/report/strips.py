"""Strips: every trial of an option a point, their mean and its standard error beside them, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.typing import SeriesGroupBy

from tunexfer.report.style import BLUE, INK, ORANGE, WIDTH, new_figure, scatter, styled

MOST_OPTIONS = 10
"""Strips of one group; of more, those with the best means are drawn, and the table has all."""
MOST_STRIPS = 40
"""Strips of one figure; groups that don't fit any more are left to the table."""
MOST_LETTERS = 34
ROW_INCHES = 0.21


def summary(values: pd.Series[float], by: pd.Series[str]) -> pd.DataFrame:
    """One row an option, best mean first: option, trials, mean, sd (NaN with one trial), best."""
    found = reached(values.groupby(by, sort=False))
    return found.sort_values("mean", ascending=False).rename_axis("option").reset_index()


def reached(groups: SeriesGroupBy[float, Any]) -> pd.DataFrame:
    """One row a group: trials, mean, sd (NaN with one trial), best."""
    return pd.DataFrame({"trials": groups.count(), "mean": groups.mean(), "sd": groups.std(), "best": groups.max()})


def shortened(text: str, letters: int = MOST_LETTERS) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


@styled
def draw_strips(
    groups: Mapping[str, Mapping[str, pd.Series[float]]], label: str, reference: tuple[str, float] | None
) -> Figure:
    """A heading per group and a strip per option under it, as many as fit.

    groups: heading -> option -> its trials' values, best mean first
    reference: name and place of a line across all strips
    """
    rows = _rows(groups)
    figure = new_figure(WIDTH, 0.7 + ROW_INCHES * len(rows))
    axes = figure.subplots()
    shown = [values for _, values in rows if values is not None]
    jitter = np.random.default_rng(0)
    x = np.concatenate([values.to_numpy() for values in shown])
    heights = [
        np.full(len(values), -place, dtype=float) for place, (_, values) in enumerate(rows) if values is not None
    ]
    y = np.concatenate(heights)
    scatter(axes, x, y + jitter.uniform(-0.25, 0.25, len(y)), s=9, color=BLUE, alpha=faint(len(x)))
    for values, height in zip(shown, heights, strict=True):
        error = values.std() / math.sqrt(len(values)) if len(values) > 1 else 0.0
        axes.errorbar(
            values.mean(), height[0], xerr=error, fmt="D", markersize=4.5, color=ORANGE, elinewidth=2, zorder=3
        )
    if reference:
        axes.axvline(reference[1], color=INK, linewidth=0.8, linestyle="--", zorder=1)
        low, high = axes.get_xlim()
        left = reference[1] > (low + high) / 2
        axes.text(
            reference[1], 1.0, f"{reference[0]} " if left else f" {reference[0]}", ha="right" if left else "left",
            va="bottom", fontsize=8, transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    for place, (text, drawn) in enumerate(rows):
        where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
        if drawn is None:
            axes.text(-0.01, -place, shortened(text, 44), ha="right", weight="bold", **where)
        else:
            axes.text(-0.01, -place, shortened(text), ha="right", **where)
            axes.text(1.01, -place, str(len(drawn)), ha="left", **where)
    axes.text(1.01, 0.55, "trials", ha="left", va="bottom", fontsize=8, transform=axes.get_yaxis_transform())
    axes.set(yticks=[], ylim=(-len(rows) + 0.4, 0.6), xlabel=label)
    axes.spines["left"].set_visible(False)
    return figure


def _rows(groups: Mapping[str, Mapping[str, pd.Series[float]]]) -> list[tuple[str, pd.Series[float] | None]]:
    """What is drawn, line by line; a heading has no values."""
    rows: list[tuple[str, pd.Series[float] | None]] = []
    for heading, options in groups.items():
        some = list(options.items())[:MOST_OPTIONS]
        if rows and len(rows) + 1 + len(some) > MOST_STRIPS:
            break
        left = f" ({MOST_OPTIONS} best of {len(options)})" if len(options) > MOST_OPTIONS else ""
        rows += [(heading + left, None), *some]
    return rows


def faint(points: int) -> float:
    return float(np.clip(30 / max(points, 1) ** 0.5, 0.15, 0.7))
