"""Suites: named sets of tasks, read from YAML. Data, not code: a new task is a new block."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunexfer.core.scores import Split
from tunexfer.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
KindName = Literal["classification", "tagging", "multiple_choice", "extractive_qa", "retrieval"]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubRows(_Block):
    """Rows on the Hugging Face hub, as `datasets.load_dataset` takes them. `{language}` and `{code}` are filled in."""

    path: str
    name: str | None = None
    revision: str | None = None
    splits: dict[Split, str] = {}
    """What our splits are called there, where the name differs; slices such as `train[:2%]` work."""


class TaskBlock(_Block):
    """One task: its kind, where its rows lie, which columns hold what."""

    kind: KindName
    about: str = ""
    licence: str = "unknown"
    files: str | None = None
    """Pattern of JSONL or Parquet files under the suite's root: `xnli/{language}/{split}.jsonl`."""
    hub: HubRows | None = None
    codes: dict[str, str] = {}
    """What `{code}` stands for, per language, where the data names languages in its own way."""
    where: dict[str, str] = {}
    """Keep only rows whose column has this value, or begins with it: `english-*`. `{language}`, `{code}` as above."""
    columns: dict[str, str | list[str]]
    """Our field -> their column (`choices.text` looks inside). A list joins text columns, or makes the options."""
    labels: list[str] = []
    label_values: list[str | int] = []
    """How the data writes each of `labels`, in the same order, where it is neither the name nor the position."""
    drop_labels: list[str | int] = []
    """Rows with one of these labels have no gold answer and are left out."""
    rows: dict[str, tuple[int, int, int]] = {}
    """Rows per language in train, validation and test; found by looking where the files are local."""
    metric: str | None = None
    """The task's main metric; each kind has a default."""
    answer_language_rules: Literal["squad", "mlqa"] = "squad"
    """Extractive QA: which benchmark's normalisation of answers scores it."""
    unanswerable: bool = False
    """Extractive QA: some questions have no answer in their context, and none may be predicted."""
    max_length: Annotated[int, Field(ge=8)] = 128
    validation_from_train: Annotated[int, Field(ge=0)] = 0
    """Rows at the end of train set aside for validation in languages that have none."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.files is None) == (self.hub is None):
            raise ValueError("a task has either `files:` or `hub:`, and one of them")
        if self.label_values and len(self.label_values) != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels but {len(self.label_values)} label_values")
        return self


class Suite(_Block):
    name: str
    about: str = ""
    root: str = "."
    """Folder the `files:` patterns start from, relative to the suite file; `starter:` is the built starter data."""
    tasks: dict[str, TaskBlock]

    def task(self, name: str) -> TaskBlock:
        if name not in self.tasks:
            raise DataError(f"suite {self.name!r} has no task {name!r}.{nearest(name, self.tasks)}")
        return self.tasks[name]


def nearest(word: str, known: Any) -> str:
    """A sentence naming the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def shipped_suites() -> list[str]:
    """Names of the suites that come with tunexfer."""
    folder = resources.files("tunexfer.tasks") / "suites"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_suite(name: str, *, beside: Path | None = None) -> tuple[Suite, Path]:
    """A shipped suite by name, or a suite file by path; with it the folder its `root` is relative to.

    beside: the folder a relative path starts from (the space file's)
    raises: DataError, naming every problem of the file
    """
    if name in shipped_suites():
        path = Path(str(resources.files("tunexfer.tasks") / "suites" / f"{name}.yaml"))
    else:
        path = (beside or Path()) / name
        if not path.is_file():
            raise DataError(
                f"there is no suite {name!r}: neither a file nor one of {', '.join(shipped_suites())}."
                f"{nearest(name, shipped_suites())}"
            )
    try:
        suite = Suite.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        lines = [f"{path}, {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise DataError("\n".join(lines)) from error
    return suite, path.parent
