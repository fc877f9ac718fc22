"""The search space: a chain with some values left open, and the points at which it can be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from tunexfer.core.chain import Chain, Source
from tunexfer.core.trial import Point
from tunexfer.errors import SpaceError
from tunexfer.plan.builder import Sizes, build_chain, no_rows, sources_with_rows
from tunexfer.plan.domains import Ask, Coordinate, Domain, Value, draw, parse, walk
from tunexfer.plan.draws import at_indices, defaults, every_point, every_value, extremes, replay
from tunexfer.plan.recipe import Recipe, explain
from tunexfer.tasks.suite import Suite, nearest

Names = tuple[str, ...]
SAME_IN_ALL_TRIALS = ("task", "languages")
"""Keys of a target that no domain may stand for: every trial is scored on the same rows."""


@dataclass(frozen=True)
class SearchSpace:
    """A chain with values left open, over the tasks of one suite."""

    tree: Mapping[str, Any]
    """`encoder`, `stages`, `targets` and `training` of the file, with domains where values are left open."""
    suite: Suite
    sizes: Sizes
    baseline_values: Mapping[str, Any]
    where: str
    """The name of the file, for error messages."""

    def sample(self, ask: Ask, *, stages: bool = True) -> tuple[Point, Chain]:
        """Draw the coordinates, in the order of the file, and build the chain at that point.

        stages: False for targets alone
        raises: SpaceError, if this point makes no chain
        """
        point: Point = {}

        def recorded(name: str, domain: Coordinate) -> Value:
            point[name] = ask(name, domain)
            return point[name]

        with self._naming_the_file():
            return point, self._chain(self._draw(recorded, stages=stages), recorded)

    def chain(self, point: Point) -> Chain:
        """Build the chain at a recorded point.

        raises: SpaceError, if the point is of another space
        """
        try:
            return self.sample(replay(point))[1]
        except (KeyError, ValueError) as error:
            raise SpaceError(f"{self.where}: the point {point} is not of this space ({error})") from error

    def baseline(self) -> tuple[Point, Chain]:
        """No stage; for each target the first option of a choice and the (geometric) middle of a range.

        raises: SpaceError, if the file's `baseline:` block names no coordinate of the targets
        """
        point, chain = self.sample(defaults(self.baseline_values), stages=False)
        unknown = sorted(set(self.baseline_values) - set(point))
        if unknown:
            raise SpaceError(
                [f"{self.where}, baseline: {name!r} is no coordinate.{nearest(name, point)}" for name in unknown]
            )
        return point, chain

    @cached_property
    def coordinates(self) -> dict[str, Coordinate]:
        """Every coordinate and its domain, in the order of the file."""
        paths = [path for path, _ in walk(self.tree)]

        def place(item: tuple[str, Coordinate]) -> int:
            # Coordinates of `shares` have their domain's path at the start of their names
            return max(index for index, path in enumerate(paths) if item[0].startswith(path))

        return dict(sorted(self._explored[0].items(), key=place))

    @property
    def variants(self) -> list[tuple[dict[str, Any], Chain | SpaceError]]:
        """Settings that together try every option of every choice and both ends of every range, each with its chain."""
        return self._explored[1]

    @cached_property
    def _explored(self) -> tuple[dict[str, Coordinate], list[tuple[dict[str, Any], Chain | SpaceError]]]:
        coordinates: dict[str, Coordinate] = {}
        variants: list[tuple[dict[str, Any], Chain | SpaceError]] = []
        tried: set[tuple[str, int]] = set()
        waiting: list[dict[str, int]] = [{}]

        def options(name: str, domain: Coordinate) -> Sequence[Value]:
            coordinates.setdefault(name, domain)
            return extremes(name, domain)

        while waiting:
            indices, taken = waiting.pop(), dict[str, int]()
            ask = at_indices(indices, options, taken)
            tree = self._draw(ask, stages=True)
            try:
                with self._naming_the_file():
                    variants.append((tree, self._chain(tree, ask)))
            except SpaceError as error:
                variants.append((tree, error))
            before: dict[str, int] = {}
            for name, count in taken.items():
                own = indices.get(name, 0)
                for index in range(count):
                    if (name, index) not in tried:
                        tried.add((name, index))
                        if index != own:
                            waiting.append({**before, name: index})
                before[name] = own
        return coordinates, variants

    def grid(self) -> Iterator[Point]:
        """Every point, each once.

        raises: SpaceError, if a coordinate is continuous
        """
        return (point for point, _ in every_point(self.sample, every_value))

    @cached_property
    def named_sources(self) -> frozenset[Source]:
        """Every pairing of a known task and a language that the stages' options name, with or without rows."""
        return frozenset(
            Source(task=task, language=language)
            for tasks, languages in self._stage_options
            for task in set().union(*tasks) & set(self.suite.tasks)
            for language in set().union(*languages)
        )

    def check(self) -> None:
        """Try everything that the space can draw, and every pairing of a stage's tasks with its languages.

        raises: SpaceError with every problem
        """
        problems = [line for _, chain in self.variants if isinstance(chain, SpaceError) for line in chain.problems]
        for index, (tasks, languages) in enumerate(self._stage_options):
            for names in sorted(tasks):
                for codes in sorted(filter(None, languages)):  # without any, that is said already
                    if set(names) <= set(self.suite.tasks) and not sources_with_rows(self.sizes, names, codes):
                        problems.append(f"{self.where}, {no_rows(f'stages[{index}]', names, codes)}")
        try:
            self.baseline()
        except SpaceError as error:
            problems += error.problems
        if problems:
            raise SpaceError(list(dict.fromkeys(problems)))

    @cached_property
    def _stage_options(self) -> list[tuple[set[Names], set[Names]]]:
        """Per stage, every list of tasks and every list of languages that some point gives it."""
        options: list[tuple[set[Names], set[Names]]] = [(set(), set()) for _ in self.tree.get("stages") or []]
        for tree, _ in self.variants:
            for (tasks, languages), stage in zip(options, tree["stages"], strict=True):
                if stage:
                    tasks.add(_names(stage["tasks"]))
                    languages.add(_names(stage.get("languages")))
        return options

    def _draw(self, ask: Ask, *, stages: bool) -> dict[str, Any]:
        tree: dict[str, Any] = {"encoder": draw(self.tree["encoder"], "encoder", ask), "stages": []}
        for index, stage in enumerate(self.tree.get("stages") or [] if stages else []):
            name = f"stages[{index}]"
            tasks = draw(stage.get("tasks"), f"{name}.tasks", ask)
            if tasks:
                rest = {key: value for key, value in stage.items() if key != "tasks"}
                tree["stages"].append({"name": f"stage{index + 1}"} | draw(rest, name, ask) | {"tasks": tasks})
            else:
                tree["stages"].append(None)
        tree["targets"] = draw(list(self.tree["targets"]), "targets", ask)
        tree["training"] = draw(self.tree.get("training") or {}, "training", ask)
        return tree

    def _chain(self, tree: dict[str, Any], ask: Ask) -> Chain:
        indices = [index for index, stage in enumerate(tree["stages"]) if stage is not None]
        try:
            recipe = Recipe.model_validate({**tree, "stages": [tree["stages"][index] for index in indices]})
        except ValidationError as error:
            raise SpaceError(explain(error, indices)) from error
        return build_chain(recipe, indices, self.suite, self.sizes, ask)

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except SpaceError as error:
            raise SpaceError([f"{self.where}, {problem}" for problem in error.problems]) from error


def _names(value: Any) -> Names:
    names = value if isinstance(value, list | tuple) else [value]
    return tuple(name for name in names if isinstance(name, str))


def parse_tree(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parse the domains in the searched part of a space file.

    raises: SpaceError with every domain that is written wrongly
    """
    problems: list[str] = []
    tree = {key: parse(value, key, problems) for key, value in raw.items()}
    lines = [*problems, *_misplaced(tree)]
    if lines:
        raise SpaceError([f"{where}, {line}" for line in lines])
    return tree


def _misplaced(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each domain in a place that has to be known before anything is drawn."""
    for key in ("stages", "targets"):
        blocks = tree.get(key) or []
        if isinstance(blocks, Domain):
            yield f"{key}: no domain may stand for all of them; write the domain inside a block"
            continue
        for index, block in enumerate(blocks):
            path = f"{key}[{index}]"
            if isinstance(block, Domain):
                yield f"{path}: no domain may stand for a whole block; write it inside, as in `learning_rate:`"
            elif key == "targets" and isinstance(block, Mapping):
                for name in SAME_IN_ALL_TRIALS:
                    if isinstance(block.get(name), Domain):
                        yield f"{path}.{name}: no domain may stand here: every trial is scored on the same rows"
