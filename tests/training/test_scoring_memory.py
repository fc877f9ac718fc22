"""What a trial holds doesn't grow with its languages: rows and encoding stay on disk, and so do rows scored."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from chain_runner import ChainRunner
from pico import THINGS
from training.conftest import Pico, target

from tunexfer.core.chain import Source, Target
from tunexfer.data.prepare import Prepared, prepare
from tunexfer.store import StageStore
from tunexfer.tasks.suite import Suite, TaskBlock

ROWS, WORDS = 40, 40
FEW, MANY = 2, 12
TASKS = {
    "tags": TaskBlock(
        kind="tagging",
        files="tags/{language}/{split}.jsonl",
        columns={"tokens": "tokens", "tags": "tags"},
        labels=["O", "B-something-long", "I-something-long"],
    ),
    "pairs": TaskBlock(
        kind="retrieval", files="pairs/{language}/{split}.jsonl", columns={"text": "text", "english": "english"}
    ),
}
LANGUAGES = ["en", *(f"l{number:02}" for number in range(1, MANY))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for language in LANGUAGES:
        draw = random.Random(language)
        words = [draw.choices(THINGS["en"].split(), k=WORDS) for _ in range(ROWS)]
        tags = [{"tokens": own, "tags": draw.choices(TASKS["tags"].labels, k=WORDS)} for own in words]
        pairs = [{"text": " ".join(own), "english": " ".join(own)} for own in words]
        for task, split, rows in (("tags", "train", tags), ("tags", "test", tags), ("pairs", "test", pairs)):
            path = folder / "rows" / task / language / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def prepared(pico: Pico, folder: Path, languages: int) -> Prepared:
    return prepare(
        suite=Suite(name="many", root="rows", tasks=TASKS),
        folder=folder,
        encoder=pico.encoder,
        sources=[Source(task="tags", language="en")],
        evaluated=[(task, one, "test") for task in TASKS for one in LANGUAGES[:languages]],
        precision="fp32",
        cache=pico.folder / "cache",
    )


def held_at_most(pico: Pico, made: Prepared, store: Path) -> int:
    """Bytes of Python's, numpy's and Arrow's memory, at the worst moment of a trial and with its result at hand."""
    runner = ChainRunner(made, StageStore(store))
    arrow = [before := pa.total_allocated_bytes()]
    tracemalloc.start()
    try:
        chain = pico.chain((), (target("tags", steps=1), Target(task="pairs")))
        result = runner.run(chain, seed=0, on_step=lambda *_: arrow.append(pa.total_allocated_bytes()))
        arrow.append(pa.total_allocated_bytes())
        peak = tracemalloc.get_traced_memory()[1] + max(arrow) - before
        assert len(result.rows) == ROWS * len(made.folders.keys() - {("tags", "en", "train")})
        return peak
    finally:
        tracemalloc.stop()


def test_many_languages_take_no_more_memory_than_few(pico: Pico, folder: Path, tmp_path: Path) -> None:
    few, many = prepared(pico, folder, FEW), prepared(pico, folder, MANY)
    held_at_most(pico, few, tmp_path / "first")  # what is looked up once, libraries' caches among it
    growth = held_at_most(pico, many, tmp_path / "many") - held_at_most(pico, few, tmp_path / "few")
    further = many.folders.keys() - few.folders.keys()
    on_disk = sum(file.stat().st_size for key in further for file in many.folders[key].glob("*.arrow"))
    assert growth < on_disk / 4
