"""Whether tunexfer and a run by hand give the same scores, as far as seeds let one tell.

    python benchmarks/agreement.py

Some chains of benchmarks/grid.yaml, each with several seeds, both ways. If both follow one recipe, then a run by
tunexfer is as far from a run by hand as two runs by hand, or two by tunexfer, are from each other: mean absolute
difference of all main scores, over all pairs of seeds.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from by_hand import ByHand, difference, job_of
from rich.console import Console

from tunexfer.cli import cache_folder
from tunexfer.core.chain import Chain
from tunexfer.launch import make_runner, prepare_all
from tunexfer.plan import Plan

GRID = Path(__file__).parent / "grid.yaml"
Scores = dict[str, float]


def by_hand(chain: Chain, seed: int) -> Scores:
    torch.set_num_threads(1)
    plan = Plan.load(GRID, cache=cache_folder())
    return ByHand(job_of(plan)).run(chain.as_dict(), seed)


def by_tunexfer(chain: Chain, seed: int) -> Scores:
    plan = Plan.load(GRID, cache=cache_folder())
    prepared = prepare_all(plan, cache_folder(), Console(quiet=True))
    with tempfile.TemporaryDirectory() as store:
        runner = make_runner(prepared, store, store_bytes=10**10, device="cpu", threads=1)
        result = runner.run(chain, seed=seed, on_progress=lambda _: None)
    return {f"{s.split}/{s.task}/{s.language}": s.value for s in result.scores if s.main}


def main(
    chains: Annotated[int, typer.Option(help="One per prefix, four at most.")] = 4,
    seeds: int = 3,
    processes: int = 2,
) -> None:
    plan = Plan.load(GRID, cache=cache_folder())
    prepare_all(plan, cache_folder(), Console(stderr=True))
    prefixes = {chain.stages: chain for chain in plan.every_chain() or []}
    jobs = list(itertools.product(list(prefixes.values())[:chains], range(plan.seed, plan.seed + seeds)))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        hand = dict(zip(jobs, pool.map(by_hand, *zip(*jobs, strict=True)), strict=True))
        ours = dict(zip(jobs, pool.map(by_tunexfer, *zip(*jobs, strict=True)), strict=True))
    apart: dict[str, list[float]] = {"by hand - by hand": [], "tunexfer - tunexfer": [], "tunexfer - by hand": []}
    for (chain, one), (same, other) in itertools.product(jobs, jobs):
        if chain == same and one != other:
            apart["by hand - by hand"].append(difference(hand[chain, one], hand[chain, other]))
            apart["tunexfer - tunexfer"].append(difference(ours[chain, one], ours[chain, other]))
            apart["tunexfer - by hand"].append(difference(ours[chain, one], hand[chain, other]))
    print(json.dumps({"chains": chains, "seeds": seeds, **{k: round(sum(v) / len(v), 2) for k, v in apart.items()}}))


if __name__ == "__main__":
    typer.run(main)
