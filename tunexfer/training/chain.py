"""Running a chain: each stage and target taken from the store or trained, every target scored in every language."""

from __future__ import annotations

import gc
import io
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from transformers.utils.logging import disable_progress_bar

from tunexfer.core.chain import Chain, Stage, Target
from tunexfer.core.fingerprint import ChainFingerprints, chain_fingerprints
from tunexfer.core.scores import Score, Split
from tunexfer.data.prepare import Prepared
from tunexfer.errors import StudyError, TrialFailed
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import ROWS_SCHEMA
from tunexfer.training.encoder import PlanEncoder, Weights
from tunexfer.training.evaluate import Scorer
from tunexfer.training.model import Model, Trained, new_heads
from tunexfer.training.stage import train_stage
from tunexfer.training.store import StageStore

MODEL, ROWS = "model.safetensors", "rows.parquet"
"""Files of a stage's entry and of an evaluation's."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a trial stands."""

    stage: str
    """The stage's name, or the target's task."""
    step: int
    steps: int
    loss: float | None = None
    """Mean since the last report of this stage; None while nothing is trained."""
    reused: bool = False
    scores: tuple[Score, ...] = ()
    """New since the last report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOutcome:
    name: str
    fingerprint: str
    reused: bool
    """Found in the store, or not needed since everything after it was."""
    steps: int
    seconds: float
    """Spent training it in this trial."""


@dataclass(frozen=True, kw_only=True)
class ChainResult:
    scores: tuple[Score, ...]
    rows: pa.Table
    """Every scored row, as in ROWS_SCHEMA."""
    stages: tuple[StageOutcome, ...]
    """Stages in order, then the targets that are trained."""
    seconds: float


class ChainRunner:
    """Runs the chains of one plan in one process, one after the other, on one device."""

    def __init__(self, prepared: Prepared, store: StageStore, *, device: str, threads: int) -> None:
        """device: `cpu` or `cuda`; threads: of the CPU, and results are the same only where they are"""
        if device == "cuda" and torch.cuda.device_count() > 1:
            raise StudyError(
                f"this trial sees {torch.cuda.device_count()} GPUs, but a trial runs on one. Set `gpus: 1` in "
                "`resources:`, or a part of one."
            )
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        disable_progress_bar()
        self.prepared, self.store = prepared, store
        self.device, self.threads = torch.device(device), threads
        self.encoder = PlanEncoder(prepared, self.device)
        gc.unfreeze()
        gc.collect()
        gc.freeze()  # Trainer collects garbage before every stage: 0.3 s if it has to look at all of torch

    def run(self, chain: Chain, *, seed: int, on_progress: Callable[[Progress], None] = lambda _: None) -> ChainResult:
        """Train what isn't in the store, score every target, put all of it there.

        raises: TrialFailed if a loss isn't finite or memory runs out
        """
        with _memory_errors(chain):
            return _Run(self, chain, seed, on_progress).result()


@dataclass
class _Run:
    """One chain being run."""

    runner: ChainRunner
    chain: Chain
    seed: int
    report: Callable[[Progress], None]
    outcomes: dict[str, StageOutcome] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    latest: tuple[str, Trained] | None = None
    """The last stage that was trained or read, with its fingerprint: all targets start from the same one."""

    def result(self) -> ChainResult:
        started = time.perf_counter()
        prints = chain_fingerprints(self.chain, seed=self.seed, contents=self.runner.prepared.contents)
        own = [name for name in prints.targets if name]
        with self.runner.store.using([*prints.stages, *own, *prints.evaluations.values()]):
            for number, target in enumerate(self.chain.targets):
                self._target(target, number, prints)
        self.runner.store.trim()
        planned = [*zip(self.chain.stages, prints.stages, strict=True)]
        planned += [
            (t.stage, name) for t, name in zip(self.chain.targets, prints.targets, strict=True) if t.stage and name
        ]
        return ChainResult(
            scores=tuple(self.scores),
            rows=pa.concat_tables(self.tables) if self.tables else ROWS_SCHEMA.empty_table(),
            stages=tuple(self.outcomes.get(name) or self._reused(stage, name) for stage, name in planned),
            seconds=time.perf_counter() - started,
        )

    def _target(self, target: Target, number: int, prints: ChainFingerprints) -> None:
        """Score one target in every language, training it first only if some language isn't scored yet."""
        wanted = {key: name for key, name in prints.evaluations.items() if key[0] == target.task}
        model = prints.targets[number] or (prints.encoder, *prints.stages)[-1]
        scorer: Scorer | None = None
        for done, ((_, language, split), name) in enumerate(sorted(wanted.items(), key=_validation_first), start=1):
            found = self._evaluation(name)
            if found is None:
                scorer = scorer or self._scorer(target, prints.targets[number], prints)
                with self.runner.store.lock(f"score-{model}"):
                    found = self._evaluation(name) or self._score(scorer, target, language, split, name)
            self._record(target, language, split, found, done, len(wanted))

    def _evaluation(self, name: str) -> tuple[pa.Table, dict[str, float]] | None:
        entry = self.runner.store.get(name)
        return (pq.read_table(entry.files[ROWS], schema=ROWS_SCHEMA), entry.facts["metrics"]) if entry else None

    def _score(
        self, scorer: Scorer, target: Target, language: str, split: Split, name: str
    ) -> tuple[pa.Table, dict[str, float]]:
        prepared, started = self.runner.prepared, time.perf_counter()
        task, encoded = prepared.tasks[target.task], prepared.encoded(target.task, language, split)
        table, metrics = scorer.score(target.task, task, language, split, encoded, layer=target.layer)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        facts: dict[str, object] = {"task": target.task, "language": language, "split": split, "metrics": metrics}
        facts |= {"seconds": time.perf_counter() - started} | self._circumstances()
        self._put(name, {ROWS: buffer.getvalue()}, facts)
        return table, metrics

    def _record(
        self,
        target: Target,
        language: str,
        split: Split,
        found: tuple[pa.Table, dict[str, float]],
        done: int,
        wanted: int,
    ) -> None:
        table, metrics = found
        task = self.runner.prepared.tasks[target.task]
        main = task.metric or KINDS[task.kind].metrics[0]
        unseen = self.chain.unseen(target.task, language)
        new = tuple(
            Score(
                task=target.task,
                language=language,
                split=split,
                metric=metric,
                value=value,
                main=metric == main,
                unseen=unseen,
            )
            for metric, value in metrics.items()
        )
        self.tables.append(table)
        self.scores += new
        self.report(Progress(stage=f"{target.task} scores", step=done, steps=wanted, scores=new))

    def _scorer(self, target: Target, name: str | None, prints: ChainFingerprints) -> Scorer:
        """The target's model on the device, trained or read from the store."""
        runner = self.runner
        if target.stage and name:
            trained = self._trained(target.stage, name, lambda: self._after(len(self.chain.stages), prints))
            heads = new_heads({target.task: runner.prepared.tasks[target.task]}, runner.encoder.module.config, 0)
            heads[target.task].load_state_dict(trained.heads[target.task])
            weights = trained.weights
        else:
            heads, weights = {}, self._after(len(self.chain.stages), prints)
        lookup = runner.encoder.load(weights, runner.prepared.all_pieces, train_words=False)
        model = Model(runner.encoder.module, heads, self.chain.encoder.pooling)
        return Scorer(model, lookup, device=runner.device, precision=runner.prepared.contents.precision)

    def _after(self, count: int, prints: ChainFingerprints) -> Weights:
        """The encoder after the first `count` stages."""
        if count == 0:
            return self.runner.encoder.start
        name = prints.stages[count - 1]
        if self.latest is None or self.latest[0] != name:
            trained = self._trained(self.chain.stages[count - 1], name, lambda: self._after(count - 1, prints))
            self.latest = (name, trained)
        return self.latest[1].weights

    def _trained(self, stage: Stage, name: str, parent: Callable[[], Weights]) -> Trained:
        """A stage's result from the store; else it is trained, here or by whoever holds the lock already."""
        found = self._stored(stage, name)
        if found is not None:
            return found
        weights = parent()
        with self.runner.store.lock(name):
            return self._stored(stage, name) or self._train(stage, name, weights)

    def _stored(self, stage: Stage, name: str) -> Trained | None:
        entry = self.runner.store.get(name)
        if entry is None:
            return None
        self.outcomes[name] = self._reused(stage, name)
        return Trained.from_file(entry.files[MODEL], self.runner.encoder.start)

    def _train(self, stage: Stage, name: str, parent: Weights) -> Trained:
        runner = self.runner
        self.report(Progress(stage=stage.name, step=0, steps=stage.steps))
        finished = train_stage(
            stage,
            encoder=runner.encoder,
            recipe=self.chain.encoder,
            parent=parent,
            prepared=runner.prepared,
            seed=self.seed,
            device=runner.device,
            on_step=lambda step, loss: self.report(Progress(stage=stage.name, step=step, steps=stage.steps, loss=loss)),
        )
        self.outcomes[name] = StageOutcome(
            name=stage.name, fingerprint=name, reused=False, steps=stage.steps, seconds=finished.seconds
        )
        facts = {"stage": asdict(stage), "loss": finished.loss, "seconds": finished.seconds} | self._circumstances()
        self._put(name, {MODEL: finished.trained.to_bytes()}, facts)
        return finished.trained

    def _reused(self, stage: Stage, name: str) -> StageOutcome:
        self.report(Progress(stage=stage.name, step=stage.steps, steps=stage.steps, reused=True))
        return StageOutcome(name=stage.name, fingerprint=name, reused=True, steps=stage.steps, seconds=0.0)

    def _circumstances(self) -> dict[str, object]:
        return {
            "device": torch.cuda.get_device_name()
            if self.runner.device.type == "cuda"
            else platform.processor() or "cpu",
            "threads": self.runner.threads,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def _put(self, name: str, files: dict[str, bytes], facts: Mapping[str, object]) -> None:
        """A store that can't be written costs the reuse, not the trial: its result is at hand."""
        try:
            self.runner.store.put(name, files, facts)
        except StudyError as error:
            log.warning("%s The trial goes on; what it trained can't be reused.", error)


def _validation_first(entry: tuple[tuple[str, str, Split], str]) -> tuple[bool, str]:
    (_, language, split), _ = entry
    return split != "validation", language


@contextmanager
def _memory_errors(chain: Chain) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = max((s.batch_size for s in (*chain.stages, *(t.stage for t in chain.targets)) if s), default=0)
        raise TrialFailed(
            f"out of memory ({error}). The largest batch_size is {size}: try a smaller one, or the same in parts "
            "with `training: {gradient_accumulation_steps: 2}`."
        ) from error


def _out_of_memory(error: Exception) -> bool:
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in said)
