"""A part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the report, from which the page, the CSV files and the image files are made."""

    key: str
    """Names the part's files and its place in the page: lower case, words joined by underscores."""
    title: str
    card: Sequence[tuple[str, str]] = ()
    """Names and values that the part opens with."""
    words: tuple[str, ...] = ()
    """Paragraphs of plain text that explain the tables and figures below."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Sentences with their details, plain text that the page shows folded; empty where there are none."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By title, in the page's order. They hold every number that the page shows."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """By title, in the page's order, drawn with `matplotlib.figure.Figure` (no pyplot, no global state)."""
    alts: Mapping[str, str] = field(default_factory=dict)
    """Title of a figure -> its text alternative: what a reader who can't see the figure should know. The title by
    default."""
    folded: frozenset[str] = frozenset()
    """Titles of tables and figures that the page folds; it folds long tables anyway."""
    shaded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Table title -> its columns of deltas, which the page colours by sign and size."""
