"""How much device time samplers need to find a good chain, on recorded or made-up results, with simulated time.

    python benchmarks/replay/replay.py                 on table.parquet, the recorded results of space.yaml
    python benchmarks/replay/replay.py --made-up       on chains made up anew for each repetition
    python benchmarks/replay/replay.py --draw-time     how long a draw takes at 500 trials and 10,000 chains

The samplers, the queue of jobs and its order are the real ones; the clock is simulated: W devices run jobs that take
their recorded seconds, and a new trial is drawn when a device would have nothing to do, as a search does it.

Prints device seconds until the chain that the sampler would name is good: its true score is within 1 % of the best
true score of any chain (at least 0.99 of it). The true score is the objective as the mean over the seeds of the table
(of made-up chains, without noise). A sampler names the complete chain with the highest objective that it saw, the chain
sampler the one with the highest expected objective. `sharing`: trials share the jobs they have in common, as tunexfer
runs them; without it each trial runs all of its own, as with a training function of one's own and Optuna. The baseline
is trial 0 of every run. A run that has not arrived when the limit is spent counts as infinite.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import typer
import yaml

from tunexfer.core.chain import Chain, Target
from tunexfer.core.graph import Contents, Job, NamedRows, jobs_of, needed
from tunexfer.core.scores import Score, Split
from tunexfer.core.trial import JobRun, Phase, Point, State, Trial, TrialResult
from tunexfer.plan.domains import Ask
from tunexfer.plan.draws import at_random
from tunexfer.plan.plan import Plan
from tunexfer.search.chain_pool import Pool, list_all
from tunexfer.search.chain_sampler import ChainSearcher
from tunexfer.search.costs import Costs
from tunexfer.search.queue import JobQueue
from tunexfer.search.samplers import GridSampler, OptunaSampler, Sampler, tpe

HERE = Path(__file__).parent
NEAR = 0.99
"""Share of the best true score at which a chain is good."""
CHANCE = 0.05
"""Chance of beating the best below which a trial is stopped."""
TASKS, LANGUAGES, RATES = 8, 3, 2
TARGETS, SETTINGS = 5, 4
STAGE_S, TARGET_S, SCORE_S = 60.0, 22.0, 3.0


class CachedSpace:
    """A search space that builds each chain once."""

    def __init__(self, plan: Plan) -> None:
        self.space, self._chains = plan.space, dict[tuple[Any, ...], Chain]()

    def sample(self, ask: Ask) -> tuple[Point, Chain]:
        point: Point = {}

        def recorded(name: str, domain: Any) -> Any:
            point[name] = ask(name, domain)
            return point[name]

        self.space._draw(recorded, stages=True)  # these spaces draw nothing later than here
        key = tuple(point.items())
        if key not in self._chains:
            self._chains[key] = self.space.chain(point)
        return point, self._chains[key]

    def chain(self, point: Point) -> Chain:
        key = tuple(point.items())
        if key not in self._chains:
            self._chains[key] = self.space.chain(point)
        return self._chains[key]

    def grid(self) -> Iterator[Point]:
        return self.space.grid()


class World:
    """What jobs take and what they give: a subclass says it of each job."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.space = plan, CachedSpace(plan)
        self.objective = plan.objective
        self.jobs = cache(self._jobs)

    def _jobs(self, chain: Chain, seed: int) -> tuple[Job, ...]:
        return jobs_of(chain, seed=seed, contents=Contents(encoder="e", rows=NamedRows(), precision="fp32"))

    def seconds(self, chain: Chain, job: Job) -> float:
        raise NotImplementedError

    def scores(self, chain: Chain, job: Job) -> list[Score]:
        raise NotImplementedError

    def truth(self, chain: Chain) -> float:
        """Return the chain's true score, a percentage."""
        return statistics.fmean(self.part(chain, target) for target in chain.targets)

    def part(self, chain: Chain, target: Target) -> float:
        """Return one target's part of the true score."""
        raise NotImplementedError

    @cached_property
    def pool(self) -> Pool:
        pool = list_all(self.space)
        assert pool, "the space is small enough to be listed"
        return pool

    @cached_property
    def best(self) -> float:
        """Find the best true score of any chain: a target's part depends on the stages and its own settings alone."""
        return max(
            statistics.fmean(
                max(self.part(option.chain, own.chain.target(name)) for own in options)
                for (name,), options in self.pool.settings.items()
            )
            for option in self.pool.stages
        )

    def points(self, start: int = 0) -> Iterator[Point]:
        """Yield every point in the order of the file, from one on and round to the one before it."""
        sides = [self.pool.stages, *self.pool.settings.values()]
        for place in range(start, start + self.pool.count):
            point: Point = {}
            for side in reversed(sides):
                place, at = divmod(place, len(side))
                point = side[at].point | point
            yield point


