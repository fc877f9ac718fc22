from collections import Counter

import numpy as np

from tunexfer.core.chain import Mixture, Source
from tunexfer.data.batches import Batch, apportion, batch_plan

A, B, C = (Source(task=task, language=language) for task, language in (("a", "en"), ("a", "de"), ("b", "en")))
LENGTHS = {source: np.random.default_rng(0).integers(5, 60, size=size) for source, size in ((A, 40), (B, 30), (C, 50))}
MIXTURE = Mixture(sources=(A, B, C), shares=(0.45, 0.15, 0.4))


def plan(seed: int = 1, steps: int = 10, batch_size: int = 8, mixture: Mixture = MIXTURE) -> list[Batch]:
    return batch_plan(LENGTHS, mixture, steps=steps, batch_size=batch_size, seed=seed)


def drawn(batches: list[Batch]) -> Counter[Source]:
    return Counter(source for batch in batches for source, _ in batch)


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    # 7 x (.5, .3, .2) = 3.5, 2.1, 1.4: one is left after 3, 2, 1
    assert apportion([0.5, 0.3, 0.2], 7) == [4, 2, 1]
    assert apportion([0.1] * 10, 10) == [1] * 10
    assert apportion([2, 1, 1], 0) == [0, 0, 0]


def test_the_shares_of_a_mixture_are_really_drawn() -> None:
    batches = plan()
    # of 10 batches 6 are of task a and 4 of b; of a's 48 rows, 36 and 12
    assert Counter(batch[0][0].task for batch in batches) == {"a": 6, "b": 4}
    assert drawn(batches) == {A: 36, B: 12, C: 32}


def test_every_batch_is_full_and_of_one_task() -> None:
    for batch in plan():
        assert len(batch) == 8
        assert len({source.task for source, _ in batch}) == 1


def test_a_source_is_passed_through_before_any_row_comes_again() -> None:
    only = Mixture(sources=(A,), shares=(1.0,))
    rows = Counter(row for batch in plan(steps=15, mixture=only) for _, row in batch)
    assert rows == {row: 3 for row in range(40)}  # 15 x 8 rows are three passes over 40


def test_the_same_seed_gives_the_same_batches_and_another_seed_others() -> None:
    assert plan(seed=1) == plan(seed=1)
    assert plan(seed=1) != plan(seed=2)


def test_tasks_come_in_no_order() -> None:
    order = [batch[0][0].task for batch in plan(steps=40)]
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)


def test_rows_of_like_length_come_together() -> None:
    def padding(batches: list[list[int]]) -> float:
        return sum(max(sizes) * len(sizes) - sum(sizes) for sizes in batches) / sum(map(sum, batches))

    grouped = [[int(LENGTHS[source][row]) for source, row in batch] for batch in plan(steps=32)]
    shuffled = np.random.default_rng(0).permutation([size for sizes in grouped for size in sizes])
    assert padding(grouped) < 0.3 * padding(shuffled.reshape(32, 8).tolist())
