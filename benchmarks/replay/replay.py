"""How much device time samplers need to find a good chain, on recorded or made-up results, with simulated time.

    python benchmarks/replay/replay.py run               what results.parquet lacks of 50 repetitions of each contender
    python benchmarks/replay/replay.py run --made-up     the same on chains that are made up anew for each repetition
    python benchmarks/replay/replay.py show              the tables and the figure of docs/sampler.md
    python benchmarks/replay/replay.py auto              where `trials: auto` ends, by threshold
    python benchmarks/replay/replay.py draw-time         how long a draw takes at 500 trials and 10,000 chains

A run prints nothing that is not in results.parquet, one row for each repetition. It can be ended and begun again.

Device seconds are counted until the search would name a good chain: one whose true score is within 1 % of the best
true score of any chain, see `simulation.py`; what is true and what a search sees: `worlds.py`. `sharing`: trials share
the jobs they have in common, as tunexfer runs them; without it each trial runs all of its own, as with a training
function and Optuna. The baseline is trial 0 of every run. No chain is run twice: Optuna's samplers, with their defaults
and kept for the whole study, are told the known score of a chain that they draw again.
"""

from __future__ import annotations

import io
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import optuna
import pandas as pd
import typer
from make import SPACE
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from simulation import Simulation
from worlds import MadeUp, Recorded, World, made_up_plan

from tunexfer.core.chain import Chain
from tunexfer.core.files import write_whole
from tunexfer.core.trial import JobRun, Point, Trial, TrialResult
from tunexfer.plan.draws import at_random
from tunexfer.plan.plan import Plan
from tunexfer.search.algorithms import ALGORITHMS
from tunexfer.search.chain_sampler import ChainSearcher
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import ATTEMPTS, OptunaSampler, Sampler, tpe
from tunexfer.search.schedule import AUTO_AFTER

