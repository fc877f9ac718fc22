"""The executor: it runs jobs in this process, one at a time, and keeps the encoder and the last weights warm."""

from __future__ import annotations

import gc
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import transformers
from transformers.utils.logging import disable_progress_bar

from tunexfer.core.graph import Job, JobResult
from tunexfer.core.scores import Split
from tunexfer.data.prepare import Prepared
from tunexfer.errors import StudyError, TrialFailed
from tunexfer.store import MODEL, ROWS, StageStore
from tunexfer.tasks.kinds import ROWS_SCHEMA
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.evaluate import Scorer
from tunexfer.training.memory import is_out_of_memory
from tunexfer.training.model import Model, Trained, new_heads
from tunexfer.training.train import train_stage

MODELS_KEPT = 2
"""Models in memory: the last one that was trained or loaded, and the one before it, from which the next may start."""

OnProgress = Callable[[int, int, float | None], None]
"""Called with how many of how many steps (or scored languages and splits) are done, and the mean loss of late."""


class Executor:
    """Runs the jobs of a study's chains on one device."""

    def __init__(self, prepared: Mapping[str, Path], store: StageStore, *, device: str, threads: int) -> None:
        """
        prepared: encoder's identity -> the file that `Prepared.load` takes
        device:   `cpu` or `cuda`
        threads:  CPU threads; results are the same only where their number is
        """
        if device == "cuda" and torch.cuda.device_count() > 1:
            raise StudyError(
                f"this job sees {torch.cuda.device_count()} GPUs, but a job runs on one. Set `gpus: 1` in "
                "`resources:`, or a part of one."
            )
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        disable_progress_bar()
        self.store, self.device, self.threads = store, torch.device(device), threads
        self._files = prepared
        self._encoders: dict[str, tuple[Prepared, PlanEncoder]] = {}
        self._models: dict[str, Trained] = {}
        """By key, those that were used last."""

    def run(self, job: Job, line: Sequence[Job] = (), on_progress: OnProgress = lambda *_: None) -> JobResult:
        """Run a job, unless its result is in the store, and put its result there.

        A job is safe to repeat. A model that it starts from and that is neither in memory nor, whole, in the store is
        trained again on the way.

        line:   the jobs that its model descends from, as `core.graph.ancestors` lists them
        raises: Busy, if another process runs it; TrialFailed, if a loss isn't finite or memory runs out
        """
        with self.store.claim(job.key), _memory_errors(job):
            entry = self.store.get(job.key)
            if entry is not None:
                return _stored(job, entry.metadata)
            torch.set_num_threads(self.threads)  # of the calling thread: Ray may use another one for each job
            run = self._train if job.kind == "train" else self._evaluate
            return run(job, line, on_progress)

    def _encoder(self, job: Job) -> tuple[Prepared, PlanEncoder]:
        """Return the rows and the module for a job's encoder; one encoder is in memory at a time."""
        name = job.encoder.identity
        if name not in self._encoders:
            if self._encoders:
                self._encoders.clear()
                self._models.clear()
                gc.unfreeze()
            prepared = Prepared.load(self._files[name])
            self._encoders[name] = prepared, PlanEncoder(prepared, self.device)
            gc.collect()
            gc.freeze()  # Trainer collects garbage before every stage: 0.3 s if it has to look at all of torch
        return self._encoders[name]

    def _model(self, key: str, line: Sequence[Job]) -> Trained:
        """Return the model of a key: from memory, from the store, or trained again with all that it starts from."""
        if key not in self._models:
            entry = self.store.get(key)
            if entry is None:
                job = next(job for job in line if job.key == key)
                self._train(job, line, lambda *_: None)
            else:
                job = next(job for job in line if job.key == key)
                self._keep(key, Trained.from_file(entry.files[MODEL], self._encoder(job)[1].start))
        self._keep(key, self._models[key])
        return self._models[key]

    def _keep(self, key: str, model: Trained) -> None:
        self._models.pop(key, None)
        self._models[key] = model
        while len(self._models) > MODELS_KEPT:
            del self._models[next(iter(self._models))]

    def _start(self, job: Job, line: Sequence[Job]) -> Trained:
        """Return what a job starts from or evaluates: its parent's model, or the pretrained encoder."""
        _, encoder = self._encoder(job)
        return self._model(job.parents[0], line) if job.parents else Trained(encoder.start, {})

    def _train(self, job: Job, line: Sequence[Job], on_progress: OnProgress) -> JobResult:
        stage = job.stage
        assert stage
        prepared, encoder = self._encoder(job)
        parent = self._start(job, line)
        heads = {stage.mixture.tasks[0]: parent.heads[job.head]} if job.head else {}
        finished = train_stage(
            stage,
            encoder=encoder,
            recipe=job.encoder,
            parent=parent.weights,
            heads=heads,
            prepared=prepared,
            seed=job.seed,
            device=self.device,
            on_step=lambda step, loss: on_progress(step, stage.steps, loss),
        )
        self._keep(job.key, finished.trained)
        metadata = {"stage": asdict(stage), "loss": finished.loss, "seconds": finished.seconds} | self._circumstances()
        warning = self._put(job.key, {MODEL: finished.trained.to_bytes()}, metadata)
        return JobResult(key=job.key, seconds=finished.seconds, warning=warning)

    def _evaluate(self, job: Job, line: Sequence[Job], on_progress: OnProgress) -> JobResult:
        """Score every row of the target; the rows go to a file as they come, so that languages need no memory."""
        assert job.target
        started = time.perf_counter()
        metrics: list[tuple[str, Split, Mapping[str, float]]] = []
        with tempfile.TemporaryDirectory(prefix="tunexfer-") as scratch:
            file = Path(scratch) / ROWS
            scorer = self._scorer(job, line)
            prepared, _ = self._encoder(job)
            block = prepared.tasks[job.target.task]
            with pq.ParquetWriter(file, ROWS_SCHEMA) as writer:
                for done, (task, language, split) in enumerate(job.rows):
                    on_progress(done, len(job.rows), None)
                    encoded = prepared.encoded(task, language, split)
                    table, values = scorer.score(task, block, language, split, encoded, layer=job.target.layer)
                    writer.write_table(table)
                    metrics.append((language, split, values))
            seconds = time.perf_counter() - started
            metadata = {"task": job.target.task, "metrics": metrics, "seconds": seconds} | self._circumstances()
            warning = self._put(job.key, {ROWS: file}, metadata)
            rows = pq.read_table(file) if warning else None
        return JobResult(key=job.key, seconds=seconds, metrics=tuple(metrics), rows=rows, warning=warning)

    def _scorer(self, job: Job, line: Sequence[Job]) -> Scorer:
        """Load the model on the device; the head that it was trained with scores the rows of the target's task."""
        assert job.target
        prepared, encoder = self._encoder(job)
        task, trained, heads = job.target.task, self._start(job, line), {}
        if job.head is not None:
            heads = new_heads({task: prepared.tasks[task]}, encoder.module.config, 0)
            heads[task].load_state_dict(trained.heads[job.head])
        vocabulary = encoder.load(trained.weights, prepared.all_token_ids, train_words=False)
        model = Model(encoder.module, heads, job.encoder.pooling)
        return Scorer(model, vocabulary, device=self.device, precision=prepared.contents.precision)

    def _circumstances(self) -> dict[str, object]:
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name() if cuda else platform.processor() or "cpu",
            "threads": self.threads,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def _put(self, key: str, files: Mapping[str, bytes | Path], metadata: Mapping[str, Any]) -> str:
        """Store a result. A store that can't be written costs the reuse, not the trial: a warning is returned."""
        try:
            self.store.put(key, files, metadata)
        except StudyError as error:
            return f"{error} The search continues, but this result can't be reused."
        self.store.trim()
        return ""


def _stored(job: Job, metadata: Mapping[str, Any]) -> JobResult:
    """Make a result of what the store holds."""
    metrics = tuple((language, split, values) for language, split, values in metadata.get("metrics", ()))
    return JobResult(key=job.key, seconds=metadata["seconds"], reused=True, metrics=metrics)


@contextmanager
def _memory_errors(job: Job) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        advice = (
            "A batch is cut into parts until they fit, down to single rows: give the job more memory, lower the tasks' "
            "max_length, or take a smaller encoder."
        )
        raise TrialFailed(f"{job}: out of memory ({error}). {advice}") from error
