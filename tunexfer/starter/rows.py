"""What a row of the starter suite is, and how rows are chosen evenly."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count, zip_longest
from typing import TypeVar

Row = dict[str, object]
"""One line of a JSONL file; the columns are the canonical ones of its task's kind."""

T = TypeVar("T")
GOLDEN = (5**0.5 - 1) / 2


def evenly(items: Iterable[T], key: Callable[[T], Hashable]) -> Iterator[T]:
    """One item of each key, then a second of each, and so on; the order within a key is kept."""
    for layer in zip_longest(*_groups(items, key).values()):
        yield from (item for item in layer if item is not None)


def evenly_in_size(
    items: Iterable[T], key: Callable[[T], Hashable], sizes: Callable[[T], tuple[int, ...]]
) -> Iterator[T]:
    """As `evenly`, but each time round all keys give the item nearest to the same sizes: size then tells no key.

    sizes: what an item measures, each at least 1. Those asked for lie between the quartiles of the keys' medians, and
           wander over them by the golden ratio.
    """
    groups = _groups(items, key)
    medians = [[statistics.median(one) for one in zip(*map(sizes, group), strict=True)] for group in groups.values()]
    quartiles = [statistics.quantiles(one, n=4) for one in zip(*medians, strict=True)]
    for turn in count():
        wanted = [low + (high - low) * (turn * GOLDEN % 1) for low, _, high in quartiles]
        for group in groups.values():
            if group:
                off = [sum(abs(a / b - 1) for a, b in zip(sizes(item), wanted, strict=True)) for item in group]
                yield group.pop(off.index(min(off)))
        if not any(groups.values()):
            return


def _groups(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
