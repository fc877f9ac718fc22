"""Jobs on Ray: a device is an actor that runs one job after another and keeps its process warm.

Ray places the actors, restarts nothing by itself and reports those that die: their job becomes ready again, and another
device takes it. Tasks instead of actors keep processes warm on CPUs as well, but not on GPUs: there Ray ends a task's
process after one call, or, told not to, lets it keep the GPU that it touched first while another one is booked for it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError

from tunexfer.core.graph import Job, JobResult
from tunexfer.core.trial import Failure
from tunexfer.errors import StudyError
from tunexfer.search.actors import Device, MakeExecutor
from tunexfer.search.loop import SearchLoop

POLL_S = 1.0
"""Seconds between two looks at progress, at jobs of other studies and at the size of the cluster."""
GONE = (ActorDiedError, ActorUnavailableError, RayActorError)


@dataclass(eq=False)
class _Slot:
    """A device as the driver sees it."""

    number: int
    actor: Any
    starting: Any
    """Reference that is ready once the device is; None from then on."""
    job: Job | None = None
    result: Any = None
    """Reference to the running job's result."""
    warm: tuple[str, ...] = ()
    """Keys of the models that the device used last."""
    held: float = 0.0
    """When the device was ready, in seconds of the monotonic clock."""


class _Devices:
    """The devices of a search: as many as fit on the cluster, and no more than asked for."""

    def __init__(self, make_executor: MakeExecutor, resources: Mapping[str, float], count: Callable[[], int]) -> None:
        others = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
        self._options = {
            "num_cpus": resources.get("CPU", 0),
            "num_gpus": resources.get("GPU", 0),
            "resources": others,
            "max_concurrency": 4,
            "max_restarts": 0,
        }
        self._make, self._count = ray.put(make_executor), count
        self._numbers = itertools.count(1)
        self.slots: list[_Slot] = []
        self.held_s = 0.0
        """Seconds that devices were held, those given back included."""

    def fill(self) -> None:
        """Ask Ray for a device for every free place."""
        for _ in range(self._count() - len(self.slots)):
            number = next(self._numbers)
            remote: Any = ray.remote(Device)
            actor = remote.options(name=f"device {number}", **self._options).remote(self._make)
            self.slots.append(_Slot(number, actor, actor.ready.remote()))

    def remove(self, slot: _Slot) -> None:
        """Give a device back."""
        if slot in self.slots:
            self.slots.remove(slot)
        if slot.held:
            self.held_s += time.monotonic() - slot.held
        ray.kill(slot.actor)

    def close(self) -> None:
        for slot in list(self.slots):
            self.remove(slot)


class Dispatcher:
    """Runs a search loop's jobs on devices, from a thread of its own."""

    def __init__(
        self, loop: SearchLoop, make_executor: MakeExecutor, resources: Mapping[str, float], count: Callable[[], int]
    ) -> None:
        """
        resources: Ray's names -> what each device takes
        count:     how many devices fit right now; asked again and again, as clusters grow and shrink
        """
        self.loop, self.devices = loop, _Devices(make_executor, resources, count)
        self.error: BaseException | None = None
        self._requests: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._looked = 0.0
        self._progress: dict[Any, _Slot] = {}
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)

    @contextmanager
    def running(self) -> Iterator[Dispatcher]:
        """Work until the search is over or the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self.request(lambda: setattr(self.loop, "stopping", True))
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Tell whether the search is still at work."""
        return self._thread.is_alive()

    def request(self, action: Callable[[], None]) -> None:
        """Have something done by the dispatcher's thread, which alone touches the loop."""
        with self._lock:
            self._requests.append(action)

    def _work(self) -> None:
        try:
            with self.loop:
                self.devices.fill()
                while not self.loop.over and not self.loop.stopping:
                    self._turn()
        except BaseException as error:  # shown by the main thread
            self.error = error
        finally:
            self.devices.close()
            self.loop.device_seconds = self.devices.held_s

    def _turn(self) -> None:
        with self._lock:
            requests, self._requests = self._requests, []
        for action in requests:
            action()
        self._hand_out()
        self.loop.settle()
        self._cancel()
        if time.monotonic() - self._looked > POLL_S:
            self._looked = time.monotonic()
            self._look()
        waiting = {slot.result or slot.starting: slot for slot in self.devices.slots if slot.result or slot.starting}
        waiting |= self._progress
        if not waiting:
            time.sleep(0.05)
            return
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=0.1)
        for reference in ready:
            self._take(reference, waiting[reference])

    def _hand_out(self) -> None:
        for slot in [slot for slot in self.devices.slots if not slot.result and not slot.starting]:
            if self.loop.stopping:
                return
            job = self.loop.next_job(slot.warm)
            if job is not None:
                slot.job = job
                slot.result = slot.actor.run.options(name=str(job)).remote(job, self.loop.line(job))
            elif self.loop.idle_for_good and len(self.loop.queue) < len(self.devices.slots):
                self._remove(slot)

    def _remove(self, slot: _Slot) -> None:
        """Give a device back, and expect no more answers from it."""
        self._progress = {reference: other for reference, other in self._progress.items() if other is not slot}
        self.devices.remove(slot)

    def _take(self, reference: Any, slot: _Slot) -> None:
        """Take what a reference has become: a device that started, a result, or progress."""
        try:
            value = ray.get(reference)
        except GONE as error:
            self._progress.pop(reference, None)
            self._gone(slot, error)
            return
        except RayError as error:  # what the executor could not even be made of
            raise StudyError(f"a device can't be used: {_cause(error)}") from error
        if reference in self._progress:
            del self._progress[reference]
            if value is not None and slot.job:
                self.loop.progress(slot.job.key, value)
            return
        if reference == slot.starting:
            slot.starting, slot.held = None, time.monotonic()
            return
        job, slot.job, slot.result = slot.job, None, None
        assert job
        slot.warm = (*slot.warm, *job.parents, job.key)[-2:]
        if isinstance(value, JobResult):
            self.loop.finished(value)
        elif isinstance(value, Failure):
            self.loop.failed(job.key, value)
        elif job.key in self.loop.cancelled:
            self.loop.cancelled.discard(job.key)
        else:
            self.loop.busy(job.key)

    def _gone(self, slot: _Slot, error: Exception) -> None:
        if slot not in self.devices.slots:
            return
        job = slot.job
        self._remove(slot)
        if job:
            self.loop.lost(job.key, str(error))
        elif slot.starting and "creation task" in str(error):
            raise StudyError(f"a device can't be used: {_cause(error)}") from error
        self.devices.fill()

    def _cancel(self) -> None:
        for slot in self.devices.slots:
            if slot.job and slot.job.key in self.loop.cancelled:
                slot.actor.cancel.remote(slot.job.key)

    def _look(self) -> None:
        self.loop.poll()
        if not self.loop.idle_for_good:
            self.devices.fill()
        asked = set(map(id, self._progress.values()))
        for slot in self.devices.slots:
            if slot.job and id(slot) not in asked:
                self._progress[slot.actor.progress.remote()] = slot


def _cause(error: BaseException) -> str:
    """Return the last line of what Ray says: the error that was raised on the device."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
