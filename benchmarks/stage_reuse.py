"""What sharing stages is worth: the same chains by tunexfer and by hand, on the same machine, one after the other.

    python benchmarks/stage_reuse.py draws     the first trials that the shipped searcher draws from the shipped space
    python benchmarks/stage_reuse.py grid      four prefixes x four target settings (benchmarks/grid.yaml)

Prints the wall-clock ratio, how much of the sharing that is possible was had, and for the grid where the time goes:
sharing, warm actors, trimming, the rest. Data is built and encoded before the clocks start. Nothing else should run on
the machine. That both ways give the same scores is benchmarks/agreement.py's to show.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from by_hand import job_of
from by_hand import search as search_by_hand
from rich.console import Console

from tunexfer.cli.launch import make_runner, prepare_all
from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.mlflow.mirror import Mirror
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.search.ray_tune import TUNE_SETTINGS, SearchOptions, run_search

HERE = Path(__file__).parent
SPACES = {"draws": "multitask", "grid": str(HERE / "grid.yaml")}
say = partial(print, flush=True)


class Apart:
    """A runner that shares nothing between trials: each starts with an empty store."""

    def __init__(self, prepared: dict[str, Path], folder: Path) -> None:
        self._prepared, self._folder = prepared, folder

    def run(self, chain: Chain, **rest: Any) -> Any:
        with tempfile.TemporaryDirectory(dir=self._folder) as store:
            runner = make_runner(self._prepared, store, store_bytes=10**10, device="cpu", threads=1)
            return runner.run(chain, **rest)


def by_tunexfer(plan: Plan, folder: Path, make: Callable[[], Any]) -> tuple[list[TrialResult], float]:
    """The trials of the plan's search, and the seconds it took from start to end."""
    started = time.perf_counter()
    with Record.drive(StudyFolder(folder / "study"), plan.as_dict()) as record:
        mirror = Mirror(record, f"sqlite:///{folder}/mlflow.db", say).start()
        run_search(plan, record, make, SearchOptions(), [mirror])
        mirror.close("finished")
        ended = record.ended
    assert all(one.state == "complete" for one in ended), [one.reason for one in ended]
    return ended, time.perf_counter() - started


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
    breakdown: bool = True,
) -> None:
    overrides = {"search.trials": str(trials)} if trials else {}
    plan = Plan.load(SPACES[part], overrides, cache=cache_folder())
    prepared = prepare_all(plan, cache_folder(), Console(stderr=True))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shared = partial(make_runner, prepared, str(folder / "store"), store_bytes=10**10, device="cpu", threads=1)
        ended, ours = by_tunexfer(plan, folder / "shared", shared)
        chains = [one.trial.chain for one in ended]
        say(f"tunexfer: {len(chains)} chains in {ours:.0f} s")
        theirs = by_hand(plan, chains, folder)
        say(f"by hand: the same chains in {theirs:.0f} s")
        possible = plan.cost(chains)
        trained = sum(stage.steps for one in ended for stage in one.stages if not stage.reused)
        figures: dict[str, Any] = {
            "part": part,
            "chains": len(chains),
            "seconds": {"tunexfer": round(ours, 1), "by hand": round(theirs, 1)},
            "ratio": round(theirs / ours, 2),
            "steps": {"apart": possible.steps_unshared, "shared at best": possible.steps, "trained": trained},
            "share of possible sharing": round(
                (possible.steps_unshared - trained) / max(possible.steps_unshared - possible.steps, 1), 3
            ),
        }
        if part == "grid" and breakdown:
            _, apart = by_tunexfer(plan, folder / "apart", partial(Apart, prepared, folder))
            warm = by_hand(plan, chains, folder, warm=True)
            trimmed = by_hand(plan, chains, folder, warm=True, trim=True)
            figures["seconds"] |= {
                "by hand, warm actors": round(warm, 1),
                "by hand, warm actors, trimmed": round(trimmed, 1),
                "tunexfer, nothing shared": round(apart, 1),
            }
            figures["ratio from"] = {
                "warm actors": round(theirs / warm, 2),
                "trimming": round(warm / trimmed, 2),
                "the rest": round(trimmed / apart, 2),
                "sharing": round(apart / ours, 2),
            }
    say(json.dumps(figures, indent=2))
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
