"""The policy alone: made-up jobs, a made-up clock, no Ray."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from tunexfer.core.chain import Encoder
from tunexfer.core.graph import Job
from tunexfer.search.queue import JobQueue


def job(key: str, *parents: str, kind: str = "train", rows: int = 1) -> Job:
    e = Encoder(name="e")
    return Job(key=key, kind=kind, name=key, encoder=e, parents=parents, seed=0, row_count=rows)  # type: ignore[arg-type]


def seconds(job: Job) -> float:
    return job.row_count


def chain(prefix: str | None, targets: Sequence[tuple[str, int]], stage_s: int) -> list[Job]:
    """A stage, or none, then each target."""
    parents = () if prefix is None else (prefix,)
    stages = [job(prefix, rows=stage_s)] if prefix else []
    return stages + [job(f"{name} {prefix}", *parents, rows=target_s) for name, target_s in targets]


def makespan(chains: Iterable[list[Job]], devices: int) -> tuple[float, list[list[Job]]]:
    """Run chains on devices with the search's policy; returns the time of the last result, and the chains drawn."""
    queue, waiting, drawn = JobQueue(), iter(chains), []
    clock, free, running, last = 0.0, list(range(devices)), [], False
    order = itertools.count()
    done: set[str] = set()
    warm: dict[int, tuple[str, ...]] = {device: () for device in free}
    while True:
        for device in list(free):
            found = queue.take(warm[device], last=last)
            while found is None and not last:
                jobs = next(waiting, None)
                if jobs is None:
                    last = True
                    break
                drawn.append(jobs)
                todo = [one for one in jobs if one.key not in done]
                queue.add(len(drawn), todo)
                found = queue.take(warm[device], last=last)
            if found is None:
                break
            free.remove(device)
            heapq.heappush(running, (clock + seconds(found), next(order), device, found))
        if not running:
            return clock, drawn
        clock, _, device, found = heapq.heappop(running)
        queue.done(found.key)
        done.add(found.key)
        warm[device] = (*found.parents, found.key)
        free.append(device)


def bound(chains: Sequence[list[Job]], devices: int) -> float:
    """No schedule is shorter than the longest line of jobs, nor than all work spread evenly over the devices."""
    jobs = {one.key: one for one in itertools.chain.from_iterable(chains)}
    ends: dict[str, float] = {}
    for key, one in jobs.items():
        ends[key] = seconds(one) + max((ends[parent] for parent in one.parents), default=0.0)
    return max(*ends.values(), sum(map(seconds, jobs.values())) / devices)


def grid() -> Iterator[list[Job]]:
    """Nine stages x four target settings x nine targets, the settings varying fastest."""
    for stage, setting in itertools.product(range(9), range(4)):
        yield chain(f"stage{stage}", [(f"target{target}/{setting}", 25) for target in range(9)], stage_s=60)


def draws() -> Iterator[list[Job]]:
    """A baseline and fifteen draws of the shipped space: twelve stages or none, two targets with two rates each, and
    retrieval; training and scoring take about as long as they do there."""
    draw = random.Random(0)
    for trial in range(16):
        number, intent, slots = draw.randrange(13) if trial else 12, draw.randrange(2), draw.randrange(2)
        prefix = f"stage{number}" if number < 12 else None
        parents = (prefix,) if prefix else ()
        jobs = [job(prefix, rows=43)] if prefix else []
        for target, training_s, scoring_s in ((f"intent/{intent}", 25, 9), (f"slots/{slots}", 36, 14)):
            jobs.append(job(f"{target} {prefix}", *parents, rows=training_s))
            jobs.append(job(f"score {target} {prefix}", jobs[-1].key, kind="evaluate", rows=scoring_s))
        yield [*jobs, job(f"score retrieval {prefix}", *parents, kind="evaluate", rows=8)]


@pytest.mark.parametrize(("devices", "worst"), [(1, 1.0), (2, 1.15), (4, 1.15), (16, 1.25)])
@pytest.mark.parametrize("chains", [grid, draws])
def test_devices_are_kept_busy(chains: Callable[[], Iterator[list[Job]]], devices: int, worst: float) -> None:
    took, drawn = makespan(chains(), devices)
    assert took <= worst * bound(drawn, devices)


def test_a_job_that_two_trials_need_runs_once() -> None:
    queue = JobQueue()
    queue.add(1, chain("stage", [("a", 1)], 1))
    queue.add(2, chain("stage", [("b", 1)], 1))
    assert queue.take().key == "stage"  # type: ignore[union-attr]
    assert queue.take() is None
    assert queue.done("stage") == [1, 2]
    assert {queue.take().key, queue.take().key} == {"a stage", "b stage"}  # type: ignore[union-attr]


def test_a_device_goes_on_with_the_model_that_it_has_in_memory() -> None:
    queue = JobQueue()
    queue.add(1, [job("a"), job("b"), job("score a", "a", kind="evaluate"), job("score b", "b", kind="evaluate")])
    queue.take(), queue.take(), queue.done("a"), queue.done("b")
    assert queue.take(warm=("b",)).key == "score b"  # type: ignore[union-attr]


def test_what_a_stopped_trial_shares_with_another_goes_on() -> None:
    queue = JobQueue()
    queue.add(1, chain("stage", [("a", 1)], 1))
    queue.add(2, chain("stage", [("b", 1)], 1))
    queue.take()
    assert queue.drop(1) == []
    queue.done("stage")
    assert queue.take().key == "b stage"  # type: ignore[union-attr]
    assert queue.take() is None


def test_what_only_a_stopped_trial_needs_is_cancelled() -> None:
    queue = JobQueue()
    queue.add(1, chain("stage", [("a", 1)], 1))
    queue.take()
    assert queue.drop(1) == ["stage"]
    assert len(queue) == 0


def test_a_lost_job_is_ready_again() -> None:
    queue = JobQueue()
    queue.add(1, chain("stage", [("a", 1)], 1))
    queue.put_back(queue.take().key)  # type: ignore[union-attr]
    assert queue.take().key == "stage"  # type: ignore[union-attr]
