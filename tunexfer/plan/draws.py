"""Ways to draw a point from a space: at random, from a record, its defaults, or one option after another."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunexfer.core.trial import Point
from tunexfer.errors import SpaceError
from tunexfer.plan.domains import Ask, Choice, Coordinate, Value, label, yaml_number_hint


def at_random(seed: int) -> Ask:
    """Draw each coordinate uniformly from its domain."""
    rng = random.Random(seed)

    def ask(name: str, domain: Coordinate) -> Value:
        if isinstance(domain, Choice):
            return domain.labels[rng.randrange(len(domain.labels))]
        if domain.integer:
            return rng.randint(int(domain.low), int(domain.high))
        if domain.log:
            return math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
        return rng.uniform(domain.low, domain.high)

    return ask


def replay(point: Point) -> Ask:
    """Give the values of a recorded point; a coordinate that it lacks is a KeyError."""

    def ask(name: str, domain: Coordinate) -> Value:
        value = point[name]
        return str(value) if isinstance(domain, Choice) else _number(value, domain.integer)

    return ask


def defaults(given: Mapping[str, Any]) -> Ask:
    """Take the first option of a choice and the (geometric) middle of a range, except for the coordinates given.

    raises: SpaceError, if a value given is not an option of its choice, or not a number for a range
    """

    def ask(name: str, domain: Coordinate) -> Value:
        if isinstance(domain, Choice):
            option = label(given[name]) if name in given else domain.labels[0]
            if option not in domain.labels:
                raise SpaceError(f"baseline, {name}: {option!r} is not one of {', '.join(domain.labels)}")
            return option
        middle = math.sqrt(domain.low * domain.high) if domain.log else (domain.low + domain.high) / 2
        value = given.get(name, middle)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SpaceError(f"baseline, {name}: expected a number, got {value!r}.{yaml_number_hint(value)}")
        return _number(value, domain.integer)

    return ask


def _number(value: Value, integer: bool) -> float:
    return int(value) if integer else float(value)


@dataclass(frozen=True, slots=True)
class _Taken:
    """The option that a cursor took for a coordinate."""

    index: int
    count: int
    domain: Coordinate


class Cursor:
    """Takes the option at a given index, the first where none is given, and notes how many each coordinate has."""

    def __init__(self, indices: Mapping[str, int], options: Callable[[str, Coordinate], Sequence[Value]]) -> None:
        self.indices, self.options = indices, options
        self.taken: dict[str, _Taken] = {}
        """Coordinates in the order in which they were asked for."""

    def ask(self, name: str, domain: Coordinate) -> Value:
        options = self.options(name, domain)
        self.taken[name] = _Taken(self.indices.get(name, 0), len(options), domain)
        return options[self.taken[name].index]

    def following(self) -> dict[str, int] | None:
        """Return the indices of the next point, the last coordinates changing fastest; None after the last point."""
        path = list(self.taken.items())
        while path and path[-1][1].index + 1 == path[-1][1].count:
            path.pop()
        indices = {name: taken.index for name, taken in path}
        return indices | {path[-1][0]: path[-1][1].index + 1} if path else None


def extremes(_: str, domain: Coordinate) -> Sequence[Value]:
    """Every option of a choice, and both ends of a range."""
    return domain.labels if isinstance(domain, Choice) else (domain.low, domain.high)


def every_value(name: str, domain: Coordinate) -> Sequence[Value]:
    """Every value of a coordinate.

    raises: SpaceError, if it is continuous
    """
    if isinstance(domain, Choice):
        return domain.labels
    if not domain.integer:
        raise SpaceError(f"a grid needs a finite space, but {name} is continuous. Use `choice`, or tpe.")
    return range(int(domain.low), int(domain.high) + 1)
