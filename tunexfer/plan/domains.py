"""Domains: what a space file writes in place of a value that the search chooses.

A domain is a mapping with one key that names it. Domains may hold domains: what belongs to an option that was not drawn
is not a coordinate of that trial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunexfer.errors import SpaceError

MAX_OPTIONS = 2000
"""More options than this in one coordinate can't be searched sensibly, nor listed by a plan."""
MAX_SHOWN = 16
"""Options of a coordinate that are written out; of more, only the first of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options, each of which may hold further domains; `subset` becomes a choice of lists of names."""

    options: tuple[Any, ...]
    labels: tuple[str, ...]
    """A text for each option, all different; a point records these."""

    def __str__(self) -> str:
        shown = " | ".join(self.labels[:MAX_SHOWN])
        return shown if len(self.labels) <= MAX_SHOWN else f"{shown} | ... ({len(self.labels)} options)"


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two bounds, both included."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __str__(self) -> str:
        return f"{self.low} to {self.high}{', logarithmic' if self.log else ', whole numbers' if self.integer else ''}"


Coordinate = Choice | Range
Value = str | float | int
Ask = Callable[[str, Coordinate], Value]
"""A way to draw: it takes a coordinate's name and domain and returns an option's label or a number of the range."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The simplex over the sources (or tasks) of a stage; drawn once these are known."""

    step: float | None
    by_task: bool
    cap: int | None = None
    """Rows of a source that count at most when steps are derived from epochs; it does not change the shares."""

    def over(self, name: str, keys: Sequence[str], ask: Ask) -> dict[str, float]:
        """Draw the shares of `keys`, uniform over the simplex: its grid points where there is a step, else all of it.

        Without a step: normalised -log(u) of uniform u, which is the flat Dirichlet distribution.
        """
        if len(keys) == 1:
            return {keys[0]: 1.0}
        if self.step:
            grid = list(compositions(round(1 / self.step), len(keys)))
            if len(grid) > MAX_OPTIONS:
                raise _wrong(name, f"a step of {self.step} over {len(keys)} sources makes {len(grid)} mixtures")
            points = Choice(tuple(map(list, grid)), tuple("/".join(map(str, parts)) for parts in grid))
            parts = draw(points, f"{name}[{label(keys)}]", ask)
            return dict(zip(keys, (part * self.step for part in parts), strict=True))
        raw = [-math.log(float(ask(f"{name}[{key}]", Range(1e-9, 1.0)))) for key in keys]
        total = sum(raw) or 1.0
        return {key: part / total for key, part in zip(keys, raw, strict=True)}


