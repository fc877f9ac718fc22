"""The search on Ray: Ray Tune owns the trials, its devices run their jobs.

A trial of Tune's is an actor without resources that passes on what the dispatcher posts: a report after each finished
job, with scores and cost so far. So Tune's scheduler sees every trial between its jobs and can stop it there.
"""

from __future__ import annotations

import os
import queue
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tunexfer.core.graph import Contents
from tunexfer.core.trial import Trial
from tunexfer.plan.plan import Plan
from tunexfer.record.listener import Listener
from tunexfer.record.record import Record
from tunexfer.search.actors import MakeExecutor, new_board
from tunexfer.search.cluster import capacity, check_shared, cluster
from tunexfer.search.gauges import publishing
from tunexfer.search.jobs import Dispatcher
from tunexfer.search.loop import SearchLoop
from tunexfer.search.schedule import Schedule
from tunexfer.search.stopping import Rule
from tunexfer.search.trial_reports import trainable
from tunexfer.store import StageStore

TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one talks on standard output whatever `verbose` says
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # a study resumes from its own record; Tune's grows with the trials
}
MAX_ACTORS = 2
"""Trials that Tune shows as running at once. Each is a process that takes seconds to start, which the search doesn't
need; what begins meanwhile runs all the same, and Tune catches up on its reports."""


def run_search(
    plan: Plan,
    record: Record,
    store: StageStore,
    contents: Mapping[str, Contents],
    make_executor: MakeExecutor,
    listeners: Sequence[Listener] = (),
    *,
    concurrent: int | None = None,
    address: str | None = None,
    shared: Mapping[str, Path] | None = None,
    device: Mapping[str, float] | None = None,
    rule: Rule | None = None,
    schedule: Schedule | None = None,
) -> SearchLoop:
    """Run what the study still lacks. Trials that are complete in the record are not run again.

    contents:       encoder's identity -> what its trials read
    make_executor:  called on each device, where torch may be imported; it travels by pickle
    concurrent:     devices to use; as many as fit if not given
    address:        of an existing Ray cluster; a local one is started if not given
    shared:         folders that every node must see, by what they are: checked on an existing cluster
    device:         Ray's names of the resources that a device takes; the plan's CPUs and GPUs if not given
    rule, schedule: as for `SearchLoop`
    returns:        the loop, whose state says how the search ended
    raises:         StudyError, if the baseline or most trials fail, or Ray can't be used
    """
    trials = _TrialQueue()
    loop = SearchLoop(plan, record, store, contents, [trials, *listeners], schedule=schedule, rule=rule)
    if loop.anything_left:
        wants, limit = plan.file.resources, concurrent or plan.file.search.concurrent or 10**6
        device = device or {"CPU": wants.cpus, "GPU": wants.gpus}
        with _interruptible(loop), _ray(loop, address, shared or {}):
            capacity(device)  # raises where not even one fits
            _fit(Dispatcher(loop, make_executor, device, lambda: min(limit, capacity(device))), trials)
    if loop.error:
        raise loop.error
    record.end(loop.state)
    return loop


@contextmanager
def _ray(loop: SearchLoop, address: str | None, shared: Mapping[str, Path]) -> Iterator[None]:
    """Be connected to Ray for a while."""
    os.environ.update(TUNE_SETTINGS)
    with cluster(address, cpus_per_job=loop.plan.file.resources.cpus, name=loop.record.folder.name) as dashboard:
        if dashboard:
            loop.notify("info", f"Ray dashboard: {dashboard} (`ray get-auth-token` prints the token it asks for)")
        if address and shared:
            check_shared(shared)
        yield


def _fit(dispatcher: Dispatcher, trials: _TrialQueue) -> None:
    """Run the dispatcher and Tune until the search is over."""
    loop = dispatcher.loop
    board = new_board()
    loop.on_report = board.post.remote
    scratch = tempfile.TemporaryDirectory(prefix="tunexfer-ray-", ignore_cleanup_errors=True)
    with scratch, publishing(loop.record) as metrics:
        loop.listeners.append(metrics)
        with dispatcher.running():
            _tuner(loop.record.folder.name, dispatcher, trials, board, scratch.name).fit()
    if dispatcher.error:
        raise dispatcher.error


def _tuner(name: str, dispatcher: Dispatcher, trials: _TrialQueue, board: Any, scratch: str) -> tune.Tuner:
    """Make what lets Tune run the trials that the dispatcher begins, until the search is over."""
    return tune.Tuner(
        tune.with_resources(trainable(board), {"memory": 1}),
        tune_config=tune.TuneConfig(
            search_alg=_Trials(dispatcher, trials),
            scheduler=_RuleScheduler(),  # type: ignore[no-untyped-call]
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=scratch,
            stop=_StopAll(dispatcher),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


class _TrialQueue(Listener):
    """The trials that have begun and that Tune hasn't heard of yet."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[Trial] = queue.SimpleQueue()

    def started(self, trial: Trial) -> None:
        self.begun.put(trial)


class _Hook:
    """Ray pickles what it is given, for a restore that is never asked for."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Trials(_Hook, Searcher):
    """Tune's searcher: it names the trials that the search loop has begun."""

    def __init__(self, dispatcher: Dispatcher, trials: _TrialQueue) -> None:
        super().__init__()
        self._dispatcher, self._trials = dispatcher, trials
        self._shown = 0

    def suggest(self, trial_id: str) -> Any:
        if not self._dispatcher.alive:
            return Searcher.FINISHED
        if self._shown >= MAX_ACTORS:
            return None
        try:
            trial = self._trials.begun.get_nowait()
        except queue.Empty:
            return None
        self._shown += 1
        return {"number": trial.number, "phase": trial.phase, "seed": trial.seed, **trial.point}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room for the next trial; the search loop has told the sampler already."""
        self._shown -= 1

    def save(self, checkpoint_path: str) -> None:
        """A study continues from its own record, never from Ray's."""


class _RuleScheduler(_Hook, FIFOScheduler):
    """Tune's scheduler: it stops the trials that the search loop's rule has stopped.

    The rule is asked where jobs are handed out, since Tune hears of a job when the next one is running already.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(TrialScheduler.STOP if result.get("stop") else TrialScheduler.CONTINUE)


class _StopAll(_Hook, tune.Stopper):
    """Ends Tune's side once the search is over."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return not self._dispatcher.alive


@contextmanager
def _interruptible(loop: SearchLoop) -> Iterator[None]:
    """Stop the search cleanly at the first Ctrl-C, and as usual at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        loop.interrupt()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _name(trial: Any) -> str:
    return f"trial-{trial.config['number']:04d}"
