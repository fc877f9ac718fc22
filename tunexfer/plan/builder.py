"""Builds the chain of a recipe: fills in what it leaves out from the suite, and checks all of it against the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.errors import SpaceError
from tunexfer.plan.domains import Ask
from tunexfer.plan.mixing import cap_of, shares_of
from tunexfer.plan.recipe import Mixing, Recipe, StageRecipe, TargetRecipe, target_problems
from tunexfer.plan.training_fields import KNOWN, OURS
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, nearest

T = TypeVar("T")
DEFAULT_BATCH = 32
"""Rows per optimizer step where neither the space nor the suite gives a number."""

Sizes = Callable[[Source], int]
"""Training rows of a source; 0 where there are none."""


def build_chain(recipe: Recipe, indices: Sequence[int], suite: Suite, sizes: Sizes, ask: Ask) -> Chain:
    """Build the chain of a recipe, drawing the shares of its mixtures where these are searched.

    indices: the place in the file of each of the recipe's stages
    raises:  SpaceError with every problem, each with its path in the file
    """
    builder = _Builder(suite, sizes, recipe.training, ask)
    stages = [builder.stage(stage, f"stages[{index}]") for index, stage in zip(indices, recipe.stages, strict=True)]
    targets = [builder.target(target, f"targets[{index}]") for index, target in enumerate(recipe.targets)]
    problems = [*builder.problems, *target_problems(recipe.targets, suite)]
    if problems:
        raise SpaceError(problems)
    return Chain(
        suite=suite.name,
        encoder=Encoder(**recipe.encoder.model_dump()),
        stages=tuple(stage for stage in stages if stage),
        targets=tuple(targets),
    )


class _Builder:
    """Builds stages and targets, and collects what is wrong with them."""

    def __init__(self, suite: Suite, sizes: Sizes, training: dict[str, Any], ask: Ask) -> None:
        self.suite, self.sizes, self.training, self.ask = suite, sizes, training, ask
        self.problems = _training_problems(training)

    def stage(self, recipe: StageRecipe, path: str) -> Stage | None:
        if not all([self._known(task, f"{path}.tasks[{index}]") for index, task in enumerate(recipe.tasks)]):
            return None
        for index, task in enumerate(recipe.tasks):
            if not self._trainable(task):
                self.problems.append(f"{path}.tasks[{index}]: {task} is retrieval, which has nothing to train on")
                return None
        sizes = sources_with_rows(self.sizes, recipe.tasks, recipe.languages)
        if not sizes:
            self.problems.append(no_rows(path, recipe.tasks, recipe.languages))
            return None
        mixture = self._mixture(recipe, sizes, f"{path}.mixing")
        if mixture is None:
            return None
        cap = cap_of(recipe.mixing)
        counted = {source: min(size, cap or size) for source, size in sizes.items()}
        return self._fine_tuning(recipe.name, mixture, recipe, counted, path)

    def target(self, recipe: TargetRecipe, path: str) -> Target:
        untrained = Target(task=recipe.task, layer=recipe.layer)
        if not self._known(recipe.task, f"{path}.task"):
            return untrained
        kind = KINDS[self.suite.tasks[recipe.task].kind]
        if not kind.scored:
            self.problems.append(
                f"{path}.task: {recipe.task} is {kind.name}, which has no score: use it in a stage, not as a target"
            )
            return untrained
        if not self._trainable(recipe.task):
            for key in ("name", "after", "train_language", "learning_rate", "steps", "batch_size"):
                if getattr(recipe, key) is not None:
                    self.problems.append(f"{path}.{key}: retrieval has nothing to train; leave it out")
            return untrained
        if recipe.layer is not None:
            self.problems.append(f"{path}.layer: only a retrieval target reads a hidden layer")
        language = recipe.train_language
        source = Source(task=recipe.task, language=language or "")
        rows = self.sizes(source)
        if language and rows == 0:
            self.problems.append(f"{path}.train_language: {recipe.task} has no training rows in {language!r}")
        mixture = Mixture(sources=(source,), shares=(1.0,))
        stage = self._fine_tuning(recipe.name or recipe.task, mixture, recipe, {source: rows}, path)
        return Target(task=recipe.task, stage=stage, after=recipe.after)

    def _mixture(self, recipe: StageRecipe, sizes: Mapping[Source, int], path: str) -> Mixture | None:
        if isinstance(recipe.mixing, Mixing) and len(recipe.mixing.model_fields_set) != 1:
            self.problems.append(f"{path}: takes one of {', '.join(Mixing.model_fields)}")
            return None
        try:
            shares = shares_of(recipe.mixing, sizes, f"{path}.shares", self.ask)
        except KeyError as error:
            self.problems.append(f"{path}.fixed: no share for {error.args[0]!r}, which is among the sources drawn")
            return None
        except SpaceError as error:
            self.problems += error.problems
            return None
        positive = {source: share for source, share in zip(sizes, shares, strict=True) if share > 0}
        if not positive:
            self.problems.append(f"{path}: every share is 0")
            return None
        return Mixture(sources=tuple(positive), shares=tuple(positive.values()))

    def _fine_tuning(
        self, name: str, mixture: Mixture, recipe: StageRecipe | TargetRecipe, sizes: Mapping[Source, int], path: str
    ) -> Stage | None:
        """Fill in what the space leaves out from the recipes of the tasks in the suite.

        Several tasks train for the sum of their steps; they must agree in their learning rate.

        sizes: rows of each source that an epoch counts, which a cap of the mixing limits, as in jiant's runs
        """
        given = {task: self.suite.tasks[task].recipe for task in mixture.tasks}
        defaults = {task: default for task, default in given.items() if default}
        rate, batch_size, steps = recipe.learning_rate, recipe.batch_size, recipe.steps
        complete = len(defaults) == len(given)
        if complete:
            rate = rate or _agreed(default.learning_rate for default in defaults.values())
            batch_size = batch_size or _agreed(default.batch_size for default in defaults.values())
        batch_size = batch_size or DEFAULT_BATCH
        if steps is None and complete:
            rows = {task: sum(size for source, size in sizes.items() if source.task == task) for task in defaults}
            steps = sum(default.steps(rows[task], batch_size) for task, default in defaults.items())
        needed: dict[str, object] = {"learning_rate": rate, "steps": steps}
        if isinstance(recipe, TargetRecipe):
            needed = {"train_language": recipe.train_language, **needed}
        missing = [key for key, value in needed.items() if value is None]
        if missing or rate is None or steps is None:
            self.problems.append(f"{path}: {' + '.join(given)} is fine-tuned, so it needs {', '.join(missing)}")
            return None
        return Stage(
            name=name, mixture=mixture, learning_rate=rate, steps=steps, batch_size=batch_size, training=self.training
        )

    def _known(self, task: str, path: str) -> bool:
        if task in self.suite.tasks:
            return True
        self.problems.append(
            f"{path}: there is no task {task!r}.{nearest(task, self.suite.tasks)} "
            f"`tunexfer tasks --suite {self.suite.name}` lists all {len(self.suite.tasks)}."
        )
        return False

    def _trainable(self, task: str) -> bool:
        return KINDS[self.suite.tasks[task].kind].head is not None


def sources_with_rows(sizes: Sizes, tasks: Sequence[str], languages: Sequence[str]) -> dict[Source, int]:
    """Pair tasks with languages; of the pairs that have training rows, give the number of these."""
    pairs = [Source(task=task, language=language) for task in tasks for language in languages]
    return {source: size for source in dict.fromkeys(pairs) if (size := sizes(source)) > 0}


def no_rows(path: str, tasks: Sequence[str], languages: Sequence[str]) -> str:
    """Word the problem of a stage that has nothing to train on."""
    return (
        f"{path}: {' + '.join(tasks)} has no training rows in {', '.join(languages)}, so this point has nothing to "
        f"train on. `tunexfer tasks` lists each task's languages."
    )


def _agreed(values: Iterable[T]) -> T | None:
    """The value, if all are equal, else None."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _training_problems(training: dict[str, Any]) -> list[str]:
    return [
        f"training.{name}: tunexfer sets this itself; leave it out"
        if name in OURS
        else f"training.{name}: TrainingArguments has no such field.{nearest(name, KNOWN)}"
        for name in training
        if name in OURS or name not in KNOWN
    ]
