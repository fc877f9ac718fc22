"""The metrics of a study for Prometheus and Grafana: custom metrics of Ray's, published by the driver."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ray.util.metrics import Gauge

from tunexfer.core.chain import Chain
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.core.winners import allowed, highest
from tunexfer.record.listener import Listener
from tunexfer.record.progress import read_progress
from tunexfer.record.record import Record
from tunexfer.record.savings import seconds_saved

METRICS = {
    "tunexfer_trials": ("Trials of the study, by state", ("study", "state")),
    "tunexfer_stages": ("Fine-tunings in ended trials, trained or reused", ("study", "stage", "how")),
    "tunexfer_seconds_saved": ("Seconds that training the reused stages would have taken", ("study", "stage")),
    "tunexfer_best_objective": ("Highest objective so far, and the trial that has it", ("study", "trial")),
    "tunexfer_rows_per_second": ("Rows that a running trial trains on per second", ("study", "trial", "stage")),
}
"""Name -> what it is, and its tags; Ray puts `ray_` before the name. All are gauges of the whole study, taken from its
record, so they go on where a stopped search does; Ray would keep the series of a counter when the driver is gone."""
AGAIN_S = 5.0
"""Ray exports a gauge once for each time it is set, and drops what wasn't set for 20 s: what is true is set again and
again, and what an ended trial left behind goes by itself."""


class _Sample(NamedTuple):
    """One value of a metric."""

    metric: str
    tags: dict[str, str]
    value: float


@contextmanager
def publishing(record: Record) -> Iterator[_StudyMetrics]:
    """Publish where a study stands until the block ends, from a thread of its own; Ray must be up.

    yields: what has to be notified of the search's events
    """
    metrics, stop = _StudyMetrics(record), threading.Event()
    gauges = {name: Gauge(name, description=words, tag_keys=tags) for name, (words, tags) in METRICS.items()}

    def publish() -> None:
        while True:
            for sample in metrics.samples():
                gauges[sample.metric].set(sample.value, sample.tags)
            if stop.wait(AGAIN_S):
                return

    thread = threading.Thread(target=publish, name="metrics", daemon=True)
    thread.start()
    try:
        yield metrics
    finally:
        stop.set()
        thread.join()


class _StudyMetrics(Listener):
    """Counts where a study stands."""

    def __init__(self, record: Record) -> None:
        self.record, self._objective = record, record.objective
        self._running: dict[int, Trial] = {}
        self._settled: list[_Sample] = []
        """Samples that change only when a trial begins or ends."""
        self._changed = True
        self._lock = threading.Lock()

    def started(self, trial: Trial) -> None:
        with self._lock:
            self._running[trial.number] = trial
            self._changed = True

    def finished(self, result: TrialResult) -> None:
        with self._lock:
            self._running.pop(result.trial.number, None)
            self._changed = True

    def samples(self) -> list[_Sample]:
        """Return every current value. All trials are counted here, now and then, and not whenever one ends."""
        with self._lock:
            if self._changed:
                self._changed = False
                self._settled = self._count()
            return [*self._settled, *self._rates()]

    def _count(self) -> list[_Sample]:
        """Count the trials of the record and what they trained, reused and saved."""
        study, results = {"study": self.record.folder.name}, self.record.ended
        states = Counter({"running": len(self._running), "complete": 0, "failed": 0, "stopped": 0})
        states.update(result.state for result in results)
        stages = Counter((job.name, "reused" if job.reused else "trained") for r in results for job in r.trainings)
        samples = [_Sample("tunexfer_trials", study | {"state": state}, count) for state, count in states.items()]
        for (name, how), count in stages.items():
            samples.append(_Sample("tunexfer_stages", study | {"stage": name, "how": how}, count))
        for name, seconds in seconds_saved(results).items():
            samples.append(_Sample("tunexfer_seconds_saved", study | {"stage": name}, seconds))
        best = highest(allowed((result for result in results if result.state == "complete"), self._objective))
        if best and best.objective is not None:
            samples.append(
                _Sample("tunexfer_best_objective", study | {"trial": str(best.trial.number)}, best.objective)
            )
        return samples

    def _rates(self) -> Iterator[_Sample]:
        for number, trial in self._running.items():
            at = read_progress(self.record.folder.trial(number).progress)
            for job in at.running if at else ():
                if job.steps_per_second is not None:
                    stage = job.name.removeprefix("train ")
                    tags = {"study": self.record.folder.name, "trial": str(number), "stage": stage}
                    rate = job.steps_per_second * _batch_size(trial.chain, stage)
                    yield _Sample("tunexfer_rows_per_second", tags, rate)


def _batch_size(chain: Chain, stage: str) -> int:
    """Rows per step of the stage, or of the target's own fine-tuning, that has this name."""
    own = (target.stage for target in chain.targets if target.stage)
    return next(one.batch_size for one in [*chain.stages, *own] if one.name == stage)