class MadeUp(World):
    """Additive effects with interactions and noise, drawn from a seed."""

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(plan)
        self._seed = seed
        draw = np.random.default_rng(seed)
        self._base = draw.uniform(45, 70, TARGETS)
        self._task, self._language = draw.normal(0, 1.5, TASKS), draw.normal(0, 0.7, LANGUAGES)
        self._rate, self._pair = draw.normal(0, 0.7, RATES), draw.normal(0, 0.7, (TASKS, LANGUAGES, RATES))
        self._sensitivity = draw.uniform(0.5, 1.5, TARGETS)
        self._taste = draw.normal(0, 1.0, (TARGETS, TASKS))
        self._setting = draw.normal(0, 1.5, (TARGETS, SETTINGS))
        self._both = draw.normal(0, 0.4, (TARGETS, SETTINGS, TASKS))

    def seconds(self, chain: Chain, job: Job) -> float:
        if job.kind == "evaluate":
            return SCORE_S
        return STAGE_S if job.stage in chain.stages else TARGET_S

    def part(self, chain: Chain, target: Target) -> float:
        assert target.stage
        place = int(target.name.removeprefix("target"))
        setting = round(np.log2(target.stage.learning_rate / 1e-5))
        value = self._base[place] + self._setting[place, setting]
        for stage in chain.stages:
            source = stage.mixture.sources[0]
            task, language = int(source.task.removeprefix("task")), int(source.language[1:], 36) - 10
            rate = int(stage.learning_rate > 2e-5)
            gain = self._task[task] + self._language[language] + self._rate[rate] + self._pair[task, language, rate]
            value += gain * self._sensitivity[place] + self._taste[place, task] + self._both[place, setting, task]
        return float(value)

    def scores(self, chain: Chain, job: Job) -> list[Score]:
        assert job.target
        noise = random.Random(f"{self._seed} {job.key}").gauss(0, 0.4)
        value = self.part(chain, job.target) + noise
        return [_score(job.name, "en", "validation", value, True)]


def _score(target: str, language: str, split: Split, value: float, main: bool) -> Score:
    return Score(
        target=target, language=language, split=split, metric="m", value=value, main=main, unseen=language != "en"
    )


class Recorded(World):
    """The results in table.parquet. A seed that a stage option wasn't trained with has the study's own scores."""

    def __init__(self, plan: Plan, table: Path) -> None:
        import pandas as pd
        from make import setting_text, stage_text

        super().__init__(plan)
        self._stage, self._setting = stage_text, setting_text
        data = pd.read_parquet(table)
        training, scoring = data[data.kind == "train"], data[data.kind == "evaluate"]
        places = ["stage", "target", "setting"]
        self._train_s = training.groupby(places).seconds.mean().to_dict()
        self._score_s = scoring.groupby(places).seconds.mean().to_dict()
        main = scoring[scoring.main.astype(bool) & (scoring.split == "validation")]
        self._scores: dict[Any, list[Score]] = {}
        for row in main.itertuples():
            own = self._scores.setdefault((row.stage, row.target, row.setting, row.seed), [])
            own.append(_score(row.target, row.language, "validation", row.value, True))
        self._seeds: dict[Any, list[int]] = {}
        for stage, target, setting, seed in self._scores:
            self._seeds.setdefault((stage, target, setting), []).append(seed)

    def _place(self, chain: Chain, target: Target) -> tuple[str, str, str]:
        return self._stage(chain), target.name, self._setting(target)

    def seconds(self, chain: Chain, job: Job) -> float:
        if job.target:
            return float(self._score_s[self._place(chain, job.target)])
        if job.stage in chain.stages:
            return float(self._train_s[self._stage(chain), "-", "-"])
        return float(self._train_s[self._place(chain, chain.target(job.name))])

    def scores(self, chain: Chain, job: Job) -> list[Score]:
        assert job.target
        return self._scores[*self._place(chain, job.target), self.plan.seed]

    def part(self, chain: Chain, target: Target) -> float:
        place = self._place(chain, target)
        by_seed = [self.objective.value(self._scores[*place, seed], chain) for seed in self._seeds[place]]
        return statistics.fmean(by_seed)


