"""Surveys: how many rows of a file can be used, why others can't, and these rows themselves. Kept by their content."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tunexfer.core.files import whole, write_whole
from tunexfer.core.phrases import many_left_out, rows_in_words
from tunexfer.data.arrow import batches, writer
from tunexfer.data.origin import BATCH
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row

MOST_LEFT_OUT = 0.5
"""The share of rows above which they are refused, unless the task has `allow_dropped: true`."""
GOLD = {"id", "cluster", "label", "tags", "answers"}
"""Fields that the model doesn't read."""
MASKED = re.compile(r"\d+|(?<= )[A-Z]\w*")
"""What rows of one template differ in: numbers, and capitalised words other than the first."""
SURVEY_VERSION = 3
"""Raise by hand when canonical rows, or what a survey counts, change."""

ROWS, HASHES = ".arrow", ".npz"
"""Suffixes of the files beside a survey's."""


@dataclass
class Tally:
    """Rows that were used, and those that were left out without the suite having asked for it."""

    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> number of rows."""
    same: dict[str, str] = field(default_factory=dict)
    """Fields in which all rows so far have the same value, of `id` and `cluster` -> that value."""
    labels: Counter[str] = field(default_factory=Counter)
    """Position of a row's label among the task's, as text -> number of rows; only in kinds with one a row."""

    @property
    def warned(self) -> bool:
        """Tell whether more rows are left out than a note is enough for."""
        return many_left_out(self.used, self.left_out)

    def __str__(self) -> str:
        return rows_in_words(self.used, self.left_out)

    def take(self, row: Row) -> None:
        """Count a canonical row that is used."""
        if not self.used:
            self.same = {name: row[name] for name in ("id", "cluster")}
        elif self.same:
            self.same = {name: value for name, value in self.same.items() if row[name] == value}
        if row.get("label") is not None:
            self.labels[str(row["label"])] += 1
        self.used += 1

    @property
    def remarks(self) -> list[str]:
        """Sentences on what is left out, and on ids and clusters that tell no rows apart."""
        lines = [str(self)] if self.left_out else []
        if self.used > 1 and self.same:
            names = " and ".join(f"the {name} {value!r}" for name, value in self.same.items())
            instead = {"id": "rows are numbered", "cluster": "each is a cluster of its own"}
            lines.append(f"every row has {names}, so {' and '.join(instead[name] for name in self.same)}")
        return lines

    def check(self, place: str, *, allowed: bool) -> None:
        """Refuse rows most of which are left out.

        raises: DataError, with the numbers and the reasons
        """
        if not allowed and self.left_out.total() > MOST_LEFT_OUT * (self.used + self.left_out.total()):
            raise DataError(
                f"{place}: {self}. Correct the data or the suite, or accept this with `allow_dropped: true`."
            )


@dataclass(frozen=True)
class Survey:
    """The rows of one task, language and split in the files of one place."""

    file: Path
    tally: Tally
    source: str
    """Fingerprint of the files and of what was picked from them, without the name of the split."""

    @classmethod
    def make(cls, file: Path, rows: Iterable[Row], schema: pa.Schema, tally: Tally, source: str) -> None:
        """Go through canonical rows once, which `tally` counts meanwhile, and keep them.

        file: written last, with others of its name beside it
        """
        hashes, templates = array("Q"), array("Q")
        with whole(file.with_suffix(ROWS)) as draft, writer(draft, schema, compression="zstd") as kept:
            for batch in batched(rows):
                kept.write_table(pa.Table.from_pylist(batch, schema=schema))
                for row in batch:
                    content = repr([value for name, value in row.items() if name not in GOLD])
                    hashes.append(short_hash(content))
                    templates.append(short_hash(MASKED.sub("_", content)))
        arrays = io.BytesIO()
        np.savez(arrays, hashes=np.unique(hashes), templates=np.unique(templates))
        write_whole(file.with_suffix(HASHES), arrays.getvalue())
        write_whole(file, json.dumps(vars(tally) | {"source": source}))

    @staticmethod
    def is_kept(file: Path) -> bool:
        """Tell whether a survey is there with all of its files."""
        return all(part.is_file() for part in (file, file.with_suffix(ROWS), file.with_suffix(HASHES)))

    @classmethod
    def load(cls, file: Path) -> Survey:
        plain: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        tally = Tally(plain["used"], Counter(plain["left_out"]), plain["same"], Counter(plain["labels"]))
        return cls(file, tally, plain["source"])

    @property
    def rows(self) -> Iterator[pa.Table]:
        """The canonical rows, some at a time."""
        return batches(self.file.with_suffix(ROWS))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Hashes of what the model reads of each distinct row, sorted."""
        return self._array("hashes")

    @cached_property
    def templates(self) -> NDArray[np.uint64]:
        """Hashes of the same with numbers and capitalised words masked, sorted."""
        return self._array("templates")

    def _array(self, name: str) -> NDArray[np.uint64]:
        with np.load(self.file.with_suffix(HASHES), allow_pickle=False) as arrays:
            hashes: NDArray[np.uint64] = arrays[name]
        return hashes


def batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield `BATCH` rows at a time."""
    remaining = iter(rows)
    return iter(lambda: list(itertools.islice(remaining, BATCH)), [])


def short_hash(content: str) -> int:
    """Hash a text in 64 bits: among ten million texts, the chance that any two share a hash is 1 in 370,000."""
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")
