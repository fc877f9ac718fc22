"""Content fingerprints: a stage's result is found again by a hash of everything it depends on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.scores import Split

STAGE_VERSION = 1
"""Raise by hand when the stage code changes what a stage's weights come out as."""
EVALUATION_VERSION = 1
"""Raise by hand when the scoring code changes what predictions or statistics come out as."""


def fingerprint(value: Any) -> str:
    """32 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """Content hashes of what a plan reads, and the settings that every stage of a study shares."""

    encoder: str
    """Of the encoder's weights and tokenizer, before any trimming."""
    rows: Mapping[tuple[str, str, Split], str]
    """Of the rows (and how they are read and encoded), per task, language and split."""
    precision: str
    """`fp32` or `bf16`."""


@dataclass(frozen=True, kw_only=True)
class ChainFingerprints:
    chain: Chain
    contents: Contents
    encoder: str
    """Of the encoder as the chain starts from it."""
    stages: tuple[str, ...]
    """One per stage, in order."""
    targets: tuple[str | None, ...]
    """Of each target's own fine-tuning; None where nothing is trained."""

    @cached_property
    def evaluations(self) -> Mapping[tuple[str, str, Split], str]:
        """Per target's name, language and split."""
        return self._scored({target.name: target.name for target in self.chain.targets})

    @cached_property
    def second_evaluations(self) -> Mapping[tuple[str, str, Split], str]:
        """The same rows of targets that others go on from, scored by the model of the last that does."""
        return self._scored({name: last.name for name, last in self.chain.followed.items()})

    @cached_property
    def models(self) -> Mapping[str, str]:
        """Per target's name, what scores it: its own fine-tuned model, or the encoder as the stages leave it."""
        base = (self.encoder, *self.stages)[-1]
        return {target.name: own or base for target, own in zip(self.chain.targets, self.targets, strict=True)}

    def _scored(self, scorers: Mapping[str, str]) -> dict[tuple[str, str, Split], str]:
        """scorers: name of each target that is scored -> name of the target whose model does it"""
        return {
            (target.name, language, split): fingerprint(
                ["evaluation", EVALUATION_VERSION, self.models[scorers[target.name]], target.layer, rows]
            )
            for target in self.chain.targets
            if target.name in scorers
            for (task, language, split), rows in self.contents.rows.items()
            if task == target.task and split != "train"
        }


def chain_fingerprints(chain: Chain, *, seed: int, contents: Contents) -> ChainFingerprints:
    """The fingerprints of all that running `chain` with `seed` would put into the stage store."""
    encoder = model = fingerprint(
        ["encoder", contents.encoder, chain.encoder.pooling, chain.encoder.freeze_embeddings, contents.precision]
    )
    stages: list[str] = []
    for stage in chain.stages:
        model = _stage(stage, model, seed, contents)
        stages.append(model)
    own: dict[str, str] = {}
    for target in chain.targets:
        if target.stage:
            parent = own[target.after] if target.after else model
            own[target.name] = _stage(target.stage, parent, seed, contents, keeps_head=target.after is not None)
    targets = tuple(own.get(target.name) for target in chain.targets)
    return ChainFingerprints(chain=chain, contents=contents, encoder=encoder, stages=tuple(stages), targets=targets)


def _stage(stage: Stage, parent: str, seed: int, contents: Contents, *, keeps_head: bool = False) -> str:
    sources = [
        [source.task, contents.rows[source.task, source.language, "train"], share]
        for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True)
    ]
    recipe = [stage.learning_rate, stage.steps, stage.batch_size, dict(stage.training)]
    head = ["the parent's head"] if keeps_head else []
    return fingerprint(["stage", STAGE_VERSION, parent, sources, recipe, seed, *head])
