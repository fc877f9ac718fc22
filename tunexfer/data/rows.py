"""A suite's rows: which there are, and the canonical table each task, language and split becomes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunexfer.core.files import write_whole
from tunexfer.core.graph import fingerprint
from tunexfer.core.scores import Split
from tunexfer.data.conllu import conllu_length, conllu_rows
from tunexfer.data.hub import commit, known_commit
from tunexfer.data.readers import BATCH, file_length, file_rows, hub_rows, paired_rows, tagged_rows
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import TUNING, Row
from tunexfer.tasks.kinds.columns import lacks
from tunexfer.tasks.suite import SPLITS, HubRows, Suite, TaskBlock

READ_SETTINGS = {
    *("kind", "columns", "labels", "label_values", "drop_labels", "unanswerable"),
    *("max_length", "answer_language_rules"),
}
"""The fields of a task block that rows, their encoding or their scores depend on; `drop_without` where it is given."""
SCORED_ROWS = {"extractive_qa": 2, "mining": 2}
"""By kind: raise by hand when the canonical rows of a kind come out otherwise, if those to train on stay the same."""


CONLLU = ".conllu"
OWN_DATA = "data:"
"""The root of files that only their owner may have."""


class Rows:
    """Where the rows of a suite's tasks lie, on disk or on the hub."""

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
        """The folder that `files:` patterns start from; the starter suite is built the first time."""
        if self._root is None:
            if self.suite.root == "starter:":
                from tunexfer.starter import build_suite

                self._root = build_suite(self.cache)
            elif self.suite.root == OWN_DATA:
                self._root = Path(os.environ.get("TUNEXFER_DATA", "data")).absolute()
            else:
                self._root = self._folder / self.suite.root
        return self._root

    @property
    def ready(self) -> bool:
        """Whether rows can be read without building the starter suite first."""
        if self.suite.root != "starter:":
            return True
        from tunexfer.starter.packages import is_built
        from tunexfer.starter.suite import suite_folder

        return is_built(suite_folder(self.cache))

    def task(self, name: str) -> TaskBlock:
        """The task as the suite has it, with the labels of its `labels_file:` in place."""
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
        """Languages that have rows of this split, in the order of the alphabet."""
        return [language for language in self._known(task) if self.count(task, language, split)]

    def count(self, task: str, language: str, split: Split) -> int:
        """Rows as the suite declares them, or as counted where it declares none."""
        held_out = self._held_out(task, language)
        if split == "validation" and held_out:
            return held_out
        return self._own_count(task, language, split) - (held_out if split == "train" else 0)

    def content(self, task: str, language: str, split: Split) -> str:
        """Hash of everything the canonical rows and their encoding depend on.

        Rows on the hub are those of a commit, which the hub is asked for the first time.
        """
        own = self._content(task, language, split)
        if not self._with_tuning(task, split):
            return own
        return fingerprint([own, self._content(task, language, "validation")])

    def _content(self, task: str, language: str, split: Split) -> str:
        read, held_out = self._read_split(task, language, split), self._held_out(task, language)
        parts = []
        for block in self._places(task, language, read):
            settings = block.model_dump(include=READ_SETTINGS) | {"where": _filled(block, language)}
            if block.drop_without:
                settings["drop_without"] = block.drop_without
            if split != "train" and block.kind in SCORED_ROWS:
                settings["version"] = SCORED_ROWS[block.kind]
            parts.append([settings | {"held_out": held_out}, self._place(task, block, language, read)])
        return fingerprint([task, language, split, *(parts[0] if len(parts) == 1 else parts)])

    def _place(self, task: str, block: TaskBlock, language: str, split: Split) -> Any:
        """What tells these rows from others: the bytes of their files, or the place and commit on the hub."""
        if block.hub:
            files = [block.hub.files, block.hub.options] if block.hub.files else []
            name = _fill(block.hub.name or "", block, language)
            return [block.hub.path, name, self._revision(block.hub), block.hub.splits.get(split, split), *files]
        hashes = [self._hash(file) for file in self._files(task, block, language, split)]
        return hashes[0] if len(hashes) == 1 else hashes

    def known(self, task: str, language: str, split: Split) -> bool:
        """Whether `content` can be told without the network: not of rows on the hub that were never read."""
        splits: list[Split] = [split, "validation"] if self._with_tuning(task, split) else [split]
        return all(
            known_commit(place.hub, self.cache)
            for one in splits
            for place in self._read_places(task, language, one)
            if place.hub and place.hub.has_commits
        )

    def address(self, task: str, language: str, split: Split) -> str | None:
        """`owner/name@commit` of rows on the hub, of the first set where there are several; None of other rows."""
        sets = (place.hub for place in self._read_places(task, language, split) if place.hub and place.hub.has_commits)
        return next((f"{hub.path}@{self._revision(hub)}" for hub in sets), None)

    def _read_places(self, task: str, language: str, split: Split) -> list[TaskBlock]:
        return self._places(task, language, self._read_split(task, language, split))

    def _revision(self, hub: HubRows) -> str | None:
        return commit(hub, self.cache) if hub.has_commits else hub.revision

    def table(self, task: str, language: str, split: Split) -> pa.Table:
        """The canonical rows, with the schema of the task's kind.

        Where the data has no ids, a row's id is its position in the file, so that parallel files share them.
        Before test rows of a kind that is tuned come the validation rows, told apart by a field.
        """
        own = self._split_table(task, language, split)
        if not self._with_tuning(task, split):
            return own
        if not self.count(task, language, "validation"):
            raise DataError(
                f"task {task!r} has no validation rows in {language!r}, and mining sets its threshold on them. "
                "Add some, or leave the language out with the target's `languages:`."
            )
        others = self._split_table(task, language, "validation")
        column = others.schema.get_field_index(TUNING)
        return pa.concat_tables([others.set_column(column, TUNING, pa.array([True] * len(others))), own])

    def _with_tuning(self, task: str, split: Split) -> bool:
        return split == "test" and KINDS[self.suite.task(task).kind].tuned

    def _split_table(self, task: str, language: str, split: Split) -> pa.Table:
        table = self._read(task, language, self._read_split(task, language, split))
        held_out = self._held_out(task, language)
        if held_out and split != "test":
            kept = max(0, table.num_rows - held_out)
            table = table.slice(0, kept) if split == "train" else table.slice(kept)
        return table

    def _held_out(self, task: str, language: str) -> int:
        """Rows at the end of train that serve as validation rows here."""
        wanted = self.suite.task(task).validation_from_train
        if not wanted or self._own_count(task, language, "validation"):
            return 0
        return min(wanted, self._own_count(task, language, "train"))

    def _read_split(self, task: str, language: str, split: Split) -> Split:
        """The split whose rows are read for it: train where validation rows are cut from it."""
        return "train" if split == "validation" and self._held_out(task, language) else split

    def _known(self, task: str) -> list[str]:
        """Every language the suite or the files name for a task."""
        found: set[str] = set()
        for block in self.suite.task(task).places:
            if block.rows or (block.codes and block.files):
                found |= {*block.rows, *block.codes}
            elif not block.files or not re.search(r"\{(language|code)\}", block.files):
                raise DataError(f"task {task!r}: its languages can't be seen from file names; declare them in `rows:`.")
            else:
                found |= _languages(block, self.root)
        return sorted(found)

    def _own_count(self, task: str, language: str, split: Split) -> int:
        places = self.suite.task(task).places
        return sum(self._count_place(task, number, block, language, split) for number, block in enumerate(places))

    def _count_place(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> int:
        if block.rows or block.hub:
            return block.rows.get(language, (0, 0, 0))[SPLITS.index(split)]
        key = (task, number, language, split)
        if key not in self._counted:
            self._counted[key] = self._look(task, block, language, split)
        return self._counted[key]

    def _look(self, task: str, block: TaskBlock, language: str, split: Split) -> int:
        files = self._matching(block.files or "", block, language, split)
        if not files:
            return 0
        if block.where or block.drop_labels or block.drop_without:
            return int(self._read_place(task, block, language, split).num_rows)
        if block.gold_files:
            foreign, english, pairs = self._files(task, block, language, split)
            return file_length(foreign) + file_length(english) - file_length(pairs)
        return sum(conllu_length(file) if file.suffix == CONLLU else file_length(file) for file in files)

    def _places(self, task: str, language: str, split: Split) -> list[TaskBlock]:
        """The task's parts that have rows of this split in this language; a task without parts as it is."""
        places = self.task(task).places
        if len(places) == 1:
            return places
        found = [
            block for number, block in enumerate(places) if self._count_place(task, number, block, language, split)
        ]
        if not found:
            raise DataError(
                f"task {task!r} has no {split} rows in {language!r}. "
                f"Languages with {split} rows: {', '.join(self.languages(task, split)) or 'none'}."
            )
        return found

    def _read(self, task: str, language: str, split: Split) -> pa.Table:
        tables = [self._read_place(task, block, language, split) for block in self._places(task, language, split)]
        return tables[0] if len(tables) == 1 else pa.concat_tables(map(_numbered, range(1, len(tables) + 1), tables))

    def _read_place(self, task: str, block: TaskBlock, language: str, split: Split) -> pa.Table:
        if block.hub:
            name = _fill(block.hub.name or "", block, language)
            files = _fill(block.hub.files or "", block, language)
            place = f"{block.hub.path} ({name or files or 'default'}), {split}"
            rows = hub_rows(block, name or None, files or None, split, self._revision(block.hub))
        else:
            paths = self._files(task, block, language, split)
            place, rows = ", ".join(map(str, paths)), _rows_of(paths, block, language)
        return canonical_table(rows, block, _filled(block, language), f"task {task!r}, {place}")

    def _files(self, task: str, block: TaskBlock, language: str, split: Split) -> list[Path]:
        """The files of the rows, then those of what belongs to them: tags, or English sentences and pairs."""
        found: list[Path] = []
        for pattern in block.patterns:
            files = self._matching(pattern, block, language, split)
            if not files:
                raise DataError(
                    f"task {task!r} has no {split} rows in {language!r}: "
                    f"{self._path(pattern, block, language, split)} isn't there. {self._what_to_do()} "
                    f"Languages with {split} rows: {', '.join(self.languages(task, split)) or 'none'}."
                )
            found += files
        return found

    def _matching(self, pattern: str, block: TaskBlock, language: str, split: Split) -> list[Path]:
        """The files there are of a pattern: one at most, or with `*` in it any number, by their names."""
        path = self._path(pattern, block, language, split)
        if "*" not in pattern:
            return [path] if path.is_file() else []
        return sorted(
            self.root.glob(path.relative_to(os.path.normpath(self.root)).as_posix()), key=lambda one: one.name
        )

    def _what_to_do(self) -> str:
        if self.suite.root != OWN_DATA:
            return "Correct the suite, or put the file there."
        return (
            "It can't be downloaded: set TUNEXFER_DATA to the folder with your copy of the data, "
            "or leave the task out of the space."
        )

    def _path(self, pattern: str, block: TaskBlock, language: str, split: Split) -> Path:
        return self._under_root(
            _fill(pattern.replace("{split}", block.splits.get(split, split)), block, language), "files"
        )

    def _under_root(self, name: str, key: str) -> Path:
        path = Path(os.path.normpath(self.root / name))
        if not path.is_relative_to(os.path.normpath(self.root)):
            raise DataError(f"`{key}: {name}` leads out of the suite's root, {self.root}. Set `root:` higher instead.")
        return path

    def _hash(self, file: Path) -> str:
        """SHA-256 of a file's bytes, remembered for as long as its size and time of change stay."""
        facts = file.stat()
        memo = self.cache / "hashes" / fingerprint([str(file.resolve()), facts.st_size, facts.st_mtime_ns])
        if not memo.is_file():
            with file.open("rb") as stream:
                write_whole(memo, hashlib.file_digest(stream, "sha256").hexdigest())
        return memo.read_text()


def _rows_of(files: list[Path], block: TaskBlock, language: str) -> Iterator[Row]:
    if block.tag_files:
        words, tags = files
        yield from tagged_rows(words, tags)
        return
    if block.gold_files:
        foreign, english, pairs = files
        yield from paired_rows(foreign, english, pairs)
        return
    for file in files:
        yield from conllu_rows(file, language) if file.suffix == CONLLU else file_rows(file)


def canonical_table(rows: Iterable[Row], block: TaskBlock, where: Mapping[str, str], place: str) -> pa.Table:
    """Source rows as their kind's canonical rows.

    where: column -> the value it must have (a last `*` stands for anything) for the row to be kept
    place: begins every error
    """
    kind = KINDS[block.kind]
    others: dict[str, set[str]] = {column: set() for column in where}
    firsts: dict[Any, str] = {}  # what rows are clustered by -> the first of them, whose id parallel files share

    def read() -> Iterator[Row]:
        for position, row in enumerate(rows):
            try:
                if not _kept(row, where, others) or lacks(row, block):
                    continue
                found = kind.read(row, block)
            except DataError as error:
                raise DataError(f"{place}, row {position}: {error}") from error
            if found is not None:
                identity = found.get("id", str(position))
                cluster = firsts.setdefault(found[kind.clustered_by], identity) if kind.clustered_by else identity
                yield {"id": identity, "cluster": cluster} | found

    canonical = read()
    batches = iter(lambda: list(itertools.islice(canonical, BATCH)), [])
    table = pa.Table.from_batches([pa.RecordBatch.from_pylist(b, schema=kind.schema) for b in batches], kind.schema)
    if not table.num_rows and any(others.values()):
        seen = "; ".join(f"{column} is {', '.join(sorted(values)[:8])}" for column, values in others.items() if values)
        raise DataError(
            f"{place}: no row passes `where: {dict(where)}`. In the data, {seen}. Correct `where:` or `codes:`."
        )
    return table


def _kept(row: Row, where: Mapping[str, str], others: dict[str, set[str]]) -> bool:
    """Whether the row passes; the value that kept it out goes to `others`, where there are few."""
    for column, wanted in where.items():
        if column not in row:
            raise DataError(f"there is no column {column!r} for `where:`. The data has {', '.join(row)}.")
        found = str(row[column])
        if not (found.startswith(wanted[:-1]) if wanted.endswith("*") else found == wanted):
            if len(others[column]) < 8:
                others[column].add(found)
            return False
    return True


def read_labels(file: Path) -> list[str]:
    """The labels of a JSON file, in order: a list, or a mapping of labels to their numbers from 0."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not JSON: {error}") from error
    labels = found
    if isinstance(found, dict):
        by_number = {number: label for label, number in found.items()}
        labels = [by_number.get(number) for number in range(len(found))]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{file} has to hold a list of labels, or an object of labels and their numbers from 0 on.")
    return labels


def _numbered(number: int, table: pa.Table) -> pa.Table:
    """Ids that say which part a row is from, as two parts may count their rows alike."""
    for name in ("id", "cluster"):
        column = table.schema.get_field_index(name)
        table = table.set_column(column, name, pc.binary_join_element_wise(str(number), table[name], "-"))
    return table


def _fill(pattern: str, block: TaskBlock, language: str) -> str:
    return pattern.replace("{language}", language).replace("{code}", block.codes.get(language, language))


def _filled(block: TaskBlock, language: str) -> dict[str, str]:
    return {column: _fill(wanted, block, language) for column, wanted in block.where.items()}


def _languages(block: TaskBlock, root: Path) -> set[str]:
    """The languages for which some file of the block's pattern is there."""
    pattern = block.files or ""
    files = root.glob(re.sub(r"\{\w+\}", "*", pattern))
    splits = [re.escape(block.splits.get(split, split)) for split in SPLITS]
    form = re.escape(pattern).replace(r"\{split\}", f"({'|'.join(splits)})").replace(r"\*", "[^/]*")
    form = re.sub(r"\\\{(language|code)\\\}", "(?P<language>[^/]+)", form, count=1)
    form = re.sub(r"\\\{(language|code)\\\}", "(?P=language)", form)
    found = (re.fullmatch(form, file.relative_to(root).as_posix()) for file in files)
    return {match["language"] for match in found if match}
