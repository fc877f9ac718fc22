"""Ways to draw a point from a space: at random, from a record, its defaults, or one option after another."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tunexfer.core.trial import Point
from tunexfer.errors import SpaceError
from tunexfer.plan.domains import Ask, Choice, Coordinate, Value, label, yaml_number_hint

Drawn = TypeVar("Drawn")
Options = Callable[[str, Coordinate], Sequence[Value]]
"""The values of a coordinate that are tried."""


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


def at_indices(indices: Mapping[str, int], options: Options, taken: dict[str, int]) -> Ask:
    """Take the option at a given index, the first where none is given.

    taken: gets the number of options of each coordinate, in the order in which they are asked for
    """

    def ask(name: str, domain: Coordinate) -> Value:
        own = options(name, domain)
        taken[name] = len(own)
        return own[indices.get(name, 0)]

    return ask


def every_point(draw: Callable[[Ask], Drawn], options: Options) -> Iterator[Drawn]:
    """Draw every point, each once, the last coordinates changing fastest."""
    indices: dict[str, int] = {}
    while True:
        taken: dict[str, int] = {}
        yield draw(at_indices(indices, options, taken))
        path = [(name, indices.get(name, 0), count) for name, count in taken.items()]
        while path and path[-1][1] + 1 == path[-1][2]:
            path.pop()
        if not path:
            return
        indices = {name: index for name, index, _ in path} | {path[-1][0]: path[-1][1] + 1}


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
