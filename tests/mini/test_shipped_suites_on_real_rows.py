"""Blocks of the shipped suites read real rows, wherever the collection has some in the hub's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mini.collected import FOLDERS
from mini.stand_ins import stand_ins
from tasks.documented import Place, places

from tunexfer.data.canonical import canonical_table
from tunexfer.data.readers import jsonl_rows
from tunexfer.tasks.suite import SPLITS

OUR_NAMES = {"paws_x": {"0": "different", "1": "same"}}
"""Labels that the suite gives a name which the set doesn't have."""
COLLECTED = [place for place in places() if place.name in FOLDERS]


def test_every_set_that_is_collected_is_in_a_suite() -> None:
    assert {place.name for place in COLLECTED} == FOLDERS.keys()


@pytest.mark.parametrize("place", COLLECTED, ids=lambda place: place.name)
def test_real_rows_are_read_and_keep_their_labels(place: Place, real_data: Path) -> None:
    block, folder = place.block, FOLDERS[place.name]
    declared = [(language, split) for language in block.rows for split in SPLITS]
    language, split = next(one for one in declared if (real_data / folder / one[0] / f"{one[1]}.jsonl").is_file())
    rows = list(jsonl_rows(real_data / folder / language / f"{split}.jsonl"))
    whole = [ours | theirs for ours, theirs in zip(stand_ins(place, language, split, len(rows)), rows, strict=True)]
    table = canonical_table(whole, block, {}, place.name)
    assert table.num_rows == len(rows)

    facts = json.loads((real_data / "manifest.json").read_text(encoding="utf-8"))["tasks"][folder]
    if block.labels and block.kind != "multiple_choice":
        ours = table["tags" if block.kind == "tagging" else "label"].to_pylist()
        theirs = [row[facts["label_column"]] for row in rows]
        names = [OUR_NAMES.get(folder, {}).get(label, label) for label in facts["label_names"]]
        assert named(ours, block.labels) == named(theirs, names)
    elif block.kind == "multiple_choice":
        assert table["label"].to_pylist() == [row["label"] for row in rows]
    elif block.kind == "extractive_qa":
        answered = [(row["context"], answer) for row in table.to_pylist() for answer in row["answers"]]
        assert all(context[answer["start"] :].startswith(answer["text"]) for context, answer in answered)


def named(labels: Any, names: list[str]) -> Any:
    return [named(one, names) for one in labels] if isinstance(labels, list) else names[labels]
