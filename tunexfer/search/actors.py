"""What runs in processes of Ray's: devices, and the board of reports. It imports little, as each process does it again:
Ray Tune, Optuna and SciPy would take seconds of every start."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray

from tunexfer.core.graph import Job, JobResult
from tunexfer.core.trial import Failure
from tunexfer.record.progress import JobProgress, progress_of
from tunexfer.store import Busy

if TYPE_CHECKING:
    from tunexfer.training.executor import Executor

MakeExecutor = Callable[[], "Executor"]
"""Called on a device, so that only there torch is imported."""
PACE_S = 1.0
"""Seconds between two looks at how fast a training is."""


class _Cancelled(Exception):
    """No trial needs the running job any more."""


class Device:
    """The process on a device: one executor, one job at a time; a second thread answers questions about progress."""

    def __init__(self, make_executor: MakeExecutor) -> None:
        self._make = make_executor
        self._executor = make_executor()
        self._progress: JobProgress | None = None
        self._cancelled: set[str] = set()

    def ready(self) -> None:
        """Return once the executor is made."""

    def run(self, job: Job, line: Sequence[Job]) -> JobResult | Failure | None:
        """Run a job; a failure is returned, not raised. None if another study runs it, or nobody needs it any more."""
        pace = _Pace()

        def on_progress(step: int, steps: int, loss: float | None) -> None:
            if job.key in self._cancelled:
                raise _Cancelled
            self._progress = progress_of(job, step, steps, loss, pace(step) if loss is not None else None)

        try:
            return self._executor.run(job, line, on_progress)
        except (Busy, _Cancelled):
            return None
        except Exception as error:
            failure = Failure.from_error(error)
            if failure.kind == "bug":
                self._executor = self._make()  # whatever state the old one is in
            return failure
        finally:
            self._progress = None
            self._cancelled.discard(job.key)

    def progress(self) -> JobProgress | None:
        return self._progress

    def cancel(self, key: str) -> None:
        """End the job at its next step, if it is still running."""
        self._cancelled.add(key)


class _Pace:
    """Steps per second between calls that are a second or more apart."""

    def __init__(self) -> None:
        self._last = 0, time.monotonic()
        self._rate: float | None = None

    def __call__(self, step: int) -> float | None:
        before, since = self._last
        now = time.monotonic()
        if now - since >= PACE_S:
            self._rate = (step - before) / (now - since)
            self._last = step, now
        return self._rate


class _Board:
    """A board on which the dispatcher posts a trial's reports, and the trial's actor waits for them."""

    def __init__(self) -> None:
        self._reports: dict[int, asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)

    async def post(self, number: int, report: dict[str, Any]) -> None:
        self._reports[number].put_nowait(report)

    async def next(self, number: int) -> dict[str, Any]:
        report = await self._reports[number].get()
        if report.get("done") or report.get("stop"):
            del self._reports[number]
        return report


def new_board() -> Any:
    """Put up a board, in a process of its own without resources."""
    remote: Any = ray.remote(_Board)
    return remote.options(num_cpus=0, max_concurrency=1000).remote()
