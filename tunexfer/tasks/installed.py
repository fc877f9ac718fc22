"""Suites and encoders that installed packages provide, found through their entry points.

The name of an entry point is what a space file writes, and the entry point leads to a `Provider`. Its folder of rows or
weights is built into the cache the first time it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from tunexfer.errors import DataError

SUITES, ENCODERS = "tunexfer.suites", "tunexfer.encoders"
"""Groups of entry points."""

Progress = Callable[[str, float], None]
"""Called with the name of what is being built and the share of it that is done, in [0, 1]."""


class Provider(Protocol):
    """A folder of rows or of a checkpoint, which a package builds on request."""

    def find(self, cache: Path) -> Path | None:
        """Return the folder at once, or None if it isn't built yet."""

    def build(self, cache: Path, on_progress: Progress) -> Path:
        """Return the folder, building it first if needed.

        raises: RuntimeError, with a sentence for the user, if this machine can't build it
        """


class _SuiteProvider(Provider, Protocol):
    """A suite file and the folder of its rows, which the file names as its root: `installed:NAME`."""

    @property
    def file(self) -> Path: ...


def installed_suites() -> list[str]:
    """Names of the suites that installed packages provide."""
    return sorted(entry_points(group=SUITES).names)


def suite_provider(name: str) -> _SuiteProvider | None:
    """Return the provider of the suite `name`, or None if no installed package provides it."""
    provider: _SuiteProvider | None = _load(SUITES, name)
    return provider


def encoder_provider(name: str) -> Provider | None:
    """Return the provider of the encoder `name`, or None if no installed package provides it."""
    provider: Provider | None = _load(ENCODERS, name)
    return provider


def build(provider: Provider, cache: Path, on_progress: Progress = lambda name, share: None) -> Path:
    """Return the provider's folder, building it first if needed.

    raises: DataError if this machine can't build it
    """
    try:
        return provider.build(cache, on_progress)
    except RuntimeError as error:
        raise DataError(str(error)) from error


def _load(group: str, name: str) -> Any:
    entries = entry_points(group=group, name=name)
    if len(entries) > 1:
        packages = ", ".join(sorted(entry.dist.name for entry in entries if entry.dist))
        raise DataError(f"several installed packages provide {name!r}: {packages}. Uninstall all but one.")
    return next((entry.load() for entry in entries), None)
