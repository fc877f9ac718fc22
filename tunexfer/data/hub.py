"""Which commit of a set on the Hugging Face hub is read: the one that its branch had when it was first read here."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from tunexfer.core.files import write_whole
from tunexfer.errors import DataError
from tunexfer.tasks.suite import HubRows

COMMIT = re.compile("[0-9a-f]{40}")


def known_commit(hub: HubRows, cache: Path) -> str | None:
    """The commit of a set on the hub, as `revision:` gives it or as it is remembered; the network isn't asked."""
    if hub.revision and COMMIT.fullmatch(hub.revision):
        return hub.revision
    memo = _memo(hub, cache)
    return memo.read_text(encoding="utf-8").strip() if memo.is_file() else None


def commit(hub: HubRows, cache: Path) -> str:
    """The same, or what the set's branch is at now, which is remembered from then on.

    raises: DataError, where it isn't known and the hub can't tell
    """
    found = known_commit(hub, cache)
    if found:
        return found
    from huggingface_hub import HfApi

    try:
        found = HfApi().dataset_info(hub.path, revision=hub.revision).sha
    except Exception as error:  # the hub's client and the network raise a dozen unrelated types
        raise not_loaded(f"{hub.path}, revision {hub.revision or 'main'}", error) from error
    write_whole(_memo(hub, cache), str(found))
    return str(found)


def not_loaded(where: str, error: Exception) -> DataError:
    return DataError(
        f"could not load {where}: {type(error).__name__}: {error}. Check the id, config, revision and split, "
        "and the network; data loaded once is found again without it."
    )


def _memo(hub: HubRows, cache: Path) -> Path:
    """A file that a user can find by the set's name, and delete to follow the branch."""
    return cache / "hub" / quote(f"{hub.path}@{hub.revision or 'main'}", safe="@")
