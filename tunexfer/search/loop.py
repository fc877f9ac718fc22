"""The search loop: it draws trials, hands out their jobs, and records what they gave. Ray is not here."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.core.graph import Contents, Job, JobResult, ancestors, jobs_of, needed
from tunexfer.core.scores import Score, forgetting_scores, scores_of
from tunexfer.core.trial import Failure, JobRun, State, Trial, TrialResult
from tunexfer.errors import StudyError
from tunexfer.plan.plan import Plan
from tunexfer.record.listener import Listener
from tunexfer.record.progress import JobProgress, TrialProgress, progress_of, write_progress
from tunexfer.record.record import Record
from tunexfer.search.costs import Costs
from tunexfer.search.queue import JobQueue
from tunexfer.search.schedule import Schedule
from tunexfer.search.stopping import RULES, Rule, Standing, never
from tunexfer.store import ROWS, Busy, StageStore
from tunexfer.tasks.kinds import KINDS

if TYPE_CHECKING:  # torch is imported where jobs run
    from tunexfer.training.executor import Executor

ENOUGH_TO_JUDGE = 4
"""Trials that must have finished before many failures end the study."""
MAX_LOSSES = 3
"""Processes that may die on one job before its trials fail."""
PROGRESS_S = 1.0
"""Seconds between two writes of a trial's progress; new scores are written at once."""

SearchState = Literal["finished", "interrupted", "out of time", "exhausted"]


