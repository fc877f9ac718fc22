"""The askers of our own: they record, replay, explore or enumerate what a search space asks."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from tunexfer.core.trial import Point
from tunexfer.errors import SpaceError
from tunexfer.plan.domains import Asker, label

MANY = 16
"""Options that are all written out; of more, the first of them."""


class Recorder:
    """Passes every question on and writes the answers down as a point."""

    def __init__(self, inner: Asker) -> None:
        self.inner = inner
        self.point: Point = {}

    def categorical(self, name: str, options: tuple[str, ...]) -> int:
        index = self.inner.categorical(name, options)
        self.point[name] = options[index]
        return index

    def uniform(self, name: str, low: float, high: float) -> float:
        value = self.inner.uniform(name, low, high)
        self.point[name] = value
        return value

    def log_uniform(self, name: str, low: float, high: float) -> float:
        value = self.inner.log_uniform(name, low, high)
        self.point[name] = value
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.inner.integer(name, low, high)
        self.point[name] = value
        return value


class Replay:
    """Answers from a recorded point."""

    def __init__(self, point: Point) -> None:
        self.point = point

    def categorical(self, name: str, options: tuple[str, ...]) -> int:
        return options.index(str(self.point[name]))

    def uniform(self, name: str, low: float, high: float) -> float:
        return float(self.point[name])

    def log_uniform(self, name: str, low: float, high: float) -> float:
        return float(self.point[name])

    def integer(self, name: str, low: int, high: int) -> int:
        return int(self.point[name])


class DefaultPoint:
    """The first option and the middle of each range, unless the file's `baseline:` block says otherwise."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def categorical(self, name: str, options: tuple[str, ...]) -> int:
        if name not in self.given:
            return 0
        wanted = label(self.given[name])
        if wanted not in options:
            raise SpaceError(f"baseline, {name}: {wanted!r} is none of {', '.join(options)}")
        return options.index(wanted)

    def uniform(self, name: str, low: float, high: float) -> float:
        return float(self.given.get(name, (low + high) / 2))

    def log_uniform(self, name: str, low: float, high: float) -> float:
        return float(self.given.get(name, math.sqrt(low * high)))

    def integer(self, name: str, low: int, high: int) -> int:
        return int(self.given.get(name, (low + high) // 2))


class Explorer:
    """Takes the options it is told to take, the first elsewhere, and notes how many there were."""

    def __init__(self, forced: Mapping[str, int], seen: dict[str, str]) -> None:
        self.forced, self.seen = forced, seen
        self.taken: dict[str, int] = {}
        self.counts: dict[str, int] = {}

    def _take(self, name: str, count: int, words: str) -> int:
        self.taken[name] = self.forced.get(name, 0)
        self.counts[name] = count
        self.seen.setdefault(name, words)
        return self.taken[name]

    def categorical(self, name: str, options: tuple[str, ...]) -> int:
        return self._take(name, len(options), _in_words(options))

    def uniform(self, name: str, low: float, high: float) -> float:
        return (low, high)[self._take(name, 2, f"{low} to {high}")]

    def log_uniform(self, name: str, low: float, high: float) -> float:
        return (low, high)[self._take(name, 2, f"{low} to {high}, logarithmic")]

    def integer(self, name: str, low: int, high: int) -> int:
        return (low, high)[self._take(name, 2, f"{low} to {high}, whole numbers")]


def _in_words(options: tuple[str, ...]) -> str:
    shown = " | ".join(options[:MANY])
    return shown if len(options) <= MANY else f"{shown} | ... ({len(options)} options)"


class GridCursor:
    """Replays a path of options and extends it with first options: the next point of a full enumeration."""

    def __init__(self, path: list[tuple[str, int, int]], where: str) -> None:
        self.forced, self.where = path, where
        self.path: list[tuple[str, int, int]] = []

    def _take(self, name: str, count: int) -> int:
        at = len(self.path)
        index = self.forced[at][1] if at < len(self.forced) else 0
        self.path.append((name, index, count))
        return index

    def categorical(self, name: str, options: tuple[str, ...]) -> int:
        return self._take(name, len(options))

    def integer(self, name: str, low: int, high: int) -> int:
        return low + self._take(name, high - low + 1)

    def uniform(self, name: str, low: float, high: float) -> float:
        raise SpaceError(f"{self.where}: a grid needs a finite space, but {name} is continuous. Use `choice`, or tpe.")

    log_uniform = uniform


class Random:
    """Every coordinate drawn evenly from its domain."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def categorical(self, name: str, options: tuple[str, ...]) -> int:
        return self.rng.randrange(len(options))

    def uniform(self, name: str, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def log_uniform(self, name: str, low: float, high: float) -> float:
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def integer(self, name: str, low: int, high: int) -> int:
        return self.rng.randint(low, high)
