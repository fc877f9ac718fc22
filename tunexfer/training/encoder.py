"""The encoder's weights as they travel from stage to stage, and the one module in memory that they are loaded into.

Word embeddings are most of a multilingual encoder, and a plan's texts use few of them. So they stay in a mapped file;
the module holds only the rows in use, and a stage carries only the rows that some stage trained. What isn't in use
can't matter: rows without a gradient are never moved (no weight decay on embeddings), and a row's place is no input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from tunexfer.data.prepare import Prepared
from tunexfer.data.weights import new_encoder, split_encoder, word_name

Pieces = NDArray[np.int64]
"""Original ids of word pieces, sorted."""


@dataclass(frozen=True)
class Weights:
    """An encoder as some stage left it, float32 on the CPU."""

    body: dict[str, Tensor]
    """Everything but the word embeddings."""
    pieces: Pieces
    """Whose word embeddings some stage trained, shape (N,)."""
    words: Tensor
    """Those embeddings, shape (N, width)."""


class PlanEncoder:
    """One module for all stages of a plan's trials, with the word embeddings that are in use."""

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        folder = split_encoder(prepared.encoder, prepared.contents.encoder, prepared.cache)
        self._table: NDArray[np.float32] = np.load(folder / "words.npy", mmap_mode="r")
        self._padding = prepared.padding
        self._device = device
        self.start = Weights(
            body=load_file(folder / "body.safetensors"),
            pieces=np.zeros(0, dtype=np.int64),
            words=torch.zeros(0, self._table.shape[1]),
        )
        """The pretrained weights."""
        config = AutoConfig.from_pretrained(folder, vocab_size=prepared.padding + 1, trust_remote_code=False)
        self.module: PreTrainedModel = new_encoder(config)
        nn.Module.to(self.module, device)
        self._word_name = word_name(self.module)
        self.vocabulary, self._width = self._table.shape
        """Pieces of the checkpoint, and how wide their embeddings are."""

    def load(self, weights: Weights, pieces: Pieces, *, train_words: bool) -> VocabularyMap:
        """Fill the module with these weights and the embeddings of these pieces.

        pieces: sorted; the ids up to the padding's are among them, so that these keep their places
        """
        missing, unknown = self.module.load_state_dict(weights.body, strict=False)
        assert [*missing, *unknown] == [self._word_name], (missing, unknown)
        words = torch.from_numpy(self._table[pieces])
        _, own, theirs = np.intersect1d(pieces, weights.pieces, assume_unique=True, return_indices=True)
        words[own] = weights.words[theirs]
        embedding = nn.Embedding.from_pretrained(words, freeze=not train_words, padding_idx=self._padding)
        self.module.set_input_embeddings(embedding.to(self._device))
        return VocabularyMap(pieces, self._padding)

    def take(self, parent: Weights, pieces: Pieces) -> Weights:
        """The module's weights after a stage.

        parent: what the stage started from; pieces: those it was loaded with
        """
        state = {name: value.detach().to("cpu", copy=True) for name, value in self.module.state_dict().items()}
        words = state.pop(self._word_name)
        if not self.module.get_input_embeddings().weight.requires_grad:
            return Weights(body=state, pieces=parent.pieces, words=parent.words)
        every = np.union1d(parent.pieces, pieces)
        rows = torch.empty(len(every), self._width)
        rows[np.searchsorted(every, parent.pieces)] = parent.words
        rows[np.searchsorted(every, pieces)] = words
        return Weights(body=state, pieces=every, words=rows)


class VocabularyMap:
    """From the tokenizer's ids to places in the module's embedding."""

    def __init__(self, pieces: Pieces, padding: int) -> None:
        self.padding = padding
        self._places = np.full(int(pieces[-1]) + 1, -1, dtype=np.int64)
        self._places[pieces] = np.arange(len(pieces))
        self._count = len(pieces)

    def __len__(self) -> int:
        return self._count

    def __call__(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        places: NDArray[np.int64] = self._places[ids]
        return places
