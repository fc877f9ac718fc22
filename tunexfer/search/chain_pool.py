"""The chains that a sampler chooses among: stage recipes on one side, settings of targets on the other.

A target's settings do not depend on the stages, so the chains of a space are all stage recipes times all settings of
each family of targets. A family is a target with those that go on from it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunexfer.core.chain import Chain, Encoder, Stage, Target
from tunexfer.core.trial import Point
from tunexfer.errors import SpaceError
from tunexfer.plan.domains import Ask, Coordinate, Value
from tunexfer.plan.draws import at_random, defaults, every_point, every_value, replay
from tunexfer.plan.space import SearchSpace
from tunexfer.search.chain_model import Features

MAX_STAGES, MAX_SETTINGS = 2000, 64
"""Stage recipes, and settings of a family, up to which all are listed; else some are drawn at random."""
DRAWN_STAGES, DRAWN_SETTINGS = 64, 12
NEIGHBOURS = 24
"""Recipes beside the drawn ones that differ from a good one in a single coordinate."""

StageKey = tuple[Encoder, tuple[Stage, ...]]
Family = tuple[str, ...]
"""Names of a target and of those that go on from it."""


def stage_key(chain: Chain) -> StageKey:
    return chain.encoder, chain.stages


def families_of(chain: Chain) -> list[Family]:
    """Group the targets by the first of their line, in the order of the chain."""
    groups: dict[str, list[str]] = {}
    for target in chain.targets:
        groups.setdefault(chain.line(target.name)[0].name, []).append(target.name)
    return [tuple(names) for names in groups.values()]


def _settings_key(chain: Chain, family: Family) -> tuple[Target, ...]:
    return tuple(chain.target(name) for name in family)


def chain_key(chain: Chain, families: Sequence[Family]) -> tuple[Hashable, ...]:
    """Name a chain by its parts: the stage recipe and each family's settings."""
    return stage_key(chain), *(_settings_key(chain, family) for family in families)


class _Option(NamedTuple):
    """A stage recipe, or the settings of a family: a part of a point, and a chain that has it."""

    key: Hashable
    point: Point
    chain: Chain


@dataclass(frozen=True, eq=False)
class Pool:
    """Stage recipes and settings to choose among; every combination is a chain."""

    stages: list[_Option]
    settings: dict[Family, list[_Option]]
    complete: bool
    """Whether these are all chains of the space."""

    @property
    def count(self) -> int:
        """Count the combinations."""
        return len(self.stages) * math.prod(map(len, self.settings.values()))

    def point(self, indices: Sequence[int]) -> Point:
        """Put a point together.

        indices: of the stage recipe, and of each family's settings
        """
        return {name: value for option in self._options(indices) for name, value in option.point.items()}

    def key(self, indices: Sequence[int]) -> tuple[Hashable, ...]:
        """Return what `chain_key` returns for the chain at these indices."""
        return tuple(option.key for option in self._options(indices))

    def _options(self, indices: Sequence[int]) -> Iterator[_Option]:
        for side, index in zip((self.stages, *self.settings.values()), indices, strict=True):
            yield side[index]


def list_all(space: SearchSpace) -> Pool | None:
    """List the whole space; None where it is continuous or too large."""
    first = space.sample(defaults({}))[1]
    families = families_of(first)
    try:
        stages = _listed(space, None, first, families, MAX_STAGES)
        settings = {family: _listed(space, family, first, families, MAX_SETTINGS) for family in families}
    except (_TooMany, SpaceError):
        return None
    return Pool(stages, settings, complete=True)


