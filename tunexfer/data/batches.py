"""The batches of a stage: the rows of every optimizer step, drawn from the seed before training starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunexfer.core.chain import Mixture, Source

POOL = 8
"""Number of batches that are sorted by length together: little padding, and still almost any rows in one batch."""

Lengths = NDArray[np.integer[Any]]
Batch = tuple[tuple[Source, int], ...]
"""The rows of one optimizer step, all of one task: source and position of each."""


def batch_plan(
    lengths: Mapping[Source, Lengths], mixture: Mixture, *, steps: int, batch_size: int, seed: int
) -> list[Batch]:
    """Draw one batch per step.

    Each task gets its share of the batches, and each of its sources its share of their rows, exact to one batch or row.
    All rows of a source are used, in random order, before any is used again.

    lengths: number of pieces of each row, by source, each shape (R,), R at least 1
    """
    draw = np.random.default_rng(seed)
    share_of = dict(zip(mixture.sources, mixture.shares, strict=True))
    of_task = {task: [source for source in mixture.sources if source.task == task] for task in mixture.tasks}
    counts = apportion([sum(share_of[source] for source in sources) for sources in of_task.values()], steps)
    batches: list[Batch] = []
    for sources, count in zip(of_task.values(), counts, strict=True):
        rows = _rows(
            {source: lengths[source] for source in sources}, [share_of[s] for s in sources], count, batch_size, draw
        )
        batches += [tuple((sources[source], row) for source, row in part.tolist()) for part in rows]
    return [batches[place] for place in draw.permutation(len(batches))]


def apportion(shares: Sequence[float], total: int) -> list[int]:
    """Split `total` in proportion to `shares` into integers, by the largest remainder (Hamilton's method)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    first = np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]
    counts[first] += 1
    return [int(count) for count in counts]


def _rows(
    lengths: dict[Source, Lengths], shares: list[float], count: int, batch_size: int, draw: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw `count` batches of (source number, row), each shape (batch_size, 2), with rows of similar length."""
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
        pooled = order[start : start + pool]
        order[start : start + pool] = pooled[np.argsort(sizes[pooled], kind="stable")]
    rows = np.concatenate(drawn)[order]
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _passes(size: int, wanted: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Draw `wanted` positions below `size`: full passes in random order, the last one cut short."""
    passes = [draw.permutation(size) for _ in range(-(-wanted // size))]
    return np.concatenate([*passes, np.zeros(0, dtype=np.int64)]).astype(np.int64)[:wanted]
