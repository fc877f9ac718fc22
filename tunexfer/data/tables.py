"""Tables in text files: CSV and TSV, with a header or without."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tunexfer.data.text import numbered_lines
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import ReadOptions

csv.field_size_limit(2**31 - 1)  # contexts of questions can be longer than the default, 128 KiB


def table_rows(file: Path, options: ReadOptions, separator: str) -> Iterator[Row]:
    """Yield the rows of a table; every value is text, as it is written.

    separator: where `options` names none
    """
    separator = options.separator or separator
    records = _quoted(file, options, separator) if _quotes(options, separator) else _plain(file, options, separator)
    names = options.columns
    if options.header:
        _, header = next(records, (1, []))
        names = names or [name.strip() for name in header]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(
            f"{file}: the column {min(twice)!r} is there twice. Name the columns in `read: {{columns: ...}}`."
        )
    for number, record in records:
        if len(record) != len(names):
            raise DataError(
                f"{file}, line {number}: {len(record)} fields, but {len(names)} columns ({', '.join(names)}). If the "
                f"separator is not {separator!r}, set `read: {{separator: ...}}`."
            )
        yield dict(zip(names, record, strict=True))


def _quotes(options: ReadOptions, separator: str) -> bool:
    return separator != "\t" if options.quoting is None else options.quoting


def _quoted(file: Path, options: ReadOptions, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield records with the number of their last line; a quoted field may hold separators and line ends."""
    lines = (f"{line}\n" for _, line in numbered_lines(file, options.encoding))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for record in reader:
            if record:
                yield reader.line_num, record
    except csv.Error as error:
        raise DataError(
            f"{file}, line {reader.line_num}: {error}. If quotation marks are part of the text, set "
            "`read: {quoting: false}`."
        ) from error


def _plain(file: Path, options: ReadOptions, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line; a quotation mark is a character like any other."""
    for number, line in numbered_lines(file, options.encoding):
        if not line:
            continue
        record = line.split(separator)
        if options.quoting is None and any(field.startswith('"') for field in record):
            raise DataError(
                f"{file}, line {number}: a field begins with a quotation mark. Say whether such marks enclose fields, "
                "`read: {quoting: true}`, or are part of the text, `read: {quoting: false}`."
            )
        yield number, record


def column_rows(file: Path, options: ReadOptions) -> Iterator[Row]:
    """Yield the sentences of a CoNLL file, a word and its tags a line, as a list a column.

    The columns are called `tokens` and `tags` unless `options` names them. Blank lines and lines with -DOCSTART- part
    sentences; a line with `#` before a sentence is a comment if it has not the columns of a word.
    """
    names = options.columns or ["tokens", "tags"]
    sentence: list[list[str]] = []
    for number, line in chain(numbered_lines(file, options.encoding), [(0, "")]):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if sentence:
                yield {name: [word[place] for word in sentence] for place, name in enumerate(names)}
            sentence = []
            continue
        word = line.split(options.separator) if options.separator else words_of(line)
        if len(word) == len(names):
            sentence.append(word)
        elif sentence or not line.startswith("#"):
            raise DataError(
                f"{file}, line {number}: {len(word)} columns, but `read:` has {len(names)} ({', '.join(names)}). Name "
                "all of them in order, `read: {format: conll, columns: [tokens, lemmas, tags]}`, and the `separator:` "
                "if words have spaces in them."
            )


def words_of(line: str) -> list[str]:
    """Split at spaces and tabs alone: a no-break space is part of a word."""
    return [word for word in line.replace("\t", " ").split(" ") if word]
