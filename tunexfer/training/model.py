"""The model of a stage: the shared encoder and a head for each of its tasks.

B sequences of P pieces, width W, L labels, O options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from tunexfer.core.chain import Pooling
from tunexfer.core.graph import fingerprint
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock
from tunexfer.training.collate import INPUTS
from tunexfer.training.encoder import Weights


class Head(nn.Module):
    """The layers that a kind of task puts on the encoder."""

    def logits(self, hidden: Tensor, pooled: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """hidden: (B, P, W); pooled: (B, W); batch: what `collate` made"""
        raise NotImplementedError

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor], smoothing: float) -> Tensor:
        """Mean cross entropy of the batch; smoothing: share of each target spread over all labels"""
        return cross_entropy(logits.flatten(0, -2), batch["labels"].flatten(), label_smoothing=smoothing)


class _SentenceHead(Head):
    """dropout, dense, tanh, dropout, linear on the pooled vector; logits (B, L)."""

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.stack = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, labels)
        )

    def logits(self, hidden: Tensor, pooled: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        scores: Tensor = self.stack(pooled)
        return scores


class _ChoiceHead(_SentenceHead):
    """One score per option, each option a sequence of its own; logits (rows, O), -inf where a row has fewer."""

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__(width, 1, dropout)

    def logits(self, hidden: Tensor, pooled: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        there = batch["options"]
        scores = super().logits(hidden, pooled, batch).squeeze(-1).float()
        return torch.full(there.shape, -torch.inf, device=scores.device).masked_scatter(there, scores)


class _TokenHead(Head):
    """dropout, linear on every piece; logits (B, P, L)."""

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(width, labels)

    def logits(self, hidden: Tensor, pooled: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        scores: Tensor = self.linear(self.dropout(hidden))
        return scores


class _SpanHead(Head):
    """linear to start and end of the answer on every piece; logits (B, P, 2)."""

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)

    def logits(self, hidden: Tensor, pooled: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        scores: Tensor = self.linear(hidden)
        return scores

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor], smoothing: float) -> Tensor:
        """Padding is no place for an answer, so there is nothing to spread over all places either."""
        if "attention_mask" in batch:
            logits = logits.masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, torch.finfo(logits.dtype).min)
        start, end = (cross_entropy(logits[..., side], batch[name]) for side, name in enumerate(("start", "end")))
        return (start + end) / 2


HEADS: dict[str, Callable[[int, int, float], Head]] = {
    "sequence": _SentenceHead,
    "choice": _ChoiceHead,
    "token": _TokenHead,
    "span": _SpanHead,
}


class Model(nn.Module):
    """The encoder with a head per task; each batch is of one task and goes through that task's head."""

    accepts_loss_kwargs = False

    def __init__(self, encoder: PreTrainedModel, heads: Mapping[str, Head], pooling: Pooling) -> None:
        super().__init__()
        self.encoder, self.pooling, self.config = encoder, pooling, encoder.config
        self.place = {task: place for place, task in enumerate(heads)}
        self.heads = nn.ModuleList(heads.values())

    def head(self, task: str) -> Head:
        head = self.heads[self.place[task]]
        assert isinstance(head, Head)
        return head

    def forward(self, task: str, **batch: Tensor) -> Tensor:
        """Logits of the task's head, float32."""
        mask = batch.get("attention_mask")
        hidden = self.encoder(**{name: batch[name] for name in INPUTS if name in batch}).last_hidden_state
        pooled = hidden[:, 0] if self.pooling == "first" else mean_vector(hidden, mask)
        return self.head(task).logits(hidden, pooled, batch).float()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def activation_checkpointing_enable(self, **options: Any) -> None:
        self.encoder.activation_checkpointing_enable(**options)


def mean_vector(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the pieces that aren't padding, special ones included; (B, P, W) -> (B, W)."""
    if mask is None:
        return hidden.mean(dim=1)
    kept = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * kept).sum(dim=1) / kept.sum(dim=1)


def new_heads(tasks: Mapping[str, TaskBlock], config: Any, seed: int) -> dict[str, Head]:
    """A fresh head per task, each with a random state of its own: what else is trained doesn't change it."""
    dropout = float(getattr(config, "hidden_dropout_prob", 0.1))
    heads: dict[str, Head] = {}
    for name, task in tasks.items():
        kind = KINDS[task.kind].head
        assert kind is not None, f"{task.kind} has nothing to train"
        random = torch.Generator().manual_seed(int(fingerprint([seed, name])[:8], 16))
        heads[name] = HEADS[kind](config.hidden_size, len(task.labels), dropout)
        for parameter in heads[name].parameters():
            with torch.no_grad():
                parameter.normal_(std=0.02, generator=random) if parameter.dim() > 1 else parameter.zero_()
    return heads


@dataclass(frozen=True)
class Trained:
    """The models that a stage leaves behind: the encoder, and the heads it trained by task.

    But for a masked language model's head, which starts from the checkpoint's in every stage.
    """

    weights: Weights
    heads: dict[str, dict[str, Tensor]]

    def to_bytes(self) -> bytes:
        """One safetensors file; word embeddings only as far as they were trained, with their pieces' original ids."""
        tensors = {f"encoder.{name}": value for name, value in self.weights.body.items()}
        for task, head in self.heads.items():
            tensors |= {f"head.{task}:{name}": value for name, value in head.items()}
        if len(self.weights.pieces):
            tensors["word_embeddings.rows"] = self.weights.words
            tensors["word_embeddings.pieces"] = torch.from_numpy(self.weights.pieces)
        return save(tensors)

    @classmethod
    def from_file(cls, path: Path, start: Weights) -> Trained:
        """start: the pretrained weights"""
        tensors = load_file(path)
        words = tensors.pop("word_embeddings.rows", start.words)
        pieces = tensors.pop("word_embeddings.pieces", torch.from_numpy(start.pieces)).numpy()
        body: dict[str, Tensor] = {}
        heads: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("encoder."):
                body[name.removeprefix("encoder.")] = value
            else:
                task, _, inside = name.removeprefix("head.").partition(":")
                heads.setdefault(task, {})[inside] = value
        return cls(Weights(body=body, pieces=np.asarray(pieces), words=words), heads)