HERE = Path(__file__).parent
RESULTS, FIGURE = HERE / "results.parquet", HERE.parents[1] / "docs" / "sampler.png"
LIMIT_S = 20_000.0
"""Device seconds after which a run has failed: about what all chains take without sharing."""
PATIENCE, MAX_ASKED = 4, 600
AUTO_TRIALS, FIXED_TRIALS = 64, 16
WRITE_S = 20
"""Seconds between two writes of the results."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class _OptunaUser(OptunaSampler):
    """One of Optuna's samplers as a study without tunexfer uses it.

    Chance has the draw after `PATIENCE` repeats in a row, and after `MAX_ASKED` draws in all: their time grows.
    """

    def __init__(self, world: World, seed: int, make: Callable[..., BaseSampler]) -> None:
        kept = make(seed=seed)
        super().__init__(world.space, seed, lambda _: kept)
        self._values: dict[Chain, float | None] = {}

    def ask(self, number: int, attempt: int, running: Sequence[Trial]) -> tuple[Point, Chain] | None:
        by_chance = attempt >= PATIENCE or len(self.study.get_trials(deepcopy=False)) >= MAX_ASKED
        return super().ask(number, attempt + (ATTEMPTS if by_chance else 0), running)

    def tell(self, result: TrialResult) -> None:
        self._values[result.trial.chain] = result.objective
        super().tell(result)

    def turned_down(self, number: int, point: Point) -> None:
        value = self._values.get(self.space.chain(point))
        if number in self._open and value is not None:
            self.study.tell(self._open.pop(number), value)
        super().turned_down(number, point)


def _grid(world: World, seed: int) -> Sampler:
    """Make a grid in the file's order that begins at a random place: the file's own first chain is one case only."""
    sampler: Any = ALGORITHMS["grid"](world.plan, Costs(seed))
    sampler.points = world.points(random.Random(seed).randrange(world.pool.count))
    return sampler


def _chain(world: World, seed: int) -> Sampler:
    return ChainSearcher(world.space, seed, Costs(world.plan.seed), world.objective)


SAMPLERS: dict[str, Callable[[World, int], Sampler]] = {
    "random": lambda world, seed: Sampler(world.space, seed),
    "grid": _grid,
    "TPE": lambda world, seed: _OptunaUser(world, seed, TPESampler),
    "GP": lambda world, seed: _OptunaUser(world, seed, GPSampler),
    "tpe": lambda world, seed: OptunaSampler(world.space, seed, tpe),
    "chain": _chain,
}


class Contender(NamedTuple):
    sampler: str
    sharing: bool = True
    stop: str = "off"


CONTENDERS = {
    "chain": Contender("chain"),
    "chain, stop: chance": Contender("chain", stop="chance"),
    "chain, stop: top_k": Contender("chain", stop="top_k"),
    "`algorithm: tpe`": Contender("tpe"),
    "TPE, sharing": Contender("TPE"),
    "GP, sharing": Contender("GP"),
    "grid, sharing": Contender("grid"),
    "random, sharing": Contender("random"),
    "TPE": Contender("TPE", sharing=False),
    "GP": Contender("GP", sharing=False),
    "grid": Contender("grid", sharing=False),
    "random": Contender("random", sharing=False),
}


@cache
def _plan(made_up: bool) -> Plan:
    folder = Path(tempfile.mkdtemp())
    return made_up_plan(folder) if made_up else Plan.load(SPACE, cache=folder)


@cache
def _recorded() -> World:
    return Recorded(_plan(False))


def run_one(
    name: str, devices: int, repetition: int, made_up: bool, trials: int | None = None, limit: float = LIMIT_S
) -> dict[str, Any]:
    """Run one search; return its row of the results."""
    contender = CONTENDERS[name]
    world = MadeUp(_plan(True), repetition) if made_up else _recorded()
    sampler, started = SAMPLERS[contender.sampler](world, repetition), time.process_time()
    search = Simulation(
        world, sampler, devices, sharing=contender.sharing, stop=contender.stop, trials=trials, limit=limit
    )
    search.run()
    row = {"made_up": made_up, "contender": name, "devices": devices, "repetition": repetition}
    row |= {"most_trials": trials or 0, "arrived": search.arrived, "trials": search.trials, "best": world.best}
    row |= {"seconds": search.seconds, "limit": limit, "cpu_s": time.process_time() - started}
    # What it would name, and what is expected of each draw: trials so far, device seconds, true score, gain
    row["steps"] = [[round(number, 3) for number in step[:3]] for step in search.steps]
    row["draws"] = [[*step[:3], float("nan") if step.gain is None else step.gain] for step in search.draws if trials]
    return row


KEY = ["made_up", "contender", "devices", "repetition", "most_trials"]


def _results() -> pd.DataFrame:
    return pd.read_parquet(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=KEY)


def _run(tasks: Sequence[tuple[Any, ...]], limit: float) -> None:
    """Run what the results lack; a task is a value for each of `KEY`."""
    table, rows, written = _results(), list[dict[str, Any]](), time.monotonic()
    known = set(table[KEY].itertuples(index=False, name=None))
    missing = [task for task in tasks if task not in known]
    for made_up, name, devices, repetition, trials in missing:
        rows.append(row := run_one(name, devices, repetition, made_up, trials or None, limit))
        arrived = "never" if row["arrived"] is None else f"{row['arrived']:.0f} s"
        cost = f"{row['trials']} trials, {row['cpu_s']:.1f} s of CPU"
        print(f"{name}, W = {devices}, {repetition}: {arrived}, {cost}", flush=True)
        if time.monotonic() - written > WRITE_S:
            table, rows, written = _written(table, rows), [], time.monotonic()
    _written(table, rows)


def _written(table: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Add rows to results.parquet."""
    if rows:
        table = pd.DataFrame([*table.to_dict("records"), *rows])
        draft = io.BytesIO()
        table.to_parquet(draft, index=False, compression="zstd")
        write_whole(RESULTS, draft.getvalue())
    return table


