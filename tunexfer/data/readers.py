"""The rows of one file, or of one split on the hub, as the data has them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.core.scores import Split
from tunexfer.data.hub import not_loaded
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import TaskBlock

BATCH = 1000
"""Rows read at once; only canonical rows are held."""


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


def tagged_rows(words: Path, tags: Path) -> Iterator[Row]:
    """`tokens` and `tags` from two text files: a sentence a line in both, a space between two words or tags."""
    with words.open(encoding="utf-8") as sentences, tags.open(encoding="utf-8") as labels:
        for number, (sentence, label) in enumerate(itertools.zip_longest(sentences, labels), start=1):
            if sentence is None or label is None:
                longer, shorter = (words, tags) if label is None else (tags, words)
                raise DataError(
                    f"{longer} goes on at line {number}, where {shorter} has ended: they have to correspond."
                )
            row = {"tokens": sentence.split(), "tags": label.split()}
            if len(row["tokens"]) != len(row["tags"]):
                raise DataError(
                    f"{words}, line {number}: {len(row['tokens'])} words, but {len(row['tags'])} tags in {tags}."
                )
            yield row


def paired_rows(foreign: Path, english: Path, pairs: Path) -> Iterator[Row]:
    """`id`, `text`, `english_id` and `english` of each pair, and of sentences that are in none, with one side empty.

    Lines without a sentence are left out.

    foreign, english: an id, a tab and a sentence a line
    pairs: the ids of a foreign and an English sentence a line, a tab between them; one that comes twice counts once
    """
    theirs, ours = _numbered_lines(foreign), _numbered_lines(english)
    partners: dict[str, list[str]] = {}
    for number, (one, other) in enumerate(_tabbed(pairs), start=1):
        for name, there, file in ((one, theirs, foreign), (other, ours, english)):
            if name not in there:
                raise DataError(f"{pairs}, line {number}: there is no sentence {name!r} in {file}.")
        if other not in partners.setdefault(one, []):
            partners[one].append(other)
    for name, text in theirs.items():
        for other in partners.get(name, [""]):
            yield {"id": name, "text": text, "english_id": other, "english": ours.get(other)}
    paired = {other for found in partners.values() for other in found}
    for name, text in ours.items():
        if name not in paired:
            yield {"id": None, "text": None, "english_id": name, "english": text}


def _numbered_lines(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, (name, text) in enumerate(_tabbed(file), start=1):
        if name in found:
            raise DataError(f"{file}, line {number}: the id {name!r} is there already.")
        found[name] = text
    return {name: text for name, text in found.items() if text}


def _tabbed(file: Path) -> Iterator[tuple[str, str]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            name, tab, rest = line.partition("\t")
            if tab:
                yield name.strip(), rest.strip()
            elif line.strip():
                raise DataError(f"{file}, line {number}: expected an id, a tab and more, but got {line.strip()!r}.")


def hub_rows(
    block: TaskBlock, name: str | None, files: str | None, split: Split, revision: str | None = None
) -> Iterator[Row]:
    """The rows of a split on the hub. Labels that the hub has names for come as names if those are the block's own.

    name, files: the config and the pattern of `block.hub`, with the language filled in
    revision:    the commit, where `block.hub` is a set that has any
    """
    assert block.hub is not None
    import datasets

    hub = block.hub
    theirs = hub.splits.get(split, split)
    whole = theirs.partition("[")[0]
    where = f"{hub.path}, config {name or 'default'}, split {theirs!r}{f', files {files}' if files else ''}"
    pattern = files.replace("{split}", whole) if files else None
    try:
        path = _fetched(hub.path, pattern, revision) if pattern and hub.has_commits else hub.path
        found = datasets.load_dataset(
            path,
            name,
            revision=revision if path == hub.path else None,
            data_files={whole: pattern} if pattern else None,
            split=theirs,
            **hub.options,
        )
    except Exception as error:  # the hub's client, the cache and the network raise a dozen unrelated types
        raise not_loaded(where, error) from error
    places = [Path(one["filename"]) for one in found.cache_files] if path == hub.path and hub.has_commits else []
    if any(revision not in place.parts for place in places):  # without the network the client takes the newest it has
        raise DataError(
            f"could not load {where}: the hub isn't there, and of commit {revision} nothing is found without it, but "
            f"of another: {places[0]}. Try again with the network, or name that commit in `revision:`."
        )
    names = {column: _label_names(feature) for column, feature in found.features.items()}
    named = {column: own for column, own in names.items() if not block.label_values and set(own) == set(block.labels)}
    for batch in found.with_format("arrow").iter(batch_size=BATCH):
        for row in batch.to_pylist():
            yield row | {column: _named(row[column], own) for column, own in named.items()}


def _fetched(path: str, pattern: str, commit: str | None) -> str:
    """The folder with a set's files of that pattern: `datasets` doesn't find them again without the network itself."""
    from huggingface_hub import snapshot_download

    return snapshot_download(path, repo_type="dataset", revision=commit, allow_patterns=[pattern])


def _label_names(feature: Any) -> list[str]:
    """Names of a ClassLabel column, or of a list of them; none for other columns."""
    return list(getattr(getattr(feature, "feature", feature), "names", None) or [])


def _named(label: Any, names: list[str]) -> Any:
    if isinstance(label, list):
        return [_named(one, names) for one in label]
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label
