"""The space file: a chain with some values left open, read from YAML and checked as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.trial import Point
from tunexfer.errors import SpaceError
from tunexfer.plan.askers import DefaultPoint, Explorer, GridCursor, Recorder, Replay
from tunexfer.plan.domains import Asker, DomainError, Shares, draw, parse
from tunexfer.plan.mixing import fixed_shares, temperature_shares
from tunexfer.plan.recipe import Mixing, Recipe, StageRecipe, TargetRecipe, explain
from tunexfer.plan.target_order import target_problems
from tunexfer.plan.training_fields import KNOWN, OURS
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, nearest

T = TypeVar("T")
DEFAULT_BATCH = 32
"""Rows per optimizer step where neither the space nor the suite says."""

Sizes = Callable[[Source], int]
"""Training rows of a source; 0 where there are none."""


@dataclass(frozen=True)
class SearchSpace:
    """A chain with values left open, over the tasks of one suite."""

    tree: Mapping[str, Any]
    """`encoder`, `stages`, `targets` and `training` of the file, with domains where values are left open."""
    suite: Suite
    sizes: Sizes
    baseline_values: Mapping[str, Any]
    where: str
    """The file, as errors name it."""

    def sample(self, asker: Asker) -> tuple[Point, Chain]:
        """Draw every coordinate that exists, in the order of the file.

        raises: SpaceError, if this point makes no chain
        """
        recorder = Recorder(asker)
        tree = self._draw(recorder, stages=True)
        return recorder.point, self._chain(tree, recorder)

    def chain(self, point: Point) -> Chain:
        """The chain at a recorded point.

        raises: SpaceError, if the point is of another space
        """
        try:
            return self.sample(Replay(point))[1]
        except (KeyError, ValueError) as error:
            raise SpaceError(f"{self.where}: the point {point} is not of this space ({error})") from error

    def baseline(self) -> tuple[Point, Chain]:
        """No stage; for each target the first option of a choice and the (geometric) middle of a range."""
        recorder = Recorder(DefaultPoint(self.baseline_values))
        tree = self._draw(recorder, stages=False)
        unknown = set(self.baseline_values) - set(recorder.point)
        if unknown:
            lines = [
                f"{self.where}, baseline: {name!r} is no coordinate{nearest(name, recorder.point)}" for name in unknown
            ]
            raise SpaceError(sorted(lines))
        return recorder.point, self._chain(tree, recorder)

    @cached_property
    def coordinates(self) -> dict[str, str]:
        """Every coordinate and its domain in words, in the order of the file."""
        return self._explored[0]

    @property
    def variants(self) -> list[tuple[dict[str, Any], Chain | SpaceError]]:
        """Settings that together try every option of every choice and both ends of every range, each with its chain."""
        return self._explored[1]

    @cached_property
    def _explored(self) -> tuple[dict[str, str], list[tuple[dict[str, Any], Chain | SpaceError]]]:
        words: dict[str, str] = {}
        found: list[tuple[dict[str, Any], Chain | SpaceError]] = []
        tried: set[tuple[str, int]] = set()
        waiting: list[dict[str, int]] = [{}]
        while waiting:
            explorer = Explorer(waiting.pop(), words)
            tree = self._draw(explorer, stages=True)
            try:
                found.append((tree, self._chain(tree, explorer)))
            except SpaceError as error:
                found.append((tree, error))
            before: dict[str, int] = {}
            for name, count in explorer.counts.items():
                for index in range(count):
                    if (name, index) not in tried:
                        tried.add((name, index))
                        if index != explorer.taken[name]:
                            waiting.append({**before, name: index})
                before[name] = explorer.taken[name]
        return words, found

    def grid(self) -> Iterator[Point]:
        """Every point, each once.

        raises: SpaceError, if a coordinate is continuous
        """
        path: list[tuple[str, int, int]] = []
        while True:
            odometer = GridCursor(path, self.where)
            recorder = Recorder(odometer)
            self._chain(self._draw(recorder, stages=True), recorder)
            yield recorder.point
            path = odometer.path
            while path and path[-1][1] + 1 == path[-1][2]:
                path.pop()
            if not path:
                return
            name, index, count = path.pop()
            path.append((name, index + 1, count))

    def sources(self, tasks: Sequence[str], languages: Sequence[str]) -> dict[Source, int]:
        """The pairings that have training rows, and how many."""
        pairs = [Source(task=task, language=language) for task in tasks for language in languages]
        return {source: size for source in dict.fromkeys(pairs) if (size := self.sizes(source)) > 0}

    def _draw(self, asker: Asker, *, stages: bool) -> dict[str, Any]:
        tree: dict[str, Any] = {"encoder": draw(self.tree["encoder"], "encoder", asker), "stages": []}
        for index, stage in enumerate(self.tree.get("stages") or [] if stages else []):
            name = f"stages[{index}]"
            tasks = draw(stage.get("tasks"), f"{name}.tasks", asker)
            if tasks:
                rest = {key: value for key, value in stage.items() if key != "tasks"}
                tree["stages"].append({"name": f"stage{index + 1}"} | draw(rest, name, asker) | {"tasks": tasks})
            else:
                tree["stages"].append(None)
        tree["targets"] = draw(list(self.tree["targets"]), "targets", asker)
        tree["training"] = draw(self.tree.get("training") or {}, "training", asker)
        return tree

    def _chain(self, tree: dict[str, Any], asker: Asker) -> Chain:
        indices = [index for index, stage in enumerate(tree["stages"]) if stage is not None]
        try:
            recipe = Recipe.model_validate({**tree, "stages": [tree["stages"][index] for index in indices]})
        except ValidationError as error:
            raise SpaceError([f"{self.where}, {line}" for line in explain(error, indices)]) from error
        problems: list[str] = _training_problems(recipe.training)
        stages = [
            self._stage(stage, f"stages[{index}]", recipe.training, asker, problems)
            for index, stage in zip(indices, recipe.stages, strict=True)
        ]
        targets = [
            self._target(target, f"targets[{index}]", recipe.training, problems)
            for index, target in enumerate(recipe.targets)
        ]
        problems += target_problems(recipe.targets, self.suite)
        if problems:
            raise SpaceError([f"{self.where}, {problem}" for problem in problems])
        return Chain(
            suite=self.suite.name,
            encoder=Encoder(**recipe.encoder.model_dump()),
            stages=tuple(stage for stage in stages if stage),
            targets=tuple(targets),
        )

    def _stage(
        self, recipe: StageRecipe, where: str, training: dict[str, Any], asker: Asker, problems: list[str]
    ) -> Stage | None:
        before = len(problems)
        for index, task in enumerate(recipe.tasks):
            self._check_task(task, f"{where}.tasks[{index}]", problems)
        if len(problems) > before:
            return None
        sizes = self.sources(recipe.tasks, recipe.languages)
        if not sizes:
            problems.append(no_rows(where, recipe.tasks, recipe.languages))
            return None
        try:
            shares = _shares(recipe.mixing, sizes, f"{where}.mixing.shares", asker)
        except KeyError as error:
            problems.append(f"{where}.mixing.fixed: no share for {error.args[0]!r}, which is among the sources drawn")
            return None
        except DomainError as error:
            problems.append(str(error))
            return None
        drawn = {source: share for source, share in zip(sizes, shares, strict=True) if share > 0}
        if not drawn:
            problems.append(f"{where}.mixing: every share is 0")
            return None
        mixture = Mixture(sources=tuple(drawn), shares=tuple(drawn.values()))
        cap = _cap(recipe.mixing)
        seen = {source: min(size, cap or size) for source, size in sizes.items()}
        return self._fine_tuning(recipe.name, mixture, recipe, seen, training, where, problems)

    def _target(self, recipe: TargetRecipe, where: str, training: dict[str, Any], problems: list[str]) -> Target:
        untrained = Target(task=recipe.task, layer=recipe.layer)
        if not self._check_task(recipe.task, f"{where}.task", problems):
            return untrained
        if self.suite.tasks[recipe.task].kind == "masked_lm":
            problems.append(
                f"{where}.task: {recipe.task} is masked_lm, which has nothing to score: it can be among the tasks of a "
                "stage, but is no target"
            )
            return untrained
        retrieval = KINDS[self.suite.tasks[recipe.task].kind].head is None
        if recipe.layer is not None and not retrieval:
            problems.append(f"{where}.layer: only a retrieval target reads a hidden layer")
        if retrieval:
            for key in ("name", "after", "train_language", "learning_rate", "steps", "batch_size"):
                if getattr(recipe, key) is not None:
                    problems.append(f"{where}.{key}: retrieval has nothing to train; leave it out")
            return untrained
        source = Source(task=recipe.task, language=recipe.train_language or "")
        rows = self.sizes(source)
        if recipe.train_language and rows == 0:
            problems.append(f"{where}.train_language: {recipe.task} has no training rows in {recipe.train_language!r}")
        mixture = Mixture(sources=(source,), shares=(1.0,))
        name = recipe.name or recipe.task
        stage = self._fine_tuning(name, mixture, recipe, {source: rows}, training, where, problems)
        return Target(task=recipe.task, stage=stage, after=recipe.after)

    def _fine_tuning(
        self,
        name: str,
        mixture: Mixture,
        recipe: StageRecipe | TargetRecipe,
        sizes: Mapping[Source, int],
        training: dict[str, Any],
        where: str,
        problems: list[str],
    ) -> Stage | None:
        """What the space leaves out is filled in from the tasks' own recipes in the suite.

        Several tasks train for the sum of their steps, and have to agree in their learning rate.

        sizes: rows that an epoch of each source counts, which a cap of the mixing limits, as in jiant's runs
        """
        given = {task: self.suite.tasks[task].recipe for task in mixture.tasks}
        defaults = [default for default in given.values() if default]
        rate, batch_size = recipe.learning_rate, recipe.batch_size
        if len(defaults) == len(given):
            rate = rate or _agreed(default.learning_rate for default in defaults)
            batch_size = batch_size or _agreed(default.batch_size for default in defaults)
        steps, batch_size = recipe.steps, batch_size or DEFAULT_BATCH
        if steps is None and len(defaults) == len(given):
            steps = sum(
                default.steps(sum(size for source, size in sizes.items() if source.task == task), batch_size)
                for task, default in given.items()
                if default
            )
        needed: dict[str, object] = {"learning_rate": rate, "steps": steps}
        if isinstance(recipe, TargetRecipe):
            needed = {"train_language": recipe.train_language, **needed}
        missing = [key for key, value in needed.items() if value is None]
        if missing or rate is None or steps is None:
            problems.append(f"{where}: {' + '.join(given)} is fine-tuned, so it needs {', '.join(missing)}")
            return None
        return Stage(
            name=name, mixture=mixture, learning_rate=rate, steps=steps, batch_size=batch_size, training=training
        )

    def _check_task(self, task: str, where: str, problems: list[str]) -> bool:
        if task in self.suite.tasks:
            if where.startswith("stages") and KINDS[self.suite.tasks[task].kind].head is None:
                problems.append(f"{where}: {task} is retrieval, which has nothing to train on")
            return True
        problems.append(
            f"{where}: there is no task {task!r}.{nearest(task, self.suite.tasks)} "
            f"`tunexfer tasks --suite {self.suite.name}` lists all {len(self.suite.tasks)}."
        )
        return False


def _agreed(values: Iterable[T]) -> T | None:
    """The one value there is; None where there are several."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def no_rows(where: str, tasks: Sequence[str], languages: Sequence[str]) -> str:
    """What to say of a stage that has nothing to train on."""
    return (
        f"{where}: {' + '.join(tasks)} has no training rows in {', '.join(languages)}, so this point has nothing to "
        f"train on. `tunexfer tasks` lists each task's languages."
    )


