"""Measure what reading and encoding rows takes: peak memory of a large JSONL file, and time beside `datasets`.

    python benchmarks/reading.py memory --gigabytes 2
    python benchmarks/reading.py time --rows 1000000

`memory` writes a file of that size, surveys and encodes it as training rows in a process of its own, and prints the
peak of that process's memory. `time` prepares as many short rows, and gives `datasets.load_dataset` and a batched `map`
with the same tokenizer the same file; both start without a cache.
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


def prepare(folder: Path, encoder: str) -> float:
    """Prepare the rows of a folder, and return the seconds that it takes."""
    from transformers import AutoTokenizer

    from tunexfer.data.encode import encode_source
    from tunexfer.data.rows import Rows
    from tunexfer.tasks.suite import load_suite

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    begin = time.perf_counter()
    rows = Rows(*load_suite(str(folder / "suite.yaml")), folder / "cache")
    print(f"{rows.count('t', 'en', 'train'):,} rows can be used")
    tables, place = rows.tables("t", "en", "train"), folder / "cache" / "encoded"
    encode_source(tables, rows.task("t"), tokenizer, place, training=True, place="t")
    return time.perf_counter() - begin


def by_datasets(folder: Path, encoder: str) -> float:
    """Do the same with `datasets`, and return the seconds that it takes."""
    import datasets
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    begin = time.perf_counter()
    files = {"train": str(folder / "en" / "train.jsonl")}
    rows = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(folder / "hf"))
    rows.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=64), batched=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=["memory", "time", "child"])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--encoder", required=True, help="folder of an encoder with a fast tokenizer")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == "child":
        seconds = prepare(options.folder, options.encoder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"prepared in {seconds:.1f} s, peak memory {peak:.2f} GiB")
        return
    folder = Path(tempfile.mkdtemp(prefix="tunexfer-reading-"))
    try:
        (folder / "suite.yaml").write_text(SUITE)
        rows = int(options.gigabytes * 2**30 / 640) if options.measure == "memory" else options.rows
        write_rows(folder / "en" / "train.jsonl", rows=rows, words=90 if options.measure == "memory" else 8)
        size = (folder / "en" / "train.jsonl").stat().st_size
        print(f"{rows:,} rows, {size / 2**30:.2f} GiB")
        if options.measure == "memory":
            command = [sys.executable, __file__, "child", "--encoder", options.encoder, "--folder", str(folder)]
            subprocess.run(command, check=True)
        else:
            own, other = prepare(folder, options.encoder), by_datasets(folder, options.encoder)
            print(f"tunexfer {own:.1f} s, datasets {other:.1f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
