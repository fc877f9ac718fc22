"""The work that a plan still has to do: the stages that the store lacks, and what they take on disk and in time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunexfer.core.chain import Encoder
from tunexfer.core.graph import Contents, Job, jobs_of
from tunexfer.data.checkpoint import encoder_content, find_encoder
from tunexfer.errors import DataError
from tunexfer.plan.plan import Plan
from tunexfer.store import StageStore


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Known once the data and the encoder are in the cache."""

    stages: int
    """Distinct stages that were looked up: of every point, or of as many random trials as were asked for."""
    stored: int
    """How many of them the store holds."""
    stage_bytes: int | None
    """On disk, each; None while none of them is stored."""
    step_seconds: float | None
    """Training, per step, as measured where the stored ones were trained."""
    scoring_seconds: float | None
    """Scoring all targets of one trial, as measured on the baseline; None until that has been scored."""

    def seconds(self, plan: Plan) -> float | None:
        """Estimate all trials, one after the other from an empty store: the search's, of noise, for confirmation."""
        if self.step_seconds is None or self.scoring_seconds is None:
            return None
        costs = [plan.expected_cost, plan.noise_cost, *([plan.confirmation_cost] if plan.confirm else [])]
        return sum(cost.steps * self.step_seconds + cost.chains * self.scoring_seconds for cost in costs)


def estimate(plan: Plan, cache: Path, store: str) -> Estimate | None:
    """Look into the store; None where data or encoder were never cached, so that fingerprints aren't known.

    store: a folder or a URL
    """
    contents = _contents(plan, cache)
    if contents is None:
        return None
    entries = StageStore(store, copies=cache / "store")
    jobs: dict[str, Job] = {}
    for chain in plan.every_chain() or plan.random_chains(plan.trials, plan.seed):
        own = jobs_of(chain, seed=plan.seed, contents=contents[chain.encoder])
        jobs |= {job.key: job for job in own if job.kind == "train"}
    stored = {key: metadata for key in jobs if (metadata := entries.metadata(key))}
    rates = [metadata["seconds"] / jobs[key].steps for key, metadata in stored.items()]
    chain = plan.baseline[1]
    baseline = jobs_of(chain, seed=plan.seed, contents=contents[chain.encoder])
    scored = [entries.metadata(job.key) for job in baseline if job.kind == "evaluate"]
    return Estimate(
        stages=len(jobs),
        stored=len(stored),
        stage_bytes=entries.bytes_of(next(iter(stored))) if stored else None,
        step_seconds=statistics.fmean(rates) if rates else None,
        scoring_seconds=sum(metadata["seconds"] for metadata in scored if metadata) if all(scored) else None,
    )


def _contents(plan: Plan, cache: Path) -> Mapping[Encoder, Contents] | None:
    places = {encoder: find_encoder(encoder, cache) for encoder in plan.encoders}
    if not plan.rows.ready or None in places.values():
        return None
    keys = {(source.task, source.language, "train") for source in plan.possible_sources} | plan.evaluated
    try:
        if not all(plan.rows.known(*key) for key in keys):
            return None
        rows: Any = {key: plan.rows.content(*key) for key in keys}
    except DataError:  # files that aren't there yet: `search` will say which
        return None
    return {
        encoder: Contents(encoder=encoder_content(place, cache), rows=rows, precision=plan.precision)
        for encoder, place in places.items()
        if place
    }
