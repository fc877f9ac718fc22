"""Chains that a chain with stages is compared with: the same targets without its stages, or as much other training."""

from __future__ import annotations

from dataclasses import replace

from tunexfer.core.chain import Chain

LONGER, PLACEBO = "a longer target", "a placebo stage"
"""No stage, but as many more steps of each target as the stages take; the stages, but with rows of the target alone."""


def without_stages(chain: Chain) -> Chain:
    """Keep the targets alone."""
    return replace(chain, stages=())


def equal_compute(chain: Chain) -> dict[tuple[str, str], Chain]:
    """Build the chains that spend the steps of the stages on a target's own training rows.

    returns: `LONGER` or `PLACEBO`, and a target -> the chain whose score in that target is the one to beat; nothing for
             targets without fine-tuning, which have no rows of their own to train on. Of targets that go on from each
             other, the first is trained longer.
    """
    if not chain.stages:
        return {}
    steps = sum(stage.steps for stage in chain.stages)
    targets = tuple(
        replace(target, stage=replace(target.stage, steps=target.stage.steps + steps))
        if target.stage and not target.after
        else target
        for target in chain.targets
    )
    longer = replace(chain, stages=(), targets=targets)
    controls: dict[tuple[str, str], Chain] = {}
    for target in chain.targets:
        if target.stage:
            stages = tuple(replace(stage, mixture=target.stage.mixture) for stage in chain.stages)
            controls[LONGER, target.name] = longer
            controls[PLACEBO, target.name] = replace(chain, stages=stages, targets=chain.line(target.name))
    return controls
