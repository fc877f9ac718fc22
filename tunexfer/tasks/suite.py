"""Suites: named sets of tasks, read from YAML. Data, not code: a new task is a new block."""

from __future__ import annotations

import codecs
import difflib
import posixpath
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tunexfer.core.scores import Split
from tunexfer.core.yaml_text import boolean_sentence, read_mapping
from tunexfer.errors import DataError
from tunexfer.tasks.installed import installed_suites, suite_provider
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.metrics.chunks import Scheme

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def _named_like_a_path(name: str) -> str:
    if posixpath.normpath(f"x/{name}") != f"x/{name}" or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"{name!r} can't be a name, since folders and metrics are named after it: leave out empty parts, '.' and "
            "'..' between slashes, line ends, and spaces around it"
        )
    return name


PathName = Annotated[str, AfterValidator(_named_like_a_path)]
"""A name that can be part of a path, as in the names of metrics."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadOptions(_Block):
    """The way files are read, where their names don't tell."""

    format: Literal["jsonl", "json", "parquet", "csv", "tsv", "conll", "conllu", "text"] | None = None
    """By default what the suffix says, that of the compression aside."""
    header: bool = True
    """Tables: whether the first row names the columns."""
    columns: list[str] = []
    """Tables and CoNLL: names of the columns, in order, if the file has none or others."""
    separator: str | None = None
    """Tables: what parts two fields, a comma or a tab by default. CoNLL: any spaces and tabs by default."""
    quoting: bool | None = None
    """Tables: whether quotation marks enclose fields, as the csv module has it. By default they do in CSV; a TSV whose
    fields begin with one has to say."""
    encoding: str | None = None
    """By default UTF-8, or UTF-16 or UTF-32 if the file begins like it."""
    words: Literal["surface", "syntactic"] = "surface"
    """CoNLL-U: multi-word tokens as one word, or the words they stand for."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.header and not self.columns:
            raise ValueError("a table without a header needs the names of its columns: `columns: [text, label]`")
        if self.encoding:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise ValueError(f"{error}; write `encoding: latin-1`, `cp1252`, `utf-16` or the like") from error
        return self


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
    options: dict[str, str | bool | int | list[str | int] | None] = {}
    """Options of that format's reader: `{sep: "\\t"}`."""

    @property
    def has_commits(self) -> bool:
        """Tell whether `path` is a set on the hub: neither a format nor a folder on this machine."""
        return "/" in self.path and not Path(self.path).is_dir()


class _Part(_Block):
    """Some of a task's rows, from another place or in another form; fields that are left out are the task's."""

    files: str | None = None
    read: ReadOptions | None = None
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


