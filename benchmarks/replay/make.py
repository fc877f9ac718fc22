"""Train every chain of space.yaml and keep the scores and seconds of all jobs in table.parquet.

    python benchmarks/replay/make.py --processes 2     train what is missing, then write the table
    python benchmarks/replay/make.py --processes 0     write the table of the seeds trained so far

The targets of a chain depend on each other only through its stage, so every stage option with every setting of every
target is the whole space: S stage options and 9 S target trainings stand for 54 S chains. Each process runs the jobs of
one stage option after another, one thread each, and puts the results into a stage store: a run that was killed
continues where it was. The space's own seed comes first; then every third stage option is trained with two more.

Columns of the table, one row for each training and one for each metric of each evaluation:

    kind      train or evaluate
    stage     the stage option, `none` or `ui_match de ru, lr 1e-4`; what `stage_text` makes of a chain
    target    the target's name; `-` for the training of the stage itself
    setting   the target's setting, `lr 5e-4` or `layer 3`; what `setting_text` makes of a target; `-` for a stage
    seed      of training
    language, split, metric, main, value
              of an evaluation: a percentage, and whether the metric is the task's main one; empty for a training
    seconds   CPU time of the job in its one thread, so that whatever else ran on the machine doesn't count; for an
              evaluation the same in all of its rows
    key       the job's key
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from tunexfer.cli.launch import contents_of, make_executor, prepare_all
from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Chain, Target
from tunexfer.core.files import write_whole
from tunexfer.core.graph import Contents, Job, ancestors, jobs_of
from tunexfer.core.phrases import rate
from tunexfer.plan.plan import Plan
from tunexfer.store import StageStore
from tunexfer.tasks.kinds import KINDS

HERE = Path(__file__).parent
SPACE, TABLE = HERE / "space.yaml", HERE / "table.parquet"
SECONDS = "cpu_seconds.jsonl"
"""Beside the store's entries: key and CPU seconds of each job."""
NONE = "none"
MORE_SEEDS, EVERY = 2, 3
"""Every third stage option is trained with two more seeds."""

Unit = dict[str, tuple[Job, ...]]
"""The jobs of one stage option and one seed: key -> the job and those its model descends from, itself last."""


def stage_text(chain: Chain) -> str:
    """Name a chain's stage option: its tasks, languages and rate."""
    if not chain.stages:
        return NONE
    (stage,) = chain.stages
    languages = sorted({source.language for source in stage.mixture.sources})
    return f"{' + '.join(stage.mixture.tasks)} {' '.join(languages)}, lr {rate(stage.learning_rate)}"


def setting_text(target: Target) -> str:
    """Name a target's setting: the rate, or the layer of a target that isn't trained."""
    return f"lr {rate(target.stage.learning_rate)}" if target.stage else f"layer {target.layer}"


def options_of(plan: Plan) -> dict[str, list[Chain]]:
    """Group the chains of the space by the text of their stage option."""
    chains = plan.every_chain()
    assert chains, "space.yaml is small enough to be enumerated"
    options: dict[str, list[Chain]] = {}
    for chain in chains:
        options.setdefault(stage_text(chain), []).append(chain)
    return options


def units_of(plan: Plan, contents: Contents) -> Iterator[tuple[str, int, Unit]]:
    """Yield the stage options and seeds to train, with their jobs; all options with the first seed come first."""
    options = options_of(plan)
    designed = [(option, plan.seed) for option in options]
    designed += [(option, plan.seed + more) for more in range(1, MORE_SEEDS + 1) for option in list(options)[::EVERY]]
    for option, seed in designed:
        unit: Unit = {}
        for chain in options[option]:
            jobs = jobs_of(chain, seed=seed, contents=contents)
            unit |= {job.key: (*ancestors(job, jobs), job) for job in jobs}
        yield option, seed, unit


def train(lines: Sequence[tuple[Job, ...]], prepared: Mapping[str, Path], store: str) -> None:
    """Run the jobs of a unit whose results the store lacks, and note the CPU seconds of each."""
    executor, noted = _executor(prepared, store), seconds_of(Path(store))
    for *line, job in lines:
        started = time.process_time()
        result = executor.run(job, line)
        # The first job of a process loads the encoder as well, which the job's own clock leaves out. That clock's time
        # is also the best there is for a job whose process was killed before its time was noted.
        seconds = result.seconds if result.reused else min(time.process_time() - started, result.seconds)
        if job.key not in noted:
            with (Path(store) / SECONDS).open("a") as file:
                file.write(json.dumps([job.key, round(seconds, 3)]) + "\n")


