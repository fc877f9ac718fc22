"""How well a search keeps its devices busy: real Ray and Ray Tune, jobs that sleep, custom resources as devices.

    python benchmarks/devices.py

Three sets of chains: a grid of nine stages x four target settings x nine targets, the same grid with stages as long
as 62 targets (a large intermediate task before small targets), and sixteen random draws of the shipped space. A stage
sleeps 43 units, a target's training 25 and its evaluation 9 (in the shipped space 25 and 9, 36 and 14, and 8 for
retrieval), about as many seconds as they take there. Prints for W devices the makespan divided by the larger of the
longest line of jobs and all work / W, and which share of the time that devices were held they ran jobs. Beside it the
way of version 0.1: a trial holds a device and waits where another trial is training a stage that it needs.

With long stages and sixteen devices no order comes below 1.30: nine stages run at once, and all targets wait for them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import typer
import yaml
from ray.cluster_utils import Cluster

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.graph import Contents, Job, JobResult, jobs_of
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.search.ray_tune import run_search
from tunexfer.store import MODEL, ROWS, StageStore
from tunexfer.tasks.kinds import ROWS_SCHEMA

TASKS = [f"target{number}" for number in range(9)]
CONTENTS = Contents(
    encoder="made up",
    precision="fp32",
    rows={
        (task, "en", split): f"{task} {split}"
        for task in [*TASKS, "stage", "command_intent", "command_slots", "ui_retrieval", "other"]
        for split in ("train", "validation", "test")
    },
)
UNITS = {"command_slots": (36, 14), "ui_retrieval": (0, 8)}
"""Training and evaluation of a target; of any other 25 and 9."""


STAGE_UNITS = {"intermediate": 43, "long": 62 * (25 + 9)}
"""Training of a stage, by its name."""


def units(job: Job) -> float:
    training, evaluation = UNITS.get(job.tasks[0], (25, 9))
    return evaluation if job.kind == "evaluate" else STAGE_UNITS.get(job.name, training)


@dataclass(frozen=True)
class Sleeper:
    """An executor whose jobs sleep; their results are real entries of a real store."""

    root: Path
    unit_s: float

    def run(self, job: Job, line: Sequence[Job] = (), on_progress: Callable[..., None] = lambda *_: None) -> JobResult:
        started = time.time()
        time.sleep(units(job) * self.unit_s)
        metrics = tuple((language, split, {"accuracy": 50.0}) for _, language, split in job.rows)
        file = self.root / f"{job.key}.rows"
        pq.write_table(pa.Table.from_pylist([{"id": "0"}], schema=ROWS_SCHEMA), file)
        files = {MODEL: b"weights"} if job.kind == "train" else {ROWS: file}
        StageStore(self.root).put(job.key, files, {"metrics": metrics, "seconds": 0.0})
        with (self.root / "times.txt").open("a") as log:
            log.write(f"{started} {time.time()}\n")
        return JobResult(key=job.key, seconds=time.time() - started, metrics=metrics)


class Fixed:
    """A schedule of given chains."""

    exhausted, why = False, ""
    chance = staticmethod(lambda chain, scores: None)

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._trials = iter(
            Trial(number=number, phase="search" if number else "baseline", seed=0, point={"n": number}, chain=chain)
            for number, chain in enumerate(chains)
        )

    def next(self) -> Trial | Literal["wait", "done"]:
        return next(self._trials, "done")

    def ended(self, result: TrialResult) -> None: ...


def tune(task: str, name: str, rate: float) -> Stage:
    mixture = Mixture(sources=(Source(task=task, language="en"),), shares=(1.0,))
    return Stage(name=name, mixture=mixture, learning_rate=rate, steps=10)


def grid(name: str) -> Iterator[Chain]:
    """The settings of the targets vary fastest.

    name: of the stages
    """
    for stage, setting in itertools.product(range(9), range(4)):
        targets = tuple(Target(task=task, stage=tune(task, task, 1e-4 * (1 + setting))) for task in TASKS)
        stages = (tune("stage", name, 1e-5 * (1 + stage)),)
        yield Chain(suite="made up", encoder=Encoder(name="made up"), stages=stages, targets=targets)


def draws() -> Iterator[Chain]:
    """The baseline and fifteen distinct random draws of the shipped space, read as chains over made-up rows."""
    plan = Plan.load("multitask", cache=Path(tempfile.gettempdir()))
    for chain in plan.random_chains(16, seed=0):
        stages = tuple(replace(stage, mixture=tune("other", "", 1.0).mixture, training={"name": str(stage.mixture)})
                       for stage in chain.stages)  # fmt: skip
        yield replace(chain, encoder=Encoder(name="made up"), stages=stages)


def made_up_plan(folder: Path) -> Plan:
    """A plan for the record; its sampler is not asked."""
    task = {"kind": "classification", "hub": {"path": "made/up"}, "columns": {"text": "t", "label": "l"}}
    task |= {"labels": ["a", "b"], "rows": {"en": [10, 10, 10]}, "metric": "accuracy"}
    names = sorted({name for name, _, _ in CONTENTS.rows})
    (folder / "suite.yaml").write_text(yaml.safe_dump({"name": "made_up", "tasks": dict.fromkeys(names, task)}))
    target = {"task": "target0", "train_language": "en", "learning_rate": 1e-4, "steps": 10}
    space = {"name": "devices", "suite": "suite.yaml", "encoder": "made up", "targets": [target]}
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    return Plan.load(folder / "space.yaml", cache=folder / "cache")


def bound(chains: Sequence[Chain], devices: int) -> tuple[float, float]:
    """The least makespan and the work, in units."""
    jobs = {job.key: job for chain in chains for job in jobs_of(chain, seed=0, contents=CONTENTS)}
    ends: dict[str, float] = {}
    for key, job in jobs.items():
        ends[key] = units(job) + max((ends[parent] for parent in job.parents), default=0.0)
    work = sum(map(units, jobs.values()))
    return max(*ends.values(), work / devices), work


def makespan(folder: Path) -> float:
    """From the start of the first job to the end of the last."""
    times = [tuple(map(float, line.split())) for line in (folder / "times.txt").read_text().splitlines()]
    return max(end for _, end in times) - min(start for start, _ in times)


def by_search(chains: Sequence[Chain], folder: Path, unit_s: float, address: str) -> tuple[float, float]:
    """Makespan, and the seconds that devices were held."""
    plan, store = made_up_plan(folder), folder / "store"
    store.mkdir()
    with Record.drive(StudyFolder(folder / "runs" / "devices"), plan.as_dict()) as record:
        make = partial(Sleeper, store, unit_s)
        contents = {"made up": CONTENTS}
        outcome = run_search(
            plan, record, StageStore(store), contents, make,
            address=address, device={"device": 1}, schedule=Fixed(chains),
        )  # fmt: skip
    assert len(record.complete) == len(chains), [result.failure for result in record.ended]
    return makespan(store), outcome.device_seconds


class Locks:
    """Who trains which stage, for trials that hold a device meanwhile."""

    def __init__(self) -> None:
        self._done: dict[str, asyncio.Event] = {}

    async def claim(self, key: str) -> bool:
        """True for the first who asks; the others wait until it is done."""
        if key in self._done:
            await self._done[key].wait()
            return False
        self._done[key] = asyncio.Event()
        return True

    async def done(self, key: str) -> None:
        self._done[key].set()


@ray.remote(num_cpus=0, resources={"device": 1})
def hold_a_device(chain: Chain, sleeper: Sleeper, locks: Any) -> float:
    """Run a trial as version 0.1 did; returns the seconds that it held its device."""
    started = time.time()
    for job in jobs_of(chain, seed=0, contents=CONTENTS):
        if ray.get(locks.claim.remote(job.key)):
            sleeper.run(job)
            ray.get(locks.done.remote(job.key))
    return time.time() - started


def by_holding(chains: Sequence[Chain], folder: Path, unit_s: float, address: str) -> tuple[float, float]:
    ray.init(address, log_to_driver=False)
    sleeper = Sleeper(folder, unit_s)
    locks = ray.remote(num_cpus=0, max_concurrency=1000)(Locks).remote()
    held = ray.get([hold_a_device.remote(chain, sleeper, locks) for chain in chains])
    ray.shutdown()
    return makespan(folder), sum(held)


WAYS = {"jobs": by_search, "holding": by_holding}


def measure(name: str, chains: Sequence[Chain], devices: int, unit_s: float, way: str) -> dict[str, Any]:
    """Run the chains on a cluster of so many devices, one of the two ways."""
    least, work = bound(chains, devices)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": {"device": devices}})
    try:
        with tempfile.TemporaryDirectory() as scratch:
            took, held = WAYS[way](chains, Path(scratch), unit_s, cluster.address)
    finally:
        cluster.shutdown()
    return {
        "chains": name,
        "devices": devices,
        "way": way,
        "makespan / bound": round(took / (least * unit_s), 3),
        "useful share of held time": round(work * unit_s / held, 3),
    }


def main(
    devices: Annotated[list[int] | None, typer.Option(help="How many; 4 and 16 if not given.")] = None,
    unit_s: Annotated[float, typer.Option(help="Seconds of a unit.")] = 0.03,
    only: Annotated[list[str] | None, typer.Option(help="Sets of chains; all if not given.")] = None,
    way: Annotated[list[str] | None, typer.Option(help="'jobs' or 'holding'; both if not given.")] = None,
) -> None:
    sets = {"grid": grid("intermediate"), "long": grid("long"), "draws": draws()}
    for name in only or sets:
        chains = list(sets[name])
        for count, one_way in itertools.product(devices or [4, 16], way or WAYS):
            print(json.dumps(measure(name, chains, count, unit_s, one_way)), flush=True)


if __name__ == "__main__":
    typer.run(main)
