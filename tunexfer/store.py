"""The stage store: trained stages and evaluations, found again by fingerprint, shared by trials and by studies.

An entry is a folder, `entries/<first two digits>/<fingerprint>/`, and counts once its `mark.json` is there: the mark is
written last and holds the checksum of every other file. Whatever fails its checksum is as good as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tunexfer.core.files import write_whole
from tunexfer.core.graph import fingerprint
from tunexfer.errors import StudyError

MARK = "mark.json"


@dataclass(frozen=True, slots=True)
class Entry:
    files: dict[str, Path]
    facts: dict[str, Any]
    """What the writer noted beside the files."""


class StageStore:
    """A store in a local or shared folder, or behind a URL that fsspec opens.

    Behind a URL there are no locks, so two machines may train the same stage twice, and no size limit; a folder on
    this machine keeps a copy of what was read or written, and the limit holds for that copy.
    """

    def __init__(self, root: str | Path, limit_bytes: int | None = None, *, copies: Path | None = None) -> None:
        """copies: where the copies of a store behind a URL are kept; a folder in the user's cache if not given"""
        self.limit_bytes = limit_bytes
        self._remote: _Remote | None = None
        if "://" in str(root):
            self._remote = _Remote(str(root))
            root = (copies or Path.home() / ".cache" / "tunexfer" / "store") / fingerprint(str(root))[:8]
        self.root = Path(root)

    def has(self, name: str) -> bool:
        """Whether an entry is there; its files aren't looked at."""
        return (self._folder(name) / MARK).is_file() or (self._remote is not None and self._remote.has(name))

    def get(self, name: str) -> Entry | None:
        """The entry, whole, or None if it isn't there or is damaged. Counts as a use."""
        folder = self._folder(name)
        entry = _whole_entry(folder)
        if entry is None and self._remote is not None:
            self._remote.fetch(name, folder)
            entry = _whole_entry(folder)
        if entry is not None:
            os.utime(folder / MARK)
        return entry

    def facts(self, name: str) -> dict[str, Any] | None:
        """What the writer of an entry noted; doesn't count as a use."""
        mark = _mark(self._folder(name))
        return mark["facts"] if mark else None

    def bytes_of(self, name: str) -> int:
        """What an entry takes on disk; 0 if it isn't there."""
        folder = self._folder(name)
        return sum(file.stat().st_size for file in os.scandir(folder)) if folder.is_dir() else 0

    def put(self, name: str, files: Mapping[str, bytes | Path], facts: Mapping[str, Any]) -> None:
        """Write an entry, in place of a damaged one if there is one. Hold its lock.

        raises: StudyError if it can't be written, the disk being full for instance; then there is no mark
        """
        folder = self._folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with self._writing():
                sums = {file: _write(folder / file, content) for file, content in files.items()}
                mark = {"fingerprint": name, "files": sums, "facts": dict(facts), "written": time.time()}
                write_whole(folder / MARK, json.dumps(mark | {"sum": fingerprint(mark)}, indent=1, ensure_ascii=False))
        except StudyError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self._remote is not None:
            self._remote.put(name, folder)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Only one process at a time is in here for a name; a process that dies lets go."""
        held = self._lock(f"locks/{name}")
        with self._writing():
            held.acquire()
        try:
            yield
        finally:
            held.release()

    @contextmanager
    def using(self, names: Iterable[str]) -> Iterator[None]:
        """Keep these entries from being removed for as long as this process is in here, and alive."""
        leases = self.root / "leases"
        lease = uuid.uuid4().hex
        held = self._lock(f"leases/{lease}")
        with self._writing(), self._lock("trim"):
            held.acquire()
            write_whole(leases / f"{lease}.json", json.dumps(sorted(names)))
        try:
            yield
        finally:
            (leases / f"{lease}.json").unlink(missing_ok=True)
            held.release()
            (leases / f"{lease}.lock").unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove the entries used longest ago until the limit holds; never one in use by a process that lives."""
        if self.limit_bytes is None:
            return
        with self._lock("trim"):
            entries = sorted(self._entries(), key=lambda entry: entry.used)
            surplus = sum(entry.bytes for entry in entries) - self.limit_bytes
            if surplus <= 0:
                return
            in_use = self._in_use()
            for entry in entries:
                if surplus > 0 and entry.path.name not in in_use:
                    (entry.path / MARK).unlink(missing_ok=True)
                    shutil.rmtree(entry.path, ignore_errors=True)
                    surplus -= entry.bytes

    def bytes(self) -> int:
        """What all entries take on disk."""
        return sum(entry.bytes for entry in self._entries())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StudyError(
                f"the stage store at {self.root} can't be written: {error.strerror or error}. "
                "Make room there, lower its limit, or name another place with --store."
            ) from error

    def _folder(self, name: str) -> Path:
        return self.root / "entries" / name[:2] / name

    def _lock(self, name: str) -> FileLock:
        path = self.root / f"{name}.lock"
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, thread_local=False)

    def _entries(self) -> Iterator[_Size]:
        for folder in (self.root / "entries").glob("*/*"):
            try:
                facts = {file.name: file.stat() for file in os.scandir(folder)}
            except FileNotFoundError:  # being written right now
                continue
            used = facts[MARK].st_mtime if MARK in facts else 0.0
            yield _Size(folder, sum(fact.st_size for fact in facts.values()), used)

    def _in_use(self) -> set[str]:
        """Names under lease; the leases of dead processes are removed."""
        names: set[str] = set()
        for lease in (self.root / "leases").glob("*.json"):
            lock = self._lock(f"leases/{lease.stem}")
            try:
                with lock.acquire(timeout=0):
                    lease.unlink()
                lease.with_suffix(".lock").unlink(missing_ok=True)
            except Timeout:
                names.update(json.loads(lease.read_text()))
        return names


