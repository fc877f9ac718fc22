"""The searched part of a space file with nothing left open, and what is said about each mistake in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunexfer.core.chain import Pooling
from tunexfer.plan.domains import Shares, label, yaml_number_hint
from tunexfer.tasks.suite import nearest


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Rate = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Temperature(Strict):
    T: Annotated[float, Field(ge=1)] = 1.0
    cap: Count | None = None


class Proportional(Strict):
    cap: Count | None = None


class Mixing(Strict):
    """How the shares of a stage's sources come about; exactly one of its fields."""

    temperature: Temperature | None = None
    proportional: Proportional | None = None
    fixed: dict[str, Annotated[float, Field(ge=0)]] | None = None


class StageRecipe(Strict):
    """One stage with nothing left open; what isn't said of its training comes from its tasks in the suite."""

    name: str
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
    """One target with nothing left open; what isn't said of its training comes from the task in the suite."""

    task: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """What its scores go by, where one task is a target twice; else the task's name."""
    after: str | None = None
    """The name of an earlier target to go on from, with its encoder and head."""
    train_language: str | None = None
    learning_rate: Rate | None = None
    steps: Count | None = None
    batch_size: Count | None = None
    layer: Annotated[int, Field(ge=0)] | None = None
    languages: Literal["all"] | list[str] = "all"
    """Languages it is scored in; targets of one task are all scored in the languages of any of them."""


class EncoderRecipe(Strict):
    name: str
    revision: str | None = None
    pooling: Pooling = "first"
    freeze_embeddings: bool = False


class Recipe(Strict):
    """All that a point settles: the part of a space file in which domains may stand."""

    encoder: EncoderRecipe
    stages: list[StageRecipe] = []
    targets: Annotated[list[TargetRecipe], Field(min_length=1)]
    training: dict[str, Any] = {}

    @field_validator("encoder", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def explain(error: ValidationError, stage_indices: list[int] | None = None) -> list[str]:
    """One line a problem: the path in the file, what was found, what would do."""
    lines: dict[str, str] = {}
    for one in error.errors():
        loc = [part for part in one["loc"] if not (isinstance(part, str) and part[:1].isupper()) and part != "literal"]
        if stage_indices is not None and loc[:1] == ["stages"] and len(loc) > 1 and isinstance(loc[1], int):
            loc[1] = stage_indices[loc[1]]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
        path = path.split(".literal[")[0]
        lines.setdefault(path, f"{path}: {_sentence(one['type'], one['msg'], one['input'], one.get('ctx', {}), loc)}")
    return list(lines.values())


def _sentence(kind: str, message: str, found: Any, context: Mapping[str, Any], loc: list[Any]) -> str:
    if kind == "extra_forbidden":
        return f"there is no such key.{nearest(str(loc[-1]), _KEYS)}"
    if kind == "missing":
        return "is missing"
    if kind in ("float_type", "int_type", "float_parsing", "int_parsing") and isinstance(found, str):
        return f"expected a number, got the text {found!r}.{yaml_number_hint(found)}"
    if kind == "string_type" and isinstance(found, bool):
        return f"expected a name, got {str(found).lower()}. YAML reads the word `no` as false: write 'no' in quotes."
    if isinstance(found, Mapping) and len(found) == 1 and kind.endswith("_type"):
        return f"expected one value, got a mapping with the key {next(iter(found))!r}, which names no domain"
    return f"{message[0].lower()}{message[1:]}, got {label(found)!r}"


def _all_keys() -> set[str]:
    models = (Recipe, StageRecipe, TargetRecipe, EncoderRecipe, Mixing, Temperature)
    return {name for model in models for name in model.model_fields}


_KEYS = _all_keys() | {"name", "suite", "objective", "search", "resources", "baseline", "confirm"}