@app.command()
def run(
    made_up: Annotated[bool, typer.Option("--made-up", help="Chains made up anew for each repetition.")] = False,
    repetitions: int = 50,
    devices: Annotated[list[int], typer.Option(help="Numbers of devices.")] = [1, 4, 16],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="Names of contenders.")] = [],  # noqa: B006
    limit: Annotated[float, typer.Option(help="Device seconds after which a run has failed.")] = LIMIT_S,
    trials: Annotated[int, typer.Option(help="Number after which a run ends, whether it has arrived or not.")] = 0,
) -> None:
    """Run the repetitions that results.parquet lacks, the first ones of all contenders first."""
    names = only or list(CONTENDERS)
    _run([(made_up, name, w, rep, trials) for w in devices for rep in range(repetitions) for name in names], limit)


@app.command()
def show() -> None:
    """Print the tables and draw the figure of docs/sampler.md."""
    whole = _results()
    table = whole[whole.most_trials == 0]
    for (made_up, width), own in table.groupby(["made_up", "devices"]):
        print(f"\n{'made-up' if made_up else 'recorded'} chains, {width} device(s)\n")
        print("| sampler | device seconds: median | 90 % | runs |\n| --- | ---: | ---: | ---: |")
        for name in (name for name in CONTENDERS if name in set(own.contender)):
            runs = own[own.contender == name]
            print(f"| {name} | {_seconds(runs, 0.5)} | {_seconds(runs, 0.9)} | {len(runs)} |")
    _print_quality(whole)
    _draw(table[~table.made_up & (table.devices == 1)])


def _seconds(runs: pd.DataFrame, share: float) -> str:
    value = quantile(list(runs.arrived.fillna(float("inf"))), share)
    return f"{value:,.0f}" if value < float("inf") else f"> {runs.limit.min():,.0f}"


