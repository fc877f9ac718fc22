"""Peak resident memory of a trial that scores few languages, and many: it should be the same.

    python benchmarks/scoring_memory.py

Each number of languages has a process of its own that runs one trial and writes its record, as a search's workers do.
Rows are made up and the encoder is one small layer of random weights, so that what grows could only be the rows, their
encoding, their predictions. `if held` is what that would come to for rows and encoding alone.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer

from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.graph import ancestors, jobs_of
from tunexfer.data.checkpoint import resolve_encoder
from tunexfer.data.prepare import Prepared, prepare
from tunexfer.tasks.kinds import ROWS_SCHEMA
from tunexfer.tasks.suite import Suite, TaskBlock

MIB = 2**20
TAGS = ["O", "B-thing", "I-thing"]
TASKS = {
    "tags": TaskBlock(
        kind="tagging",
        files="tags/{language}/{split}.jsonl",
        columns={"tokens": "tokens", "tags": "tags"},
        labels=TAGS,
    ),
    "pairs": TaskBlock(
        kind="retrieval", files="pairs/{language}/{split}.jsonl", columns={"text": "text", "english": "english"}
    ),
}


def write_rows(folder: Path, language: str, count: int) -> None:
    draw = random.Random(language)

    def words(most: int) -> list[str]:
        return [str(draw.randrange(10**6)) for _ in range(draw.randint(1, most))]

    made: dict[str, list[dict[str, Any]]] = {"tags": [], "pairs": []}
    for _ in range(count):
        tokens = words(30)
        made["tags"].append({"tokens": tokens, "tags": [draw.choice(TAGS) for _ in tokens]})
        made["pairs"].append({"text": " ".join(words(10)), "english": " ".join(words(10))})
    for task, rows in made.items():
        for split, own in (("train", rows[:8]), ("test", rows)):
            path = folder / task / language / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")


def write_encoder(folder: Path) -> Path:
    """One layer of random weights, with the tokenizer of the starter's encoder."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(resolve_encoder(Encoder(name="starter-e5-small-4l"), cache_folder()))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def the_chain(encoder: Path) -> Chain:
    source = Source(task="tags", language="l00")
    stage = Stage(name="tags", mixture=Mixture(sources=(source,), shares=(1.0,)), learning_rate=1e-3, steps=1)
    targets = (Target(task="tags", stage=stage), Target(task="pairs"))
    return Chain(suite="made-up", encoder=Encoder(name=str(encoder)), stages=(), targets=targets)


def run_trial(prepared: Path, folder: Path) -> None:
    """Run the chain's jobs in a process of its own, write its rows as a search does, and print `resident`."""
    from tunexfer.store import ROWS, StageStore
    from tunexfer.training.executor import Executor

    loaded = Prepared.load(prepared)
    chain = the_chain(loaded.encoder)
    store = StageStore(folder / "store")
    executor = Executor({chain.encoder.identity: prepared}, store, device="cpu", threads=1)
    jobs = jobs_of(chain, seed=0, contents=loaded.contents)
    for job in jobs:
        executor.run(job, ancestors(job, jobs))
    entries = (store.get(job.key) for job in jobs if job.kind == "evaluate")
    with pq.ParquetWriter(folder / "rows.parquet", ROWS_SCHEMA) as writer:
        for entry in entries:
            assert entry
            for batch in pq.ParquetFile(entry.files[ROWS]).iter_batches(65536):
                writer.write_batch(batch)
    print(*resident())


def resident() -> tuple[int, int]:
    """By Linux' own account, in bytes: the most that was resident, and how much is of mapped files, which may go.

    `getrusage` counts the parent's memory in as well.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = {name: int(value.split()[0]) * 1024 for name, value in re.findall(r"(VmHWM|RssFile):(.*) kB", status)}
    return found["VmHWM"], found["RssFile"]


def main(
    languages: Annotated[list[int] | None, typer.Option(help="How many; 2, 20 and 40 if not said.")] = None,
    rows: Annotated[int, typer.Option(help="Of each of two tasks in each language.")] = 2000,
    alone: Annotated[Path | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    if alone and folder:
        return run_trial(alone, folder)
    print(f"{rows:,} rows of each of two tasks in each language\n")
    print("| languages | peak, MiB | of it mapped files | if held, MiB more |\n| ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        encoder = write_encoder(Path(scratch) / "encoder")
        suite = Suite(name="made-up", root="rows", tasks=TASKS)
        counts = sorted(languages or [2, 20, 40])
        names = [f"l{number:02}" for number in range(counts[-1])]
        for name in names:
            write_rows(Path(scratch) / "rows", name, rows)
        for count in counts:
            prepared = prepare(
                suite=suite,
                folder=Path(scratch),
                encoder=Encoder(name=str(encoder)),
                sources=[Source(task="tags", language="l00")],
                evaluated=[(task, name, "test") for task in TASKS for name in names[:count]],
                precision="fp32",
                cache=Path(scratch) / "cache",
            )
            own = Path(scratch) / str(count)
            own.mkdir()
            command = [sys.executable, __file__, "--alone", str(prepared.path), "--folder", str(own)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            held = sum(file.stat().st_size for place in prepared.folders.values() for file in place.glob("*.arrow"))
            peak, files = (int(one) for one in said.split()[-2:])
            print(f"| {count} | {peak / MIB:,.0f} | {files / MIB:,.0f} | {held / MIB:,.0f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