@dataclass
class _Open:
    """A trial that has begun and isn't finished."""

    trial: Trial
    jobs: tuple[Job, ...]
    pending: set[str]
    """Keys of the jobs that have no result yet."""
    started: float
    runs: dict[str, JobRun] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Key of an evaluation that is done -> its metrics."""
    scores: list[Score] = field(default_factory=list)
    rows: dict[str, pa.Table] = field(default_factory=dict)
    """Scored rows that the store could not keep."""
    written: float = 0.0


class SearchLoop:
    """All that a search knows and decides, whoever runs its jobs: this process, or devices on a cluster."""

    def __init__(
        self,
        plan: Plan,
        record: Record,
        store: StageStore,
        contents: Mapping[str, Contents],
        listeners: Sequence[Listener] = (),
        *,
        schedule: Schedule | None = None,
        rule: Rule | None = None,
        on_report: Callable[[int, dict[str, Any]], None] = lambda number, report: None,
    ) -> None:
        """
        contents:   encoder's identity -> what its trials read
        schedule:   trials to run; those that the plan's sampler draws if not given
        rule:       asked after each finished job of a trial of the search whether it goes on; the plan's if not given
        on_report:  called after each finished job of a trial with its number, scores and cost so far, and at its end
        """
        self.plan, self.record, self.store, self.contents = plan, record, store, contents
        self.listeners, self.on_report = list(listeners), on_report
        stop = plan.file.search.stop
        self._rule, self._costs = rule or RULES[stop.rule](stop), Costs(plan.seed, contents, store.has)
        self.schedule, self.queue = schedule or Schedule(plan, record, self._costs), JobQueue()
        self._first: Trial | Literal["wait", "done"] | None = self.schedule.next()
        self.state: SearchState = "exhausted" if self.schedule.exhausted else "finished"
        self.error: StudyError | None = None
        self.stopping = False
        self.seconds = 0.0
        """Seconds that the search took, once it is over."""
        self.device_seconds = 0.0
        """Seconds that devices were held, summed over devices; 0 where the search ran in this process."""
        self.cancelled: set[str] = set()
        """Keys of running jobs that no trial needs any more."""
        self._started = time.monotonic()
        self._deadline = self._started + 60 * (plan.file.search.minutes or float("inf"))
        self._same = {name: task.same_as for name, task in plan.suite.tasks.items() if task.same_as}
        self._open: dict[int, _Open] = {}
        self._settled: list[int] = []
        """Trials whose jobs are all done and that aren't in the record yet."""
        self._failures: list[str] = []
        self._judged = 0
        self._elsewhere: set[str] = set()
        """Jobs that another study on the same store is running."""
        self._losses: dict[str, int] = {}
        self._progress: dict[str, JobProgress] = {}
        self._warned: set[str] = set()
        self._all_drawn = False
        self._stack = ExitStack()
        self._keep: Callable[[Collection[str]], None] = lambda keys: None

    def __enter__(self) -> SearchLoop:
        self._keep = self._stack.enter_context(self.store.lease())
        for sentence in self.record.damaged:
            self.notify("warning", sentence)
        return self

    def __exit__(self, *_: object) -> None:
        """Record what still runs as stopped: the next start runs it again."""
        self.settle()
        for number in list(self._open):
            self._finish(number, "stopped")
        self._stack.close()
        self.seconds = time.monotonic() - self._started

    @property
    def anything_left(self) -> bool:
        """Tell, before the start, whether a trial has to be run: a finished study needs no cluster."""
        return self._first != "done"

    @property
    def over(self) -> bool:
        """Tell whether nothing is left to run."""
        return not self._open and (self.stopping or self._all_drawn)

    @property
    def idle_for_good(self) -> bool:
        """Tell whether no further trial will be drawn, so that a device without a job can be given back."""
        return self.stopping or self._all_drawn

    def next_job(self, warm: Collection[str] = ()) -> Job | None:
        """Return the next job for a free device; None while there is none.

        A new trial begins only if no job is ready: the fewer are in flight, the more the sampler knows when it draws.

        warm: keys of the models that the device has in memory
        """
        job = self.queue.take(warm, last=self.idle_for_good)
        while job is None and self._draw():
            job = self.queue.take(warm, last=self.idle_for_good)
        if job is not None:
            self.cancelled.discard(job.key)  # a trial needs it again
        return job

    def line(self, job: Job) -> tuple[Job, ...]:
        """List the jobs that a job's model descends from, the first stage first."""
        number = self.queue.needed_by(job.key)[0]
        return ancestors(job, self._open[number].jobs)

    def finished(self, result: JobResult) -> None:
        """Take a job's result; trials that have all of theirs are recorded by the next `settle`."""
        self._progress.pop(result.key, None)
        if result.key in self.cancelled or not self.queue.needed_by(result.key):
            self.cancelled.discard(result.key)
            return
        if result.warning and result.warning not in self._warned:
            self._warned.add(result.warning)
            self.notify("warning", result.warning)
        for place, number in enumerate(self.queue.done(result.key)):
            trial = self._open[number]
            job = next(job for job in trial.jobs if job.key == result.key)
            shared = place > 0 or result.reused
            trial.runs[job.key] = _run_of(job, reused=shared, took=result.seconds)
            self._costs.add(job, result.seconds)
            if result.rows is not None:
                trial.rows[job.key] = result.rows
            self._take(trial, result.key, result.metrics)
            trial.pending.discard(result.key)
            if not trial.pending:
                self._settled.append(number)
            self._report(trial)

    def failed(self, key: str, failure: Failure) -> None:
        """Fail every trial that needs a job."""
        self._progress.pop(key, None)
        for number in self.queue.needed_by(key):
            self._finish(number, "failed", failure)
        self.cancelled.discard(key)

    def lost(self, key: str, detail: str) -> None:
        """Run a job again whose process or node died; after `MAX_LOSSES` its trials fail."""
        self._progress.pop(key, None)
        self._losses[key] = self._losses.get(key, 0) + 1
        if self._losses[key] < MAX_LOSSES:
            self.queue.put_back(key)
            return
        message = (
            f"its worker process died {MAX_LOSSES} times. Out of memory? Try a smaller batch_size, or --concurrent 1."
        )
        self.failed(key, Failure(kind="lost", message=message, detail=detail))

    def busy(self, key: str) -> None:
        """Leave a job to another study that is running it on the same store; `poll` looks for its result."""
        self._elsewhere.add(key)

    def poll(self) -> None:
        """Look for results of jobs that other studies were running, and try those again that have none."""
        for key in list(self._elsewhere):
            self._elsewhere.discard(key)
            self.queue.put_back(key)

    def progress(self, key: str, progress: JobProgress) -> None:
        """Show how far a running job is."""
        self._progress[key] = progress
        for number in self.queue.needed_by(key):
            self._show(self._open[number])

    def interrupt(self) -> None:
        """Begin and hand out nothing more."""
        self.stopping, self.state = True, "interrupted"
        self.notify("warning", "Stopping. Rerun the same command to resume; Ctrl-C again quits at once.")

    def settle(self) -> None:
        """Record the trials whose jobs are all done, and tell the sampler."""
        while self._settled:
            number = self._settled.pop(0)
            if number in self._open and not self._incomplete(self._open[number]):
                self._finish(number, "complete")

    def notify(self, event: Literal["started", "finished", "info", "warning"], about: Any) -> None:
        """Call every listener's method of that name."""
        for listener in self.listeners:
            getattr(listener, event)(about)

    def _draw(self) -> bool:
        """Begin another trial, unless there is none or it has to wait."""
        self.settle()
        if self.stopping or self._all_drawn:
            return False
        trial, self._first = self._first or self.schedule.next(), None
        if trial == "wait":
            return False
        if trial == "done":
            self._all_drawn = True
            if self.schedule.exhausted:
                self.state = "exhausted"
                self.notify("warning", "Search space exhausted: every chain has been run.")
            if self.schedule.why:
                self.notify("info", self.schedule.why)
            return False
        if time.monotonic() > self._deadline:
            self._all_drawn, self.state = True, "out of time"
            return False
        self._begin(trial)
        return True

    def _begin(self, trial: Trial) -> None:
        chain = trial.chain
        jobs = jobs_of(chain, seed=trial.seed, contents=self.contents[chain.encoder.identity])
        stored: dict[str, Any] = {}

        def has(key: str) -> bool:
            if (metadata := self.store.metadata(key)) is not None:
                stored[key] = metadata
            return metadata is not None

        todo = needed(jobs, has)
        self.record.begin(trial)
        opened = _Open(trial=trial, jobs=jobs, pending={job.key for job in todo}, started=time.time())
        self._open[trial.number] = opened
        self._keep([job.key for trial in self._open.values() for job in trial.jobs])
        self.notify("started", trial)
        for job in jobs:
            if job.key not in opened.pending:
                known = stored.get(job.key) or {}
                took = (
                    known.get("seconds")
                    or self._costs.took(job.key)
                    or (self.store.metadata(job.key) or {}).get("seconds", 0.0)
                )
                opened.runs[job.key] = _run_of(job, reused=True, took=took)
                self._costs.add(job, took)
                self._take(opened, job.key, stored.get(job.key, {}).get("metrics", ()))
        self.queue.add(trial.number, todo)
        self._show(opened)
        if not todo:
            self._settled.append(trial.number)
        elif reason := self._why_stop(opened):
            self.on_report(trial.number, {"stop": reason})
            self._stop(opened, reason)

    def _take(self, opened: _Open, key: str, metrics: Iterable[Any]) -> None:
        """Turn an evaluation's metrics into scores; a second evaluation gives what was forgotten."""
        for job in opened.jobs:
            if job.key != key or job.target is None:
                continue
            opened.metrics[key] = tuple(metrics)
            chain = opened.trial.chain
            if job.by is None:
                task = self.plan.suite.tasks[job.target.task]
                main = task.metric or KINDS[task.kind].main_metric
                new = scores_of(chain, job.target, opened.metrics[key], main=main, same=self._same)
                opened.scores += new
        opened.written = 0.0

    def _all_scores(self, opened: _Open) -> tuple[Score, ...]:
        """Order the scores by target, and add what was forgotten."""
        chain = opened.trial.chain
        order = {target.name: place for place, target in enumerate(chain.targets)}
        own = sorted(opened.scores, key=lambda score: order[score.target])
        lost = [
            forgetting_scores(
                chain,
                job.by,
                [score for score in own if score.target == job.name],
                opened.metrics[job.key],
                same=self._same,
            )
            for job in opened.jobs
            if job.by is not None
        ]
        return (*own, *(score for scores in lost for score in scores))

    def _incomplete(self, opened: _Open) -> bool:
        """Queue those evaluations again whose rows can't be read from the store, if there are any."""
        scored = [job for job in opened.jobs if job.kind == "evaluate" and job.by is None]
        again = [job for job in scored if job.key not in opened.rows and self.store.get(job.key) is None]
        if not again:
            return False
        opened.scores = [score for score in opened.scores if score.target not in {job.name for job in again}]
        for job in again:
            opened.metrics.pop(job.key, None)
        todo = needed(opened.jobs, lambda key: key in opened.metrics or self.store.get(key) is not None)
        opened.pending = {job.key for job in todo}
        self.queue.add(opened.trial.number, todo)
        return True

    def _rows(self, opened: _Open) -> Iterator[pa.Table]:
        """Yield the scored rows of every target, named by the target."""
        for job in opened.jobs:
            if job.kind != "evaluate" or job.by is not None:
                continue
            for table in self._tables(opened, job.key):
                yield table.set_column(0, "target", pa.repeat(job.name, len(table)))

    def _tables(self, opened: _Open, key: str) -> Iterator[pa.Table]:
        """Yield an evaluation's rows in parts, as the store has them."""
        if key in opened.rows:
            yield opened.rows[key]
            return
        entry = self.store.get(key)
        assert entry
        for batch in pq.ParquetFile(entry.files[ROWS]).iter_batches(65536):
            yield pa.Table.from_batches([batch])

    def _finish(self, number: int, state: State, failure: Failure | None = None, saved: float = 0.0) -> None:
        """Close a trial and write its record.

        saved: seconds that stopping it saved
        """
        opened = self._open.pop(number)
        self.cancelled.update(self.queue.drop(number))
        complete = state == "complete"
        scores = self._all_scores(opened) if complete else tuple(opened.scores)
        chain, objective, jobs = opened.trial.chain, self.plan.objective, opened.runs
        result = TrialResult(
            trial=opened.trial,
            state=state,
            started=opened.started,
            seconds=time.time() - opened.started,
            objective=objective.value(scores, chain) if complete else None,
            goals=objective.values(scores, chain, sum(run.took for run in jobs.values())) if complete else {},
            by_target=objective.by_target(scores, chain),
            saved=saved,
            failure=failure,
            jobs=tuple(jobs[job.key] for job in opened.jobs if job.key in jobs),
            scores=scores,
        )
        result = self.record.finish(result, self._rows(opened) if complete else ())
        self.schedule.ended(result)
        self._keep([job.key for trial in self._open.values() for job in trial.jobs])
        if state != "stopped" or failure is None:
            self.on_report(number, _report_of(result))
        self.notify("finished", result)
        self._judge(result)

    def _judge(self, result: TrialResult) -> None:
        """End the study where going on makes no sense. A lost process says nothing about a recipe."""
        if result.failure and result.failure.kind == "lost" and result.trial.phase != "baseline":
            return
        self._judged += 1
        if result.state == "failed" and result.failure:
            self._failures.append(result.failure.message)
            if result.trial.phase == "baseline":
                self.error = StudyError(
                    f"the baseline failed, so no chain can be compared with it: {result.failure.message}"
                )
        failed = len(self._failures)
        if not self.error and self._judged >= ENOUGH_TO_JUDGE and 2 * failed > self._judged:
            reasons = "\n".join(f"  {message}" for message in dict.fromkeys(self._failures))
            self.error = StudyError(f"too many trials failed, {failed} of {self._judged}:\n{reasons}")
        self.stopping = self.stopping or self.error is not None

    def _report(self, opened: _Open) -> None:
        self._show(opened)
        cost = sum(run.seconds for run in opened.runs.values())
        done = len(opened.jobs) - len(opened.pending)
        number, scores = opened.trial.number, _validation(opened.scores)
        report: dict[str, Any] = {"jobs_done": done, "jobs": len(opened.jobs), "cost_s": cost, "scores": scores}
        reason = self._why_stop(opened) if opened.pending else None
        self.on_report(number, report if reason is None else report | {"stop": reason})
        if reason is not None:
            self._stop(opened, reason)

    def _why_stop(self, opened: _Open) -> str | None:
        """Ask the rule whether a trial of the search ends here."""
        if opened.trial.phase != "search" or self._rule is never:
            return None
        chain = opened.trial.chain
        standing = Standing(
            chain=chain,
            scores=_validation(opened.scores),
            by_target=self.plan.objective.by_target(opened.scores, chain),
            ended=[result for result in self.record.ended if result.trial.phase != "confirm"],
            chance=self.schedule.chance,
        )
        return self._rule(standing)

    def _stop(self, opened: _Open, reason: str) -> None:
        """End a trial by a rule: what it alone needed is cancelled, and counts as saved."""
        number, pending = opened.trial.number, [job for job in opened.jobs if job.key in opened.pending]
        unneeded = [job for job in pending if self.queue.needed_by(job.key) == (number,)]
        saved = sum(map(self._costs.seconds, unneeded))
        done = len(opened.jobs) - len(pending)
        words = f"stopped after {done} of {len(opened.jobs)} jobs, which saves about {saved:.0f} s: {reason}"
        self._finish(number, "stopped", Failure(kind="user", message=words), saved)

    def _show(self, opened: _Open) -> None:
        """Write a trial's progress for those who watch the study's folder."""
        now = time.monotonic()
        if now - opened.written < PROGRESS_S:
            return
        opened.written = now
        keys = [job.key for job in opened.jobs]
        progress = TrialProgress(
            done=len(opened.jobs) - len(opened.pending),
            jobs=len(opened.jobs),
            reused=sum(run.reused for run in opened.runs.values()),
            running=tuple(self._progress[key] for key in keys if key in self._progress),
            scores=tuple(opened.scores),
        )
        write_progress(self.record.folder.trial(opened.trial.number).progress, progress)


