"""Builds the rows of the starter suite. `tasks/suites/starter.yaml` declares the tasks and how many rows there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import get_args

import yaml

from tunexfer.core.scores import Split
from tunexfer.errors import DataError
from tunexfer.starter.packages import SUITE_PINS, build_once, chance, check_pins
from tunexfer.starter.rows import Row

CONTENT = "9a5c070ace11f87a4e9e76b8620ab6e33eb4fa37098d77dcd1135e5fe7b2c822"
"""SHA-256 of the built files, see `content`. It changes with the pins, this package's code and the row counts."""

Progress = Callable[[str, float], None]
"""Told what is being made, and which share of it is done."""


def ignore(what: str, share: float) -> None:
    """The progress callback that does nothing."""


def build_suite(cache: Path, on_progress: Progress = ignore) -> Path:
    """The folder `<task>/<language>/<split>.jsonl` of the starter suite, built in `cache` on the first call.

    raises: DataError if a package has another version, or the rows come out different
    """
    return build_once(suite_folder(cache), lambda draft: _build(draft, on_progress))


def suite_folder(cache: Path) -> Path:
    """Where `build_suite` puts it."""
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
    if (found := content(folder)) != CONTENT:
        raise DataError(
            f"the starter suite's packages have the right versions, but its rows came out different (content {found}, "
            f"expected {CONTENT}). Another Python's Unicode tables can do that: build it once with Python 3.11 and "
            "keep the cache folder."
        )


def write_rows(folder: Path, on_progress: Progress = ignore) -> None:
    """Write every file that the suite declares."""
    declared = _declared()
    makers = _makers(declared, on_progress)
    for task, languages in declared.items():
        for language, counts in languages.items():
            for split, count in zip(get_args(Split), counts, strict=True):
                if count:
                    path = folder / task / language / f"{split}.jsonl"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(_lines(makers[task](language, split), count, path))
    on_progress("starter suite", 1.0)


def _declared() -> dict[str, dict[str, list[int]]]:
    """Task -> language -> rows in train, validation and test."""
    text = resources.files("tunexfer.tasks").joinpath("suites/starter.yaml").read_text(encoding="utf-8")
    return {name: block["rows"] for name, block in yaml.safe_load(text)["tasks"].items()}


def _makers(
    declared: dict[str, dict[str, list[int]]], on_progress: Progress
) -> dict[str, Callable[[str, Split], Iterator[Row]]]:
    """Task -> what makes its rows. The packages are imported here, once they are known to be the right ones."""
    from tunexfer.starter import command_tasks, messages, names
    from tunexfer.starter.commands import commands_of

    trains = {language: counts[0] > 0 for language, counts in declared["command_intent"].items()}
    commands = commands_of(trains, lambda share: on_progress("starter suite", 0.9 * share))
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
    """The first `count` rows, in an order by chance, as JSON lines."""
    kept = list(islice(rows, count))
    assert len(kept) == count, f"{path}: {count} rows declared, {len(kept)} made"
    chance("rows", *path.parts[-3:]).shuffle(kept)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()
