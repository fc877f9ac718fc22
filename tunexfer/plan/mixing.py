"""Mixing: the share of a stage's batches that each source gets."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunexfer.core.chain import Source
from tunexfer.plan.domains import Ask, Shares
from tunexfer.plan.recipe import Mixing

SomeMixing = str | Mixing | Shares
"""A value of `mixing:`; the text is `proportional` or `uniform`."""


def shares_of(mixing: SomeMixing, sizes: Mapping[Source, int], name: str, ask: Ask) -> list[float]:
    """Compute the share of each source, in the order of `sizes`; where `mixing` is searched, draw it.

    raises: KeyError with the source that fixed shares leave out; SpaceError, if a step makes too many mixtures
    """
    if isinstance(mixing, Shares):
        keys = list(dict.fromkeys(source.task if mixing.by_task else str(source) for source in sizes))
        return fixed_shares(sizes, mixing.over(name, keys, ask))
    if not isinstance(mixing, Mixing):
        return temperature_shares(sizes, temperature=math.inf if mixing == "uniform" else 1.0)
    if mixing.fixed is not None:
        return fixed_shares(sizes, mixing.fixed)
    temperature = mixing.temperature.T if mixing.temperature else 1.0
    return temperature_shares(sizes, temperature=temperature, cap=cap_of(mixing))


def cap_of(mixing: SomeMixing) -> int | None:
    """The rows of a source that count at most; None for all."""
    rule = mixing.temperature or mixing.proportional if isinstance(mixing, Mixing) else mixing
    return getattr(rule, "cap", None)


def temperature_shares(sizes: Mapping[Source, int], *, temperature: float = 1.0, cap: int | None = None) -> list[float]:
    """Compute the share of each source: min(size, cap) ** (1 / temperature), normalised.

    sizes:        training rows per source, each at least 1
    temperature:  1 is proportional to size; larger is flatter; infinity is uniform
    cap:          larger sizes count as this

    Source: examples-proportional and temperature-scaled mixing, Raffel et al. 2020 (T5), section 3.5.2; the exponent
    alpha of Conneau et al. 2020 (XLM-R) is 1 / temperature.
    """
    weights = [math.pow(min(size, cap or size), 1 / temperature) for size in sizes.values()]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def fixed_shares(sizes: Mapping[Source, int], given: Mapping[str, float]) -> list[float]:
    """Take the shares as given per `task/language` or per `task`, normalised over the sources at hand.

    A task's share is split over its languages in proportion to their rows.

    raises: KeyError with the source for which no share is given
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
