"""Whether tunexfer and a run by hand give the same scores.

    python benchmarks/agreement.py

Some chains of benchmarks/grid.yaml, each with several seeds, both ways. The run by hand takes the same rows in the same
steps, the same first values of the heads and the same precision. If both follow one recipe, then a run by tunexfer is
no further from the run by hand with the same seed than two seeds are from each other: mean absolute difference of all
main scores, over all such pairs.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from by_hand import ByHand, difference, job_of
from rich.console import Console

from tunexfer.cli.launch import contents_of, make_executor, prepare_all
from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Chain
from tunexfer.core.graph import ancestors, jobs_of
from tunexfer.plan.plan import Plan
from tunexfer.tasks.kinds import KINDS

GRID = Path(__file__).parent / "grid.yaml"
Scores = dict[str, float]


def by_hand(chain: Chain, seed: int) -> Scores:
    torch.set_num_threads(1)
    plan = Plan.load(GRID, cache=cache_folder())
    return ByHand(job_of(plan, exactly=True)).run(chain.as_dict(), seed)


def by_tunexfer(chain: Chain, seed: int) -> Scores:
    plan = Plan.load(GRID, cache=cache_folder())
    prepared = prepare_all(plan, cache_folder(), Console(quiet=True))
    with tempfile.TemporaryDirectory() as store:
        executor = make_executor(prepared, store, store_bytes=10**10, device="cpu", threads=1)
        jobs = jobs_of(chain, seed=seed, contents=contents_of(prepared)[chain.encoder.identity])
        results = {job.key: executor.run(job, ancestors(job, jobs)) for job in jobs}
    metrics = {job: results[job.key].metrics for job in jobs if job.target}
    return {
        f"{split}/{job.name}/{language}": values[KINDS[plan.suite.tasks[job.tasks[0]].kind].main_metric]
        for job, own in metrics.items()
        for language, split, values in own
    }


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
    pairs = [(job, other) for job, other in itertools.permutations(jobs, 2) if job[0] == other[0]]
    apart = {
        "same seed, tunexfer - by hand": [difference(ours[job], hand[job]) for job in jobs],
        "two seeds by hand": [difference(hand[job], hand[other]) for job, other in pairs],
        "two seeds by tunexfer": [difference(ours[job], ours[other]) for job, other in pairs],
    }
    means = {pair: round(statistics.fmean(found), 2) for pair, found in apart.items()}
    print(json.dumps({"chains": chains, "seeds": seeds, **means}))


if __name__ == "__main__":
    typer.run(main)
