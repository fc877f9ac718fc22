"""Scoring: predictions of a model for the rows of one task, language and split, and their statistics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from tunexfer.core.scores import Split
from tunexfer.data.encode import Encoded
from tunexfer.errors import TrialFailed
from tunexfer.tasks.kinds import KINDS, ROWS_SCHEMA
from tunexfer.tasks.kinds.base import Output
from tunexfer.tasks.suite import TaskBlock
from tunexfer.training.collate import INPUTS, collate
from tunexfer.training.encoder import VocabularyMap
from tunexfer.training.memory import in_fitting_parts, memory_use
from tunexfer.training.model import Model, mean_vector

PIECES_AT_ONCE = {"cpu": 2048, "cuda": 32768}
"""Padded pieces in a batch."""
ALIKE = 0.8
"""Of the longest feature's pieces: a shorter one would be padded too much."""


class Scorer:
    """A model ready to score rows: on its device, dropout off, its word embeddings those of the plan's pieces."""

    def __init__(self, model: Model, lookup: VocabularyMap, *, device: torch.device, precision: str) -> None:
        self._model = model.to(device).eval()
        self._lookup, self._device = lookup, device
        self._bf16 = precision == "bf16"

    def score(
        self, name: str, task: TaskBlock, language: str, split: Split, encoded: Encoded, *, layer: int | None = None
    ) -> tuple[pa.Table, dict[str, float]]:
        """Evaluation rows as in ROWS_SCHEMA, and every metric of the task's kind as a percentage.

        layer: for retrieval, whose mean over pieces is the sentence's vector; 0 is the embeddings, None the last
        """
        kind = KINDS[task.kind]
        encoded = Encoded(encoded.folder)  # mapped until these rows are scored: the next ones need no more memory
        rows = encoded.rows
        outputs = self._outputs(name, task, encoded, layer)
        predictions = kind.predict(rows.to_pylist(), encoded, outputs, task, language)
        own = {"task": name, "language": language, "split": split}
        table = pa.Table.from_pylist(
            [
                own | {"id": identity, "cluster": cluster} | prediction
                for identity, cluster, prediction in zip(
                    rows["id"].to_pylist(), rows["cluster"].to_pylist(), predictions, strict=True
                )
                if prediction is not None
            ],
            schema=ROWS_SCHEMA,
        )
        return table, kind.summarise(table)

    @torch.inference_mode()
    def _outputs(self, name: str, task: TaskBlock, encoded: Encoded, layer: int | None) -> list[Output]:
        """One array per feature, cut to its own pieces or options; features of like length run together."""
        found: list[Output | None] = [None] * len(encoded)
        for places in _batches(encoded.lengths, PIECES_AT_ONCE[self._device.type]):
            use = memory_use(self._model, task.kind, int(encoded.lengths[places[0]]), training=False)
            run = partial(self._in_parts, name, task, encoded, layer, places.tolist())
            for place, output in zip(places, in_fitting_parts(use, len(places), run), strict=True):
                found[place] = output
        return [output for output in found if output is not None]

    def _in_parts(
        self, name: str, task: TaskBlock, encoded: Encoded, layer: int | None, places: list[int], rows: int
    ) -> list[Output]:
        """The outputs of some features, `rows` of them at a time."""
        head = KINDS[task.kind].head
        outputs: list[Output] = []
        for start in range(0, len(places), rows):
            own = places[start : start + rows]
            batch = collate([(encoded, place) for place in own], head, self._lookup, training=False)
            batch = {key: value.to(self._device, non_blocking=True) for key, value in batch.items()}
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                output = self._model(name, **batch) if head else self._vectors(batch, layer)
            for place, row in zip(own, output.float().cpu().numpy(), strict=True):
                length = len(row)
                if head in ("token", "span"):
                    length = encoded.lengths[place]
                elif head == "choice":
                    length = len(encoded.value("input_ids", place))
                outputs.append(row[:length].copy())
        return outputs

    def _vectors(self, batch: dict[str, Tensor], layer: int | None) -> Tensor:
        """Sentence vectors of length 1, shape (B, W)."""
        inputs = {name: batch[name] for name in INPUTS if name in batch}
        depth = self._model.encoder.config.num_hidden_layers
        if layer is not None and not 0 <= layer <= depth:
            raise TrialFailed(f"there is no layer {layer} to take sentence vectors from: the encoder has {depth}.")
        if layer is None:
            hidden = self._model.encoder(**inputs).last_hidden_state
        else:
            hidden = self._model.encoder(**inputs, output_hidden_states=True).hidden_states[layer]
        return normalize(mean_vector(hidden.float(), batch.get("attention_mask")), dim=-1)


def _batches(lengths: NDArray[np.int64], pieces: int) -> Iterator[NDArray[np.int64]]:
    """Positions of features, longest first: as many together as fit `pieces` when padded and are nearly as long.

    Where few are, those that fit an eighth of `pieces` run together all the same; one always does.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order]
    start = 0
    while start < len(order):
        longest = int(falling[start])
        fitting = falling[start : start + max(1, pieces // longest)]
        alike = int((fitting >= ALIKE * longest).sum())
        count = max(alike, 1, pieces // 8 // longest)
        yield order[start : start + count]
        start += count
