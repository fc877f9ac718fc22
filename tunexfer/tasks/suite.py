"""Suites: named sets of tasks, read from YAML. Data, not code: a new task is a new block."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tunexfer.core.scores import Split
from tunexfer.errors import DataError
from tunexfer.tasks.installed import installed_suites, suite_provider
from tunexfer.tasks.kinds import KINDS

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubRows(_Block):
    """Rows on the Hugging Face hub, as `datasets.load_dataset` takes them. `{language}` and `{code}` are filled in."""

    path: str
    name: str | None = None
    revision: str | None = None
    splits: dict[Split, str] = {}
    """The hub's names of our splits, if they differ; `train[:2%]` and, without `files`, `train_r1+train_r2` work."""
    files: str | None = None
    """Pattern of the set's files, if it has no configs to load: `{code}/{split}/*.parquet`. Or a pattern of URLs, if
    `path` is a format, `json` or `csv`."""
    options: dict[str, str | bool | int] = {}
    """Options of that format's reader: `{sep: "\\t"}`."""

    @property
    def has_commits(self) -> bool:
        """Whether `path` is a set on the hub: neither a format nor a folder on this machine."""
        return "/" in self.path and not Path(self.path).is_dir()


class Part(_Block):
    """Some of a task's rows, from another place or in another form; fields that are left out are the task's."""

    files: str | None = None
    tag_files: str | None = None
    english_files: str | None = None
    gold_files: str | None = None
    splits: dict[Split, str] | None = None
    hub: HubRows | None = None
    codes: dict[str, str] | None = None
    where: dict[str, str] | None = None
    columns: dict[str, str | list[str]] | None = None
    label_values: list[str | int] | None = None
    drop_labels: list[str | int] | None = None
    drop_without: list[str] | None = None
    rows: dict[str, tuple[int, int, int]] | None = None


class Defaults(_Block):
    """The published recipe for fine-tuning on the task, for whatever a space leaves out."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    epochs: Annotated[int, Field(ge=1)]
    """Passes over the rows of the languages that are trained on; a space converts them to steps."""
    batch_size: Annotated[int, Field(ge=1)] = 32

    def steps(self, rows: int, batch_size: int) -> int:
        """Compute the optimizer steps for this many rows; the last batch of an epoch may be smaller."""
        return self.epochs * -(-rows // batch_size)


class TaskBlock(_Block):
    """One task: its kind, the place of its rows, and the meaning of their columns."""

    kind: str
    """One of `KINDS`."""
    about: str = ""
    licence: str = "unknown"
    files: str | None = None
    """Pattern of JSONL or Parquet files under the suite's root: `xnli/{language}/{split}.jsonl`. Or of CoNLL-U files,
    whose rows have the columns `tokens` and `pos_tags`. With `*` in it, all files that fit are read, by their names."""
    tag_files: str | None = None
    """Pattern of files with the tags of `files`, both of them text: a sentence a line, a space between two words."""
    english_files: str | None = None
    """Mining: pattern of the English sentences, if `files` are the foreign ones: an id, a tab and a sentence a line.
    The rows they make have the columns `id`, `text`, `english_id` and `english`."""
    gold_files: str | None = None
    """The pairs among them: a foreign id, a tab and an English id a line."""
    splits: dict[Split, str] = {}
    """What `{split}` stands for in names of files, if it isn't our own name of the split."""
    hub: HubRows | None = None
    parts: list[Part] = []
    """Several places whose rows make up one task, with one head: several sets, or another one in each language."""
    codes: dict[str, str] = {}
    """What `{code}` stands for, per language, if the data has names of its own for languages."""
    where: dict[str, str] = {}
    """Keep only rows whose column has this value, or begins with it: `english-*`. `{language}`, `{code}` as above."""
    columns: dict[str, str | list[str]]
    """Our field -> their column (`choices.text` looks inside). A list joins text columns, or makes the options."""
    labels: list[str] = []
    labels_file: str | None = None
    """JSON file under the suite's root with the labels, if the suite can't name them: a list, or label -> number."""
    label_values: list[str | int] = []
    """The data's own values of `labels`, in the same order, if they are neither the names nor the positions."""
    drop_labels: list[str | int] = []
    """Rows with one of these labels have no gold answer and are left out."""
    drop_without: list[str] = []
    """Columns of the data (`answers.text` looks inside): rows in which one of them is empty are left out."""
    rows: dict[str, tuple[int, int, int]] = {}
    """Number of rows per language in train, validation and test; local files are counted if it is left out."""
    metric: str | None = None
    """The task's main metric; each kind has a default."""
    answer_language_rules: Literal["squad", "mlqa"] = "squad"
    """Extractive QA: the benchmark whose normalisation of answers is used for scoring."""
    unanswerable: bool = False
    """Extractive QA: some questions have no answer in their context, and none may be predicted."""
    max_length: Annotated[int, Field(ge=8)] = 128
    validation_from_train: Annotated[int, Field(ge=0)] = 0
    """Number of rows at the end of train that serve as validation rows, in languages that have none."""
    recipe: Defaults | None = None
    same_as: str | None = None
    """Another task of the suite with the same problem on other rows: a language trained in one is seen in both."""

    @property
    def places(self) -> list[TaskBlock]:
        """The task's parts, each as a task of its own; the task itself if it has none."""
        if not self.parts:
            return [self]
        given = [{name: value for name, value in part if value is not None} for part in self.parts]
        return [self.model_copy(update={**fields, "parts": []}) for fields in given]

    @property
    def patterns(self) -> list[str]:
        """The patterns of all files that the rows are made from."""
        return [*filter(None, (self.files, self.tag_files, self.english_files, self.gold_files))]

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no kind {kind!r}, only {', '.join(KINDS)}.{nearest(kind, KINDS)}")
        return kind

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for number, place in enumerate(self.places):
            where = f"parts[{number}]: " if self.parts else ""
            if (place.files is None) == (place.hub is None):
                raise ValueError(f"{where}rows come from either `files:` or `hub:`, and one of them")
            for key in ("tag_files", "english_files", "gold_files"):
                if getattr(place, key) and not place.files:
                    raise ValueError(f"{where}`{key}:` go with `files:`, not with `hub:`")
            if len(place.patterns) > 1 and any("*" in pattern for pattern in place.patterns):
                raise ValueError(f"{where}files that belong together are named one by one, without `*`")
            if bool(place.english_files) != bool(place.gold_files):
                raise ValueError(f"{where}`english_files:` and `gold_files:` go together")
            if place.label_values and len(place.label_values) != len(self.labels):
                raise ValueError(f"{where}{len(self.labels)} labels but {len(place.label_values)} label_values")
        if self.labels and self.labels_file:
            raise ValueError("labels are either named in `labels:` or read from `labels_file:`")
        return self


