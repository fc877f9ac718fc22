"""The job queue: which job a free device runs next. Pure Python: no Ray, no clock, no files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tunexfer.core.graph import Job


class JobQueue:
    """The jobs of the trials that have begun: those that wait for a parent, those that are ready, those that run.

    A job that several trials need is in the queue once. Among ready jobs a device takes first what continues the model
    that it has in memory, then what belongs to the trial that began first, so that its scores come soon; within a
    trial, the longest line of jobs. Once all trials are drawn their scores teach nobody: the longest line goes first.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._users: dict[str, list[int]] = {}
        """Key -> the trials that need it, the first one first."""
        self._missing: dict[str, set[str]] = {}
        """Key of a waiting job -> its parents that aren't done."""
        self._length: dict[str, int] = {}
        """Key -> rows that go through the model in the longest line of jobs that begins with this one."""
        self._ready: set[str] = set()
        self.running: set[str] = set()

    def add(self, trial: int, jobs: Iterable[Job]) -> None:
        """Add the jobs that a trial needs and that have no result yet, parents first."""
        for job in jobs:
            self._users.setdefault(job.key, []).append(trial)
            if job.key in self._jobs:
                continue
            self._jobs[job.key] = job
            length = self._length[job.key] = job.row_count
            missing = {parent for parent in job.parents if parent in self._jobs}
            if missing:
                self._missing[job.key] = missing
            else:
                self._ready.add(job.key)
            while job.parents and job.parents[0] in self._jobs:
                job = self._jobs[job.parents[0]]
                length += job.row_count
                self._length[job.key] = max(self._length[job.key], length)

    def take(self, warm: Collection[str] = (), *, last: bool = False) -> Job | None:
        """Take the next ready job for a device; None if no job is ready.

        warm: keys of the models that the device has in memory
        last: whether all trials have been drawn
        """
        if not self._ready:
            return None
        key = min(self._ready, key=lambda key: self._rank(key, warm, last))
        self._ready.remove(key)
        self.running.add(key)
        return self._jobs[key]

    def _rank(self, key: str, warm: Collection[str], last: bool) -> tuple[bool, int, int, str]:
        if last:
            return False, -self._length[key], self._users[key][0], key
        job = self._jobs[key]
        continues = job.kind == "evaluate" and any(parent in warm for parent in job.parents)
        return not continues, self._users[key][0], -self._length[key], key

    def done(self, key: str) -> list[int]:
        """Note that a job has a result: jobs that waited for it become ready. Returns the trials that need it."""
        self.running.discard(key)
        self._ready.discard(key)
        self._missing.pop(key, None)
        del self._jobs[key], self._length[key]
        for waiting, parents in list(self._missing.items()):
            parents.discard(key)
            if not parents:
                del self._missing[waiting]
                self._ready.add(waiting)
        return self._users.pop(key)

    def put_back(self, key: str) -> None:
        """Make a running job ready again: its process was lost, or another study is running it."""
        if key in self.running:
            self.running.remove(key)
            self._ready.add(key)

    def drop(self, trial: int) -> list[str]:
        """Forget a trial. Jobs that no other trial needs leave the queue; returns those of them that are running."""
        cancelled = []
        for key, users in list(self._users.items()):
            if trial not in users:
                continue
            users[:] = [user for user in users if user != trial]
            if users:
                continue
            del self._users[key], self._jobs[key], self._length[key]
            self._ready.discard(key)
            self._missing.pop(key, None)
            if key in self.running:
                self.running.remove(key)
                cancelled.append(key)
        return cancelled

    def needed_by(self, key: str) -> Sequence[int]:
        """List the trials that need a job, the first one first."""
        return tuple(self._users.get(key, ()))

    @property
    def ready(self) -> int:
        """Count the jobs that only wait for a device."""
        return len(self._ready)

    def __len__(self) -> int:
        return len(self._jobs)
