"""Readers: how rows are read from each format. A new format is an entry of `READERS`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.data.checkpoint import file_hash
from tunexfer.data.conllu import conllu_count, conllu_rows
from tunexfer.data.hub import hub_identity, hub_rows
from tunexfer.data.origin import BATCH, Origin, numbered_lines
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row


def file_hashes(origin: Origin) -> Any:
    """Identify rows by the SHA-256 of their file, or of each of several."""
    hashes = [file_hash(file, origin.cache) for file in origin.files]
    return hashes[0] if len(hashes) == 1 else hashes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """One format, for the blocks that have `field`, or for the files whose names end in `suffix`."""

    rows: Callable[[Origin], Iterator[Row]]
    """Yields rows with the data's own columns. Raises a DataError with the file and line of a row it cannot read."""
    quick_count: Callable[[Origin], int] | None = None
    """Counts the rows without parsing them, in formats that allow it."""
    identity: Callable[[Origin], Any] = file_hashes
    """Returns a JSON value that changes with the rows."""
    suffix: str | None = None
    field: str | None = None
    """Name of a field of `TaskBlock`."""

    def count(self, origin: Origin) -> int:
        return self.quick_count(origin) if self.quick_count else sum(1 for _ in self.rows(origin))


def reader_of(origin: Origin) -> Reader:
    """Select the first reader that fits.

    raises: DataError, if the files' suffix is unknown
    """
    for reader in READERS.values():
        if reader.field and getattr(origin.block, reader.field):
            return reader
        if reader.suffix and all(file.name.endswith(reader.suffix) for file in origin.files):
            return reader
    suffixes = ", ".join(reader.suffix for reader in READERS.values() if reader.suffix)
    raise DataError(f"{origin}: rows are read from files that end in {suffixes}. Convert them, or correct `files:`.")


def jsonl_rows(file: Path) -> Iterator[Row]:
    for number, line in numbered_lines(file):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{file}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(
                    f'{file}, line {number}: a row is an object like {{"text": ...}}, but got {line.strip()[:60]}.'
                )
            yield row


def line_count(file: Path) -> int:
    """Count the lines that are not blank."""
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def parquet_rows(file: Path) -> Iterator[Row]:
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(BATCH):
            yield from batch.to_pylist()


def parquet_count(file: Path) -> int:
    with _opened(file) as parquet:
        return int(parquet.metadata.num_rows)


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a Parquet file, or is damaged: {error}") from error


def tagged_rows(origin: Origin) -> Iterator[Row]:
    """Yield `tokens` and `tags` from two text files: one sentence a line, separated by spaces."""
    words, tags = origin.files
    for sentence, labels in itertools.zip_longest(numbered_lines(words), numbered_lines(tags)):
        if sentence is None or labels is None:
            longer, shorter = (words, tags) if labels is None else (tags, words)
            number, _ = sentence or labels
            raise DataError(f"{longer} goes on at line {number}, where {shorter} has ended: they have to correspond.")
        row = {"tokens": sentence[1].split(), "tags": labels[1].split()}
        if len(row["tokens"]) != len(row["tags"]):
            raise DataError(
                f"{words}, line {sentence[0]}: {len(row['tokens'])} words, but {len(row['tags'])} tags in {tags}."
            )
        yield row


def paired_rows(origin: Origin) -> Iterator[Row]:
    """Yield `id`, `text`, `english_id` and `english` of each pair and of each sentence that is in none.

    The files are the foreign and the English sentences (lines of an id, a tab and a sentence; lines without a sentence
    are skipped) and the pairs (lines of a foreign id, a tab and an English id; a repeated pair counts once).
    """
    foreign, english, pairs = origin.files
    theirs, ours = _sentences(foreign), _sentences(english)
    partners: dict[str, list[str]] = {}
    for number, name, partner in _tabbed(pairs):
        for known, sentences, file in ((name, theirs, foreign), (partner, ours, english)):
            if known not in sentences:
                raise DataError(f"{pairs}, line {number}: there is no sentence {known!r} in {file}.")
        if partner not in partners.setdefault(name, []):
            partners[name].append(partner)
    for name, text in theirs.items():
        for partner in partners.get(name, [""]):
            yield {"id": name, "text": text, "english_id": partner, "english": ours.get(partner)}
    paired = set(itertools.chain.from_iterable(partners.values()))
    for name, text in ours.items():
        if name not in paired:
            yield {"id": None, "text": None, "english_id": name, "english": text}


def _sentences(file: Path) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for number, name, text in _tabbed(file):
        if name in sentences:
            raise DataError(f"{file}, line {number}: the id {name!r} is there already.")
        sentences[name] = text
    return {name: text for name, text in sentences.items() if text}


def _tabbed(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in numbered_lines(file):
        name, tab, rest = line.partition("\t")
        if tab:
            yield number, name.strip(), rest.strip()
        elif line.strip():
            raise DataError(f"{file}, line {number}: expected an id, a tab and more, but got {line.strip()!r}.")


def _each(read: Callable[[Path], Iterator[Row]]) -> Callable[[Origin], Iterator[Row]]:
    return lambda origin: itertools.chain.from_iterable(map(read, origin.files))


def _sum(count: Callable[[Path], int]) -> Callable[[Origin], int]:
    return lambda origin: sum(map(count, origin.files))


READERS: dict[str, Reader] = {
    "hub": Reader(rows=hub_rows, identity=hub_identity, field="hub"),
    "tagged": Reader(rows=tagged_rows, quick_count=lambda origin: line_count(origin.files[0]), field="tag_files"),
    "pairs": Reader(rows=paired_rows, field="gold_files"),
    "jsonl": Reader(rows=_each(jsonl_rows), quick_count=_sum(line_count), suffix=".jsonl"),
    "parquet": Reader(rows=_each(parquet_rows), quick_count=_sum(parquet_count), suffix=".parquet"),
    "conllu": Reader(
        rows=lambda origin: (row for file in origin.files for row in conllu_rows(file, origin.language)),
        quick_count=_sum(conllu_count),
        suffix=".conllu",
    ),
}
