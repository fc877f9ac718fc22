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
from tunexfer.data.conllu import conllu_rows
from tunexfer.data.hub import hub_identity, hub_rows
from tunexfer.data.label_names import named, names_in_schema
from tunexfer.data.origin import BATCH, Origin
from tunexfer.data.squad import squad_rows
from tunexfer.data.tables import column_rows, table_rows, words_of
from tunexfer.data.text import bare_name, check_characters, numbered_lines, opened, parsed, whole_text
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row


def file_hashes(origin: Origin) -> Any:
    """Identify rows by the SHA-256 of their file, or of each of several."""
    hashes = [file_hash(file, origin.cache) for file in origin.files]
    return hashes[0] if len(hashes) == 1 else hashes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    """One format, for the blocks that have `field`, or else for files whose names end in one of `suffixes`."""

    rows: Callable[[Origin], Iterator[Row]]
    """Yields rows with the data's own columns. Raises a DataError with the file and line of a row it cannot read."""
    identity: Callable[[Origin], Any] = file_hashes
    """Returns a JSON value that changes with the rows."""
    suffixes: tuple[str, ...] = ()
    field: str | None = None
    """Name of a field of `TaskBlock`."""


def reader_of(origin: Origin) -> _Reader:
    """Select the reader that the block names in `read: {format: ...}`, else the first one that fits.

    raises: DataError, if the files' suffix tells no format
    """
    for reader in READERS.values():
        if reader.field and getattr(origin.block, reader.field):
            return reader
    if origin.read.format:
        return READERS[origin.read.format]
    for reader in READERS.values():
        if reader.suffixes and all(bare_name(file).endswith(reader.suffixes) for file in origin.files):
            return reader
    suffixes = ", ".join(suffix for reader in READERS.values() for suffix in reader.suffixes)
    raise DataError(
        f"{origin}: the name doesn't tell the format, as {suffixes} do. Name it in the suite, `read: {{format: "
        "conll}` for a word and its tag a line, `text` for a text a line, or csv, tsv, json, jsonl."
    )


def jsonl_rows(file: Path, encoding: str | None = None) -> Iterator[Row]:
    for number, line in numbered_lines(file, encoding):
        if line.strip():
            row = parsed(line, file, number)
            yield row if isinstance(row, dict) else _object(row, f"{file}, line {number}")


def json_rows(file: Path, encoding: str | None) -> Iterator[Row]:
    """Yield the objects of an array, the questions of a file in SQuAD's form, or the objects of JSON lines."""
    text = whole_text(file, encoding)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from jsonl_rows(file, encoding)
            return
        raise DataError(f"{file}, line {error.lineno}: not JSON: {error.msg}") from error
    rows = content["data"] if isinstance(content, dict) and isinstance(content.get("data"), list) else content
    if not isinstance(rows, list):
        raise DataError(
            f'{file}: rows are an array of objects, [{{"text": ...}}, ...], or SQuAD\'s {{"data": [...]}}, but got '
            f"{text.strip()[:60]!r}. Convert the file to JSON lines."
        )
    halves = "\\ud" in text or "\\uD" in text
    for position, row in enumerate(rows):
        place = f"{file}, row {position}"
        if halves:
            check_characters(row, place)
        if "paragraphs" in _object(row, place):
            yield from squad_rows(row, place)
        else:
            yield row


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise DataError(f'{place}: a row is an object like {{"text": ...}}, but got {json.dumps(row)[:60]}.')
    return row


def parquet_rows(file: Path, origin: Origin) -> Iterator[Row]:
    with opened(file), _parquet(file) as parquet:
        names = names_in_schema(parquet.schema_arrow)
        for batch in parquet.iter_batches(BATCH):
            yield from named(batch.to_pylist(), names, origin.block, str(file))