Domain = Choice | Range | Shares


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as an ordered sum of `parts` whole numbers of at least 0."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def label(value: Any) -> str:
    """A short text for a value, as tables, MLflow's parameters and the record show it."""
    if isinstance(value, Mapping):
        return " ".join(_entry(key, inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "+".join(map(label, value)) or "none"
    return str(value)


def _entry(key: str, value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"{key}={label(value)}"
    return f"{key}({label(value)})" if value else key


def draw(tree: Any, name: str, ask: Ask) -> Any:
    """Draw a value for every domain in `tree`, in the order of the file; return the tree of values."""
    if isinstance(tree, Choice):
        index = tree.labels.index(str(ask(name, tree)))
        return draw(tree.options[index], f"{name}.choice[{index}]", ask)
    if isinstance(tree, Range):
        return ask(name, tree)
    return _rebuilt(tree, name, lambda value, path: draw(value, path, ask))


def walk(tree: Any, name: str = "") -> Iterator[tuple[str, Domain]]:
    """Every domain in a tree in the order of the file, with the name that `draw` gives it."""
    if isinstance(tree, Domain):
        yield name, tree
    for _, path, value in _children({"choice": list(tree.options)} if isinstance(tree, Choice) else tree, name):
        yield from walk(value, path)


def _children(tree: Any, name: str) -> Iterator[tuple[Any, str, Any]]:
    """The key, path and value of each entry of a mapping or list."""
    if isinstance(tree, Mapping):
        yield from ((key, f"{name}.{key}" if name else str(key), value) for key, value in tree.items())
    elif isinstance(tree, list):
        yield from ((index, f"{name}[{index}]", value) for index, value in enumerate(tree))


def _rebuilt(tree: Any, name: str, replace: Callable[[Any, str], Any]) -> Any:
    """A copy of a mapping or list with each value replaced; any other value as it is."""
    if not isinstance(tree, Mapping | list):
        return tree
    entries = {key: replace(value, path) for key, path, value in _children(tree, name)}
    return entries if isinstance(tree, Mapping) else list(entries.values())


def parse(tree: Any, path: str, problems: list[str]) -> Any:
    """Replace each mapping that names a domain by that domain; problems are added to the list."""
    if isinstance(tree, Mapping) and len(tree) == 1:
        [(key, value)] = tree.items()
        if key in _PARSERS and (key, value) != ("uniform", None):  # `uniform` alone is a way of mixing
            try:
                return _PARSERS[key](value, path, problems)
            except SpaceError as error:
                problems += error.problems
                return None
    return _rebuilt(tree, path, lambda value, place: parse(value, place, problems))


def _wrong(path: str, message: str) -> SpaceError:
    """Make the error of a domain that is written wrongly; `path` is its place in the file."""
    return SpaceError(f"{path}: {message}")


def _choice(value: Any, path: str, problems: list[str]) -> Choice:
    if not isinstance(value, list) or not value:
        raise _wrong(path, f"`choice` takes a list of at least one option, got {value!r}")
    labels = [label(option) for option in value]
    repeated = {text for text in labels if labels.count(text) > 1}
    if repeated:
        raise _wrong(path, f"`choice` lists {', '.join(sorted(repeated))} more than once")
    options = tuple(parse(option, f"{path}.choice[{index}]", problems) for index, option in enumerate(value))
    return Choice(options, tuple(labels))


def _subset(value: Any, path: str, _: list[str]) -> Choice:
    if not isinstance(value, Mapping) or "of" not in value or not set(value) <= {"of", "size"}:
        raise _wrong(path, "`subset` takes {of: [members], size: [least, most]}")
    members = value["of"]
    if not isinstance(members, list) or not members or not all(isinstance(member, str) for member in members):
        norway = isinstance(members, list) and any(member is False for member in members)
        hint = ". YAML reads the language `no` as false: write 'no'." if norway else ""
        raise _wrong(path, f"`subset` takes a list of names in `of`, got {members!r}{hint}")
    size = value.get("size", [0, len(members)])
    low, high = (
        (size, size) if isinstance(size, int) else size if isinstance(size, list) and len(size) == 2 else (-1, -1)
    )
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= len(members)):
        raise _wrong(path, f"`size` is a number or [least, most] within 0 and {len(members)}, got {size!r}")
    if len(set(members)) < len(members):
        raise _wrong(path, "`subset` lists a member more than once")
    if (count := sum(math.comb(len(members), size) for size in range(low, high + 1))) > MAX_OPTIONS:
        raise _wrong(path, f"this allows {count} subsets; narrow `size` until there are at most {MAX_OPTIONS}")
    subsets = [list(some) for size in range(low, high + 1) for some in itertools.combinations(members, size)]
    return Choice(tuple(subsets), tuple(map(label, subsets)))


def _range(value: Any, path: str, _: list[str], *, name: str, log: bool = False, integer: bool = False) -> Range:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(path, f"`{name}` takes [low, high], got {value!r}")
    for end in value:
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise _wrong(path, f"`{name}` takes two numbers, got {end!r}.{yaml_number_hint(end)}")
    low, high = value
    if not low < high:
        raise _wrong(path, f"`{name}` takes [low, high] with low below high, got {value!r}")
    if log and low <= 0:
        raise _wrong(path, f"`{name}` needs a low above 0, got {low}")
    if integer:
        if not (isinstance(low, int) and isinstance(high, int)):
            raise _wrong(path, f"`{name}` takes two whole numbers, got {value!r}")
        return Range(low, high, integer=True)
    return Range(float(low), float(high), log=log)


def _shares(value: Any, path: str, _: list[str]) -> Shares:
    value = value or {}
    if not isinstance(value, Mapping) or not set(value) <= {"step", "by", "cap"}:
        raise _wrong(path, "`shares` takes {step: 0.25, by: source | task, cap: 10000}, all optional")
    step, by, cap = value.get("step"), value.get("by", "source"), value.get("cap")
    if step is not None and not (isinstance(step, float) and 0 < step < 1 and math.isclose(round(1 / step) * step, 1)):
        raise _wrong(path, f"`step` must divide 1 evenly (0.5, 0.25, 0.1), got {step!r}")
    if by not in ("source", "task"):
        raise _wrong(path, f"`by` is `source` or `task`, got {by!r}")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise _wrong(path, f"`cap` is a number of rows, got {cap!r}")
    return Shares(step, by == "task", cap)


_PARSERS: dict[str, Callable[[Any, str, list[str]], Domain]] = {
    "choice": _choice,
    "subset": _subset,
    "uniform": partial(_range, name="uniform"),
    "log_uniform": partial(_range, name="log_uniform", log=True),
    "int_uniform": partial(_range, name="int_uniform", integer=True),
    "shares": _shares,
}


def yaml_number_hint(value: Any) -> str:
    """Explain how to write a number that YAML 1.1 read as text, such as `5e-6`; empty for anything else."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    mantissa, _, exponent = f"{number:e}".partition("e")
    return f" YAML needs the point: {float(mantissa)}e{int(exponent)}."
