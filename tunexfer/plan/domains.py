"""Domains: what a space file may write where a value is left open, and how a value is drawn from one.

A domain is a mapping with one key that names it. Domains may hold domains: what hangs on an option that was not drawn
is never asked for, so it doesn't exist in that trial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MAX_OPTIONS = 2000
"""More options than this in one coordinate can't be searched sensibly, nor listed by a plan."""


class Asker(Protocol):
    """Whoever draws: a sampler, a recorded point, or an enumeration."""

    def categorical(self, name: str, options: tuple[str, ...]) -> int: ...

    def uniform(self, name: str, low: float, high: float) -> float: ...

    def log_uniform(self, name: str, low: float, high: float) -> float: ...

    def integer(self, name: str, low: int, high: int) -> int: ...


class DomainError(ValueError):
    """A domain is written wrongly; `path` says where."""

    def __init__(self, path: str, message: str) -> None:
        self.path, self.message = path, message
        super().__init__(f"{path}: {message}")


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Any, ...]
    labels: tuple[str, ...]

    def draw(self, name: str, asker: Asker) -> Any:
        index = asker.categorical(name, self.labels)
        return draw(self.options[index], f"{name}.choice[{index}]", asker)


@dataclass(frozen=True, slots=True)
class Subset:
    """Uniform over the subsets of allowed size, the empty one included where the size allows it."""

    members: tuple[str, ...]
    sizes: tuple[int, int]

    @property
    def subsets(self) -> tuple[tuple[str, ...], ...]:
        low, high = self.sizes
        return tuple(
            itertools.chain.from_iterable(itertools.combinations(self.members, n) for n in range(low, high + 1))
        )

    def draw(self, name: str, asker: Asker) -> list[str]:
        subsets = self.subsets
        return list(subsets[asker.categorical(name, tuple(map(label, subsets)))])


@dataclass(frozen=True, slots=True)
class Uniform:
    low: float
    high: float

    def draw(self, name: str, asker: Asker) -> float:
        return asker.uniform(name, self.low, self.high)


@dataclass(frozen=True, slots=True)
class LogUniform:
    low: float
    high: float

    def draw(self, name: str, asker: Asker) -> float:
        return asker.log_uniform(name, self.low, self.high)


