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
import pyarrow.parquet as pq

from tunexfer.core.fingerprint import fingerprint
from tunexfer.core.folder import write_whole
from tunexfer.core.scores import Split
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import SPLITS, Suite, TaskBlock

READ_SETTINGS = {
    *("kind", "columns", "labels", "label_values", "drop_labels", "unanswerable"),
    *("max_length", "answer_language_rules"),
}
"""The fields of a task block that rows, their encoding or their scores depend on."""
BATCH = 1000
"""Rows read at once; only canonical rows are held."""


class Rows:
    """Where the rows of a suite's tasks lie, on disk or on the hub."""

    def __init__(self, suite: Suite, folder: Path, cache: Path) -> None:
        """folder: what the suite's `root` is relative to; cache: where built suites and file hashes are kept"""
        self.suite = suite
        self.cache = cache
        self._folder = folder
        self._root: Path | None = None
        self._counted: dict[tuple[str, str, Split], int] = {}

    @property
    def root(self) -> Path:
        """The folder that `files:` patterns start from; the starter suite is built the first time."""
        if self._root is None:
            if self.suite.root == "starter:":
                from tunexfer.starter import build_suite

                self._root = build_suite(self.cache)
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
        """Hash of everything the canonical rows and their encoding depend on."""
        block = self.suite.task(task)
        read = self._read_split(task, language, split)
        settings = block.model_dump(include=READ_SETTINGS) | {"where": _filled(block, language)}
        settings["held_out"] = self._held_out(task, language)
        if block.hub:
            name = _fill(block.hub.name or "", block, language)
            place: Any = [block.hub.path, name, block.hub.revision, block.hub.splits.get(read, read)]
        else:
            place = self._hash(self._file(task, language, read))
        return fingerprint([task, language, split, settings, place])

    def table(self, task: str, language: str, split: Split) -> pa.Table:
        """The canonical rows, with the schema of the task's kind.

        Where the data has no ids, a row's id is its position in the file, so that parallel files share them.
        """
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
        block = self.suite.task(task)
        if block.rows or (block.codes and block.files):
            return sorted({*block.rows, *block.codes})
        if not block.files or not re.search(r"\{(language|code)\}", block.files):
            raise DataError(f"task {task!r}: its languages can't be seen from file names; declare them in `rows:`.")
        return sorted(_languages(block.files, self.root))

    def _own_count(self, task: str, language: str, split: Split) -> int:
        block = self.suite.task(task)
        if block.rows or block.hub:
            return block.rows.get(language, (0, 0, 0))[SPLITS.index(split)]
        key = (task, language, split)
        if key not in self._counted:
            self._counted[key] = self._look(task, language, split)
        return self._counted[key]

    def _look(self, task: str, language: str, split: Split) -> int:
        block = self.suite.task(task)
        file = self._path(block, language, split)
        if not file.is_file():
            return 0
        if block.where or block.drop_labels:
            return int(self._read(task, language, split).num_rows)
        return file_length(file)

    def _read(self, task: str, language: str, split: Split) -> pa.Table:
        block = self.suite.task(task)
        if block.hub:
            place = f"{block.hub.path} ({_fill(block.hub.name or 'default', block, language)}), {split}"
            rows = hub_rows(block, _fill(block.hub.name or "", block, language) or None, split)
        else:
            file = self._file(task, language, split)
            place, rows = str(file), file_rows(file)
        return canonical_table(rows, block, _filled(block, language), f"task {task!r}, {place}")

    def _file(self, task: str, language: str, split: Split) -> Path:
        file = self._path(self.suite.task(task), language, split)
        if not file.is_file():
            raise DataError(
                f"task {task!r} has no {split} rows in {language!r}: {file} isn't there. "
                f"Languages with {split} rows: {', '.join(self.languages(task, split)) or 'none'}."
            )
        return file

    def _path(self, block: TaskBlock, language: str, split: Split) -> Path:
        pattern = _fill((block.files or "").replace("{split}", split), block, language)
        path = Path(os.path.normpath(self.root / pattern))
        if not path.is_relative_to(os.path.normpath(self.root)):
            raise DataError(
                f"`files: {pattern}` leads out of the suite's root, {self.root}. Set `root:` higher instead."
            )
        return path

    def _hash(self, file: Path) -> str:
        """SHA-256 of a file's bytes, remembered for as long as its size and time of change stay."""
        facts = file.stat()
        memo = self.cache / "hashes" / fingerprint([str(file.resolve()), facts.st_size, facts.st_mtime_ns])
        if not memo.is_file():
            with file.open("rb") as stream:
                write_whole(memo, hashlib.file_digest(stream, "sha256").hexdigest())
        return memo.read_text()


