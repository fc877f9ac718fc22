"""Mixing: how often each source of a stage is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunexfer.core.chain import Source


def temperature_shares(sizes: Mapping[Source, int], *, temperature: float = 1.0, cap: int | None = None) -> list[float]:
    """Share of each source: min(size, cap) ** (1 / temperature), normalised.

    sizes:        training rows per source, each at least 1
    temperature:  1 is proportional to size; larger is flatter; infinity is uniform
    cap:          sizes above it count as it

    Source: examples-proportional and temperature-scaled mixing, Raffel et al. 2020 (T5), section 3.5.2; the exponent
    alpha of Conneau et al. 2020 (XLM-R) is 1 / temperature.
    """
    weights = [math.pow(min(size, cap or size), 1 / temperature) for size in sizes.values()]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def fixed_shares(sizes: Mapping[Source, int], given: Mapping[str, float]) -> list[float]:
    """Shares as given per `task/language` or per `task`, normalised over the sources there are.

    A task's share is split over its languages in proportion to their rows.

    raises: KeyError with the source that nothing names
    """
    by_task: dict[str, int] = {}
    for source, size in sizes.items():
        if str(source) not in given:
            by_task[source.task] = by_task.get(source.task, 0) + size
    weights = [
        given[str(source)] if str(source) in given else given[source.task] * size / by_task[source.task]
        for source, size in sizes.items()
    ]
    total = math.fsum(weights)
    return [weight / total for weight in weights] if total > 0 else [0.0] * len(weights)
