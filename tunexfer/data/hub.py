"""Rows of data sets on the Hugging Face hub. A set's rows are those of the commit it had when it was first used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunexfer.core.files import write_whole
from tunexfer.data.origin import BATCH, Origin
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import HubRows

COMMIT = re.compile("[0-9a-f]{40}")


def hub_rows(origin: Origin) -> Iterator[Row]:
    """Yield the rows of a split. A label that has a name on the hub is named, if the names are the block's labels."""
    block, data = origin.block, _loaded(origin)
    names = {column: _label_names(feature) for column, feature in data.features.items()}
    named = {column: own for column, own in names.items() if not block.label_values and set(own) == set(block.labels)}
    for batch in data.with_format("arrow").iter(batch_size=BATCH):
        for row in batch.to_pylist():
            yield row | {column: _named(row[column], own) for column, own in named.items()}


def hub_identity(origin: Origin) -> list[Any]:
    """Identify rows by data set, config, commit and split; the hub is asked for a commit that is not known yet."""
    hub, name, split = _set(origin), origin.filled(_set(origin).name or ""), _split(origin)
    return [hub.path, name, _revision(origin), split, *([hub.files, hub.options] if hub.files else [])]


def _loaded(origin: Origin) -> Any:
    import datasets

    hub, revision, split = _set(origin), _revision(origin), _split(origin)
    name, files = origin.filled(hub.name or "") or None, origin.filled(hub.files or "")
    where = f"{hub.path}, config {name or 'default'}, split {split!r}{f', files {files}' if files else ''}"
    file_split = split.partition("[")[0]
    pattern = files.replace("{split}", file_split)
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


def _label_names(feature: Any) -> list[str]:
    """Names of a ClassLabel column, or of a list of them; none for other columns."""
    return list(getattr(getattr(feature, "feature", feature), "names", None) or [])


def _named(label: Any, names: list[str]) -> Any:
    if isinstance(label, list):
        return [_named(item, names) for item in label]
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label
