"""The recipe: the searched part of a space file with a value for every domain, and how mistakes in it are worded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunexfer.core.chain import Pooling
from tunexfer.core.phrases import mlflow_name
from tunexfer.core.yaml_text import boolean_sentence
from tunexfer.plan.domains import Shares, label, yaml_number_hint
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import PathName, Suite, nearest


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class _Temperature(Strict):
    T: Annotated[float, Field(ge=1)] = 1.0
    cap: Count | None = None


class _Proportional(Strict):
    cap: Count | None = None


class Mixing(Strict):
    """The rule by which the shares of a stage's sources are computed; one of its fields is set."""

    temperature: _Temperature | None = None
    proportional: _Proportional | None = None
    fixed: dict[str, Annotated[float, Field(ge=0)]] | None = None


class StageRecipe(Strict):
    """One stage; what it leaves out of its training comes from the recipes of its tasks in the suite."""

    name: PathName
    tasks: list[str]
    languages: Annotated[list[str], Field(min_length=1)]
    mixing: Literal["proportional", "uniform"] | Mixing | Shares = "proportional"
    learning_rate: Rate | None = None
    steps: Count | None = None
    batch_size: Count | None = None

    @field_validator("tasks", "languages", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class TargetRecipe(Strict):
    """One target; what it leaves out of its training comes from the recipe of its task in the suite."""

    task: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """The name of its scores; the task's name by default. Needed where one task is a target twice."""
    after: str | None = None
    """The name of an earlier target whose encoder and head it continues from."""
    train_language: str | None = None
    learning_rate: Rate | None = None
    steps: Count | None = None
    batch_size: Count | None = None
    layer: Annotated[int, Field(ge=0)] | None = None
    languages: Literal["all"] | list[str] = "all"
    """Languages to evaluate; targets of one task are all evaluated in the languages of any of them."""


class _EncoderRecipe(Strict):
    name: str
    revision: str | None = None
    pooling: Pooling = "first"
    freeze_embeddings: bool = False


class Recipe(Strict):
    """The searched part of a space file, in which every domain has been replaced by a value."""

    encoder: _EncoderRecipe
    stages: list[StageRecipe] = []
    targets: Annotated[list[TargetRecipe], Field(min_length=1)]
    training: dict[str, Any] = {}

    @field_validator("encoder", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def explain(error: ValidationError, stage_indices: list[int] | None = None) -> list[str]:
    """Word each problem in one line: its path in the file, what was found, what would do.

    stage_indices: the place in the file of each of the recipe's stages
    """
    lines: dict[str, str] = {}
    for problem in error.errors():
        loc = [part for part in problem["loc"] if not _union_member(part)]
        if stage_indices is not None and loc[:1] == ["stages"] and len(loc) > 1 and isinstance(loc[1], int):
            loc[1] = stage_indices[loc[1]]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
        path = path.split(".literal[")[0]
        sentence = _sentence(problem["type"], problem["msg"], problem["input"], loc)
        lines.setdefault(path, f"{path}: {sentence}" if path else sentence)  # a sentence on several keys names them
    # Where one of several forms fits but for something inside, that alone is wrong, and not the whole.
    return [
        line for path, line in lines.items() if not any(other.startswith((f"{path}[", f"{path}.")) for other in lines)
    ]


def _union_member(part: str | int) -> bool:
    """Tell whether pydantic, not the file, put this part into the path."""
    return isinstance(part, str) and (part == "literal" or part.startswith("list[") or part[:1].isupper())


def _sentence(kind: str, message: str, value: Any, loc: list[Any]) -> str:
    if kind == "extra_forbidden":
        return f"there is no such key.{nearest(str(loc[-1]), _KEYS)}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in ("float_type", "int_type", "float_parsing", "int_parsing") and isinstance(value, str):
        return f"expected a number, got the text {value!r}.{yaml_number_hint(value)}"
    if kind == "string_type" and isinstance(value, bool):
        return boolean_sentence(value)
    if isinstance(value, Mapping) and len(value) == 1 and kind.endswith("_type"):
        return f"expected one value, got a mapping with the key {next(iter(value))!r}, which names no domain"
    return f"{message[0].lower()}{message[1:]}, got {label(value)!r}"


_MODELS = (Recipe, StageRecipe, TargetRecipe, _EncoderRecipe, Mixing, _Temperature)
_BLOCKS = {"name", "suite", "objective", "search", "resources", "baseline", "noise", "confirm"}
_KEYS = {name for model in _MODELS for name in model.model_fields} | _BLOCKS


def target_problems(targets: Sequence[TargetRecipe], suite: Suite) -> Iterator[str]:
    """Check what targets are called and which of them continues from which; yield a line for each mistake."""
    names = [target.name or target.task for target in targets]
    earlier: dict[str, TargetRecipe] = {}
    followers: dict[str, str] = {}
    for index, (target, name) in enumerate(zip(targets, names, strict=True)):
        path = f"targets[{index}]"
        if name in earlier:
            yield f"{path}: {name!r} is there more than once. A task that is a target twice needs a `name:` for each"
        elif alike := next((other for other in earlier if mlflow_name(other) == mlflow_name(name)), None):
            yield f"{path}: MLflow can't tell {name!r} from {alike!r}; rename one of these tasks, or give it a `name:`"
        elif name != target.task and name in suite.tasks:
            yield f"{path}.name: {name!r} is another task of the suite; choose a name that is not a task's"
        if target.after is not None:
            problem = _misplaced(target.after, name, names, earlier) or _misfit(target, earlier[target.after], suite)
            if not problem and target.after in followers:
                problem = f"{followers[target.after]!r} already continues from {target.after!r}; only one target can"
            if problem:
                yield f"{path}.after: {problem}"
            followers.setdefault(target.after, name)
        earlier.setdefault(name, target)


def _misplaced(after: str, name: str, names: Sequence[str], earlier: Mapping[str, TargetRecipe]) -> str | None:
    if after in earlier:
        return None
    if after == name:
        return "a target can't continue from itself"
    if after in names:
        return f"{after!r} comes later; a target continues from an earlier one, so change their order"
    return f"there is no target {after!r} before this one.{nearest(after, earlier)}"


def _misfit(target: TargetRecipe, first: TargetRecipe, suite: Suite) -> str | None:
    """Explain why `target` can't use the head of `first`; None if it can, or if a task is unknown."""
    if first.task not in suite.tasks or target.task not in suite.tasks:
        return None
    before, after = suite.tasks[first.task], suite.tasks[target.task]
    if KINDS[before.kind].head is None:
        return f"{first.task} is retrieval, which trains no model to continue from"
    if before.kind != after.kind:
        return f"{first.task} is {before.kind} and {target.task} {after.kind}, so its head doesn't fit"
    if (before.labels, before.labels_file) != (after.labels, after.labels_file):
        return f"{first.task} and {target.task} differ in their labels or the order of these, so its head doesn't fit"
    return None
