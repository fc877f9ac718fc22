"""The origin of a task's rows in one language and split: some files, or a data set on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunexfer.core.scores import Split
from tunexfer.tasks.suite import ReadOptions, TaskBlock

BATCH = 1000
"""Rows of the data that are held at once, while they are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    block: TaskBlock
    """The task, or one of its parts."""
    language: str
    split: Split
    written: str
    """The language as the data writes it."""
    cache: Path
    """Folder that keeps file hashes and the commits of data sets."""
    root: Path = Path()
    """The folder that patterns start from."""
    files: tuple[Path, ...] = ()
    """The files that match `block.patterns`, in that order; none for rows on the hub."""

    def filled(self, pattern: str) -> str:
        """Replace `{language}` and `{code}` in a pattern."""
        code = self.block.codes.get(self.written, self.written)
        return pattern.replace("{language}", self.written).replace("{code}", code)

    @property
    def read(self) -> ReadOptions:
        return self.block.read or ReadOptions()

    @property
    def own_split(self) -> str:
        """The data's own name of the split, in names of files and in columns."""
        return self.block.splits.get(self.split, self.split)

    @property
    def where(self) -> dict[str, str]:
        """Column -> the value that the rows of this language and split have in it."""
        wanted = self.block.where.items()
        return {column: self.filled(value.replace("{split}", self.own_split)) for column, value in wanted}

    def __str__(self) -> str:
        hub = self.block.hub
        if hub is None:
            return ", ".join(map(str, self.files))
        return f"{hub.path} ({self.filled(hub.name or hub.files or 'default')}), {self.split}"