class Suite(_Block):
    name: str
    about: str = ""
    root: str = "."
    """Folder the `files:` patterns start from, relative to the suite file. `installed:NAME` is the folder of rows that
    an installed package provides with the suite NAME; `data:` is the folder that the environment variable TUNEXFER_DATA
    names (`data`, where it names none)."""
    tasks: dict[str, TaskBlock]

    @model_validator(mode="after")
    def _one_step_to_the_same(self) -> Self:
        for name, block in self.tasks.items():
            if block.same_as is None:
                continue
            where, other = f"tasks.{name}.same_as", self.tasks.get(block.same_as)
            if other is None:
                raise ValueError(f"{where}: there is no task {block.same_as!r}.{nearest(block.same_as, self.tasks)}")
            if other.same_as:
                raise ValueError(f"{where}: {block.same_as!r} is itself the same as another: write {other.same_as!r}")
        return self

    def task(self, name: str) -> TaskBlock:
        if name not in self.tasks:
            raise DataError(f"suite {self.name!r} has no task {name!r}.{nearest(name, self.tasks)}")
        return self.tasks[name]


def nearest(word: str, known: Any) -> str:
    """A sentence naming the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def starter_hint() -> str:
    """Return where the suite and encoders of the examples come from, if no installed package provides a suite."""
    if installed_suites():
        return ""
    return " 'starter' and its encoders come with the package tunexfer-starter: `make install` in a checkout."


def named_suites() -> list[str]:
    """Names of the suites that come with tunexfer or with an installed package."""
    return sorted({*_shipped_suites(), *installed_suites()})


def _shipped_suites() -> dict[str, Path]:
    folder = Path(str(resources.files("tunexfer.tasks") / "suites"))
    return {path.stem: path for path in folder.glob("*.yaml")}


def _suite_file(name: str, beside: Path | None) -> Path:
    if shipped := _shipped_suites().get(name):
        return shipped
    if provider := suite_provider(name):
        return provider.file
    path = (beside or Path()) / name
    if path.is_file():
        return path
    raise DataError(
        f"there is no suite {name!r}: neither a file nor one of {', '.join(named_suites())}."
        f"{nearest(name, named_suites())}{starter_hint()}"
    )


def load_suite(name: str, *, beside: Path | None = None) -> tuple[Suite, Path]:
    """Load a suite by name, shipped or installed, or from a file; also return the folder its `root` is relative to.

    beside: the folder a relative path starts from (the space file's)
    raises: DataError, naming every problem of the file
    """
    path = _suite_file(name, beside)
    try:
        suite = Suite.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        lines = [f"{path}, {'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise DataError("\n".join(lines)) from error
    return suite, path.parent
