"""From encoded rows to the tensors of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunexfer.data.encode import Encoded
from tunexfer.tasks.kinds.base import IGNORE_INDEX
from tunexfer.training.encoder import VocabularyMap

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What the encoder reads, a sequence a row."""
TARGETS = {"sequence": ("label",), "choice": ("label",), "token": ("labels",), "span": ("start", "end")}
"""Columns that a head's loss reads."""


def collate(
    rows: Sequence[tuple[Encoded, int]], head: str | None, lookup: VocabularyMap, *, training: bool
) -> dict[str, Tensor]:
    """input_ids (B, P) as places in the module's embedding, padded to the longest; what the head needs besides.

    There is no attention_mask where nothing is padded: attention is faster without.
    """
    ids = [source.value("input_ids", row) for source, row in rows]
    options = [len(own) for own in ids] if head == "choice" else None
    if options:
        ids = [one for own in ids for one in own]
    lengths = np.array([len(one) for one in ids])
    batch = {"input_ids": torch.from_numpy(lookup(_padded(ids, lengths, lookup.padding)))}
    there = np.arange(lengths.max()) < lengths[:, None]
    if not there.all():
        batch["attention_mask"] = torch.from_numpy(there.astype(np.int64))
    if all(source.has("token_type_ids") for source, _ in rows):
        types = [source.value("token_type_ids", row) for source, row in rows]
        types = [one for own in types for one in own] if options else types
        batch["token_type_ids"] = torch.from_numpy(_padded(types, lengths, 0))
    if options:
        batch["options"] = torch.from_numpy(np.arange(max(options)) < np.array(options)[:, None])
    if training and head:
        batch |= _targets(rows, head, lengths)
    return batch


def row_count(batch: Mapping[str, Any]) -> int:
    """Count the rows of a collated batch; an option is no row of its own."""
    return len(batch["options"] if "options" in batch else batch["input_ids"])


def parts_of(batch: Mapping[str, Any], rows: int) -> list[tuple[dict[str, Any], float]]:
    """Cut a batch to train on into parts of at most `rows` rows, each with its share of the labels.

    The batch's loss, a mean over labels, is the sum of the parts' losses times their shares. A part without labels is
    left out.
    """
    count = row_count(batch)
    if rows >= count:
        return [(dict(batch), 1.0)]
    per_row = batch["options"].sum(dim=1) if "options" in batch else torch.ones(count, dtype=torch.int64)
    borders = [0, *per_row.cumsum(0).tolist()]
    parts = []
    for start in range(0, count, rows):
        end = min(start + rows, count)
        sequences = slice(borders[start], borders[end])
        own = {
            name: value if not isinstance(value, Tensor) else value[sequences if name in INPUTS else slice(start, end)]
            for name, value in batch.items()
        }
        parts.append((_trimmed(own), _labels(own)))
    total = sum(labels for _, labels in parts) or 1
    return [(own, labels / total) for own, labels in parts if labels]


def _trimmed(batch: dict[str, Any]) -> dict[str, Any]:
    """Cut off the columns that only padding is in."""
    if "attention_mask" not in batch:
        return batch
    length, longest = batch["attention_mask"].shape[1], int(batch["attention_mask"].sum(dim=1).max())
    padded = {*INPUTS, "labels"}
    return {
        name: value[:, :longest] if name in padded and value.dim() == 2 and value.shape[1] == length else value
        for name, value in batch.items()
    }


def _labels(batch: Mapping[str, Tensor]) -> int:
    return int((batch["labels"] != IGNORE_INDEX).sum()) if "labels" in batch else len(batch["start"])


def _targets(rows: Sequence[tuple[Encoded, int]], head: str, lengths: NDArray[np.int64]) -> dict[str, Tensor]:
    if head == "language":
        return {"special": torch.from_numpy(_padded([s.value("special", row) for s, row in rows], lengths, 1))}
    if head == "token":
        return {"labels": torch.from_numpy(_padded([s.value("labels", row) for s, row in rows], lengths, IGNORE_INDEX))}
    return {
        "labels" if name == "label" else name: torch.tensor([source.value(name, row) for source, row in rows])
        for name in TARGETS[head]
    }


def _padded(lists: Sequence[NDArray[np.integer[Any]]], lengths: NDArray[np.int64], filler: int) -> NDArray[np.int64]:
    padded = np.full((len(lists), int(lengths.max())), filler, dtype=np.int64)
    for row, own in enumerate(lists):
        padded[row, : len(own)] = own
    return padded