def _print_quality(table: pd.DataFrame) -> None:
    """Print what searches of a fixed number of trials find: points below the best, and seconds."""
    table = table.assign(below=[row.best - row.steps[-1][2] for row in table.itertuples()])
    for (made_up, trials), own in table[table.most_trials == FIXED_TRIALS].groupby(["made_up", "most_trials"]):
        print(f"\nafter {trials} trials, {'made-up' if made_up else 'recorded'} chains, one device\n")
        print("| sampler | points below the best: median | 90 % | device seconds: median | runs |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name in (name for name in CONTENDERS if name in set(own.contender)):
            runs = own[own.contender == name]
            below = [f"{quantile(list(runs.below), share):.2f}" for share in (0.5, 0.9)]
            print(f"| {name} | {' | '.join(below)} | {quantile(list(runs.seconds), 0.5):,.0f} | {len(runs)} |")
        _compare(own, table[(table.most_trials == 0) & (table.devices == 1) & (table.made_up == made_up)])


def _compare(fixed: pd.DataFrame, ended: pd.DataFrame) -> None:
    """Print in how many repetitions the chain sampler is as good as TPE after as many trials, and as many seconds."""
    by_trials = {row.repetition: row.below for row in fixed[fixed.contender == "chain"].itertuples()}
    steps = {row.repetition: (row.best, row.steps) for row in ended[ended.contender == "chain"].itertuples()}
    trials, seconds = [], []
    for row in fixed[fixed.contender == "`algorithm: tpe`"].itertuples():
        if row.repetition in by_trials:
            trials.append(by_trials[row.repetition] <= row.below)
        if row.repetition in steps:
            best, own = steps[row.repetition]
            seconds.append(best - [step[2] for step in own if step[1] <= row.seconds][-1] <= row.below)
    print(f"\nchain is as good as tpe or better in {sum(trials)} of {len(trials)} repetitions after as many trials")
    print(f"and in {sum(seconds)} of {len(seconds)} after as many device seconds")


def _draw(table: pd.DataFrame) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2), dpi=110)
    colours = {"chain": "#b2182b", "tpe": "#e08214", "TPE": "#2166ac", "GP": "#1b7837", "grid": "#999999"}
    for name, (sampler, sharing, stop) in CONTENDERS.items():
        own = table[table.contender == name]
        if own.empty or stop == "chance":
            continue
        arrived = sorted(own.arrived.dropna())
        shares = [100 * (place + 1) / len(own) for place in range(len(arrived))]
        style = {"color": colours.get(sampler, "#000000"), "linestyle": "-" if sharing else "--"}
        if stop != "off":
            style["linestyle"] = ":"
        style |= {"label": name.strip("`"), "where": "post"}
        axes.step([*arrived, own.limit.min()], [*shares, (shares or [0.0])[-1]], **style)
    axes.set(xscale="log", xlim=(30, LIMIT_S), ylim=(0, 100), xlabel="device seconds, one device")
    axes.set_ylabel("searches that name a good chain, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE)


@app.command()
def auto(
    made_up: Annotated[bool, typer.Option("--made-up", help="Chains made up anew for each repetition.")] = False,
    repetitions: int = 20,
) -> None:
    """Print where `trials: auto` would end by its threshold, beside fixed numbers of trials; on one device."""
    _run([(made_up, "chain", 1, repetition, AUTO_TRIALS) for repetition in range(repetitions)], float("inf"))
    table = _results()
    own = table[(table.most_trials == AUTO_TRIALS) & (table.made_up == made_up)]
    print("ends at                trials: median, 90 %   device seconds   points below the best: median, 90 %")
    for trials in (16, 32, AUTO_TRIALS):
        ends = [next((d for d in row.draws if d[0] >= trials), row.draws[-1]) for row in own.itertuples()]
        _print_ends(f"{trials} trials", ends, own)
    for worth in (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01):
        ends = [
            next((d for d in row.draws if d[0] >= AUTO_AFTER and d[3] < worth), row.draws[-1])
            for row in own.itertuples()
        ]
        _print_ends(f"a gain below {worth:g}", ends, own)


def _print_ends(name: str, ends: Sequence[Sequence[float]], own: pd.DataFrame) -> None:
    trials, seconds = [end[0] for end in ends], [end[1] for end in ends]
    below = [best - end[2] for best, end in zip(own.best, ends, strict=True)]
    figures = [quantile(trials, 0.5), quantile(trials, 0.9), quantile(seconds, 0.5)]
    figures += [quantile(below, 0.5), quantile(below, 0.9)]
    print(f"{name:22}" + "".join(f"{figure:10.2f}" for figure in figures))


@app.command()
def draw_time(trials: int = 500, chains: int = 10_000) -> None:
    """Print the median seconds of a draw at so many finished trials of a space with at least so many chains."""
    world = MadeUp(_plan(True), 0)
    assert world.pool.count >= chains
    sampler, times = _chain(world, 0), []
    drawn = [world.space.sample(at_random(number))[1] for number in range(2 * trials)]
    for number, chain in enumerate([*dict.fromkeys(drawn)][: trials + 5], start=1):
        if number > trials:
            started = time.process_time()
            sampler.ask(number, 0, ())
            times.append(time.process_time() - started)
        jobs = world.jobs(chain, world.plan.seed)
        scores = tuple(score for job in jobs if job.target for score in world.scores(chain, job))
        runs = tuple(
            JobRun(key=j.key, kind=j.kind, name=j.name, reused=False, steps=j.steps, seconds=world.seconds(chain, j))
            for j in jobs
        )
        trial = Trial(number=number, phase="search", seed=world.plan.seed, point={}, chain=chain)
        value = world.objective.value(scores, chain)
        facts = {"started": 0.0, "seconds": 1.0, "objective": value, "jobs": runs, "scores": scores}
        sampler.tell(TrialResult(trial=trial, state="complete", **facts))
    print(f"{statistics.median(times):.3f} s of CPU a draw at {trials} trials of {world.pool.count} chains")


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share do not exceed, as some are infinite; of a half the median."""
    if share == 0.5:
        return statistics.median(values)
    return sorted(values)[math.ceil(share * len(values)) - 1]


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    app()
