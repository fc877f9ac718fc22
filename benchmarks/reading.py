"""Measure what reading and encoding rows takes: peak memory of a large JSONL file, and time beside `datasets`.

    python benchmarks/reading.py memory --gigabytes 2
    python benchmarks/reading.py time --rows 1000000

`memory` writes a file of that size, surveys and encodes it as training rows, and prints the peak of memory. `time`
prepares as many short rows, and gives `datasets.load_dataset` and a batched `map` with the same tokenizer the same
file. Each has a process of its own, starts without a cache, and is timed after its imports.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = "river stone light seven market winter letter garden doctor music bread yellow window travel story".split()
BYTES_A_ROW = 640
"""Of long rows, about."""
SUITE = """
name: large
tasks:
  t: {kind: classification, files: "{language}/{split}.jsonl", columns: {text: text, label: label}, labels: [a, b],
      max_length: 64}
"""


def write_rows(file: Path, *, rows: int, words: int) -> None:
    draw = random.Random(0)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lines:
        for number in range(rows):
            text = f"{' '.join(draw.choices(WORDS, k=words))} {number}"
            lines.write(json.dumps({"text": text, "label": "ab"[number % 2]}) + "\n")


def by_tunexfer(folder: Path, encoder: str) -> None:
    """Survey the rows of a folder and encode them to train on, as a search does."""
    from tunexfer.data.encode import encode_source
    from tunexfer.data.prepare import load_tokenizer
    from tunexfer.data.rows import Rows
    from tunexfer.tasks.suite import load_suite

    rows = Rows(*load_suite(str(folder / "suite.yaml")), folder / "cache")
    count = rows.count("t", "en", "train")
    tables, place = rows.tables("t", "en", "train"), folder / "encoded"
    encoded = encode_source(tables, rows.task("t"), load_tokenizer(Path(encoder)), place, training=True, place="t")
    assert len(encoded) == count


def by_datasets(folder: Path, encoder: str) -> None:
    """Do the same with `datasets`."""
    import datasets
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    files = {"train": str(folder / "en" / "train.jsonl")}
    rows = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(folder / "hf"))
    rows.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=64), batched=True)


WAYS = {"tunexfer": by_tunexfer, "datasets": by_datasets}


def measure(way: str, folder: Path, encoder: str) -> None:
    """Print what one way takes, after its imports."""
    import datasets  # noqa: F401
    import transformers  # noqa: F401

    import tunexfer.data.prepare  # noqa: F401

    begin, cpu = time.perf_counter(), time.process_time()
    WAYS[way](folder, encoder)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{way}: {wall:.1f} s, {cpu:.1f} s of CPU, peak memory {peak:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=["memory", "time"])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--encoder", required=True, help="folder of an encoder with a fast tokenizer")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=[*WAYS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.folder, options.encoder)
        return
    folder = Path(tempfile.mkdtemp(prefix="tunexfer-reading-"))
    try:
        (folder / "suite.yaml").write_text(SUITE)
        large = options.measure == "memory"
        rows = int(options.gigabytes * 2**30 / BYTES_A_ROW) if large else options.rows
        write_rows(folder / "en" / "train.jsonl", rows=rows, words=90 if large else 8)
        size = (folder / "en" / "train.jsonl").stat().st_size
        print(f"{rows:,} rows, {size / 2**30:.2f} GiB", flush=True)
        for way in ["tunexfer"] if large else WAYS:
            command = [sys.executable, __file__, options.measure, "--encoder", options.encoder]
            subprocess.run([*command, "--folder", str(folder), "--way", way], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