@dataclass
class _Open:
    trial: Trial
    jobs: tuple[Job, ...]
    pending: set[str]
    runs: dict[str, JobRun] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)


class Simulation:
    """A search with W devices and a simulated clock."""

    def __init__(self, world: World, sampler: Sampler, devices: int, *, sharing: bool, stopping: bool, limit: float):
        """
        limit: device seconds after which the run ends
        """
        self.world, self.sampler, self.devices = world, sampler, devices
        self.sharing, self.stopping, self.limit = sharing, stopping, limit
        self.queue, self.done, self.clock = JobQueue(), dict[str, float](), 0.0
        self.open: dict[int, _Open] = {}
        self.numbers = itertools.count()
        self.taken: set[Chain] = set()
        self.complete: list[TrialResult] = []
        self.exhausted = False
        self.arrived = float("inf")
        self.trials = 0

    def run(self) -> float:
        """Return the device seconds after which the chain that the sampler would name is good."""
        running: list[tuple[float, int, str]] = []
        free, order = self.devices, itertools.count()
        while self.clock * self.devices < self.limit and self.arrived == float("inf"):
            while free and (job := self._next_job()) is not None:
                trial = self.open[self.queue.needed_by(job.key)[0]]
                seconds = self.world.seconds(trial.trial.chain, job)
                heapq.heappush(running, (self.clock + seconds, next(order), job.key))
                free -= 1
            if not running:
                break
            self.clock, _, key = heapq.heappop(running)
            free += 1
            if key not in self.cancelled:
                self._finished(key)
            self.cancelled.discard(key)
        return self.arrived

    @cached_property
    def cancelled(self) -> set[str]:
        """Keys of running jobs that nobody needs any more: their devices are busy until they would have ended."""
        return set()

    def _next_job(self) -> Job | None:
        job = self.queue.take()
        while job is None and self.arrived == float("inf") and self._draw():
            job = self.queue.take()
        return job

    def _draw(self) -> bool:
        if self.exhausted:
            return False
        number = next(self.numbers)
        phase: Phase = "search"
        if number == 0:
            point, chain = self.world.plan.baseline
            phase = "baseline"
        else:
            drawn = self._drawn(number)
            if drawn is None:
                self.exhausted = True
                return False
            point, chain = drawn
        self.taken.add(chain)
        trial = Trial(number=number, phase=phase, seed=self.world.plan.seed, point=point, chain=chain)
        jobs = self.world.jobs(chain, trial.seed)
        if not self.sharing:
            own = {job.key: f"{job.key} {number}" for job in jobs}
            jobs = tuple(replace(j, key=own[j.key], parents=tuple(own[p] for p in j.parents)) for j in jobs)
        todo = needed(jobs, self.done.__contains__)
        opened = self.open[number] = _Open(trial, jobs, {job.key for job in todo})
        for job in jobs:
            if job.key not in opened.pending:
                self._take(opened, job, 0.0)
        self.queue.add(number, todo)
        if not todo:
            self._close(number, "complete")
        return True

    def _drawn(self, number: int) -> tuple[Point, Chain] | None:
        running = [opened.trial for opened in self.open.values()]
        for attempt in range(500):
            drawn = self.sampler.ask(number, attempt, running)
            if drawn is None or drawn[1] not in self.taken:
                return drawn
            self.sampler.turned_down(number, drawn[0])
        return None

    def _take(self, opened: _Open, job: Job, seconds: float) -> None:
        opened.runs[job.key] = JobRun(
            key=job.key, kind=job.kind, name=job.name, reused=not seconds, steps=job.steps, seconds=seconds
        )
        if job.target:
            opened.scores += self.world.scores(opened.trial.chain, job)

    def _finished(self, key: str) -> None:
        first = True
        for number in self.queue.done(key):
            opened = self.open[number]
            job = next(job for job in opened.jobs if job.key == key)
            self.done[key] = self.world.seconds(opened.trial.chain, job)
            self._take(opened, job, self.done[key] if first else 0.0)
            first = False
            opened.pending.discard(key)
            if not opened.pending:
                self._close(number, "complete")
            elif self.stopping and job.target and opened.trial.phase == "search":
                scores = {f"{score.target}/{score.language}": score.value for score in opened.scores}
                chance = self.sampler.chance(opened.trial.chain, scores)
                if chance is not None and chance < CHANCE:
                    self.cancelled.update(self.queue.drop(number))
                    self._close(number, "stopped")

    def _close(self, number: int, state: State) -> None:
        opened = self.open.pop(number)
        value = self.world.objective.value(opened.scores, opened.trial.chain) if state == "complete" else None
        result = TrialResult(
            trial=opened.trial,
            state=state,
            started=0.0,
            seconds=0.0,
            objective=value,
            jobs=tuple(opened.runs[job.key] for job in opened.jobs if job.key in opened.runs),
            scores=tuple(opened.scores),
        )
        self.sampler.tell(result)
        self.trials += 1
        if state == "complete":
            self.complete.append(result)
            if self.world.truth(self._named()) >= NEAR * self.world.best:
                self.arrived = min(self.arrived, self.clock * self.devices)

    def _named(self) -> Chain:
        if isinstance(self.sampler, ChainSearcher):
            best = self.sampler.expected_best()
            assert best
            return best.chain
        return max(self.complete, key=lambda result: result.objective or 0.0).trial.chain


