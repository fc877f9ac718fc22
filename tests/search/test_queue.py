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


def chain(prefix: str | None, targets: Sequence[tuple[str, int]], stage_s: int, score_s: int = 0) -> list[Job]:
    """A stage (or none), then each target: its training and, where that takes time, its evaluation."""
    parents = () if prefix is None else (prefix,)
    jobs = [job(prefix, rows=stage_s)] if prefix else []
    for name, training_s in targets:
        last = parents
        if training_s:
            jobs.append(job(f"{name} {prefix}", *last, rows=training_s))
            last = (jobs[-1].key,)
        if score_s:
            jobs.append(job(f"score {name} {prefix}", *last, kind="evaluate", rows=score_s))
    return jobs


def makespan(chains: Iterable[list[Job]], devices: int) -> tuple[float, list[list[Job]]]:
    """Run chains on devices with the search's policy; returns the time of the last result, and the chains drawn."""
    queue, waiting, drawn = JobQueue(), iter(chains), []
    clock, free, running = 0.0, list(range(devices)), []
    order = itertools.count()
    done: set[str] = set()
    warm: dict[int, tuple[str, ...]] = {device: () for device in free}
    while True:
        for device in list(free):
            found = queue.take(warm[device])
            while found is None and (jobs := next(waiting, None)) is not None:
                drawn.append(jobs)
                todo = [one for one in jobs if one.key not in done]
                queue.add(len(drawn), todo)
                found = queue.take(warm[device])
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
    """No schedule is shorter than the longest line of jobs, nor than any moment plus the work that can't start before
    it, spread evenly over the devices."""
    jobs = {one.key: one for one in itertools.chain.from_iterable(chains)}
    ends: dict[str, float] = {}
    for key, one in jobs.items():
        ends[key] = seconds(one) + max((ends[parent] for parent in one.parents), default=0.0)
    starts = {key: ends[key] - seconds(one) for key, one in jobs.items()}
    later = (sum(seconds(one) for key, one in jobs.items() if starts[key] >= start) for start in starts.values())
    spread = (start + work / devices for start, work in zip(starts.values(), later, strict=True))
    return max(*ends.values(), *spread)


def grid() -> Iterator[list[Job]]:
    """Nine stages x four target settings x nine targets, the settings varying fastest."""
    for stage, setting in itertools.product(range(9), range(4)):
        yield chain(f"stage{stage}", [(f"target{target}/{setting}", 25) for target in range(9)], stage_s=60)


def draws() -> Iterator[list[Job]]:
    """A baseline and fifteen draws of the shipped space: twelve stages or none, two targets with two rates each, and
    retrieval. A step takes a second, an evaluation twenty."""
    draw = random.Random(0)
    for trial in range(16):
        prefix, intent, slots = draw.randrange(13) if trial else 12, draw.randrange(2), draw.randrange(2)
        targets = [(f"intent/{intent}", 100), (f"slots/{slots}", 150), ("retrieval", 0)]
        yield chain(f"stage{prefix}" if prefix < 12 else None, targets, stage_s=100, score_s=20)


@pytest.mark.parametrize(
    ("chains", "devices", "worst"),
    [
        (grid, 1, 1.0),
        (grid, 4, 1.15),
        (grid, 16, 1.25),
        (draws, 1, 1.0),
        (draws, 4, 1.15),
        (draws, 16, 1.3),  # once the stages are trained there are fewer than two targets for each device
    ],
)
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
