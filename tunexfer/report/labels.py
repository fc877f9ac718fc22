"""Short labels beside points of a scatter, none over another or over a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from tunexfer.report.style import DPI

SIZE = 6.5
"""Points, of the text."""
_WIDTH, _HEIGHT = 0.72, 1.05
"""Of a letter's box, as shares of the size: wide enough for other sans-serif fonts too."""
_MARK = 3.0
"""Points from a mark's middle to its edge."""
_SIDES = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)]

Array = NDArray[np.float64]


def label_points(axes: Axes, x: ArrayLike, y: ArrayLike, texts: Sequence[str]) -> list[str]:
    """Put each text on that side of its point where there is room.

    Call it last: the figure must not be laid out anew. A point with no room around it stays without its text; points
    that stand alone come first.

    returns: the texts that were left out
    """
    marks = axes.transData.transform(np.column_stack([np.asarray(x, float), np.asarray(y, float)])) * 72 / DPI
    frame = axes.get_window_extent().get_points() * 72 / DPI
    gaps = np.hypot(*(marks[:, None] - marks[None]).transpose(2, 0, 1)) + np.where(np.eye(len(marks)), np.inf, 0.0)
    taken: list[Array] = []
    left_out = []
    for at in np.argsort(-gaps.min(axis=1, initial=np.inf), kind="stable"):
        text = texts[at]
        size = np.array([_WIDTH * SIZE * len(text), _HEIGHT * SIZE])
        for side in np.array(_SIDES, float):
            middle = marks[at] + side * (_MARK + size / 2)
            box = np.array([middle - size / 2, middle + size / 2])
            if _inside(box, frame) and not any(_meet(box, other) for other in taken) and not _covers(box, marks, at):
                taken.append(box)
                axes.annotate(
                    text,
                    (np.asarray(x, float)[at], np.asarray(y, float)[at]),
                    xytext=tuple(middle - marks[at]),
                    textcoords="offset points",
                    fontsize=SIZE,
                    ha="center",
                    va="center_baseline",
                    annotation_clip=False,
                )
                break
        else:
            left_out.append(text)
    return left_out


def _inside(box: Array, frame: Array) -> bool:
    return bool((box[0] >= frame[0]).all() and (box[1] <= frame[1]).all())


def _meet(one: Array, other: Array) -> bool:
    return bool((one[0] < other[1]).all() and (other[0] < one[1]).all())


def _covers(box: Array, marks: Array, own: int) -> bool:
    """Whether a mark other than its own touches the box."""
    near = ((marks > box[0] - _MARK / 2) & (marks < box[1] + _MARK / 2)).all(axis=1)
    near[own] = False
    return bool(near.any())
