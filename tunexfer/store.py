"""The stage store: results of jobs, found again by key, shared by trials, by studies and by machines.

An entry is a folder, `entries/<first two digits>/<key>/`, and counts once its `mark.json` is there: the mark is written
last and holds the checksum of every other file. An entry that fails its checksums is as good as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tunexfer.core.files import sha256, write_whole
from tunexfer.core.graph import fingerprint
from tunexfer.errors import StudyError

MARK = "mark.json"
MODEL, ROWS = "model.safetensors", "rows.parquet"
"""Files of a training's entry and of an evaluation's."""


class Busy(Exception):
    """Another process is running this job on the same store."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stored result."""

    files: dict[str, Path]
    metadata: dict[str, Any]
    """Facts that the writer noted beside the files."""


class StageStore:
    """A store in a local or shared folder, or behind a URL that fsspec opens.

    Behind a URL there are no locks, so two machines may run the same job twice, and no size limit; a folder on this
    machine keeps a copy of what was read or written, and the limit holds for that copy.
    """

    def __init__(self, root: str | Path, limit_bytes: int | None = None, *, copies: Path | None = None) -> None:
        """copies: folder for copies of a store behind a URL; in the user's cache if not given"""
        self.limit_bytes = limit_bytes
        self._remote: _Remote | None = None
        if "://" in str(root):
            self._remote = _Remote(str(root))
            root = (copies or Path.home() / ".cache" / "tunexfer" / "store") / fingerprint(str(root))[:8]
        self.root = Path(root)
        self._sizes = _SizeIndex(self.root)
        self._verified: dict[str, Any] = {}
        """Key -> state of the files when this process checked them: weights are hashed once, unless they change."""

    def has(self, key: str) -> bool:
        """Tell whether an entry is there, without looking at its files."""
        return (self._folder(key) / MARK).is_file() or (self._remote is not None and self._remote.has(key))

    def get(self, key: str) -> _Entry | None:
        """Return the entry, or None if it isn't there or is damaged. Counts as a use."""
        entry = self._entry(key)
        if entry is None and self._remote is not None:
            self._remote.fetch(key, self._folder(key))
            entry = self._entry(key)
        if entry is not None:
            os.utime(self._folder(key) / MARK)
        return entry

    def metadata(self, key: str) -> dict[str, Any] | None:
        """Return the facts that an entry's writer noted; doesn't count as a use."""
        mark = _read_mark(self._folder(key))
        return mark["facts"] if mark else None

    def bytes_of(self, key: str) -> int:
        """Return the size of an entry on disk; 0 if it isn't there."""
        folder = self._folder(key)
        return sum(file.stat().st_size for file in os.scandir(folder)) if folder.is_dir() else 0

    def put(self, key: str, files: Mapping[str, bytes | Path], metadata: Mapping[str, Any]) -> None:
        """Write an entry, in place of a damaged one if there is one. The caller holds its claim.

        files:  name -> its bytes, or a file to copy
        raises: StudyError if it can't be written, the disk being full for instance; then there is no mark
        """
        folder = self._folder(key)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with self._writing():
                sums = {name: _write(folder / name, content) for name, content in files.items()}
                mark = {"fingerprint": key, "files": sums, "facts": dict(metadata), "written": time.time()}
                mark["sum"] = fingerprint(mark)
                write_whole(folder / MARK, json.dumps(mark, indent=1, ensure_ascii=False))
                self._verified[key] = _state(mark, folder)
                self._sizes.add(key, self.bytes_of(key))
        except StudyError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self._remote is not None:
            self._remote.put(key, folder)

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Claim a job for the length of the block. Nobody waits, and a process that dies lets go of its claims.

        raises: Busy, if another process has claimed it
        """
        lock = self._lock(f"locks/{key}")
        try:
            with self._writing():
                lock.acquire(timeout=0)
        except Timeout:
            raise Busy(key) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def lease(self, keys: Collection[str] = ()) -> Iterator[Callable[[Collection[str]], None]]:
        """Keep entries from being removed while this process is in the block, and alive.

        yields: a function that sets the keys to keep, in place of those set before
        """
        leases, name = self.root / "leases", uuid.uuid4().hex
        lock = self._lock(f"leases/{name}")

        def keep(keys: Collection[str]) -> None:
            with self._writing():
                write_whole(leases / f"{name}.json", json.dumps(sorted(keys)))

        with self._writing(), self._lock("trim"):
            lock.acquire()
            keep(keys)
        try:
            yield keep
        finally:
            (leases / f"{name}.json").unlink(missing_ok=True)
            lock.release()
            (leases / f"{name}.lock").unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove the entries that were used longest ago until the limit holds; never one that a live process keeps."""
        if self.limit_bytes is None or self._sizes.total() <= self.limit_bytes:
            return
        with self._lock("trim"):
            entries = sorted(self._entries(), key=lambda entry: entry.used)
            surplus = sum(entry.bytes for entry in entries) - self.limit_bytes
            kept = self._kept()
            remaining = []
            for entry in entries:
                if surplus > 0 and entry.path.name not in kept:
                    (entry.path / MARK).unlink(missing_ok=True)
                    shutil.rmtree(entry.path, ignore_errors=True)
                    surplus -= entry.bytes
                else:
                    remaining.append(entry)
            self._sizes.rewrite({entry.path.name: entry.bytes for entry in remaining})

    def bytes(self) -> int:
        """Return the size of all entries on disk."""
        return sum(entry.bytes for entry in self._entries())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, Timeout):
                raise
            raise StudyError(
                f"the stage store at {self.root} can't be written: {error.strerror or error}. "
                "Make room there, lower its limit, or name another place with --store."
            ) from error

    def _folder(self, key: str) -> Path:
        return self.root / "entries" / key[:2] / key

    def _lock(self, name: str) -> FileLock:
        path = self.root / f"{name}.lock"
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, thread_local=False)

    def _entry(self, key: str) -> _Entry | None:
        folder = self._folder(key)
        mark = _read_mark(folder)
        if mark is None:
            return None
        files = {name: folder / name for name in mark["files"]}
        try:
            state = _state(mark, folder)
            known = self._verified.get(key) == state
            whole = known or all(sha256(path) == mark["files"][name] for name, path in files.items())
        except OSError:
            return None
        if not whole:
            return None
        self._verified[key] = state
        return _Entry(files, mark["facts"])

    def _entries(self) -> Iterator[_Size]:
        for folder in (self.root / "entries").glob("*/*"):
            try:
                stats = {file.name: file.stat() for file in os.scandir(folder)}
            except FileNotFoundError:  # being written right now
                continue
            used = stats[MARK].st_mtime if MARK in stats else 0.0
            yield _Size(folder, sum(stat.st_size for stat in stats.values()), used)

    def _kept(self) -> set[str]:
        """Collect the keys under lease; the leases of dead processes are removed."""
        keys: set[str] = set()
        for lease in (self.root / "leases").glob("*.json"):
            lock = self._lock(f"leases/{lease.stem}")
            try:
                with lock.acquire(timeout=0):
                    lease.unlink()
                lease.with_suffix(".lock").unlink(missing_ok=True)
            except Timeout:
                keys.update(json.loads(lease.read_text()))
        return keys


