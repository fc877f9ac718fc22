"""The rows of a suite: how many there are, and the canonical table of each task, language and split."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunexfer.core.graph import fingerprint
from tunexfer.core.scores import Split
from tunexfer.data.canonical import canonical_table, joined
from tunexfer.data.hub import commit, known_commit
from tunexfer.data.origin import Origin
from tunexfer.data.readers import reader_of
from tunexfer.errors import DataError
from tunexfer.tasks.installed import Progress, Provider, build, suite_provider
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import TUNING
from tunexfer.tasks.suite import SPLITS, HubRows, Suite, TaskBlock, starter_hint

READ_SETTINGS = {
    *("kind", "columns", "labels", "label_values", "drop_labels", "unanswerable"),
    *("max_length", "answer_language_rules"),
}
"""The fields of a task block that rows, their encoding or their scores depend on; `drop_without` where it is given."""

INSTALLED = "installed:"
"""The root of rows that an installed package provides: `installed:NAME`."""
OWN_DATA = "data:"
"""The root of data that cannot be downloaded: the folder that TUNEXFER_DATA names."""


class Rows:
    """The rows of a suite's tasks, on disk or on the hub."""

    def __init__(self, suite: Suite, folder: Path, cache: Path) -> None:
        """folder: what the suite's `root` is relative to; cache: where built suites and file hashes are kept"""
        self.suite = suite
        self.cache = cache
        self._folder = folder
        self._root: Path | None = None
        self._counted: dict[tuple[str, int, str, Split], int] = {}
        self._labelled: dict[str, TaskBlock] = {}

    @property
    def root(self) -> Path:
        """The folder that `files:` patterns start from; rows of an installed package are built the first time."""
        if self._root is None:
            if self._provider:
                self._root = build(self._provider, self.cache)
            elif self.suite.root == OWN_DATA:
                self._root = Path(os.environ.get("TUNEXFER_DATA", "data")).absolute()
            else:
                self._root = self._folder / self.suite.root
        return self._root

    @property
    def ready(self) -> bool:
        """Whether rows can be read without building them first."""
        return self._provider is None or self._provider.find(self.cache) is not None

    def build(self, on_progress: Progress) -> None:
        """Build the rows if an installed package provides them and they aren't built yet."""
        if self._provider:
            self._root = build(self._provider, self.cache, on_progress)

    @cached_property
    def _provider(self) -> Provider | None:
        """The package that the suite's rows come from; None for files and rows on the hub."""
        if not self.suite.root.startswith(INSTALLED):
            return None
        name = self.suite.root.removeprefix(INSTALLED)
        if provider := suite_provider(name):
            return provider
        raise DataError(f"suite {self.suite.name!r}: no installed package provides rows of {name!r}.{starter_hint()}")

    def task(self, name: str) -> TaskBlock:
        """Return the suite's task, with the labels of its `labels_file:` filled in."""
        block = self.suite.task(name)
        if not block.labels_file:
            return block
        if name not in self._labelled:
            file = self._under_root(block.labels_file, "labels_file")
            if not file.is_file():
                raise DataError(f"task {name!r} takes its labels from {file}, which isn't there. {self._what_to_do()}")
            labels = read_labels(file)
            self._labelled[name] = block.model_copy(update={"labels": labels, "labels_file": None})
        return self._labelled[name]

    def languages(self, task: str, split: Split) -> list[str]:
        """List the languages that have rows of this split, in alphabetical order."""
        return [language for language in self._known(task) if self.count(task, language, split)]

    def count(self, task: str, language: str, split: Split) -> int:
        """Return the number of rows that the suite declares, or count them if it declares none."""
        held_out = self._held_out(task, language)
        if split == "validation" and held_out:
            return held_out
        return self._own_count(task, language, split) - (held_out if split == "train" else 0)

    def content(self, task: str, language: str, split: Split) -> str:
        """Hash everything that the canonical rows and their encoding depend on.

        The hub is asked for the commit of a data set that has not been used before.
        """
        contents = [self._content(task, language, part) for part in self._splits(task, split)]
        return contents[0] if len(contents) == 1 else fingerprint(contents)

    def _content(self, task: str, language: str, split: Split) -> str:
        held_out = self._held_out(task, language)
        parts = [
            [_settings(origin, split) | {"held_out": held_out}, reader_of(origin).identity(origin)]
            for origin in self._origins(task, language, split)
        ]
        return fingerprint([task, language, split, *(parts[0] if len(parts) == 1 else parts)])

    def known(self, task: str, language: str, split: Split) -> bool:
        """Whether `content` can be computed without asking the hub for the commit of a data set."""
        hubs = [hub for part in self._splits(task, split) for hub in self._hubs(task, language, part)]
        return all(known_commit(hub, self.cache) for hub in hubs)

    def address(self, task: str, language: str, split: Split) -> str | None:
        """Return `owner/name@commit` of the rows' first data set on the hub, or None if they are not on the hub."""
        hubs = self._hubs(task, language, split)
        return f"{hubs[0].path}@{commit(hubs[0], self.cache)}" if hubs else None

    def _hubs(self, task: str, language: str, split: Split) -> list[HubRows]:
        _, blocks = self._blocks(task, language, split)
        return [block.hub for block in blocks if block.hub and block.hub.has_commits]

    def table(self, task: str, language: str, split: Split) -> pa.Table:
        """Read the canonical rows, with the schema of the task's kind.

        A row without an id in the data takes its position in the file, so that parallel files share ids. Test rows of
        a kind that is `tuned` come after the validation rows, which are marked in the column `TUNING`.
        """
        own = self._split_table(task, language, split)
        if len(self._splits(task, split)) == 1:
            return own
        if not self.count(task, language, "validation"):
            raise DataError(
                f"task {task!r} has no validation rows in {language!r}, and mining sets its threshold on them. "
                "Add some, or leave the language out with the target's `languages:`."
            )
        tuning = self._split_table(task, language, "validation")
        column = tuning.schema.get_field_index(TUNING)
        return pa.concat_tables([tuning.set_column(column, TUNING, pa.array([True] * len(tuning))), own])

    def _splits(self, task: str, split: Split) -> list[Split]:
        """The splits whose rows make up the table."""
        tuned = split == "test" and KINDS[self.suite.task(task).kind].tuned
        return [split, "validation"] if tuned else [split]

    def _split_table(self, task: str, language: str, split: Split) -> pa.Table:
        table = joined([_read(task, origin) for origin in self._origins(task, language, split)])
        held_out = self._held_out(task, language)
        if held_out and split != "test":
            kept = max(0, table.num_rows - held_out)
            table = table.slice(0, kept) if split == "train" else table.slice(kept)
        return table

    def _held_out(self, task: str, language: str) -> int:
        """Number of rows at the end of train that serve as validation rows of this language."""
        wanted = self.suite.task(task).validation_from_train
        if not wanted or self._own_count(task, language, "validation"):
            return 0
        return min(wanted, self._own_count(task, language, "train"))

    def _known(self, task: str) -> list[str]:
        """Every language that the suite declares for a task, or that its files are named after."""
        languages: set[str] = set()
        for block in self.suite.task(task).places:
            if block.rows or (block.codes and block.files):
                languages |= {*block.rows, *block.codes}
            elif not block.files or not re.search(r"\{(language|code)\}", block.files):
                raise DataError(f"task {task!r}: its languages can't be seen from file names; declare them in `rows:`.")
            else:
                languages |= _languages(block, self.root)
        return sorted(languages)

    def _own_count(self, task: str, language: str, split: Split) -> int:
        places = self.suite.task(task).places
        return sum(self._place_count(task, number, place, language, split) for number, place in enumerate(places))

    def _place_count(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> int:
        if block.rows:
            return block.rows.get(language, (0, 0, 0))[SPLITS.index(split)]
        key = (task, number, language, split)
        if key not in self._counted:
            self._counted[key] = self._counted_rows(task, number, block, language, split)
        return self._counted[key]

    def _counted_rows(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> int:
        if not self._matching(block.files or "", self._origin(block, language, split)):
            return 0
        if block.where or block.drop_labels or block.drop_without:
            labelled = self.task(task).places[number]
            return int(_read(task, self._resolved(task, labelled, language, split)).num_rows)
        origin = self._resolved(task, block, language, split)
        return reader_of(origin).count(origin)

    def _blocks(self, task: str, language: str, split: Split) -> tuple[Split, list[TaskBlock]]:
        """The split that rows are read from (train, if it has the validation rows), and the task's parts with rows."""
        if split == "validation" and self._held_out(task, language):
            split = "train"
        blocks = self.task(task).places
        if len(blocks) == 1:
            return split, blocks
        own = [block for number, block in enumerate(blocks) if self._place_count(task, number, block, language, split)]
        if not own:
            raise DataError(f"task {task!r} has no {split} rows in {language!r}. {self._languages_with(task, split)}")
        return split, own

    def _origins(self, task: str, language: str, split: Split) -> list[Origin]:
        read_split, blocks = self._blocks(task, language, split)
        return [self._resolved(task, block, language, read_split) for block in blocks]

    def _origin(self, block: TaskBlock, language: str, split: Split) -> Origin:
        return Origin(block=block, language=language, split=split, cache=self.cache)

    def _resolved(self, task: str, block: TaskBlock, language: str, split: Split) -> Origin:
        """Find the files of a block's rows, then the files that belong to them: tags, or sentences and pairs."""
        origin = self._origin(block, language, split)
        files: list[Path] = []
        for pattern in block.patterns:
            matches = self._matching(pattern, origin)
            if not matches:
                others = "" if files else f" {self._languages_with(task, split)}"
                raise DataError(
                    f"task {task!r} has no {split} rows in {language!r}: {self._path(pattern, origin)} isn't there. "
                    f"{self._what_to_do()}{others}"
                )
            files += matches
        return replace(origin, files=tuple(files))

    def _matching(self, pattern: str, origin: Origin) -> list[Path]:
        """The files that match a pattern: at most one, or with `*` in it any number, sorted by name."""
        path = self._path(pattern, origin)
        if "*" not in pattern:
            return [path] if path.is_file() else []
        relative = path.relative_to(os.path.normpath(self.root)).as_posix()
        return sorted(self.root.glob(relative), key=lambda file: file.name)

    def _path(self, pattern: str, origin: Origin) -> Path:
        split = origin.block.splits.get(origin.split, origin.split)
        return self._under_root(origin.filled(pattern.replace("{split}", split)), "files")

    def _under_root(self, name: str, key: str) -> Path:
        path = Path(os.path.normpath(self.root / name))
        if not path.is_relative_to(os.path.normpath(self.root)):
            raise DataError(f"`{key}: {name}` leads out of the suite's root, {self.root}. Set `root:` higher instead.")
        return path

    def _languages_with(self, task: str, split: Split) -> str:
        return f"Languages with {split} rows: {', '.join(self.languages(task, split)) or 'none'}."

    def _what_to_do(self) -> str:
        if self.suite.root != OWN_DATA:
            return "Correct the suite, or put the file there."
        return (
            "It can't be downloaded: set TUNEXFER_DATA to the folder with your copy of the data, "
            "or leave the task out of the space."
        )


def _read(task: str, origin: Origin) -> pa.Table:
    return canonical_table(reader_of(origin).rows(origin), origin.block, origin.where, f"task {task!r}, {origin}")


def _settings(origin: Origin, split: Split) -> dict[str, Any]:
    """The settings that the canonical rows of a split depend on."""
    block = origin.block
    settings = block.model_dump(include=READ_SETTINGS) | {"where": origin.where}
    if block.drop_without:
        settings["drop_without"] = block.drop_without
    version = KINDS[block.kind].rows_version
    if split != "train" and version > 1:
        settings["version"] = version
    return settings


def read_labels(file: Path) -> list[str]:
    """Read the labels of a JSON file, in order: a list, or an object of labels and their numbers from 0."""
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not JSON: {error}") from error
    if isinstance(labels, dict):
        by_number = {number: label for label, number in labels.items()}
        labels = [by_number.get(number) for number in range(len(labels))]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{file} has to hold a list of labels, or an object of labels and their numbers from 0 on.")
    return labels


def _languages(block: TaskBlock, root: Path) -> set[str]:
    """The languages of the files that match the block's pattern."""
    pattern = block.files or ""
    files = root.glob(re.sub(r"\{\w+\}", "*", pattern))
    splits = [re.escape(block.splits.get(split, split)) for split in SPLITS]
    form = re.escape(pattern).replace(r"\{split\}", f"({'|'.join(splits)})").replace(r"\*", "[^/]*")
    form = re.sub(r"\\\{(language|code)\\\}", "(?P<language>[^/]+)", form, count=1)
    form = re.sub(r"\\\{(language|code)\\\}", "(?P=language)", form)
    matches = (re.fullmatch(form, file.relative_to(root).as_posix()) for file in files)
    return {match["language"] for match in matches if match}
