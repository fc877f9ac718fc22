"""How every figure of the report looks: colours, sizes, and how it becomes SVG and PNG."""

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
"""Safe for the colour-blind (Okabe and Ito 2008), without its yellow and black: one is lost on white, one on black."""
INK = "#6e7781"
"""Text and axes: readable on white and on near-black; in the page its own text colour takes the place."""
DIVERGING = "RdBu"
"""Colour map of deltas, white at 0: losses red, gains blue."""
SEQUENTIAL = "viridis"

WIDTH = 7.2
"""Inches of a figure that takes the page's whole width."""
MANY_POINTS = 200
"""Of more points a figure keeps an image, not a shape each: a page has to stay small."""
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
"""Decorates a function that draws: matplotlib reads most of the style as it makes each part of a figure."""


def new_figure(width: float = WIDTH, height: float = 3.0) -> Figure:
    """An empty figure of that many inches that makes room for its labels by itself."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def scatter(axes: Axes, x: ArrayLike, y: ArrayLike, **look: Any) -> PathCollection:
    """Points; as one image where there are many."""
    points = axes.scatter(x, y, **{"linewidths": 0, "zorder": 2, **look})
    points.set_rasterized(len(points.get_offsets()) > MANY_POINTS)  # type: ignore[arg-type]
    return points


@matplotlib.rc_context(STYLE)
def svg(figure: Figure) -> str:
    """The figure as an SVG element: the same text for the same figure; text stays text."""
    file, dpi = io.StringIO(), figure.dpi
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(file, metadata=nothing)  # not `savefig`, which draws everything twice
    figure.dpi = dpi
    return file.getvalue()[file.getvalue().index("<svg") :]


def inline(text: str, key: str) -> str:
    """What `svg` gave, to be put into a page: text in the page's own font and colour, as wide as there is room.

    key: unlike that of any other figure in the page, as ids are the whole page's
    """
    text = re.sub(r'(?<=\bid=")|(?<=href="#)|(?<=url\(#)', f"{key}-", text)
    text = re.sub(r"font-family: [^;\"]+; ?", "", text)
    return re.sub(r' (width|height)="[^"]*pt"', "", text.replace(INK, "currentColor"))


@matplotlib.rc_context(STYLE)
def png(figure: Figure) -> bytes:
    """The figure on white, as PNG."""
    file, face = io.BytesIO(), figure.get_facecolor()
    figure.set_facecolor("white")
    FigureCanvasAgg(figure).print_png(file)
    figure.set_facecolor(face)
    return file.getvalue()