@dataclass(frozen=True, slots=True)
class _Size:
    path: Path
    bytes: int
    used: float
    """Seconds since the epoch; 0 for an entry that was never finished."""


class _SizeIndex:
    """Sizes of the entries in one file that grows by a line for each, so that nobody scans the store to know its size.

    Processes append; each remembers how far it has read. Only trimming, which scans anyway, writes the file anew. The
    index is a hint: an entry that it misses is found by the next scan.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._path = root, root / "sizes.txt"
        self._read: tuple[int, int] = (0, 0)
        """Inode and offset up to which the file was read."""
        self._sizes: dict[str, int] = {}

    def add(self, key: str, size: int) -> None:
        with self._path.open("a") as file:
            file.write(f"{key} {size}\n")

    def total(self) -> int:
        """Sum the sizes up, in bytes; a store without an index is taken as full, so that it is scanned once."""
        if not self._path.is_file():
            return 2**63 if (self._root / "entries").is_dir() else 0
        with self._path.open() as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._read[0]:
                self._sizes, self._read = {}, (inode, 0)
            file.seek(self._read[1])
            for line in file.read().splitlines():
                key, _, size = line.partition(" ")
                self._sizes[key] = int(size) if size.isdecimal() else 0
            self._read = inode, file.tell()
        return sum(self._sizes.values())

    def rewrite(self, sizes: Mapping[str, int]) -> None:
        write_whole(self._path, "".join(f"{key} {size}\n" for key, size in sizes.items()))


class _Remote:
    """The entries behind a URL; files are streamed, never held whole."""

    def __init__(self, url: str) -> None:
        import fsspec  # only here: a local store is looked into within a second

        self._files, self._root = fsspec.core.url_to_fs(url)

    def has(self, key: str) -> bool:
        return bool(self._files.exists(f"{self._path(key)}/{MARK}"))

    def fetch(self, key: str, folder: Path) -> None:
        """Copy an entry here, the mark last; do nothing if it isn't there."""
        try:
            mark = self._files.cat_file(f"{self._path(key)}/{MARK}")
            folder.mkdir(parents=True, exist_ok=True)
            for name in json.loads(mark)["files"]:
                draft = folder / f".{name}.{uuid.uuid4().hex[:8]}.draft"
                try:
                    self._files.get_file(f"{self._path(key)}/{name}", str(draft))
                    os.replace(draft, folder / name)
                finally:
                    draft.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        write_whole(folder / MARK, mark)

    def put(self, key: str, folder: Path) -> None:
        self._files.makedirs(self._path(key), exist_ok=True)
        for name in [*json.loads((folder / MARK).read_text())["files"], MARK]:
            self._files.put_file(str(folder / name), f"{self._path(key)}/{name}")

    def _path(self, key: str) -> str:
        return f"{self._root}/entries/{key[:2]}/{key}"


def _read_mark(folder: Path) -> dict[str, Any] | None:
    """Read a mark whose own checksum holds; None for any other."""
    try:
        mark: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
        own = mark.pop("sum")
    except (OSError, ValueError, KeyError):
        return None
    return mark | {"sum": own} if own == fingerprint(mark) else None


def _state(mark: Mapping[str, Any], folder: Path) -> Any:
    """Describe an entry's files without reading them; raises OSError if one is missing."""
    stats = [(folder / name).stat() for name in mark["files"]]
    return mark["sum"], [(stat.st_size, stat.st_mtime_ns) for stat in stats]


def _write(path: Path, content: bytes | Path) -> str:
    """Write a file; returns its checksum."""
    if isinstance(content, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(content, path)
        return sha256(path)
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()
