"""Every example of the cookbook in docs/suites.md is read as it is meant."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tunexfer.data.rows import Rows
from tunexfer.tasks.suite import SPLITS, Suite

PAGE = (Path(__file__).parents[2] / "docs" / "suites.md").read_text(encoding="utf-8")
COOKBOOK = PAGE.split("\n## Cookbook\n")[1].split("\n## ")[0]
EXAMPLES = dict(zip(*[iter(re.split(r"^### (.+)$", COOKBOOK, flags=re.MULTILINE)[1:])] * 2, strict=True))
FIRST: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "JSON lines": ("en", "train", 3, {"text": "A fine film.", "label": 1}),
    "An array of objects": ("en", "train", 3, {"text": "It rains.", "text_pair": "It is wet.", "label": 0}),
    "CSV with a header": ("sw", "train", 3, {"text": "Filamu nzuri, kweli", "label": 2}),
    "TSV without a header": ("en", "train", 3, {"text": "A fine film.", "label": 1}),
    "One file with columns of languages and splits": ("sw", "test", 1, {"text": "Nimepoteza muda.", "label": 0}),
    "CoNLL": ("en", "train", 1, {"tokens": ["Oslo", "sleeps"], "tags": [1, 0]}),
    "CoNLL-U": ("en", "train", 1, {"tokens": ["Oslo", "sleeps"], "tags": [3, 4]}),
    "Words and tags in files of their own": ("en", "train", 2, {"tokens": ["Oslo", "sleeps"], "tags": [1, 0]}),
    "Nested SQuAD": ("en", "train", 1, {"question": "Where is Oslo?", "answers": [{"text": "Norway", "start": 13}]}),
    "Multiple choice": ("en", "train", 3, {"prompt": "It rained.", "label": 0}),
    "Parallel plain text": ("de", "test", 2, {"text": "Oslo schläft.", "english": "Oslo is asleep."}),
    "Pairs of translations in a table": ("sw", "test", 2, {"text": "Mvua inanyesha.", "english": "It rains."}),
    "Running text": ("sw", "train", 2, {"text": "Oslo ni mji wa Norwei."}),
}
"""Heading -> a language and split, the number of its rows, and fields of the first."""


def blocks(example: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The files of an example, and its task."""
    files = dict(re.findall(r"^```text (\S+)\n(.*?)^```$", example, flags=re.MULTILINE | re.DOTALL))
    [task] = re.findall(r"^```yaml\n(.*?)^```$", example, flags=re.MULTILINE | re.DOTALL)
    return files, yaml.safe_load(task)


def rows_of(task: dict[str, Any], folder: Path) -> Rows:
    suite = Suite.model_validate({"name": "mine", "tasks": {"task": task}})
    return Rows(suite, folder, folder.parent / "cache")


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_is_read_as_it_is_meant(heading: str, tmp_path: Path) -> None:
    files, task = blocks(EXAMPLES[heading])
    for name, content in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    language, split, count, first = FIRST[heading]
    rows = rows_of(task, tmp_path / "mine")
    table = rows.table("task", language, split).to_pylist()  # type: ignore[arg-type]
    assert len(table) == count == rows.count("task", language, split)  # type: ignore[arg-type]
    assert {name: table[0][name] for name in first} == first
    remarks = [remark for remark in rows.remarks() if " has no " not in remark]
    assert remarks == []


@pytest.mark.parametrize("suffix", ["parquet", "jsonl.gz"])
def test_parquet_and_compressed_files_give_the_same_rows(suffix: str, tmp_path: Path) -> None:
    files, task = blocks(EXAMPLES["JSON lines"])
    [content] = files.values()
    file = tmp_path / "mine" / "reviews" / "en" / f"train.{suffix}"
    file.parent.mkdir(parents=True)
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in content.splitlines()]), file)
    else:
        file.write_bytes(gzip.compress(content.encode()))
    plain = file.with_name("train.jsonl")
    plain.write_text(content, encoding="utf-8")
    pattern = task["files"].replace("jsonl", suffix)
    tables = [
        rows_of(task | {"files": files_}, tmp_path / "mine").table("task", "en", "train")
        for files_ in (task["files"], pattern)
    ]
    assert tables[0].equals(tables[1])


def test_every_split_of_an_example_has_a_file_of_its_name() -> None:
    assert set(EXAMPLES) == set(FIRST)
    assert all(split in SPLITS for _, split, _, _ in FIRST.values())
