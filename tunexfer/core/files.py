"""The study folder: one class owns every file name, and how a file is written so that it is whole or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
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


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a draft folder that becomes `path` if the block succeeds, unless another process has made it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=".draft-"))
    try:
        yield draft
        os.rename(draft, path)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
        self.path, self.name = path, path.name
        self.plan, self.environment = path / "plan.yaml", path / "environment.json"
        self.scores, self.trials, self.lock = path / "scores.parquet", path / "trials", path / ".lock"
        self.datasets = path / "datasets.jsonl"
        """The list of rows that the study reads, a line for each task, language and split."""
        self.tracking = path / "tracking.json"
        """The address of the MLflow server or database that mirrors the study."""
        self.ending = path / "ending.json"
        """The note on how the last search ended; not there while one is at work."""

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
    """`runs/<study>/trials/<number>/` and the names of what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, int(path.name)
        self.chain, self.scores, self.rows = path / "chain.yaml", path / "scores.jsonl", path / "rows.parquet"
        self.status = path / "status.json"
        """Written by the driver alone, last: a trial without it, or not `complete` in it, is run again."""
        self.progress = path / "progress.json"
        """The progress of a running trial; scratch, read by the live table."""
