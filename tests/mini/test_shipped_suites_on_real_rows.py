"""Blocks of the shipped suites read real rows, wherever the collection has some in the hub's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mini.collected import FOLDERS, folder_of
from mini.stand_ins import stand_ins
from tasks.documented import Place, places

from tunexfer.data.canonical import canonical_batches, canonical_rows, canonical_table
from tunexfer.data.origin import Origin
from tunexfer.data.readers import jsonl_rows
from tunexfer.data.survey import Tally
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import SPLITS

OUR_NAMES = {"paws_x": {"0": "different", "1": "same"}}
"""Labels that the suite gives a name which the set doesn't have."""
COLLECTED = [place for place in places() if place.name in FOLDERS]


def test_every_set_that_is_collected_is_in_a_suite() -> None:
    assert {place.name for place in COLLECTED} == FOLDERS.keys()


@pytest.mark.parametrize("place", COLLECTED, ids=lambda place: place.name)
def test_real_rows_are_read_and_keep_their_labels(place: Place, real_data: Path, tmp_path: Path) -> None:
    block, folder = place.block, FOLDERS[place.name]
    declared = [(language, split) for language in block.rows for split in SPLITS]
    files = {
        (language, split): folder_of(real_data / folder, language) / f"{split}.jsonl" for language, split in declared
    }
    language, split = next(part for part, file in files.items() if file.is_file())
    rows = list(jsonl_rows(files[language, split]))
    whole = [ours | theirs for ours, theirs in zip(stand_ins(place, language, split, len(rows)), rows, strict=True)]
    origin = Origin(block=block, language=language, written=language, split=split, cache=tmp_path)
    tally = Tally()
    schema = KINDS[block.kind].schema
    batches = canonical_batches(canonical_rows(whole, origin, place.name, tally), schema)
    table = canonical_table(batches, schema, tally)
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
