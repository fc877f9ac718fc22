"""Which rows each optimizer step of a stage sees: decided before it starts, from the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunexfer.core.chain import Mixture, Source

POOL = 8
"""Batches whose rows are sorted by length together: little padding, and still almost any row beside any other."""

Lengths = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one optimizer step, all of one task."""

    task: str
    rows: tuple[tuple[Source, int], ...]
    """Where each row comes from, and its position there."""


def batch_plan(
    lengths: Mapping[Source, Lengths], mixture: Mixture, *, steps: int, batch_size: int, seed: int
) -> list[Batch]:
    """One batch per step.

    A task gets its share of the batches and within it each source its share of the rows, both exact to one batch or
    row; a source is passed through in random order, all of it before any row comes again.

    lengths: pieces per row of each source of the mixture, each shape (R,), R at least 1
    """
    draw = np.random.default_rng(seed)
    share_of = dict(zip(mixture.sources, mixture.shares, strict=True))
    of_task = {task: [source for source in mixture.sources if source.task == task] for task in mixture.tasks}
    counts = apportion([sum(share_of[source] for source in sources) for sources in of_task.values()], steps)
    batches: list[Batch] = []
    for (task, sources), count in zip(of_task.items(), counts, strict=True):
        rows = _rows(
            {source: lengths[source] for source in sources}, [share_of[s] for s in sources], count, batch_size, draw
        )
        batches += [Batch(task, tuple((sources[source], row) for source, row in part.tolist())) for part in rows]
    return [batches[place] for place in draw.permutation(len(batches))]


def apportion(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to `shares` that sum to `total`, by largest remainder (Hamilton's method)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    first = np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]
    counts[first] += 1
    return [int(count) for count in counts]


def _rows(
    lengths: dict[Source, Lengths], shares: list[float], count: int, batch_size: int, draw: np.random.Generator
) -> list[NDArray[np.int64]]:
    """`count` batches of (source number, row) pairs, each shape (batch_size, 2), rows of like length together."""
    drawn = [
        np.stack([np.full(wanted, number), _passes(len(own), wanted, draw)], axis=1)
        for number, (own, wanted) in enumerate(
            zip(lengths.values(), apportion(shares, count * batch_size), strict=True)
        )
    ]
    sizes = np.concatenate([own[part[:, 1]] for own, part in zip(lengths.values(), drawn, strict=True)])
    order = draw.permutation(len(sizes))
    pool = POOL * batch_size
    for start in range(0, len(order), pool):
        some = order[start : start + pool]
        order[start : start + pool] = some[np.argsort(sizes[some], kind="stable")]
    rows = np.concatenate(drawn)[order]
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _passes(size: int, wanted: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """`wanted` positions below `size`: whole passes in random order, the last one cut."""
    passes = [draw.permutation(size) for _ in range(-(-wanted // size))]
    return np.concatenate([*passes, np.zeros(0, dtype=np.int64)]).astype(np.int64)[:wanted]