def canonical_table(rows: Iterable[Row], block: TaskBlock, where: Mapping[str, str], place: str) -> pa.Table:
    """Source rows as their kind's canonical rows.

    where: column -> the value it must have (a last `*` stands for anything) for the row to be kept
    place: begins every error
    """
    kind = KINDS[block.kind]
    others: dict[str, set[str]] = {column: set() for column in where}

    def read() -> Iterator[Row]:
        for position, row in enumerate(rows):
            try:
                if not _kept(row, where, others):
                    continue
                found = kind.read(row, block)
            except DataError as error:
                raise DataError(f"{place}, row {position}: {error}") from error
            if found is not None:
                identity = found.get("id", str(position))
                yield {"id": identity, "cluster": found.get("cluster", identity)} | found

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


def file_rows(file: Path) -> Iterator[Row]:
    """The rows of a JSONL or Parquet file, in order."""
    if file.suffix == ".parquet":
        try:
            for batch in pq.ParquetFile(file).iter_batches(BATCH):
                yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise DataError(f"{file} is not a Parquet file: {error}") from error
    elif file.suffix == ".jsonl":
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _json_row(line, f"{file}, line {number}")
    else:
        raise DataError(f"{file}: rows are read from .jsonl or .parquet files; convert it, or correct `files:`.")


def _json_row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f'{place}: a row is an object like {{"text": ...}}, but got {line.strip()[:60]}.')
    return row


def file_length(file: Path) -> int:
    """Rows of a JSONL or Parquet file."""
    if file.suffix == ".parquet":
        return int(pq.read_metadata(file).num_rows)
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def hub_rows(block: TaskBlock, name: str | None, split: Split) -> Iterator[Row]:
    """The rows of a split on the hub. Labels that the hub has names for come as names if those are the block's own."""
    assert block.hub is not None
    import datasets

    where = f"{block.hub.path}, config {name or 'default'}, split {block.hub.splits.get(split, split)!r}"
    try:
        found = datasets.load_dataset(
            block.hub.path, name, revision=block.hub.revision, split=block.hub.splits.get(split, split)
        )
    except Exception as error:  # the hub's client, the cache and the network raise a dozen unrelated types
        raise DataError(
            f"could not load {where}: {type(error).__name__}: {error}. Check the id, config, revision and split, "
            "and the network; data loaded once is found again without it."
        ) from error
    names = {column: _label_names(feature) for column, feature in found.features.items()}
    named = {column: own for column, own in names.items() if not block.label_values and set(own) == set(block.labels)}
    for batch in found.with_format("arrow").iter(batch_size=BATCH):
        for row in batch.to_pylist():
            yield row | {column: _named(row[column], own) for column, own in named.items()}


def _label_names(feature: Any) -> list[str]:
    """Names of a ClassLabel column, or of a list of them; none for other columns."""
    return list(getattr(getattr(feature, "feature", feature), "names", None) or [])


def _named(label: Any, names: list[str]) -> Any:
    if isinstance(label, list):
        return [_named(one, names) for one in label]
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


def _fill(pattern: str, block: TaskBlock, language: str) -> str:
    return pattern.replace("{language}", language).replace("{code}", block.codes.get(language, language))


def _filled(block: TaskBlock, language: str) -> dict[str, str]:
    return {column: _fill(wanted, block, language) for column, wanted in block.where.items()}


def _languages(pattern: str, root: Path) -> set[str]:
    """The languages for which some file of the pattern is there."""
    files = root.glob(re.sub(r"\{\w+\}", "*", pattern))
    form = re.escape(pattern).replace(r"\{split\}", f"({'|'.join(SPLITS)})")
    form = re.sub(r"\\\{(language|code)\\\}", "(?P<language>[^/]+)", form, count=1)
    form = re.sub(r"\\\{(language|code)\\\}", "(?P=language)", form)
    found = (re.fullmatch(form, file.relative_to(root).as_posix()) for file in files)
    return {match["language"] for match in found if match}
