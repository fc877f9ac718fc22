"""What a part of the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the report; the page, the CSV files and the image files are all made from it."""

    key: str
    """Names the part's files and its place in the page: lower case, words joined by underscores."""
    title: str
    words: tuple[str, ...] = ()
    """Paragraphs of plain text: what the tables and figures below say."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By title, in the page's order. Every number that the page shows is in one of them."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """By title, in the page's order, drawn with `matplotlib.figure.Figure` (no pyplot, no global state)."""
    alts: Mapping[str, str] = field(default_factory=dict)
    """Title of a figure -> its text alternative: what a reader who can't see the figure should know. The title by
    default."""
    folded: frozenset[str] = frozenset()
    """Titles of tables and figures that the page shows at a click only; long tables are anyway."""
    shaded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Title of a table -> its columns of deltas, which the page colours by their sign and size."""
