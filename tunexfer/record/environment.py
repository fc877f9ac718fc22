"""The circumstances of a study, kept beside its record: the machine, the libraries, and the rows it reads."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.phrases import many_left_out, rows_in_words, without_passwords
from tunexfer.core.scores import Split

LIBRARIES = ("tunexfer", "torch", "transformers", "datasets", "ray", "optuna", "mlflow", "pyarrow", "numpy")


def environment() -> dict[str, Any]:
    """Describe the running command, its machine and its libraries in plain values, without passwords."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [without_passwords(word) for word in sys.argv],
        "folder": os.getcwd(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the working folder, if it is in a git repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The rows of one task in one language and split."""

    task: str
    language: str
    split: Split
    rows: int
    digest: str
    """Hash of all that the rows and their encoding depend on: 32 hex digits."""
    suite: str
    hub: str | None = None
    """Their place on the Hugging Face hub, `owner/name@commit`; None for files."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of rows beside `rows` that can't be used."""

    @property
    def warning(self) -> str | None:
        """Say why rows are left out, where they are more than 1 %."""
        if not many_left_out(self.rows, self.left_out):
            return None
        return f"task {self.task!r}, {self.split} in {self.language!r}: {rows_in_words(self.rows, self.left_out)}"


def write_datasets(folder: StudyFolder, datasets: Sequence[Dataset]) -> None:
    write_whole(folder.datasets, "".join(json.dumps(asdict(data), ensure_ascii=False) + "\n" for data in datasets))


def read_datasets(folder: StudyFolder) -> list[Dataset]:
    """Read what `write_datasets` wrote; none, if there is no such file.

    raises: ValueError or TypeError, if the file is damaged
    """
    if not folder.datasets.is_file():
        return []
    return [Dataset(**json.loads(line)) for line in folder.datasets.read_text(encoding="utf-8").splitlines()]
