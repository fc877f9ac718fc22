"""A search with W devices and a simulated clock: the samplers, stopping rules and queue of jobs are the real ones."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from worlds import World

from tunexfer.core.chain import Chain
from tunexfer.core.graph import Job, needed
from tunexfer.core.scores import Score
from tunexfer.core.trial import JobRun, Phase, Point, State, Trial, TrialResult
from tunexfer.plan.space_file import Stop
from tunexfer.search.queue import JobQueue
from tunexfer.search.samplers import Sampler
from tunexfer.search.stopping import RULES, Standing

NEAR = 0.99
"""Share of the best true score at which a chain is good."""
MAX_REPEATS = 500
"""Points drawn in a row whose chains have all been run: then the sampler has no more."""


class Step(NamedTuple):
    """The state of a search when it would name another chain than before, or when a trial is drawn."""

    trials: int
    """Complete or stopped trials that had a job of their own to run."""
    seconds: float
    """Device seconds since the start."""
    truth: float
    """True score of the chain that would be named."""
    gain: float | None = None
    """Of a draw: points that it is expected to gain for the seconds of a whole chain."""


@dataclass
class _Open:
    trial: Trial
    jobs: tuple[Job, ...]
    pending: set[str]
    free: bool
    runs: dict[str, JobRun] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)


class Simulation:
    """A device runs a job for its recorded seconds, and a new trial is drawn when a device would have nothing to do.

    A search names the complete chain with the highest objective, as a study's summary does. It has arrived when the
    true score of that chain is at least `NEAR` of the best true score of any chain.
    """

    def __init__(
        self,
        world: World,
        sampler: Sampler,
        devices: int,
        *,
        sharing: bool = True,
        stop: str = "off",
        limit: float = float("inf"),
        trials: int | None = None,
    ) -> None:
        """
        sharing: whether trials share the jobs that they have in common; else each runs all of its own
        stop:    name of a stopping rule, with its defaults
        limit:   device seconds after which the run ends
        trials:  number after which the run ends; with it, the run goes on after it has arrived
        """
        self.world, self.sampler, self.devices = world, sampler, devices
        self.sharing, self.limit, self.most = sharing, limit, trials
        self.rule = RULES[stop](Stop(rule=stop))  # type: ignore[arg-type]
        self.queue, self.done, self.clock = JobQueue(), set[str](), 0.0
        self.open: dict[int, _Open] = {}
        self.numbers = itertools.count()
        self.taken: set[Chain] = set()
        self.ended: list[TrialResult] = []
        self.named: TrialResult | None = None
        self.exhausted = False
        self.arrived: float | None = None
        self.trials = 0
        self.steps: list[Step] = []
        self.draws: list[Step] = []
        self._cancelled: set[str] = set()
        """Running jobs that nobody needs any more: their devices are busy until they would have ended."""

    def run(self) -> float | None:
        """Return the device seconds after which the chain that the search would name is good; None if it never is."""
        running: list[tuple[float, int, str]] = []
        free, order = self.devices, itertools.count()
        while not self.over:
            while free and (job := self._next_job()) is not None:
                chain = self.open[self.queue.needed_by(job.key)[0]].trial.chain
                heapq.heappush(running, (self.clock + self.world.seconds(chain, job), next(order), job.key))
                free -= 1
            if not running:
                break
            self.clock, _, key = heapq.heappop(running)
            free += 1
            if key in self._cancelled:
                self._cancelled.discard(key)
            else:
                self._finished(key)
        return self.arrived

    @property
    def seconds(self) -> float:
        """Return the device seconds since the start."""
        return self.clock * self.devices

    @property
    def over(self) -> bool:
        if self.most is not None:
            return self.trials >= self.most
        return self.arrived is not None or self.seconds >= self.limit

    def _next_job(self) -> Job | None:
        job = self.queue.take()
        while job is None and not self.over and self._draw():
            job = self.queue.take()
        return job

    def _draw(self) -> bool:
        if self.exhausted:
            return False
        number = next(self.numbers)
        phase: Phase = "search" if number else "baseline"
        drawn = self._drawn(number) if number else self.world.plan.baseline
        if drawn is None:
            self.exhausted = True
            return False
        if number and self.named:
            truth = self.world.truth(self.named.trial.chain)
            self.draws.append(Step(self.trials, self.seconds, truth, self.sampler.gain_per_chain))
        point, chain = drawn
        self.taken.add(chain)
        trial = Trial(number=number, phase=phase, seed=self.world.plan.seed, point=point, chain=chain)
        jobs = self.world.jobs(chain, trial.seed)
        if not self.sharing:
            own = {job.key: f"{job.key} {number}" for job in jobs}
            jobs = tuple(replace(j, key=own[j.key], parents=tuple(own[p] for p in j.parents)) for j in jobs)
        todo = needed(jobs, self.done.__contains__)
        opened = self.open[number] = _Open(trial, jobs, {job.key for job in todo}, not todo)
        for job in jobs:
            if job.key not in opened.pending:
                self._take(opened, job, 0.0)
        self.queue.add(number, todo)
        if not todo:
            self._close(number, "complete")
        else:
            self._stop_if_hopeless(opened)
        return True

    def _drawn(self, number: int) -> tuple[Point, Chain] | None:
        running = [opened.trial for opened in self.open.values()]
        for attempt in range(MAX_REPEATS):
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
        self.done.add(key)
        for place, number in enumerate(self.queue.done(key)):
            opened = self.open[number]
            job = next(job for job in opened.jobs if job.key == key)
            self._take(opened, job, 0.0 if place else self.world.seconds(opened.trial.chain, job))
            opened.pending.discard(key)
            if not opened.pending:
                self._close(number, "complete")
            else:
                self._stop_if_hopeless(opened)

    def _stop_if_hopeless(self, opened: _Open) -> None:
        if opened.trial.phase != "search":
            return
        chain = opened.trial.chain
        standing = Standing(
            chain=chain,
            scores={f"{score.target}/{score.language}": score.value for score in opened.scores},
            by_target=self.world.objective.by_target(opened.scores, chain),
            ended=self.ended,
            chance=self.sampler.chance,
        )
        if self.rule(standing):
            self._cancelled.update(self.queue.drop(opened.trial.number))
            self._close(opened.trial.number, "stopped")

    def _close(self, number: int, state: State) -> None:
        opened = self.open.pop(number)
        chain, objective = opened.trial.chain, self.world.objective
        result = TrialResult(
            trial=opened.trial,
            state=state,
            started=0.0,
            seconds=0.0,
            objective=objective.value(opened.scores, chain) if state == "complete" else None,
            by_target=objective.by_target(opened.scores, chain),
            jobs=tuple(opened.runs[job.key] for job in opened.jobs if job.key in opened.runs),
            scores=tuple(opened.scores),
        )
        self.ended.append(result)
        self.sampler.tell(result)
        self.trials += not opened.free
        if result.objective is not None and (self.named is None or result.objective > (self.named.objective or 0.0)):
            self.named = result
            self.steps.append(Step(self.trials, self.seconds, self.world.truth(chain)))
            if self.arrived is None and self.steps[-1].truth >= NEAR * self.world.best:
                self.arrived = self.seconds
        if self.arrived is None and self.sharing and len(self.done) == self.world.job_count:
            self.arrived = self.seconds  # whatever is drawn from now on costs nothing