def seconds_of(store: Path) -> dict[str, float]:
    """Read the CPU seconds of the jobs: key -> seconds."""
    file = store / SECONDS
    return dict(map(json.loads, file.read_text().splitlines())) if file.exists() else {}


_EXECUTORS: dict[str, Any] = {}
"""A process keeps its executor, with the encoder and the rows in memory, from unit to unit."""


def _executor(prepared: Mapping[str, Path], store: str) -> Any:
    if store not in _EXECUTORS:
        _EXECUTORS[store] = make_executor(prepared, store, store_bytes=10**12, device="cpu", threads=1)
    return _EXECUTORS[store]


def rows_of(plan: Plan, store: StageStore, contents: Contents) -> Iterator[dict[str, Any]]:
    """Yield the table's rows for the seeds whose jobs are all done."""
    seconds, options = seconds_of(store.root), options_of(plan)
    units = list(units_of(plan, contents))
    unfinished = {seed for _, seed, unit in units if not unit.keys() <= seconds.keys()}
    for option, seed, unit in units:
        if seed in unfinished:
            continue
        targets = {
            job.key: (target.name, setting_text(target))
            for chain in options[option]
            for job in jobs_of(chain, seed=seed, contents=contents)
            for target in chain.targets
            if job.target == target or job.stage == target.stage is not None
        }
        for key, (*_, job) in unit.items():
            facts = store.metadata(key)
            assert facts, "its time is noted once its result is stored"
            target, setting = targets.get(key, ("-", "-"))
            row = {"kind": job.kind, "stage": option, "target": target, "setting": setting, "seed": seed}
            row |= {"seconds": seconds[key], "key": key}
            if job.kind == "train":
                yield row
                continue
            main = KINDS[plan.suite.tasks[job.tasks[0]].kind].main_metric
            for language, split, values in facts["metrics"]:
                own = {"language": language, "split": split}
                for metric, value in values.items():
                    yield row | own | {"metric": metric, "main": metric == main, "value": value}


def write(rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    """Write the table, whole or not at all."""
    table = pd.DataFrame(rows)
    columns = ["kind", "stage", "target", "setting", "seed", "language", "split", "metric", "main", "value"]
    table = table.reindex(columns=[*columns, "seconds", "key"])
    table["main"] = table["main"].astype("boolean")
    table["value"] = table["value"].round(4)
    with tempfile.NamedTemporaryFile() as draft:
        table.to_parquet(draft.name, index=False, compression="zstd")
        write_whole(TABLE, Path(draft.name).read_bytes())
    return table


def main(
    processes: Annotated[int, typer.Option(help="0: only write the table of the seeds trained so far.")] = 2,
    store: Annotated[Path | None, typer.Option(help="Stage store; about 12 GB when all is trained.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="Override a value of the space, for a trial run.")] = [],  # noqa: B006
    units: Annotated[int | None, typer.Option(help="Train only the first so many stage options.")] = None,
) -> None:
    plan = Plan.load(SPACE, dict(text.split("=", 1) for text in set_), cache=cache_folder())
    prepared = prepare_all(plan, cache_folder(), Console(stderr=True))
    contents = contents_of(prepared)[plan.baseline[1].encoder.identity]
    place = store or cache_folder() / "replay"
    work = list(units_of(plan, contents))[:units]
    print(f"{len(work)} units, {sum(len(unit) for *_, unit in work)} jobs", flush=True)
    if processes:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            running = {
                pool.submit(train, list(unit.values()), prepared, str(place)): (option, seed)
                for option, seed, unit in work
            }
            for count, future in enumerate(as_completed(running), 1):
                future.result()
                print(f"{count}/{len(work)}: {running[future]}", flush=True)
    table = write(rows_of(plan, StageStore(place), contents))
    trained = table.drop_duplicates("key")
    print(f"{len(trained)} jobs, {trained['seconds'].sum() / 3600:.2f} core hours, {TABLE.stat().st_size} bytes")


if __name__ == "__main__":
    typer.run(main)
