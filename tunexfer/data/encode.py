"""Encoded rows: made once, kept as memory-mapped Arrow files, shared by all trials."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tunexfer.core.files import whole_folder
from tunexfer.data.arrow import mapped, writer
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import TUNING, Feature, Tokenizer
from tunexfer.tasks.suite import TaskBlock

ENCODING_VERSION = 3
"""Raise by hand when the kinds' encoding changes."""
CHUNK = 2000
"""Rows that are encoded at once."""


class Encoded(Sequence[Feature]):
    """The memory-mapped encoded rows of one task, language and split.

    A feature has the columns that its kind made, lists as arrays. `input_ids` are the tokenizer's own ids.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        table = mapped(self.folder / "features.arrow")
        return {name: _Column(table[name].chunks) for name in table.column_names}

    def __len__(self) -> int:
        return len(self._columns["row"])

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> list[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | list[Feature]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {name: column[index] for name, column in self._columns.items()}

    def value(self, name: str, index: int) -> Any:
        return self._columns[name][index]

    def has(self, name: str) -> bool:
        return name in self._columns

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of pieces of each feature (of its longest option), shape (F,)."""
        return self._columns["input_ids"].lengths

    @property
    def row_count(self) -> int:
        """Number of canonical rows that were encoded, those to tune on aside."""
        return int((self.folder / "count").read_text())

    @property
    def rows(self) -> pa.Table:
        """The canonical rows that were encoded; none for rows to train on."""
        return mapped(self.folder / "rows.arrow")

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """The ids that occur in `input_ids`, sorted."""
        ids: NDArray[np.int64] = np.load(self.folder / "pieces.npy")
        return ids


class _Column:
    """A column, in the chunks that were encoded one after the other."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self._chunks = [_Chunk(chunk) for chunk in chunks]
        self._ends = list(itertools.accumulate(map(len, self._chunks)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        place = bisect.bisect_right(self._ends, index)
        return self._chunks[place][index - self._ends[place] + len(self._chunks[place])]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.concatenate([chunk.lengths for chunk in self._chunks])


class _Chunk:
    """Numbers, lists of numbers, or lists of lists of numbers, as views of the mapped file."""

    def __init__(self, array: pa.Array) -> None:
        self._offsets: list[NDArray[np.int32]] = []
        while pa.types.is_list(array.type):
            self._offsets.append(array.offsets.to_numpy())
            array = array.values
        self._values = array.to_numpy()

    def __len__(self) -> int:
        return len(self._offsets[0]) - 1 if self._offsets else len(self._values)

    def __getitem__(self, index: int) -> Any:
        if not self._offsets:
            return int(self._values[index])
        start, end = self._offsets[0][index : index + 2].tolist()
        if len(self._offsets) == 1:
            return self._values[start:end]
        borders = self._offsets[1][start : end + 1]
        widths = np.diff(borders)
        inside = self._values[borders[0] : borders[-1]]
        if len(widths) and (widths == widths[0]).all():
            return inside.reshape(len(widths), -1)
        return np.split(inside, np.cumsum(widths)[:-1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        if len(self._offsets) == 1:
            return np.diff(self._offsets[0]).astype(np.int64)
        longest: NDArray[np.int64] = np.maximum.reduceat(np.diff(self._offsets[1]), self._offsets[0][:-1])
        return longest.astype(np.int64)


def encode_source(
    rows: Iterable[pa.Table], task: TaskBlock, tokenizer: Tokenizer, folder: Path, *, training: bool, place: str
) -> Encoded:
    """Encode canonical rows into `folder`, unless it exists: it is either complete or absent.

    rows:   as tables, of which one is held at a time
    place:  begins every error
    raises: DataError, if no row gives a feature
    """
    if folder.is_dir():
        return Encoded(folder)
    with whole_folder(folder) as draft:
        _write_all(rows, task, tokenizer, draft, training=training, place=place)
    return Encoded(folder)


def _write_all(
    rows: Iterable[pa.Table], task: TaskBlock, tokenizer: Tokenizer, folder: Path, *, training: bool, place: str
) -> None:
    """Write features and their pieces, and the canonical rows as well, unless they are only trained on."""
    kind, pieces, begin, tuning = KINDS[task.kind], np.zeros(0, dtype=np.int64), 0, 0
    with ExitStack() as files:
        kept = files.enter_context(writer(folder / "rows.arrow", kind.schema))
        written: pa.RecordBatchStreamWriter | None = None
        for table in rows:
            for chunk in (table.slice(start, CHUNK) for start in range(0, len(table), CHUNK)):
                features = kind.encode(chunk.to_pylist(), tokenizer, task, training=training)
                if features:
                    encoded = _as_table(features, begin)
                    written = written or files.enter_context(writer(folder / "features.arrow", encoded.schema))
                    written.write_table(encoded)
                    pieces = np.union1d(pieces, _token_ids(encoded["input_ids"]))
                begin += len(chunk)
            tuning += pc.sum(table[TUNING]).as_py() or 0 if kind.tuned else 0
            if not training:
                kept.write_table(table)
        if written is None:
            raise DataError(f"{place}: none of the {begin} rows gives the model anything to read.")
    np.save(folder / "pieces.npy", pieces)
    (folder / "count").write_text(str(begin - tuning))


def _as_table(features: Sequence[Feature], begin: int) -> pa.Table:
    """begin: number of rows before those of these features"""
    columns = {name: [feature[name] for feature in features] for name in features[0]}
    return _narrow(pa.table({**columns, "row": [row + begin for row in columns["row"]]}))


def _narrow(table: pa.Table) -> pa.Table:
    """Cast numbers to 32 bits and booleans to 8, which NumPy reads without copying."""
    return table.cast(pa.schema([(field.name, _narrow_type(field.type)) for field in table.schema]))


def _narrow_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_narrow_type(kind.value_type))
    return pa.int8() if pa.types.is_boolean(kind) else pa.int32()


def _token_ids(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    while pa.types.is_list(ids.type):
        ids = pc.list_flatten(ids)
    return np.unique(ids.to_numpy()).astype(np.int64)
