"""Blocks of the shipped suites read real rows of their sets, wherever the collection has them in the hub's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunexfer.data.reading import file_rows
from tunexfer.data.rows import canonical_table
from tunexfer.tasks.suite import load_suite

FILES = {
    "xtreme/xnli/0": "xnli/sw/test",
    "xtreme/pawsx/0": "paws_x/de/test",
    "xtreme/udpos/0": "udpos/el/test",
    "xtreme/xquad/1": "xquad/th/test",
    "xtreme/mlqa/1": "mlqa/de/train",
    "xtreme/tatoeba/0": "tatoeba/te/test",
    "xtreme/anli_plus/1": "mnli/en/train",
    "xtreme/mnli/0": "mnli/en/train",
    "xtreme/cosmos_qa/0": "cosmos_qa/en/train",
    "xtreme/native_nli/1": "ocnli/zh/train",
    "xtreme/native_nli/3": "indonli/id/train",
    "xtreme/native_qa/1": "cmrc2018/zh/train",
    "xtreme/native_qa/2": "jsquad/ja/train",
    "xtreme/native_qa/3": "arcd/ar/train",
    "xtreme/native_qa/4": "iapp_wiki_qa_squad/th/train",
    "xtreme/native_commonsense/1": "jcommonsenseqa/ja/train",
    "african/masakhaner2/0": "masakhaner2/kin/test",
    "african/afriqa/0": "afriqa/hau/test",
}
"""Place in a suite -> rows of that set."""
OUR_NAMES = {"paws_x": {"0": "different", "1": "same"}}
"""Labels that the suite gives a name which the set doesn't have."""


@pytest.mark.parametrize("place", FILES)
def test_real_rows_are_read_and_keep_their_labels(place: str, real_data: Path) -> None:
    suite, task, number = place.split("/")
    block = load_suite(suite)[0].task(task).places[int(number)]
    rows = list(file_rows(real_data / f"{FILES[place]}.jsonl"))
    table = canonical_table(rows, block, {}, place)
    assert table.num_rows == len(rows)

    name = FILES[place].split("/")[0]
    facts = json.loads((real_data / "manifest.json").read_text(encoding="utf-8"))["tasks"][name]
    if block.labels and block.kind != "multiple_choice":
        ours = table["tags" if block.kind == "tagging" else "label"].to_pylist()
        theirs = [row[facts["label_column"]] for row in rows]
        names = [OUR_NAMES.get(name, {}).get(label, label) for label in facts["label_names"]]
        assert named(ours, block.labels) == named(theirs, names)
    elif block.kind == "multiple_choice":
        assert table["label"].to_pylist() == [row["label"] for row in rows]
    elif block.kind == "extractive_qa":
        answered = [(row["context"], answer) for row in table.to_pylist() for answer in row["answers"]]
        assert all(context[answer["start"] :].startswith(answer["text"]) for context, answer in answered)


def named(labels: Any, names: list[str]) -> Any:
    return [named(one, names) for one in labels] if isinstance(labels, list) else names[labels]
