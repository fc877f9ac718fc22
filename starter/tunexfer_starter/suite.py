"""The starter suite. `starter.yaml` declares its tasks and row counts; this module writes the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import yaml

from tunexfer_starter.packages import (
    SUITE_PINS,
    Progress,
    StarterError,
    build_once,
    chance,
    check_pins,
    ignore,
    is_built,
)
from tunexfer_starter.rows import SPLITS, Row, Split

CONTENT = "9a5c070ace11f87a4e9e76b8620ab6e33eb4fa37098d77dcd1135e5fe7b2c822"
"""SHA-256 of the built files, see `content`. It changes with the pins, this package's code and the row counts."""
NAME = "starter suite"
"""The name under which progress is reported."""


class StarterSuite:
    """The suite file, and the folder `<task>/<language>/<split>.jsonl` of its rows, built into a cache on request."""

    file = Path(__file__).with_name("starter.yaml")

    def find(self, cache: Path) -> Path | None:
        """Return the folder of the rows if it was built already."""
        folder = self._folder(cache)
        return folder if is_built(folder) else None

    def build(self, cache: Path, on_progress: Progress = ignore) -> Path:
        """Return the folder of the rows, building it first if needed.

        raises: StarterError if a package has another version, or the rows come out different
        """
        return build_once(self._folder(cache), lambda draft: _build(draft, on_progress))

    @staticmethod
    def _folder(cache: Path) -> Path:
        return cache / f"starter-suite-{CONTENT[:12]}"


def content(folder: Path) -> str:
    """SHA-256 over the names and bytes of all JSONL files in `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*/*.jsonl")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _build(folder: Path, on_progress: Progress) -> None:
    check_pins(SUITE_PINS)
    write_rows(folder, on_progress)
    if (actual := content(folder)) != CONTENT:
        raise StarterError(
            f"the starter suite's packages have the right versions, but its rows came out different (content {actual}, "
            f"expected {CONTENT}). Another Python's Unicode tables can do that: build it once with Python 3.11 and "
            "keep the cache folder."
        )


def write_rows(folder: Path, on_progress: Progress = ignore) -> None:
    """Write every file that the suite declares."""
    declared = _declared()
    makers = _makers(declared, on_progress)
    for task, languages in declared.items():
        for language, counts in languages.items():
            for split, count in zip(SPLITS, counts, strict=True):
                if count:
                    path = folder / task / language / f"{split}.jsonl"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(_lines(makers[task](language, split), count, path))
    on_progress(NAME, 1.0)


def _declared() -> dict[str, dict[str, list[int]]]:
    """Read the suite file: task -> language -> rows in train, validation and test."""
    suite = yaml.safe_load(StarterSuite.file.read_text(encoding="utf-8"))
    return {name: block["rows"] for name, block in suite["tasks"].items()}


def _makers(
    declared: dict[str, dict[str, list[int]]], on_progress: Progress
) -> dict[str, Callable[[str, Split], Iterator[Row]]]:
    """Map each task to the function that makes its rows.

    The data packages are imported here, after their versions were checked.
    """
    from tunexfer_starter import command_tasks, messages, names
    from tunexfer_starter.commands import commands_of

    trains = {language: counts[0] > 0 for language, counts in declared["command_intent"].items()}
    commands = commands_of(trains, lambda share: on_progress(NAME, 0.9 * share))
    table = messages.Messages(list(declared["ui_retrieval"]))
    return {
        "command_intent": lambda language, split: command_tasks.intent(commands[language][split]),
        "command_slots": lambda language, split: command_tasks.slots(commands[language][split]),
        "command_qa": lambda language, split: command_tasks.question(commands[language][split]),
        "same_command": lambda language, split: command_tasks.same(commands[language][split]),
        "ui_retrieval": lambda language, split: messages.retrieval(table, language, split),
        "ui_match": lambda language, split: messages.match(table, language, split),
        "ui_choice": lambda language, split: messages.choice(table, language, split),
        "name_type": names.name_type,
    }


def _lines(rows: Iterator[Row], count: int, path: Path) -> bytes:
    """Return the first `count` rows as JSON lines, shuffled."""
    kept = list(islice(rows, count))
    assert len(kept) == count, f"{path}: {count} rows declared, {len(kept)} made"
    chance("rows", *path.parts[-3:]).shuffle(kept)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()