@contextmanager
def _parquet(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a Parquet file, or is damaged: {error}") from error


def text_rows(file: Path, encoding: str | None) -> Iterator[Row]:
    """Yield each line that is not blank as `text`."""
    return ({"text": line.strip()} for _, line in numbered_lines(file, encoding) if line.strip())


def _together(first: Path, second: Path, encoding: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield the corresponding lines of two files with their number."""
    lines = itertools.zip_longest(numbered_lines(first, encoding), numbered_lines(second, encoding))
    for one_line, other_line in lines:
        if one_line is None or other_line is None:
            longer, shorter = (first, second) if other_line is None else (second, first)
            number, _ = one_line or other_line
            raise DataError(f"{longer} goes on at line {number}, where {shorter} has ended: they have to correspond.")
        yield one_line[0], one_line[1], other_line[1]


def tagged_rows(origin: Origin) -> Iterator[Row]:
    """Yield `tokens` and `tags` from two text files: one sentence a line, separated by spaces."""
    words, tags = origin.files
    for number, sentence, labels in _together(words, tags, origin.read.encoding):
        row = {"tokens": words_of(sentence), "tags": words_of(labels)}
        if len(row["tokens"]) != len(row["tags"]):
            raise DataError(
                f"{words}, line {number}: {len(row['tokens'])} words, but {len(row['tags'])} tags in {tags}."
            )
        yield row


def parallel_rows(origin: Origin) -> Iterator[Row]:
    """Yield `text` and `english` from two text files whose lines translate each other."""
    foreign, english = origin.files
    for _, text, translation in _together(foreign, english, origin.read.encoding):
        yield {"text": text.strip(), "english": translation.strip()}


def paired_rows(origin: Origin) -> Iterator[Row]:
    """Yield `id`, `text`, `english_id` and `english` of each pair and of each sentence that is in none.

    The files are the foreign and the English sentences (lines of an id, a tab and a sentence; lines without a sentence
    are skipped) and the pairs (lines of a foreign id, a tab and an English id; a repeated pair counts once).
    """
    foreign, english, pairs = origin.files
    encoding = origin.read.encoding
    theirs, ours = _sentences(foreign, encoding), _sentences(english, encoding)
    partners: dict[str, list[str]] = {}
    for number, name, partner in _tabbed(pairs, encoding):
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


def _sentences(file: Path, encoding: str | None) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for number, name, text in _tabbed(file, encoding):
        if name in sentences:
            raise DataError(f"{file}, line {number}: the id {name!r} is there already.")
        sentences[name] = text
    return {name: text for name, text in sentences.items() if text}


def _tabbed(file: Path, encoding: str | None) -> Iterator[tuple[int, str, str]]:
    for number, line in numbered_lines(file, encoding):
        name, tab, rest = line.partition("\t")
        if tab:
            yield number, name.strip(), rest.strip()
        elif line.strip():
            raise DataError(f"{file}, line {number}: expected an id, a tab and more, but got {line.strip()!r}.")


def _each(read: Callable[[Path, Origin], Iterator[Row]]) -> Callable[[Origin], Iterator[Row]]:
    return lambda origin: itertools.chain.from_iterable(read(file, origin) for file in origin.files)


READERS: dict[str, _Reader] = {
    "hub": _Reader(rows=hub_rows, identity=hub_identity, field="hub"),
    "tagged": _Reader(rows=tagged_rows, field="tag_files"),
    "pairs": _Reader(rows=paired_rows, field="gold_files"),
    "parallel": _Reader(rows=parallel_rows, field="english_files"),
    "jsonl": _Reader(
        rows=_each(lambda file, origin: jsonl_rows(file, origin.read.encoding)), suffixes=(".jsonl", ".ndjson")
    ),
    "json": _Reader(rows=_each(lambda file, origin: json_rows(file, origin.read.encoding)), suffixes=(".json",)),
    "parquet": _Reader(rows=_each(parquet_rows), suffixes=(".parquet",)),
    "csv": _Reader(rows=_each(lambda file, origin: table_rows(file, origin.read, ",")), suffixes=(".csv",)),
    "tsv": _Reader(rows=_each(lambda file, origin: table_rows(file, origin.read, "\t")), suffixes=(".tsv", ".tab")),
    "conllu": _Reader(
        rows=_each(lambda file, origin: conllu_rows(file, origin.language, origin.read)), suffixes=(".conllu",)
    ),
    "conll": _Reader(
        rows=_each(lambda file, origin: column_rows(file, origin.read)), suffixes=(".conll", ".iob", ".iob2", ".bio")
    ),
    "text": _Reader(rows=_each(lambda file, origin: text_rows(file, origin.read.encoding))),
}