class _Defaults(_Block):
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
    """Pattern of files under the suite's root: `xnli/{language}/{split}.jsonl`; also inside an archive,
    `xnli.zip/{language}/{split}.jsonl`. With `*` in it, all files that fit are read, by their names."""
    read: ReadOptions | None = None
    """How these files are read, where their names don't tell."""
    tag_files: str | None = None
    """Pattern of files with the tags of `files`, both of them text: a sentence a line, a space between two words."""
    english_files: str | None = None
    """Pattern of the English sentences, if `files` are the foreign ones: a sentence a line, whose rows have the columns
    `text` and `english`. With `gold_files`, an id, a tab and a sentence a line, and the columns also `id` and
    `english_id`."""
    gold_files: str | None = None
    """Mining: the pairs among them, a foreign id, a tab and an English id a line."""
    splits: dict[Split, str] = {}
    """What `{split}` stands for, if it isn't our own name of the split. Where neither `files` nor `where` have
    `{split}`, it names the one split that the rows are."""
    hub: HubRows | None = None
    parts: list[_Part] = []
    """Several places whose rows make up one task, with one head: several sets, or another one in each language."""
    codes: dict[str, str] = {}
    """What `{code}` stands for, per language, if the data has names of its own for languages."""
    where: dict[str, str] = {}
    """Keep only rows whose column has this value, or begins with it: `english-*`. `{language}`, `{code}` and `{split}`
    as above."""
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
    answer_offsets: Literal["characters", "bytes", "utf-16"] = "characters"
    """Extractive QA: what `answer_start` counts: characters, bytes of UTF-8, or the units of UTF-16 (JavaScript's)."""
    scheme: Scheme | None = None
    """Tagging: where tags have the position in a chunk: `prefix` (B-PER: IOB, BIOES, BILOU), `suffix` (PER-B), `bare`
    (PER, equal tags side by side are a chunk), or `xtreme`, as its scorer reads bare tags. By default what fits."""
    allow_dropped: bool = False
    """Use the rest even where more than half of the rows can't be used."""
    label_piece: Literal["content", "first"] = "content"
    """Tagging: the piece of a word that carries its tag: the first with a character of the word in it, or simply the
    first, as XTREME has it, which may be the bare space before the word."""
    unanswerable: bool = False
    """Extractive QA: some questions have no answer in their context, and none may be predicted."""
    max_length: Annotated[int, Field(ge=8)] = 128
    validation_from_train: Annotated[int, Field(ge=0)] = 0
    """Number of rows at the end of train that serve as validation rows, in languages that have none."""
    recipe: _Defaults | None = None
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

    @property
    def only_split(self) -> Split | None:
        """The one split of all rows, where neither the names of files nor `where:` tell splits apart.

        None where they do, or where that is left to the hub.
        """
        pattern = self.files or (self.hub.files if self.hub else None)
        if pattern is None or "{split}" in pattern or any("{split}" in value for value in self.where.values()):
            return None
        splits: list[Split] = [*(self.hub.splits if self.hub else self.splits)]
        if not splits:
            splits = [split for at, split in enumerate(SPLITS) if any(counts[at] for counts in self.rows.values())]
        if not splits and not KINDS[self.kind].scored:
            splits = ["train"]
        if len(splits) == 1:
            return splits[0]
        raise ValueError(
            f"`files: {pattern}` has no {{split}}, so train, validation and test would be the same rows. Put {{split}} "
            'into it, name a column that tells splits apart, `where: {split: "{split}"}`, or name the one split that '
            "the rows are, `splits: {test: all}`"
        )

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
            for key in ("files", "tag_files", "english_files", "gold_files"):
                _check_fields(f"{where}{key}", getattr(place, key) or "")
            for key in ("tag_files", "english_files", "gold_files"):
                if getattr(place, key) and not place.files:
                    raise ValueError(f"{where}`{key}:` go with `files:`, not with `hub:`")
            if len(place.patterns) > 1 and any("*" in pattern for pattern in place.patterns):
                raise ValueError(f"{where}files that belong together are named one by one, without `*`")
            if place.gold_files and not place.english_files:
                raise ValueError(f"{where}`gold_files:` go with `english_files:`")
            if place.label_values and len(place.label_values) != len(self.labels):
                raise ValueError(f"{where}{len(self.labels)} labels but {len(place.label_values)} label_values")
        if twice := {label for label in self.labels if self.labels.count(label) > 1}:
            raise ValueError(f"the label {min(twice)!r} is there twice in `labels:`")
        if self.labels and self.labels_file:
            raise ValueError("labels are either named in `labels:` or read from `labels_file:`")
        return self


def _check_fields(key: str, pattern: str) -> None:
    unknown = sorted({*re.findall(r"\{(.*?)\}", pattern)} - {"language", "code", "split"})
    if unknown:
        raise ValueError(f"{key}: there is no {{{unknown[0]}}} to fill in, only {{language}}, {{code}} and {{split}}")


class Suite(_Block):
    name: str
    about: str = ""
    root: str = "."
    """Folder the `files:` patterns start from, relative to the suite file. `installed:NAME` is the folder of rows that
    an installed package provides with the suite NAME; `data:` is the folder that the environment variable TUNEXFER_DATA
    names (`data`, where it names none)."""
    tasks: Annotated[dict[PathName, TaskBlock], Field(min_length=1)]

    @model_validator(mode="after")
    def _tasks_fit_their_kinds(self) -> Self:
        lines = []
        for name, block in self.tasks.items():
            for place in block.places:
                lines += [f"tasks.{name}: {problem}" for problem in KINDS[block.kind].problems(place)]
                try:
                    place.only_split  # noqa: B018  raises where splits would share rows
                except ValueError as error:
                    lines.append(f"tasks.{name}: {error}")
        if lines:
            raise ValueError("\n".join(dict.fromkeys(lines)))
        return self

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


_KEYS = {key for model in (Suite, TaskBlock, _Part, HubRows, ReadOptions, _Defaults) for key in model.model_fields}


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
        raw = read_mapping(path, "a suite is a mapping with `name:` and `tasks:`")
    except ValueError as error:
        raise DataError(str(error)) from error
    try:
        return Suite.model_validate(raw), path.parent
    except ValidationError as error:
        raise DataError("\n".join(f"{path}, {_explained(problem)}" for problem in error.errors())) from error


def _explained(problem: Any) -> str:
    """Word a problem in one line: its path in the file, and what is wrong."""
    loc = [str(part) for part in problem["loc"] if part != "[key]"]
    value, message = problem["input"], problem["msg"].removeprefix("Value error, ")
    if isinstance(value, bool) and "bool" not in problem["type"]:
        message = boolean_sentence(value)
    elif problem["type"] == "extra_forbidden":
        message = f"there is no such key.{nearest(loc[-1], _KEYS)}"
    elif problem["type"] == "missing":
        message = "is missing"
    return ": ".join(filter(None, (".".join(loc), message)))
