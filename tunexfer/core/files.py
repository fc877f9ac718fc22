"""The study folder: one class owns every file name, and how a file is written so that it is whole or absent."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield another name to write under, then rename: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.draft")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file at once, as `whole` does."""
    with whole(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


def unwritable(folder: Path) -> str | None:
    """Say why no files can be written into a folder, which need not be there yet; None if they can."""
    folder = folder.absolute()
    place = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # Path.exists may raise
    if not place.is_dir():
        return f"{place} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=place, prefix=".tunexfer-") as file:
            file.write(b"x")
    except OSError as error:
        return f"{folder} can't be written to ({error.strerror})"
    return None


class StudyFolder:
    """`runs/<study>/` and the names of what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def plan(self) -> Path:
        return self.path / "plan.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def scores(self) -> Path:
        return self.path / "scores.parquet"

    @property
    def datasets(self) -> Path:
        """The list of rows that the study reads, a line for each task, language and split."""
        return self.path / "datasets.jsonl"

    @property
    def tracking(self) -> Path:
        """The address of the MLflow server or database that mirrors the study."""
        return self.path / "tracking.json"

    @property
    def ending(self) -> Path:
        """The note on how the last search ended; not there while one is at work."""
        return self.path / "ending.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    def trial(self, number: int) -> TrialFolder:
        return TrialFolder(self.trials / f"{number:04d}")

    def all_trials(self) -> list[TrialFolder]:
        """Every trial folder, by number."""
        if not self.trials.is_dir():
            return []
        with os.scandir(self.trials) as entries:
            numbers = sorted(int(entry.name) for entry in entries if entry.name.isdecimal() and entry.is_dir())
        return [self.trial(number) for number in dict.fromkeys(numbers)]


class TrialFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def chain(self) -> Path:
        return self.path / "chain.yaml"

    @property
    def status(self) -> Path:
        """Written by the driver alone, last: a trial without it, or not `complete` in it, is run again."""
        return self.path / "status.json"

    @property
    def scores(self) -> Path:
        return self.path / "scores.jsonl"

    @property
    def rows(self) -> Path:
        return self.path / "rows.parquet"

    @property
    def progress(self) -> Path:
        """The progress of a running trial; scratch, read by the live table."""
        return self.path / "progress.json"
