"""Small twins of the shipped spaces: the space and its suite as they are, but for rows, lengths and the encoder.

Nothing of a space is written here again, so a change of the space or of its suite is a change of its twin.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from mini.collected import FOLDERS, folder_of
from mini.stand_ins import Row, stand_ins, write_rows
from tasks.documented import Place, places

from tunexfer.core.scores import Split
from tunexfer.data.readers import jsonl_rows
from tunexfer.plan.space_file import read_yaml, shipped_spaces
from tunexfer.tasks.suite import SPLITS, TaskBlock, load_suite

ENCODER = "starter-e5-small-4l"
ROWS: dict[Split, int] = {"train": 12, "validation": 4, "test": 4}
HELD_OUT = 4
"""Rows at the end of train that validate, in tasks that set some aside."""
NUMBERS = {"steps": 2, "batch_size": 4, "layer": 2}
"""What these keys of a space file are, wherever they stand."""
RATE = 1.0e-3
"""Of the suite's own recipes."""
LONGEST = 128
"""Pieces of a row."""
ALWAYS = {"en", "de", "sw", "te"}
"""Languages with rows beside those that the space names."""


def twin(space: str, folder: Path, collection: Path | None, *, epochs: int = 1) -> Path:
    """Write the twin of a shipped space, its suite and its rows to `folder`; returns the space file.

    collection: where real rows are; those that it lacks, or all, are stand-ins
    epochs: of the suite's own recipes
    """
    raw = read_yaml(shipped_spaces()[space]) | {"noise": {"seeds": 1}}
    words = set(_words(raw))
    suite, _ = load_suite(raw["suite"])
    every = places(raw["suite"])
    small = {
        name: _small(name, block, [one for one in every if one.name.split("/")[1] == name], folder, epochs)
        for name, block in suite.tasks.items()
        if name in words
    }
    for place in every:
        if place.name.split("/")[1] in small:
            _write(place, folder, words | ALWAYS, collection)
    suite = suite.model_copy(update={"name": f"mini_{suite.name}", "root": ".", "tasks": {**suite.tasks, **small}})
    _dump(folder / "suite.yaml", suite.model_dump(mode="json", exclude_unset=True))
    raw["suite"] = "suite.yaml"
    raw["encoder"]["name"] = ENCODER
    raw["resources"] |= {"cpus": 1, "gpus": 0, "precision": "fp32"}
    _dump(folder / f"{space}.yaml", _with_numbers(raw))
    return folder / f"{space}.yaml"


def _words(value: Any) -> Iterator[str]:
    """Every word that stands as a value: names of tasks and languages among them."""
    if isinstance(value, str):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _words(one)


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: NUMBERS.get(key, _with_numbers(one)) for key, one in value.items()}
    return [_with_numbers(one) for one in value] if isinstance(value, list) else value


def _small(name: str, block: TaskBlock, own: list[Place], folder: Path, epochs: int) -> TaskBlock:
    """The block as shipped, read from files of `folder` instead of the hub."""
    changes: dict[str, Any] = {
        "max_length": min(block.max_length, LONGEST),
        "validation_from_train": min(block.validation_from_train, HELD_OUT),
    }
    if block.recipe:
        changes["recipe"] = block.recipe.model_copy(
            update={"learning_rate": RATE, "epochs": epochs, "batch_size": NUMBERS["batch_size"]}
        )
    here = {number: {"hub": None, "files": _pattern(place), "rows": {}} for number, place in enumerate(own)}
    if block.tag_files:
        changes["rows"] = {"en": tuple(ROWS.values())}
    elif block.parts:
        # Without the files of one's own that a task may have: in a folder of rows they would be missing.
        changes["parts"] = [
            part.model_copy(update=here[number]) if part.hub else part
            for number, part in enumerate(block.parts)
            if part.hub or part.rows
        ]
    else:
        changes |= here[0]
    return block.model_copy(update=changes)


def _pattern(place: Place) -> str:
    return f"{place.name}/{{language}}/{{split}}.jsonl"


def _write(place: Place, folder: Path, languages: Collection[str], collection: Path | None) -> None:
    """Few rows of each split that the set has, in those of these languages that it has."""
    if place.block.tag_files:
        _write_tagged(place, folder)
        return
    for language, counts in place.block.rows.items():
        for split, count in zip(SPLITS, counts, strict=True):
            if count and language in languages:
                file = folder / _pattern(place).replace("{language}", language).replace("{split}", split)
                write_rows(file, _rows(place, language, split, collection))


def _rows(place: Place, language: str, split: Split, collection: Path | None) -> list[Row]:
    """Real rows if the collection has some, with made-up values in columns that it leaves out; else stand-ins."""
    made = stand_ins(place, language, split, ROWS[split])
    real = folder_of((collection or Path()) / FOLDERS.get(place.name, "-"), language) / f"{split}.jsonl"
    if collection is None or not real.is_file():
        return made
    return [ours | theirs for ours, theirs in zip(made, islice(jsonl_rows(real), len(made)), strict=True)]


def _write_tagged(place: Place, folder: Path) -> None:
    """Stand-ins for a set of two text files, with its labels in a third."""
    rows = stand_ins(place, "en", "train", ROWS["train"])
    labels = sorted({tag for row in rows for tag in row["tags"]})
    texts = {
        place.block.files: "".join(f"{' '.join(row['tokens'])}\n" for row in rows),
        place.block.tag_files: "".join(f"{' '.join(row['tags'])}\n" for row in rows),
    }
    for pattern, text in texts.items():
        for split in SPLITS[:2]:
            file = folder / str(pattern).replace("{split}", split)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    numbers = {label: number for number, label in enumerate(labels)}
    (folder / str(place.block.labels_file)).write_text(json.dumps(numbers), encoding="utf-8")


def _dump(file: Path, value: Any) -> None:
    file.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