def run_here(loop: SearchLoop, executor: Executor) -> SearchLoop:
    """Run a search's jobs in this process, one after the other, and return the loop, whose state says how it ended.

    raises: StudyError, if the baseline or most trials fail
    """
    with loop:
        while not loop.over:
            job = loop.next_job()
            if job is None:
                time.sleep(0.05)  # another study is running what is missing
                loop.poll()
                continue
            _run_one(loop, executor, job)
            loop.settle()
    if loop.error:
        raise loop.error
    loop.record.end(loop.state)
    return loop


def _run_one(loop: SearchLoop, executor: Executor, job: Job) -> None:
    try:
        result = executor.run(job, loop.line(job), lambda *at: loop.progress(job.key, progress_of(job, *at)))
    except Busy:
        loop.busy(job.key)
    except Exception as error:
        loop.failed(job.key, Failure.from_error(error))
    else:
        loop.finished(result)


def _run_of(job: Job, *, reused: bool, took: float) -> JobRun:
    seconds = 0.0 if reused else took
    return JobRun(key=job.key, kind=job.kind, name=job.name, reused=reused, steps=job.steps, seconds=seconds, took=took)


def _validation(scores: Iterable[Score]) -> dict[str, float]:
    """Select what may choose: main scores of validation rows, as `target/language`."""
    return {f"{s.target}/{s.language}": s.value for s in scores if s.main and s.split == "validation"}


def _report_of(result: TrialResult) -> dict[str, Any]:
    """Describe how a trial ended."""
    report: dict[str, Any] = {
        "state": result.state,
        "cost_s": sum(run.seconds for run in result.jobs),
        "scores": _validation(result.scores),
        "done": True,
    }
    return report if result.objective is None else report | {"objective": result.objective}
