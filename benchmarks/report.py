"""Measure `tunexfer report` on a large study: seconds, memory and the page's size.

    python benchmarks/report.py [--trials 1000] [--targets 9] [--languages 40] [--rows 50]

The study is made up and written to a temporary folder by tunexfer's own record; nothing is trained. The report is then
written by the command, in a process of its own. Targets: under 20 s, 1 GiB and 10 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "report"))

from made_up_study import MadeUp

LANGUAGES = (
    "en af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()
"""Those of XTREME, the training language first."""
TASKS = ("nli", "paraphrase", "questions", "common_sense", "tags", "names", "choices", "cloze", "toxicity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--targets", type=int, default=9)
    parser.add_argument("--languages", type=int, default=40, choices=range(2, 41), metavar="2-40")
    parser.add_argument("--rows", type=int, default=50, help="scored rows per target, language and split")
    parser.add_argument("--runs", type=Path, help="folder to write the study to and keep; a temporary one by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = given.runs or Path(scratch)
        folder = runs / "large"
        if not folder.exists():
            began = time.perf_counter()
            made_up(given).write(runs)
            print(f"record made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        print(json.dumps(measure(folder, Path(scratch) / "out"), indent=2))


def made_up(given: argparse.Namespace) -> MadeUp:
    return MadeUp(
        name="large",
        trials=given.trials,
        intermediate=TASKS,
        sources=("en", "zh", "ar", "sw"),
        targets=tuple(f"target_{number}" for number in range(given.targets)),
        languages=tuple(LANGUAGES[: given.languages]),
        objective="train",
        noise=1.0,
        rows=given.rows,
        seeds=3,
        top=3,
    )


def measure(folder: Path, out: Path) -> dict[str, float | int]:
    """Run `tunexfer report` and measure wall and processor seconds, peak memory, and sizes."""
    command = [
        sys.executable,
        "-c",
        "from tunexfer.cli.main import main; main()",
        "report",
        str(folder),
        "--out",
        str(out),
    ]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "MPLBACKEND": "agg"})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_mib": round(used.ru_maxrss / 1024),
        "page_mb": round((out / "report.html").stat().st_size / 1e6, 2),
        "files_beside": len(list((out / "report_files").iterdir())),
    }


if __name__ == "__main__":
    main()
