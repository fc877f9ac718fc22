"""One stage: the encoder, as its parent left it, fine-tuned on a mixture by transformers' Trainer."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from tunexfer.core.chain import Encoder, Stage
from tunexfer.data.batches import Batch, batch_plan
from tunexfer.data.prepare import Prepared
from tunexfer.errors import TrialFailed
from tunexfer.tasks.kinds import KINDS
from tunexfer.training.collate import collate, parts_of, row_count
from tunexfer.training.encoder import PlanEncoder, VocabularyMap, Weights
from tunexfer.training.masking import hide_pieces, language_head
from tunexfer.training.memory import in_fitting_parts, memory_use
from tunexfer.training.model import Model, Trained, new_heads

DEFAULTS: dict[str, Any] = {
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
}
"""Of every stage, unless its `training:` says otherwise. A warm-up below 1 is a share of the steps."""
LOOK_EVERY = 10
"""Steps between two looks at the loss: reading it waits for the device."""


@dataclass(frozen=True, kw_only=True)
class _Finished:
    trained: Trained
    loss: float
    """Mean over the last `LOOK_EVERY` steps."""
    seconds: float


def train_stage(
    stage: Stage,
    *,
    encoder: PlanEncoder,
    recipe: Encoder,
    parent: Weights,
    heads: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({}),
    prepared: Prepared,
    seed: int,
    device: torch.device,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> _Finished:
    """Train `stage` from `parent`. The same arguments and number of threads give the same weights, bit for bit.

    recipe:   how the chain uses its encoder
    heads:    by task, those that another stage has trained; the others start new
    seed:     of the data's order, dropout and new heads
    on_step:  called every `LOOK_EVERY` steps and after the last, with the step and the mean loss since
    raises:   TrialFailed if the loss is not finite
    """
    started = time.perf_counter()
    tasks = {task: prepared.tasks[task] for task in stage.mixture.tasks}
    pieces = prepared.token_ids([(source.task, source.language, "train") for source in stage.mixture.sources])
    lookup = encoder.load(parent, pieces, train_words=not recipe.freeze_embeddings)
    labelled = {task: block for task, block in tasks.items() if not KINDS[block.kind].masks}
    own = {task: language_head(encoder, prepared, pieces) for task in tasks if task not in labelled}
    model = Model(encoder.module, new_heads(labelled, encoder.module.config, seed) | own, recipe.pooling)
    for task, state in heads.items():
        model.head(task).load_state_dict(state)
    watch = _Watch(stage, on_step)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = _arguments(stage, prepared, seed, device, scratch)
        batches = _Batches(_drawn(stage, prepared, seed), prepared, lookup, seed)
        trainer = _StageTrainer(model, batches, watch, arguments)
        with _checkpointing_undone(arguments, encoder):
            trainer.train()
    states = {task: {n: v.cpu().clone() for n, v in model.head(task).state_dict().items()} for task in labelled}
    trained = Trained(encoder.take(parent, pieces), states)
    return _Finished(trained=trained, loss=watch.mean, seconds=time.perf_counter() - started)


def _arguments(stage: Stage, prepared: Prepared, seed: int, device: torch.device, scratch: str) -> TrainingArguments:
    ours: dict[str, Any] = {
        "output_dir": scratch,
        "seed": seed,
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch_size,
        "learning_rate": stage.learning_rate,
        "bf16": prepared.contents.precision == "bf16",
        "use_cpu": device.type == "cpu",
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    try:
        return TrainingArguments(**(DEFAULTS | dict(stage.training) | ours))
    except (ValueError, TypeError, ImportError) as error:
        raise TrialFailed(f"stage {stage.name!r}: `training: {dict(stage.training)}` doesn't work: {error}") from error


def _drawn(stage: Stage, prepared: Prepared, seed: int) -> list[Batch]:
    """One batch per step."""
    lengths = {s: prepared.encoded(s.task, s.language, "train").lengths for s in stage.mixture.sources}
    return batch_plan(lengths, stage.mixture, steps=stage.steps, batch_size=stage.batch_size, seed=seed)


class _Batches(Dataset[dict[str, Any]]):
    """The batches of a stage, as tensors; its items are whole batches."""

    def __init__(self, batches: list[Batch], prepared: Prepared, lookup: VocabularyMap, seed: int) -> None:
        self._batches, self._prepared, self._lookup, self._seed = batches, prepared, lookup, seed

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self._batches[index]
        task = batch[0][0].task
        head = KINDS[self.kind(task)].head
        rows = [(self._prepared.encoded(source.task, source.language, "train"), row) for source, row in batch]
        tensors = collate(rows, head, self._lookup, training=True)
        if head == "language":
            mask = int(self._lookup(np.array(self._prepared.mask)))
            tensors = hide_pieces(tensors, index, mask=mask, places=len(self._lookup), seed=self._seed)
        return {"task": task, **tensors}

    def kind(self, task: str) -> str:
        return self._prepared.tasks[task].kind


class _StageTrainer(Trainer):
    """Trainer with our batches in our order, and the loss of each batch's own task.

    A step takes its batch in parts where memory doesn't hold all of it, or where `gradient_accumulation_steps` says so.
    Trainer itself accumulates nothing, as a step that fails half-way is begun again from no gradients.
    """

    def __init__(self, model: Model, batches: _Batches, watch: _Watch, arguments: TrainingArguments) -> None:
        self._parts, arguments.gradient_accumulation_steps = arguments.gradient_accumulation_steps, 1
        super().__init__(model, arguments, train_dataset=batches, callbacks=[watch])
        self.remove_callback(PrinterCallback)
        self._task_model, self._batches, self._watch = model, batches, watch
        self._share = 1.0

    def get_train_dataloader(self) -> DataLoader[Any]:
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self._batches,
            batch_size=None,
            num_workers=workers,
            persistent_workers=self.args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> Tensor:
        """Sum up the gradients of the batch's parts; dropout is drawn again where a step is begun again."""
        use = memory_use(
            self._task_model, self._batches.kind(inputs["task"]), inputs["input_ids"].shape[1], training=True
        )
        random = _random_state(self.args.device)

        def attempt(rows: int) -> Tensor:
            random()
            model.zero_grad()
            losses = []
            for part, self._share in parts_of(inputs, rows):
                losses.append(super(_StageTrainer, self).training_step(model, part, *rest))
            return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

        loss = in_fitting_parts(use, -(-row_count(inputs) // self._parts), attempt)
        self._watch.add(loss)
        return loss

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        task = inputs.pop("task")
        logits = model(task, **inputs)
        return self._task_model.head(task).loss(logits, inputs, self.args.label_smoothing_factor) * self._share

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """No decay on embeddings either: a piece that never occurs keeps its vector."""
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        kept = {name for name, value in model.named_parameters() if id(value) in embeddings}
        return [name for name in super().get_decay_parameter_names(model) if name not in kept]


def _random_state(device: torch.device) -> Callable[[], None]:
    """Remember where the random numbers of dropout are; the function that is returned goes back there."""
    cpu, cuda = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def go_back() -> None:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)

    return go_back


class _Watch(TrainerCallback):
    """Adds up the loss on the device and looks at it now and then."""

    def __init__(self, stage: Stage, on_step: Callable[[int, float], None]) -> None:
        self._stage, self._on_step = stage, on_step
        self._sum: Tensor | None = None
        self._steps = 0
        self.mean = math.nan

    def add(self, loss: Tensor) -> None:
        self._sum = loss if self._sum is None else self._sum + loss

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._steps += 1
        if state.global_step % LOOK_EVERY and state.global_step < state.max_steps:
            return
        assert self._sum is not None
        self.mean = self._sum.item() / self._steps
        self._sum, self._steps = None, 0
        if not math.isfinite(self.mean):
            raise TrialFailed(
                f"stage {self._stage.name!r}: the loss is {self.mean} at step {state.global_step} of "
                f"{self._stage.steps}. Try a learning rate below {self._stage.learning_rate:g}."
            )
        self._on_step(state.global_step, self.mean)


@contextmanager
def _checkpointing_undone(arguments: TrainingArguments, encoder: PlanEncoder) -> Iterator[None]:
    """Activation checkpointing is a state of the module that all stages share."""
    try:
        yield
    finally:
        if arguments.activation_checkpointing or arguments.gradient_checkpointing:
            encoder.module.activation_checkpointing_disable()