def made_up_plan(folder: Path) -> Plan:
    """Write and load a space of 8 tasks x 3 languages x 2 rates and no stage, and 5 targets x 4 rates."""
    languages = [f"l{letter}" for letter in "abc"[:LANGUAGES]]
    tasks = [f"task{number}" for number in range(TASKS)]
    targets = [f"target{number}" for number in range(TARGETS)]
    task = {"kind": "classification", "hub": {"path": "made/up"}, "columns": {"text": "t", "label": "l"}}
    rows = {language: [1000, 100, 100] for language in [*languages, "en"]}
    blocks = {name: task | {"labels": ["a", "b"], "rows": rows} for name in [*tasks, *targets]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(yaml.safe_dump({"name": "made_up", "tasks": blocks}))
    stage = {"name": "stage", "tasks": {"choice": [[], *([name] for name in tasks)]}}
    stage |= {"languages": {"choice": [[language] for language in languages]}}
    stage |= {"learning_rate": {"choice": [1.0e-5, 3.0e-5]}, "steps": 300}
    rates = {"choice": [1e-5 * 2**power for power in range(SETTINGS)]}
    own = [{"task": name, "train_language": "en", "learning_rate": rates, "steps": 100} for name in targets]
    space = {"name": "made_up", "suite": "suite.yaml", "encoder": "made up", "stages": [stage], "targets": own}
    (folder / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return Plan.load(folder / "space.yaml", cache=folder / "cache")


def _optuna(make: Callable[[int], Any]) -> Callable[[Any, int], Sampler]:
    return lambda space, seed: OptunaSampler(space, seed, make=make)


MAKE: dict[str, Callable[[Any, int], Sampler]] = {
    "random": Sampler,
    "grid": GridSampler,
    "tpe": _optuna(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "tpe as shipped": _optuna(tpe),
    "gp": _optuna(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "chain": ChainSearcher,
}
"""`tpe` and `gp` have Optuna's defaults; a new one is made for each draw, see `OptunaSampler`."""
CONTENDERS = {
    "random, no sharing": ("random", False, False),
    "grid, no sharing": ("grid", False, False),
    "TPE, no sharing": ("tpe", False, False),
    "GP, no sharing": ("gp", False, False),
    "random, sharing": ("random", True, False),
    "grid, sharing": ("grid", True, False),
    "TPE, sharing": ("tpe", True, False),
    "TPE as shipped, sharing": ("tpe as shipped", True, False),
    "GP, sharing": ("gp", True, False),
    "chain": ("chain", True, False),
    "chain, stopping": ("chain", True, True),
}
"""Name -> sampler, whether trials share jobs, and whether hopeless trials are stopped."""


@cache
def _plan(made_up: bool) -> Plan:
    if made_up:
        return made_up_plan(Path(tempfile.mkdtemp()))
    return Plan.load(HERE / "space.yaml", cache=Path(tempfile.mkdtemp()))


@cache
def _recorded() -> World:
    return Recorded(_plan(False), HERE / "table.parquet")


def run_one(name: str, devices: int, repetition: int, made_up: bool, limit: float) -> float:
    """Run one search; return the device seconds that it took to arrive."""
    sampler, sharing, stopping = CONTENDERS[name]
    world = MadeUp(_plan(True), repetition) if made_up else _recorded()
    made = _shuffled(world, repetition) if sampler == "grid" else _make(sampler, world, repetition)
    return Simulation(world, made, devices, sharing=sharing, stopping=stopping, limit=limit).run()


def _make(name: str, world: World, seed: int) -> Sampler:
    if name == "chain":
        return ChainSearcher(world.space, seed, Costs(world.plan.seed), world.objective)
    return MAKE[name](world.space, seed)


def _shuffled(world: World, seed: int) -> Sampler:
    """Make a grid in the file's order that begins at a random place: the file's own first chain is one case only."""
    sampler = GridSampler(world.space, seed)
    sampler.points = world.points(random.Random(seed).randrange(world.pool.count))
    return sampler


def draw_time(trials: int, chains: int) -> float:
    """Return the median seconds of a draw at so many finished trials of a space with at least so many chains."""
    world = MadeUp(_plan(True), 0)
    assert world.pool.count >= chains
    sampler = _make("chain", world, 0)
    drawn = [world.space.sample(at_random(number))[1] for number in range(2 * trials)]
    for number, chain in enumerate([*dict.fromkeys(drawn)][:trials], start=1):
        scores = [
            score for job in world.jobs(chain, world.plan.seed) if job.target for score in world.scores(chain, job)
        ]
        trial = Trial(number=number, phase="search", seed=world.plan.seed, point={}, chain=chain)
        runs = tuple(
            JobRun(key=j.key, kind=j.kind, name=j.name, reused=False, steps=j.steps, seconds=world.seconds(chain, j))
            for j in world.jobs(chain, trial.seed)
        )
        value = world.objective.value(scores, chain)
        sampler.tell(
            TrialResult(
                trial=trial, state="complete", started=0, seconds=1, objective=value, jobs=runs, scores=tuple(scores)
            )
        )
    times = []
    for number in range(trials, trials + 5):
        started = time.perf_counter()
        sampler.ask(number, 0, ())
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def quantile(values: list[float], share: float) -> float:
    """Return the value at a share of the sorted list; no interpolation, as some are infinite."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main(
    made_up: Annotated[bool, typer.Option("--made-up", help="Chains made up anew for each repetition.")] = False,
    repetitions: int = 50,
    devices: Annotated[list[int], typer.Option(help="Numbers of devices.")] = [1, 4, 16],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="Names of contenders.")] = [],  # noqa: B006
    limit: Annotated[float, typer.Option(help="Device seconds after which a run ends.")] = 20_000,
    processes: int = 1,
    measure_draws: Annotated[bool, typer.Option("--draw-time", help="Only time the chain sampler's draws.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where all figures are written, as JSON.")] = None,
) -> None:
    if measure_draws:
        print(f"{draw_time(500, 10_000):.3f} s a draw at 500 trials")
        return
    names = only or list(CONTENDERS)
    tasks = [(name, width, rep, made_up, limit) for width in devices for name in names for rep in range(repetitions)]
    started = time.perf_counter()
    if processes == 1:
        values = [run_one(*task) for task in tasks]
    else:
        with ProcessPoolExecutor(processes) as pool:
            values = list(pool.map(run_one, *zip(*tasks, strict=True), chunksize=5))
    arrived: dict[str, list[float]] = {}
    for (name, width, *_), value in zip(tasks, values, strict=True):
        arrived.setdefault(f"{name}, W={width}", []).append(value)
    for name, own in arrived.items():
        print(f"{name:36} median {quantile(own, 0.5):8.0f}  90 % {quantile(own, 0.9):8.0f}", flush=True)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    if out:
        out.write_text(json.dumps(arrived, indent=1))


if __name__ == "__main__":
    typer.run(main)
