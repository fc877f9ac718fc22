"""Rows of data sets on the Hugging Face hub. A set's rows are those of the commit it had when it was first used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunexfer.core.files import write_whole
from tunexfer.data.checkpoint import file_hash
from tunexfer.data.label_names import label_names, named
from tunexfer.data.origin import BATCH, Origin
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import HubRows

SUFFIXES = {".arrow", ".csv", ".json", ".jsonl", ".parquet", ".tsv", ".txt"}
"""Files that `datasets` reads from a folder."""
COMMIT = re.compile("[0-9a-f]{40}")


def hub_rows(origin: Origin) -> Iterator[Row]:
    """Yield the rows of a split. A label that has a name on the hub is named."""
    data = _loaded(origin)
    names = label_names(data.features.to_dict())
    for batch in data.with_format("arrow").iter(batch_size=BATCH):
        yield from named(batch.to_pylist(), names, origin.block, str(origin))


def hub_identity(origin: Origin) -> list[Any]:
    """Identify rows by data set, config, commit and split, and by the bytes of files on this machine.

    The hub is asked for a commit that is not known yet.
    """
    hub, name, split = _set(origin), origin.filled(_set(origin).name or ""), _split(origin)
    parts: list[Any] = [hub.path, name, _revision(origin), split, *([hub.files, hub.options] if hub.files else [])]
    hashes = [file_hash(file, origin.cache) for file in _local_files(origin)]
    return [*parts, hashes] if hashes else parts


def _local_files(origin: Origin) -> list[Path]:
    """The files that a format reads, or those of a folder that stands for a data set; none on the hub or behind a URL.

    raises: DataError, if no file fits the pattern
    """
    hub = _set(origin)
    if hub.has_commits:
        return []
    if not hub.files:
        return sorted(file for file in Path(hub.path).rglob("*") if SUFFIXES & {*file.suffixes})
    pattern = _pattern(origin)
    if "://" in pattern:
        return []
    place = Path(pattern)
    files = sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    if not files:
        raise DataError(f"no file fits `hub: {{files: {hub.files}}}`: {pattern} isn't there. Correct the suite.")
    return files


def _pattern(origin: Origin) -> str:
    """The pattern of a set's files; that of files on this machine starts from the suite's root."""
    hub = _set(origin)
    pattern = origin.filled(hub.files or "").replace("{split}", _split(origin).partition("[")[0])
    if not pattern or hub.has_commits or "://" in pattern:
        return pattern
    return str((Path(hub.path) if Path(hub.path).is_dir() else origin.root.absolute()) / pattern)


def _loaded(origin: Origin) -> Any:
    import datasets

    hub, revision, split = _set(origin), _revision(origin), _split(origin)
    name, files = origin.filled(hub.name or "") or None, origin.filled(hub.files or "")
    pattern = _pattern(origin)
    where = f"{hub.path}, config {name or 'default'}, split {split!r}{f', files {files}' if files else ''}"
    file_split = split.partition("[")[0]
    try:
        path = _downloaded(hub.path, pattern, revision) if pattern and hub.has_commits else hub.path
        data = datasets.load_dataset(
            path,
            name,
            revision=revision if path == hub.path else None,
            data_files={file_split: pattern} if pattern else None,
            split=split,
            **hub.options,
        )
    except Exception as error:  # the hub's client, the cache and the network raise a dozen unrelated types
        raise _not_loaded(where, error) from error
    files_read = [Path(file["filename"]) for file in data.cache_files] if path == hub.path and hub.has_commits else []
    if any(revision not in file.parts for file in files_read):  # offline, `datasets` loads the newest commit it has
        raise DataError(
            f"could not load {where}: the hub cannot be reached, and commit {revision} was not downloaded, only "
            f"another: {files_read[0]}. Try again with the network, or name that commit in `revision:`."
        )
    return data


def known_commit(hub: HubRows, cache: Path) -> str | None:
    """Return the commit that `revision:` names or that was recorded before, without asking the hub."""
    if hub.revision and COMMIT.fullmatch(hub.revision):
        return hub.revision
    memo = _memo(hub, cache)
    return memo.read_text(encoding="utf-8").strip() if memo.is_file() else None


def commit(hub: HubRows, cache: Path) -> str:
    """Return the same, or the newest commit of the set's branch, which is recorded from then on.

    raises: DataError, if it is not known and the hub cannot be asked
    """
    known = known_commit(hub, cache)
    if known:
        return known
    from huggingface_hub import HfApi

    try:
        newest = str(HfApi().dataset_info(hub.path, revision=hub.revision).sha)
    except Exception as error:  # the hub's client and the network raise a dozen unrelated types
        raise _not_loaded(f"{hub.path}, revision {hub.revision or 'main'}", error) from error
    write_whole(_memo(hub, cache), newest)
    return newest


def _memo(hub: HubRows, cache: Path) -> Path:
    """A file that a user can find by the set's name, and delete to follow the branch."""
    return cache / "hub" / quote(f"{hub.path}@{hub.revision or 'main'}", safe="@")


def _set(origin: Origin) -> HubRows:
    assert origin.block.hub is not None
    return origin.block.hub


def _split(origin: Origin) -> str:
    return _set(origin).splits.get(origin.split, origin.split)


def _revision(origin: Origin) -> str | None:
    hub = _set(origin)
    return commit(hub, origin.cache) if hub.has_commits else hub.revision


def _downloaded(path: str, pattern: str, commit: str | None) -> str:
    """Download the files that match; `datasets` itself would not find them again without the network."""
    from huggingface_hub import snapshot_download

    return snapshot_download(path, repo_type="dataset", revision=commit, allow_patterns=[pattern])


def _not_loaded(where: str, error: Exception) -> DataError:
    return DataError(
        f"could not load {where}: {type(error).__name__}: {error}. Check the id, config, revision and split, "
        "and the network; data that was loaded before is read from the cache."
    )
