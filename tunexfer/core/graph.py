"""Jobs: a chain as the pieces of work that running it takes.

`jobs_of` is the only place that knows how a chain is run. Whoever prices, draws, shares, runs or resumes chains reads
its jobs. A job's key is a hash of all that its result depends on, so equal keys mean equal results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunexfer.core.chain import Chain, Encoder, Stage, Target
from tunexfer.core.phrases import rate
from tunexfer.core.scores import Split

KEY_VERSION = 2
"""Enters every key. Raise it when training or scoring code changes what weights, predictions or metrics come out as:
what the stage store holds is then computed again."""
_STAGE, _ENCODER = Stage.__dataclass_fields__, Encoder.__dataclass_fields__

JobKind = Literal["train", "evaluate"]
Key = tuple[str, str, Split]
"""Task, language and split of some rows."""


def fingerprint(value: Any) -> str:
    """Hash `value` as canonical JSON: the first 32 hex digits of its SHA-256."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _NamedRows(dict[Key, str]):
    """Stand in for content hashes where only equality matters: each key is its own content."""

    def __missing__(self, key: Key) -> str:
        return "/".join(key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """Content hashes of what a plan reads, and the precision that all stages of a study share."""

    encoder: str
    """Hash of the encoder's weights and tokenizer, before any trimming."""
    rows: Mapping[Key, str] = field(default_factory=_NamedRows)
    """Hash of the rows of each task, language and split, and of how they are read and encoded; their names by default,
    where only equality matters."""
    precision: str
    """`fp32` or `bf16`."""
    counts: Mapping[Key, int] = field(default_factory=dict)
    """Number of those rows, as far as it is known: costs depend on it, keys don't."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One piece of work of a chain: train a stage (a target's own fine-tuning too), or evaluate a target."""

    key: str
    kind: JobKind
    name: str
    """The stage's name, or the target's."""
    encoder: Encoder
    parents: tuple[str, ...]
    """Key of the model it starts from or evaluates; empty for the pretrained encoder."""
    seed: int
    stage: Stage | None = None
    """Of a training."""
    head: str | None = None
    """The task whose head the parent brings along: training goes on with it, or it scores. None: a new head is
    trained, or the encoder's own sentence vectors are scored."""
    target: Target | None = None
    """Of an evaluation."""
    by: str | None = None
    """Of a second evaluation, the name of the later target whose model scores: what was forgotten."""
    rows: tuple[Key, ...] = ()
    """Of an evaluation: validation rows first, languages in alphabetical order."""
    row_count: int = 0
    """Rows that go through the model: steps x batch size, or the rows to score where their number is known."""

    @property
    def steps(self) -> int:
        """Count the optimizer steps; 0 for an evaluation."""
        return self.stage.steps if self.stage else 0

    @property
    def tasks(self) -> tuple[str, ...]:
        """List the tasks whose rows it reads: jobs of the same kind and tasks cost alike per row."""
        if self.stage:
            return self.stage.mixture.tasks
        assert self.target
        return (self.target.task,)

    def __str__(self) -> str:
        """Name the job by what it does, as the Ray dashboard shows it."""
        if self.kind == "train":
            assert self.stage
            return f"train {self.name}: {self.stage.mixture}, lr {rate(self.stage.learning_rate)}"
        return f"evaluate {self.name} after {self.by}" if self.by else f"evaluate {self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """The result of running a job."""

    key: str
    seconds: float
    """Spent computing it, wherever that was."""
    reused: bool = False
    """Read from the store instead of computed."""
    metrics: tuple[tuple[str, Split, Mapping[str, float]], ...] = ()
    """Of an evaluation: language, split, and each metric as a percentage."""
    rows: Any = None
    """Of an evaluation that the store could not keep: the scored rows, a pyarrow table."""
    warning: str = ""
    """A sentence for the user, for instance that the store can't be written."""


def jobs_of(chain: Chain, *, seed: int, contents: Contents) -> tuple[Job, ...]:
    """List the jobs of a chain, parents first: stages in order, then each target's training and evaluation.

    A target that another one goes on from (`after:`) is evaluated a second time, by the model of the last that does.

    raises: KeyError, if `contents` lacks rows that the chain trains on
    """
    return tuple(_Jobs(chain, seed, contents).all())


def needed(jobs: Sequence[Job], has: Callable[[str], bool]) -> list[Job]:
    """Select the jobs that have to be run: evaluations that aren't stored, and the models that these start from.

    has: whether the result of a key is there already; it is asked at most once a job
    """
    wanted: set[str] = set()
    selected: dict[str, Job] = {}
    for job in reversed(jobs):
        if job.key not in selected and (job.kind == "evaluate" or job.key in wanted) and not has(job.key):
            wanted.update(job.parents)
            selected[job.key] = job
    return list(selected.values())[::-1]


def ancestors(job: Job, jobs: Sequence[Job]) -> tuple[Job, ...]:
    """List the jobs that a job's model descends from, the first stage first."""
    by_key = {other.key: other for other in jobs}
    line: list[Job] = []
    while job.parents:
        job = by_key[job.parents[0]]
        line.append(job)
    return tuple(reversed(line))


class _Jobs:
    """Derives the jobs of one chain."""

    def __init__(self, chain: Chain, seed: int, contents: Contents) -> None:
        self.chain, self.seed, self.contents = chain, seed, contents
        facts = {"encoder": contents.encoder, "version": KEY_VERSION}
        self.pretrained = fingerprint(
            facts
            | _given(chain.encoder, _ENCODER, ("pooling", "freeze_embeddings"))
            | ({"precision": contents.precision} if contents.precision != "fp32" else {})
        )

    def all(self) -> Iterator[Job]:
        """Yield every job, parents first."""
        model: Job | None = None
        for stage in self.chain.stages:
            model = self._train(stage, model, head=None)
            yield model
        models: dict[str, Job | None] = {}
        for target in self.chain.targets:
            models[target.name] = start = models[target.after] if target.after else model
            if target.stage:
                head = self.chain.target(target.after).task if target.after else None
                models[target.name] = start = self._train(target.stage, start, head=head)
                yield start
            yield self._evaluate(target, start)
        for name, last in self.chain.followed.items():
            yield self._evaluate(self.chain.target(name), models[last.name], by=last)

    def _train(self, stage: Stage, parent: Job | None, *, head: str | None) -> Job:
        facts: dict[str, Any] = {
            "train": [
                [source.task, self.contents.rows[source.task, source.language, "train"], share]
                for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True)
            ],
            "parent": parent.key if parent else self.pretrained,
            "seed": self.seed,
            **_given(stage, _STAGE, ("learning_rate", "steps", "batch_size", "training")),
        }
        if head is not None:
            facts["head"] = head
        return Job(
            key=fingerprint(facts),
            kind="train",
            name=stage.name,
            encoder=self.chain.encoder,
            parents=(parent.key,) if parent else (),
            seed=self.seed,
            stage=stage,
            head=head,
            row_count=stage.steps * stage.batch_size,
        )

    def _evaluate(self, target: Target, model: Job | None, by: Target | None = None) -> Job:
        scored = [key for key in self.contents.rows if key[0] == target.task and key[2] != "train"]
        rows = tuple(sorted(scored, key=lambda key: (key[2] != "validation", key[1])))
        head = (by or target).task if target.stage else None
        facts: dict[str, Any] = {
            "evaluate": [
                [language, split, self.contents.rows[task, language, split]] for task, language, split in rows
            ],
            "task": target.task,
            "model": model.key if model else self.pretrained,
        }
        if target.layer is not None:
            facts["layer"] = target.layer
        if head is not None and head != target.task:
            facts["head"] = head
        return Job(
            key=fingerprint(facts),
            kind="evaluate",
            name=target.name,
            encoder=self.chain.encoder,
            parents=(model.key,) if model else (),
            seed=self.seed,
            head=head,
            target=target,
            by=by.name if by else None,
            rows=rows,
            row_count=sum(self.contents.counts.get(key, 0) for key in rows),
        )


def _given(owner: Any, fields: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Select the fields that differ from their defaults: a new field with a default leaves old keys alone."""
    values = {name: getattr(owner, name) for name in names}
    return {
        name: dict(v) if isinstance(v, Mapping) else v for name, v in values.items() if v and v != fields[name].default
    }