@dataclass(frozen=True, slots=True)
class IntUniform:
    low: int
    high: int

    def draw(self, name: str, asker: Asker) -> int:
        return asker.integer(name, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Shares:
    """The simplex over whatever sources (or tasks) the stage turns out to have; drawn once those are known."""

    step: float | None
    by_task: bool
    cap: int | None = None
    """Rows above it don't make a stage longer that says nothing of its steps; the shares are as they are drawn."""

    def draw(self, name: str, asker: Asker) -> Shares:
        return self

    def over(self, name: str, keys: Sequence[str], asker: Asker) -> dict[str, float]:
        """Shares of `keys`, uniform over the simplex: its grid points where there is a step, else the whole of it.

        Without a step: normalised -log(u) of uniform u, which is the flat Dirichlet distribution.
        """
        if len(keys) == 1:
            return {keys[0]: 1.0}
        if self.step:
            grid = list(compositions(round(1 / self.step), len(keys)))
            if len(grid) > MAX_OPTIONS:
                raise DomainError(name, f"a step of {self.step} over {len(keys)} sources makes {len(grid)} mixtures")
            parts = grid[asker.categorical(f"{name}[{label(keys)}]", tuple("/".join(map(str, p)) for p in grid))]
            return dict(zip(keys, (part * self.step for part in parts), strict=True))
        raw = [-math.log(asker.uniform(f"{name}[{key}]", 1e-9, 1.0)) for key in keys]
        total = sum(raw) or 1.0
        return {key: part / total for key, part in zip(keys, raw, strict=True)}


Domain = Choice | Subset | Uniform | LogUniform | IntUniform | Shares


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as an ordered sum of `parts` whole numbers of at least 0."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def label(value: Any) -> str:
    """A short text for a value: what tables, MLflow parameters and the record call it."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={label(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "+".join(map(label, value)) or "none"
    return type(value).__name__ if isinstance(value, Domain) else str(value)


def draw(tree: Any, name: str, asker: Asker) -> Any:
    """`tree` with every domain in it replaced by a value that `asker` draws, in the order of the file."""
    if isinstance(tree, Domain):
        return tree.draw(name, asker)
    if isinstance(tree, Mapping):
        return {key: draw(value, f"{name}.{key}" if name else key, asker) for key, value in tree.items()}
    if isinstance(tree, list):
        return [draw(value, f"{name}[{index}]", asker) for index, value in enumerate(tree)]
    return tree


def parse(tree: Any, path: str, problems: list[DomainError]) -> Any:
    """`tree` as YAML gave it, with domains in place of the mappings that name one. Problems are added to the list."""
    if isinstance(tree, Mapping):
        if len(tree) == 1 and (key := next(iter(tree))) in _PARSERS and not _is_mixing_word(key, tree[key]):
            try:
                return _PARSERS[key](tree[key], path, problems)
            except DomainError as error:
                problems.append(error)
                return None
        return {key: parse(value, f"{path}.{key}" if path else str(key), problems) for key, value in tree.items()}
    if isinstance(tree, list):
        return [parse(value, f"{path}[{index}]", problems) for index, value in enumerate(tree)]
    return tree


def _is_mixing_word(key: str, value: Any) -> bool:
    return key == "uniform" and value is None


def _choice(value: Any, path: str, problems: list[DomainError]) -> Choice:
    if not isinstance(value, list) or not value:
        raise DomainError(path, f"`choice` takes a list of at least one option, got {value!r}")
    labels = [label(option) for option in value]
    twice = {text for text in labels if labels.count(text) > 1}
    if twice:
        raise DomainError(path, f"`choice` lists {', '.join(sorted(twice))} more than once")
    options = tuple(parse(option, f"{path}.choice[{index}]", problems) for index, option in enumerate(value))
    return Choice(options, tuple(labels))


def _subset(value: Any, path: str, problems: list[DomainError]) -> Subset:
    if not isinstance(value, Mapping) or "of" not in value or not set(value) <= {"of", "size"}:
        raise DomainError(path, "`subset` takes {of: [members], size: [least, most]}")
    members = value["of"]
    if not isinstance(members, list) or not members or not all(isinstance(member, str) for member in members):
        raise DomainError(path, f"`subset` takes a list of names in `of`, got {members!r}{_norway(members)}")
    size = value.get("size", [0, len(members)])
    low, high = (
        (size, size) if isinstance(size, int) else size if isinstance(size, list) and len(size) == 2 else (-1, -1)
    )
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= len(members)):
        raise DomainError(path, f"`size` is a number or [least, most] within 0 and {len(members)}, got {size!r}")
    if len(set(members)) < len(members):
        raise DomainError(path, "`subset` lists a member more than once")
    if (count := sum(math.comb(len(members), n) for n in range(low, high + 1))) > MAX_OPTIONS:
        raise DomainError(path, f"this allows {count} subsets; narrow `size` until there are at most {MAX_OPTIONS}")
    return Subset(tuple(members), (low, high))


def _range(value: Any, path: str, name: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise DomainError(path, f"`{name}` takes [low, high], got {value!r}")
    for end in value:
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise DomainError(path, f"`{name}` takes two numbers, got {end!r}.{yaml_number_hint(end)}")
    low, high = value
    if not low < high:
        raise DomainError(path, f"`{name}` takes [low, high] with low below high, got {value!r}")
    return low, high


def _uniform(value: Any, path: str, problems: list[DomainError]) -> Uniform:
    low, high = _range(value, path, "uniform")
    return Uniform(float(low), float(high))


def _log_uniform(value: Any, path: str, problems: list[DomainError]) -> LogUniform:
    low, high = _range(value, path, "log_uniform")
    if low <= 0:
        raise DomainError(path, f"`log_uniform` needs a low above 0, got {low}")
    return LogUniform(float(low), float(high))


def _int_uniform(value: Any, path: str, problems: list[DomainError]) -> IntUniform:
    low, high = _range(value, path, "int_uniform")
    if not (isinstance(low, int) and isinstance(high, int)):
        raise DomainError(path, f"`int_uniform` takes two whole numbers, got {value!r}")
    return IntUniform(low, high)


def _shares(value: Any, path: str, problems: list[DomainError]) -> Shares:
    value = value or {}
    if not isinstance(value, Mapping) or not set(value) <= {"step", "by", "cap"}:
        raise DomainError(path, "`shares` takes {step: 0.25, by: source | task, cap: 10000}, all optional")
    step, by, cap = value.get("step"), value.get("by", "source"), value.get("cap")
    if step is not None and not (isinstance(step, float) and 0 < step < 1 and math.isclose(round(1 / step) * step, 1)):
        raise DomainError(path, f"`step` must divide 1 evenly (0.5, 0.25, 0.1), got {step!r}")
    if by not in ("source", "task"):
        raise DomainError(path, f"`by` is `source` or `task`, got {by!r}")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise DomainError(path, f"`cap` is a number of rows, got {cap!r}")
    return Shares(step, by == "task", cap)


_PARSERS = {
    "choice": _choice,
    "subset": _subset,
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "int_uniform": _int_uniform,
    "shares": _shares,
}


def yaml_number_hint(found: Any) -> str:
    """What to say when a number came as text, as YAML 1.1 reads `5e-6`."""
    if not isinstance(found, str):
        return ""
    try:
        number = float(found)
    except ValueError:
        return ""
    mantissa, _, exponent = f"{number:e}".partition("e")
    return f" YAML needs the point: {float(mantissa)}e{int(exponent)}."


def _norway(members: Any) -> str:
    return ". YAML reads the language `no` as false: write 'no'." if False in (members or []) else ""
