"""Surveys: how many rows of a file can be used, why others can't, and which rows it has. Kept by the rows' content."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunexfer.core.files import write_whole
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row

MOST_LEFT_OUT = 0.5
"""The share of rows above which they are refused, unless the task has `allow_dropped: true`."""
WARNED_LEFT_OUT = 0.01
"""The share of rows above which a warning says that they are left out."""
GOLD = {"id", "cluster", "label", "tags", "answers"}
"""Fields that the model doesn't read."""
MASKED = re.compile(r"\d+|(?<= )[A-Z]\w*")
"""What rows of one template differ in: numbers, and capitalised words other than the first."""
SURVEY_VERSION = 2
"""Raise by hand when what a survey counts changes."""


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
    def read(self) -> int:
        return self.used + self.left_out.total()

    @property
    def warned(self) -> bool:
        """Tell whether more rows are left out than a note is enough for."""
        return self.left_out.total() > WARNED_LEFT_OUT * self.read

    def __str__(self) -> str:
        reasons = (f"in {count:,} {reason}" for reason, count in self.left_out.most_common())
        return f"{self.used:,} of {self.read:,} rows used" + "".join(f"; {reason}" for reason in reasons)

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
            lines.append(f"every row has {names}, so rows are numbered and each is a cluster of its own")
        return lines

    def check(self, place: str, *, allowed: bool) -> None:
        """Refuse rows most of which are left out.

        raises: DataError, with the numbers and the reasons
        """
        if not allowed and self.left_out.total() > MOST_LEFT_OUT * self.read:
            raise DataError(
                f"{place}: {self}. Correct the data or the suite, or accept this with `allow_dropped: true`."
            )


@dataclass(frozen=True)
class Survey:
    """The rows of one task, language and split in the files of one place."""

    tally: Tally
    hashes: NDArray[np.uint64]
    """Hashes of what the model reads of each distinct row, sorted."""
    source: str
    """Fingerprint of the files and of what was picked from them, without the name of the split."""
    templates: NDArray[np.uint64]
    """Hashes of the same with numbers and capitalised words masked, sorted."""

    @classmethod
    def of(cls, rows: Iterable[Row], tally: Tally, source: str) -> Survey:
        """Go through canonical rows, which `tally` counts meanwhile."""
        hashes: set[int] = set()
        templates: set[int] = set()
        for row in rows:
            content = repr([value for name, value in row.items() if name not in GOLD])
            hashes.add(_hash(content))
            templates.add(_hash(MASKED.sub("_", content)))
        return cls(tally, _sorted(hashes), source, _sorted(templates))

    def save(self, file: Path) -> None:
        arrays = io.BytesIO()
        np.savez(arrays, hashes=self.hashes, templates=self.templates)
        write_whole(file.with_suffix(".npz"), arrays.getvalue())
        plain = {
            "used": self.tally.used,
            "left_out": self.tally.left_out,
            "same": self.tally.same,
            "labels": self.tally.labels,
            "source": self.source,
        }
        write_whole(file, json.dumps(plain))

    @classmethod
    def load(cls, file: Path) -> Survey:
        plain: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        tally = Tally(plain["used"], Counter(plain["left_out"]), plain["same"], Counter(plain["labels"]))
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
            return cls(tally, arrays["hashes"], plain["source"], arrays["templates"])


def _sorted(hashes: set[int]) -> NDArray[np.uint64]:
    return np.sort(np.fromiter(hashes, dtype=np.uint64, count=len(hashes)))


def _hash(content: str) -> int:
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")
