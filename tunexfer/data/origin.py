"""The origin of a task's rows in one language and split: some files, or a data set on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunexfer.core.scores import Split
from tunexfer.errors import DataError
from tunexfer.tasks.suite import TaskBlock

BATCH = 1000
"""Rows of the data that are held at once, while they are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    block: TaskBlock
    """The task, or one of its parts."""
    language: str
    split: Split
    cache: Path
    """Folder that keeps file hashes and the commits of data sets."""
    files: tuple[Path, ...] = ()
    """The files that match `block.patterns`, in that order; none for rows on the hub."""

    def filled(self, pattern: str) -> str:
        """Replace `{language}` and `{code}` in a pattern."""
        code = self.block.codes.get(self.language, self.language)
        return pattern.replace("{language}", self.language).replace("{code}", code)

    @property
    def where(self) -> dict[str, str]:
        """Column -> the value that the rows of this language have in it."""
        return {column: self.filled(wanted) for column, wanted in self.block.where.items()}

    def __str__(self) -> str:
        hub = self.block.hub
        if hub is None:
            return ", ".join(map(str, self.files))
        return f"{hub.path} ({self.filled(hub.name or hub.files or 'default')}), {self.split}"


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file in UTF-8 with their numbers from 1, without their ends."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield number, line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}, line {number}: not UTF-8: {error.reason}. Convert the file.") from error
