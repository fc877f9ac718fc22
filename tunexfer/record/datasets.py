"""Which rows a study reads: facts about them, beside the record. The rows themselves stay where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.scores import Split


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
    """Where they lie on the Hugging Face hub, `owner/name@commit`; None: in files."""


def write_datasets(folder: StudyFolder, datasets: Sequence[Dataset]) -> None:
    write_whole(folder.datasets, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in datasets))


def read_datasets(folder: StudyFolder) -> list[Dataset]:
    """What `write_datasets` left; none of a study made before there was such a file.

    raises: ValueError or TypeError, if the file is damaged
    """
    if not folder.datasets.is_file():
        return []
    return [Dataset(**json.loads(line)) for line in folder.datasets.read_text(encoding="utf-8").splitlines()]
