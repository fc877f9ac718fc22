"""What sharing stages is worth: the same chains by tunexfer and by hand, on the same machine, one after the other.

    python benchmarks/stage_reuse.py draws     the first trials that the shipped searcher draws from the shipped space
    python benchmarks/stage_reuse.py grid      four prefixes x four target settings (benchmarks/grid.yaml)

Prints the wall-clock ratio and how much of the possible sharing was had. Data is built and encoded before the clocks
start. Nothing else should run on the machine. That both ways give the same scores is benchmarks/agreement.py's to
show.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from by_hand import job_of
from by_hand import search as search_by_hand
from rich.console import Console

from tunexfer.cli.launch import contents_of, make_executor, prepare_all
from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.mlflow.mirror import Mirror
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.search.ray_tune import TUNE_SETTINGS, run_search
from tunexfer.store import StageStore

HERE = Path(__file__).parent
SPACES = {"draws": "multitask", "grid": str(HERE / "grid.yaml")}
say = partial(print, flush=True)


def by_tunexfer(plan: Plan, prepared: dict[str, Path], folder: Path) -> tuple[list[TrialResult], float]:
    """The trials of the plan's search, and the seconds it took from start to end."""
    started = time.perf_counter()
    store = folder / "store"
    make = partial(make_executor, prepared, str(store), store_bytes=10**10, device="cpu", threads=1)
    with Record.drive(StudyFolder(folder / "study"), plan.as_dict()) as record:
        mirror = Mirror(record, f"sqlite:///{folder}/mlflow.db", say).start()
        contents = contents_of(prepared)
        run_search(plan, record, StageStore(store), contents, make, [mirror])
        mirror.close("finished")
        results = record.ended
    assert all(result.state == "complete" for result in results), [result.failure for result in results]
    return results, time.perf_counter() - started


def by_hand(plan: Plan, chains: Sequence[Chain], folder: Path, **settings: Any) -> float:
    """The seconds that the chains took from start to end."""
    job = job_of(plan) | {"seed": plan.seed, **settings}
    for name in TUNE_SETTINGS:  # a search leaves them in the environment
        os.environ.pop(name, None)
    started = time.perf_counter()
    ray.init(log_to_driver=False, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}})
    try:
        search_by_hand([chain.as_dict() for chain in chains], job, folder)
    finally:
        ray.shutdown()
    return time.perf_counter() - started


def main(
    part: Annotated[str, typer.Argument(help="draws or grid")],
    trials: int | None = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
) -> None:
    overrides = {"search.trials": str(trials)} if trials else {}
    plan = Plan.load(SPACES[part], overrides, cache=cache_folder())
    prepared = prepare_all(plan, cache_folder(), Console(stderr=True))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        results, ours = by_tunexfer(plan, prepared, folder)
        chains = [result.trial.chain for result in results]
        say(f"tunexfer: {len(chains)} chains in {ours:.0f} s")
        theirs = by_hand(plan, chains, folder)
        say(f"by hand: the same chains in {theirs:.0f} s")
        possible = plan.cost(chains)
        trained = sum(job.steps for result in results for job in result.trainings if not job.reused)
        figures: dict[str, Any] = {
            "part": part,
            "chains": len(chains),
            "seconds": {"tunexfer": round(ours, 1), "by hand": round(theirs, 1)},
            "ratio": round(theirs / ours, 2),
            "steps": {"without sharing": possible.steps_unshared, "at best": possible.steps, "trained": trained},
        }
    say(json.dumps(figures, indent=2))
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
