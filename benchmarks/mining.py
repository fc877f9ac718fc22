"""Bitext mining against two flat searches of faiss, each in a process of its own.

    python benchmarks/mining.py --sentences 200000

Prints seconds, peak resident memory and the ratio of the times, and checks that both find the same neighbours.
Needs `pip install faiss-cpu`, which tunexfer itself doesn't use.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunexfer.tasks.bitext import NEIGHBOURS, nearest

GIB = 2**30


def vectors(seed: int, count: int, width: int) -> NDArray[np.float32]:
    """Unit vectors of random directions, shape (count, width), made without a second copy."""
    found = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    found /= np.sqrt(np.einsum("ij,ij->i", found, found))[:, None]
    return found


def search_tunexfer(x: NDArray[np.float32], y: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    return [side.indices for side in nearest(x, y)]


def search_faiss(x: NDArray[np.float32], y: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    try:
        import faiss
    except ImportError:
        sys.exit("This benchmark compares with faiss, which isn't here: pip install faiss-cpu")
    found = []
    for queries, others in ((x, y), (y, x)):
        index = faiss.IndexFlatIP(others.shape[1])
        index.add(others)
        found.append(index.search(queries, NEIGHBOURS)[1])
    return found


SEARCHES = {"tunexfer": search_tunexfer, "faiss": search_faiss}


def measure(name: str, sentences: int, width: int, result: Path) -> None:
    """In a process of its own: search, and leave seconds, peak bytes and neighbours in `result`.

    processor: seconds summed over cores, which tell more than the clock does where other work is going on
    """
    x, y = vectors(1, sentences, width), vectors(2, sentences, width)
    nearest(x[:10], y[:10])
    start, started = time.perf_counter(), time.process_time()
    of_x, of_y = SEARCHES[name](x, y)
    seconds, processor = time.perf_counter() - start, time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.savez(result, seconds=seconds, processor=processor, peak=peak, of_x=of_x, of_y=of_y)


def compare(sentences: int, width: int, repeats: int) -> None:
    print(f"{sentences:,} x {sentences:,} vectors of width {width}, {NEIGHBOURS} neighbours both ways", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        best: dict[str, dict[str, NDArray[np.float64]]] = {}
        for turn in range(repeats):
            for name in SEARCHES:
                result = Path(folder) / f"{name}-{turn}.npz"
                sizes = ["--sentences", str(sentences), "--width", str(width)]
                subprocess.run([sys.executable, __file__, "--only", name, "--result", str(result), *sizes], check=True)
                found = dict(np.load(result))
                if name not in best or found["seconds"] < best[name]["seconds"]:
                    best[name] = found
    for name, found in best.items():
        seconds, processor, peak = (float(found[key]) for key in ("seconds", "processor", "peak"))
        print(f"{name:9} {seconds:8.1f} s   {processor:8.1f} s of processor   peak {peak / GIB:5.2f} GiB")
    ours, theirs = best["tunexfer"], best["faiss"]
    same = np.mean([(ours[side] == theirs[side]).mean() for side in ("of_x", "of_y")])
    faster, less = (float(theirs[key] / ours[key]) for key in ("seconds", "processor"))
    print(f"{faster:.2f} times as fast, {less:.2f} by processor time; {same:.4%} of the neighbours are the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--sentences", type=int, default=200_000, help="of each side")
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=1, help="turns; the fastest of each counts")
    parser.add_argument("--only", choices=SEARCHES, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only, options.sentences, options.width, options.result)
    else:
        compare(options.sentences, options.width, options.repeats)


if __name__ == "__main__":
    main()