@dataclass(frozen=True, slots=True)
class _Size:
    path: Path
    bytes: int
    used: float
    """When, in seconds since the epoch; 0 for what was never finished."""


class _Remote:
    """The entries behind a URL."""

    def __init__(self, url: str) -> None:
        import fsspec

        self._files, self._root = fsspec.core.url_to_fs(url)

    def has(self, name: str) -> bool:
        return bool(self._files.exists(f"{self._path(name)}/{MARK}"))

    def fetch(self, name: str, folder: Path) -> None:
        """Copy an entry here, the mark last; nothing if it isn't there."""
        try:
            mark = self._files.cat_file(f"{self._path(name)}/{MARK}")
            for file in json.loads(mark)["files"]:
                write_whole(folder / file, self._files.cat_file(f"{self._path(name)}/{file}"))
        except FileNotFoundError:
            return
        write_whole(folder / MARK, mark)

    def put(self, name: str, folder: Path) -> None:
        self._files.makedirs(self._path(name), exist_ok=True)
        for file in [*json.loads((folder / MARK).read_text())["files"], MARK]:
            self._files.pipe_file(f"{self._path(name)}/{file}", (folder / file).read_bytes())

    def _path(self, name: str) -> str:
        return f"{self._root}/entries/{name[:2]}/{name}"


def _mark(folder: Path) -> dict[str, Any] | None:
    try:
        mark: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
        own = mark.pop("sum")
    except (OSError, ValueError, KeyError):
        return None
    return mark if own == fingerprint(mark) else None


def _whole_entry(folder: Path) -> Entry | None:
    mark = _mark(folder)
    if mark is None:
        return None
    files = {name: folder / name for name in mark["files"]}
    try:
        whole = all(_sum(path) == mark["files"][name] for name, path in files.items())
    except OSError:
        return None
    return Entry(files, mark["facts"]) if whole else None


def _write(path: Path, content: bytes | Path) -> str:
    """Write a file; returns its checksum."""
    if isinstance(content, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(content, path)
        return _sum(path)
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()


def _sum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