def draw_some(space: SearchSpace, seed: int, good: list[Point]) -> Pool:
    """Draw stage recipes and settings at random, and change single coordinates of good points.

    good: points of the best trials; their own parts are in the pool
    """
    rng = random.Random(seed)
    families: list[Family] | None = None
    stages: dict[Hashable, _Option] = {}
    settings: dict[Family, dict[Hashable, _Option]] = {}
    asks = [_kept(point, rng, None) for point in good]
    asks += [at_random(rng.getrandbits(32)) for _ in range(DRAWN_STAGES)]
    asks += [_kept(point, rng, 1 / 3) for _ in range(NEIGHBOURS // max(len(good), 1)) for point in good]
    for ask in asks:
        try:
            point, chain = space.sample(ask)
        except SpaceError:
            continue
        families = families or families_of(chain)
        option = _part(point, chain, None, families)
        stages.setdefault(option.key, option)
        for family in families:
            own = _part(point, chain, family, families)
            known = settings.setdefault(family, {})
            if own.key in known or len(known) < DRAWN_SETTINGS:
                known.setdefault(own.key, own)
    return Pool([*stages.values()], {family: [*known.values()] for family, known in settings.items()}, complete=False)


class _TooMany(Exception):
    """There are more options than can be listed."""


def _listed(
    space: SearchSpace, family: Family | None, first: Chain, families: list[Family], most: int
) -> list[_Option]:
    """List the stage recipes, or the settings of a family.

    first:  any chain of the space: all have the same targets in the same order
    raises: _TooMany, above `most`; SpaceError, if one of their coordinates is continuous
    """
    options: dict[Hashable, _Option] = {}
    places = {target.name: place for place, target in enumerate(first.targets)}

    def varies(name: str) -> bool:
        owner = _target_of(name)
        return owner is None if family is None else owner in {places[member] for member in family}

    for point, built in _walk(space, varies, 2 * most):
        option = _part(point, built, family, families)
        options.setdefault(option.key, option)
        if len(options) > most:
            raise _TooMany
    return [*options.values()]


def _walk(space: SearchSpace, varies: Any, most: int) -> Iterator[tuple[Point, Chain]]:
    """Yield points in which only some coordinates vary, all others keep their first value.

    raises: _TooMany, above `most` points; SpaceError, if such a coordinate is continuous
    """

    def options(name: str, domain: Coordinate) -> Any:
        return every_value(name, domain) if varies(name) else [defaults({})(name, domain)]

    for count, drawn in enumerate(every_point(space.sample, options)):
        if count == most:
            raise _TooMany
        yield drawn


def _part(point: Point, chain: Chain, family: Family | None, families: list[Family]) -> _Option:
    """Take the part of a point that is about the stages, or about a family of targets."""
    if family is None:
        return _Option(stage_key(chain), {n: v for n, v in point.items() if _target_of(n) is None}, chain)
    places = {place for place, target in enumerate(chain.targets) if target.name in family}
    mine = {name: value for name, value in point.items() if _target_of(name) in places}
    return _Option(_settings_key(chain, family), mine, chain)


def _target_of(name: str) -> int | None:
    """Return the place of the target whose coordinate has this name; None if it is not a target's."""
    return int(name[8 : name.index("]")]) if name.startswith("targets[") else None


def _kept(point: Point, rng: random.Random, change: float | None) -> Ask:
    """Keep a point's coordinates, but for some that are drawn anew.

    change: the probability of each to be drawn anew
    """
    fresh, known = at_random(rng.getrandbits(32)), replay(point)

    def ask(name: str, domain: Coordinate) -> Value:
        if name not in point or (change is not None and rng.random() < change):
            return fresh(name, domain)
        return known(name, domain)

    return ask


def stage_features(chain: Chain) -> Features:
    """Describe encoder and stages."""
    encoder = chain.encoder
    features: dict[str, Any] = {"encoder": f"{encoder.identity} {encoder.pooling} {encoder.freeze_embeddings}"}
    for stage in chain.stages:
        features |= {f"{stage.name}.{name}": value for name, value in _training(stage).items()}
    return features


def target_features(chain: Chain, name: str) -> Features:
    """Describe a target's own settings, and those of the targets that it goes on from."""
    features: dict[str, Any] = {}
    for target in chain.line(name):
        if target.stage:
            features |= {f"{target.name}.{field}": value for field, value in _training(target.stage).items()}
        if target.layer is not None:
            features[f"{target.name}.layer"] = target.layer / 6
    return features


def _training(stage: Stage) -> dict[str, Any]:
    tasks: dict[str, float] = {}
    languages: dict[str, float] = {}
    for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True):
        tasks[source.task] = tasks.get(source.task, 0.0) + share
        languages[source.language] = languages.get(source.language, 0.0) + share
    return {
        "tasks": tasks,
        "languages": languages,
        "learning_rate": math.log10(stage.learning_rate),
        "rows": math.log10(stage.steps * stage.batch_size),
        "batch_size": math.log10(stage.batch_size),
        "training": " ".join(f"{field}={value}" for field, value in sorted(stage.training.items())) or "default",
    }
