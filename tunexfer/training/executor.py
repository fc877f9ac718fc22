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
from tunexfer.core.graph import ChainFingerprints, chain_fingerprints
from tunexfer.core.scores import FORGETTING, Score, Split, forgetting
from tunexfer.data.prepare import Prepared
from tunexfer.errors import StudyError, TrialFailed
from tunexfer.store import StageStore
from tunexfer.tasks.kinds import KINDS, ROWS_SCHEMA
from tunexfer.training.encoder import PlanEncoder, Weights
from tunexfer.training.evaluate import Scorer
from tunexfer.training.model import Model, Trained, new_heads
from tunexfer.training.scored_rows import ScoredRows
from tunexfer.training.train import train_stage

MODEL, ROWS = "model.safetensors", "rows.parquet"
"""Files of a stage's entry and of an evaluation's."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a trial stands."""

    stage: str
    """The stage's name, or the target's."""
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
    """Every scored row, as in ROWS_SCHEMA, memory-mapped."""
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
        with _memory_errors(chain), ScoredRows() as rows:
            return _Run(self, chain, seed, on_progress, rows).result()


@dataclass
class _Run:
    """One chain being run."""

    runner: ChainRunner
    chain: Chain
    seed: int
    report: Callable[[Progress], None]
    rows: ScoredRows
    outcomes: dict[str, StageOutcome] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    latest: tuple[str, Trained] | None = None
    """The last stage that was trained or read, with its fingerprint: all targets start from the same one, but for
    those that go on from another."""

    def result(self) -> ChainResult:
        started = time.perf_counter()
        prints = chain_fingerprints(self.chain, seed=self.seed, contents=self.runner.prepared.contents)
        own = [name for name in prints.targets if name]
        evaluations = [*prints.evaluations.values(), *prints.second_evaluations.values()]
        with self.runner.store.using([*prints.stages, *own, *evaluations]):
            for target in self.chain.targets:
                self._target(target, prints)
            for name, last in self.chain.followed.items():
                self._target(self.chain.target(name), prints, last)
        self.runner.store.trim()
        planned = [*zip(self.chain.stages, prints.stages, strict=True)]
        planned += [
            (t.stage, name) for t, name in zip(self.chain.targets, prints.targets, strict=True) if t.stage and name
        ]
        return ChainResult(
            scores=tuple(self.scores),
            rows=self.rows.table(),
            stages=tuple(self.outcomes.get(name) or self._reused(stage, name) for stage, name in planned),
            seconds=time.perf_counter() - started,
        )

    def _target(self, target: Target, prints: ChainFingerprints, last: Target | None = None) -> None:
        """Score one target in every language, training it first only if some language isn't scored yet.

        last: of those that go on from it, the one whose model scores its rows again, for what is forgotten
        """
        names = prints.second_evaluations if last else prints.evaluations
        wanted = {key: name for key, name in names.items() if key[0] == target.name}
        model = prints.models[(last or target).name]
        scorer: Scorer | None = None
        for done, ((_, language, split), name) in enumerate(sorted(wanted.items(), key=_validation_first), start=1):
            found = self._evaluation(name)
            if found is None:
                scorer = scorer or self._scorer(last or target, target.task, prints)
                with self.runner.store.lock(f"score-{model}"):
                    found = self._evaluation(name) or self._score(scorer, target, language, split, name)
            table, metrics = found
            if last:
                new = self._forgotten(target, last, language, split, metrics)
            else:
                new = self._scores(target, language, split, metrics)
                self.rows.add(_named(table, target))
            self.scores += new
            self.report(Progress(stage=f"{target.name} scores", step=done, steps=len(wanted), scores=new))

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

    def _scores(self, target: Target, language: str, split: Split, metrics: Mapping[str, float]) -> tuple[Score, ...]:
        main, unseen = self._main(target), self._unseen(target, language)
        return tuple(
            Score(
                target=target.name,
                language=language,
                split=split,
                metric=metric,
                value=value,
                main=metric == main,
                unseen=unseen,
            )
            for metric, value in metrics.items()
        )

    def _forgotten(
        self, target: Target, last: Target, language: str, split: Split, metrics: Mapping[str, float]
    ) -> tuple[Score, ...]:
        """One score; none where there was nothing to forget.

        metrics: of the target's rows, by the model of `last`
        """
        own = (target.name, language, split)
        [before] = [one.value for one in self.scores if one.main and (one.target, one.language, one.split) == own]
        if before == 0:
            return ()
        lost = Score(
            target=target.name,
            language=language,
            split=split,
            metric=FORGETTING,
            value=forgetting(before, metrics[self._main(target)]),
            main=False,
            unseen=self._unseen(last, language),
        )
        return (lost,)

    def _unseen(self, target: Target, language: str) -> bool:
        same = {name: task.same_as for name, task in self.runner.prepared.tasks.items() if task.same_as}
        return self.chain.unseen(target.name, language, same)

    def _main(self, target: Target) -> str:
        """The metric of its task that means and objectives read."""
        task = self.runner.prepared.tasks[target.task]
        return task.metric or KINDS[task.kind].main_metric

    def _scorer(self, target: Target, task: str, prints: ChainFingerprints) -> Scorer:
        """The target's model on the device, trained or read from the store; its head scores rows of `task`."""
        runner = self.runner
        trained, heads = self._model(target, prints), {}
        if target.stage:
            heads = new_heads({task: runner.prepared.tasks[task]}, runner.encoder.module.config, 0)
            heads[task].load_state_dict(trained.heads[target.task])
        lookup = runner.encoder.load(trained.weights, runner.prepared.all_token_ids, train_words=False)
        model = Model(runner.encoder.module, heads, self.chain.encoder.pooling)
        return Scorer(model, lookup, device=runner.device, precision=runner.prepared.contents.precision)

    def _model(self, target: Target, prints: ChainFingerprints) -> Trained:
        """The target's own fine-tuning; where it has none, the encoder as the stages leave it."""
        if target.stage is None:
            return self._start(target, prints)
        return self._trained(target.stage, prints.models[target.name], lambda: self._start(target, prints))

    def _start(self, target: Target, prints: ChainFingerprints) -> Trained:
        """What the target starts from: the encoder as the stages leave it, or another target's model, head and all."""
        if target.after is None:
            return Trained(self._after(len(self.chain.stages), prints), {})
        first = self.chain.target(target.after)
        model = self._model(first, prints)
        return Trained(model.weights, {target.task: model.heads[first.task]})

    def _after(self, count: int, prints: ChainFingerprints) -> Weights:
        """The encoder after the first `count` stages."""
        if count == 0:
            return self.runner.encoder.start
        name = prints.stages[count - 1]
        if self.latest is None or self.latest[0] != name:
            stage = self.chain.stages[count - 1]
            trained = self._trained(stage, name, lambda: Trained(self._after(count - 1, prints), {}))
            self.latest = (name, trained)
        return self.latest[1].weights

    def _trained(self, stage: Stage, name: str, parent: Callable[[], Trained]) -> Trained:
        """A stage's result from the store; else it is trained, here or by whoever holds the lock already."""
        found = self._stored(stage, name)
        if found is not None:
            return found
        start = parent()
        with self.runner.store.lock(name):
            return self._stored(stage, name) or self._train(stage, name, start)

    def _stored(self, stage: Stage, name: str) -> Trained | None:
        entry = self.runner.store.get(name)
        if entry is None:
            return None
        if name not in self.outcomes:
            self.outcomes[name] = self._reused(stage, name)
        return Trained.from_file(entry.files[MODEL], self.runner.encoder.start)

    def _train(self, stage: Stage, name: str, parent: Trained) -> Trained:
        runner = self.runner
        self.report(Progress(stage=stage.name, step=0, steps=stage.steps))
        finished = train_stage(
            stage,
            encoder=runner.encoder,
            recipe=self.chain.encoder,
            parent=parent.weights,
            heads=parent.heads,
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


def _named(rows: pa.Table, target: Target) -> pa.Table:
    """The store knows rows by their task, the record by their target."""
    return rows.set_column(0, ROWS_SCHEMA.field("task"), pa.array([target.name] * len(rows), pa.string()))


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
