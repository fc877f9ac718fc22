"""Style figures of the report, and turn them into SVG and PNG."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9",
)  # fmt: skip
"""Safe for colour-blind readers (Okabe and Ito 2008); without yellow, which is lost on white, and black, on black."""
INK = "#6e7781"
"""Text and axes: readable on white and on near-black; the page replaces it by its own text colour."""
DIVERGING = "RdBu"
"""Colour map of deltas: losses red, gains blue, white at 0."""

WIDTH = 7.2
"""Width of the page, in inches."""
MANY_POINTS = 200
"""More points are drawn as an image rather than as shapes, to keep the page small."""
DPI = 150

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.prop_cycle": cycler(color=PALETTE),
    "lines.linewidth": 1.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.dpi": DPI,
    "svg.fonttype": "none",
    "svg.hashsalt": "tunexfer",
}

styled = matplotlib.rc_context(STYLE)
"""Decorator of functions that draw, as matplotlib reads most of the style when it creates the parts of a figure."""


def new_figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """Create an empty figure, in inches, that makes room for its labels."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def scatter(axes: Axes, x: ArrayLike, y: ArrayLike, **look: Any) -> PathCollection:
    """Draw points, as one image where there are many."""
    points = axes.scatter(x, y, **{"linewidths": 0, "zorder": 2, **look})
    points.set_rasterized(len(points.get_offsets()) > MANY_POINTS)  # type: ignore[arg-type]
    return points


@matplotlib.rc_context(STYLE)
def svg(figure: Figure) -> str:
    """Convert to an SVG element, the same for the same figure; text stays text."""
    file, dpi = io.StringIO(), figure.dpi
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(file, metadata=nothing)  # not `savefig`, which draws everything twice
    figure.dpi = dpi
    return file.getvalue()[file.getvalue().index("<svg") :]


def inline(text: str, key: str) -> str:
    """Prepare an SVG element for a page: text in the page's font and colour, as wide as there is room.

    key: unique in the page; prefixes the ids, which a page shares among its figures
    """
    text = re.sub(r'(?<=\bid=")|(?<=href="#)|(?<=url\(#)', f"{key}-", text)
    text = re.sub(r"font-family: [^;\"]+; ?", "", text)
    return re.sub(r' (width|height)="[^"]*pt"', "", text.replace(INK, "currentColor"))


@matplotlib.rc_context(STYLE)
def png(figure: Figure) -> bytes:
    """Convert to PNG, on white."""
    file, face = io.BytesIO(), figure.get_facecolor()
    figure.set_facecolor("white")
    FigureCanvasAgg(figure).print_png(file)
    figure.set_facecolor(face)
    return file.getvalue()
