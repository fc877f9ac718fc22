"""Rows of the starter suite, and even selection among them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count, zip_longest
from typing import Literal, TypeVar, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Row = dict[str, object]
"""One line of a JSONL file. `starter.yaml` declares the columns of each task."""

T = TypeVar("T")
GOLDEN = (5**0.5 - 1) / 2


def evenly(items: Iterable[T], key: Callable[[T], Hashable]) -> Iterator[T]:
    """Yield one item of each key, then a second of each, and so on, keeping the order within each key."""
    for layer in zip_longest(*_groups(items, key).values()):
        yield from (item for item in layer if item is not None)


def evenly_in_size(
    items: Iterable[T], key: Callable[[T], Hashable], sizes: Callable[[T], tuple[int, ...]]
) -> Iterator[T]:
    """Yield as `evenly` does, but pick items of similar size in each round, so that size predicts no key.

    sizes: the measures of an item, each at least 1. The sizes wanted in a round lie between the quartiles of the keys'
           medians; a golden-ratio sequence spreads them over that range.
    """
    groups = _groups(items, key)
    medians = [[statistics.median(size) for size in zip(*map(sizes, group), strict=True)] for group in groups.values()]
    quartiles = [statistics.quantiles(size, n=4) for size in zip(*medians, strict=True)]
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