def _shares(mixing: Any, sizes: dict[Source, int], where: str, asker: Asker) -> list[float]:
    if isinstance(mixing, Shares):
        keys = list(dict.fromkeys(source.task if mixing.by_task else str(source) for source in sizes))
        return fixed_shares(sizes, mixing.over(where, keys, asker))
    if isinstance(mixing, Mixing):
        if mixing.fixed is not None:
            return fixed_shares(sizes, mixing.fixed)
        if mixing.temperature is not None:
            return temperature_shares(sizes, temperature=mixing.temperature.T, cap=mixing.temperature.cap)
        return temperature_shares(sizes, cap=mixing.proportional.cap if mixing.proportional else None)
    return temperature_shares(sizes, temperature=math.inf if mixing == "uniform" else 1.0)


def _cap(mixing: Any) -> int | None:
    """Rows of a source that count at most."""
    if isinstance(mixing, Mixing):
        mixing = mixing.proportional or mixing.temperature
    return getattr(mixing, "cap", None)


def _training_problems(training: dict[str, Any]) -> list[str]:
    problems = [
        f"training.{name}: tunexfer sets this itself; leave it out"
        for name in training
        if name in OURS and name in KNOWN
    ]
    problems += [
        f"training.{name}: TrainingArguments has no such field.{nearest(name, KNOWN)}"
        for name in training
        if name not in KNOWN
    ]
    return problems


def parse_tree(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The searched part of a space file with its domains parsed.

    raises: SpaceError with every domain that is written wrongly
    """
    problems: list[DomainError] = []
    tree = {key: parse(value, key, problems) for key, value in raw.items()}
    if problems:
        raise SpaceError([f"{where}, {problem}" for problem in problems])
    return tree
