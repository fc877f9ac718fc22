"""Masked language modelling: which pieces are hidden, and the checkpoint's own head, which guesses them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from tunexfer.core.files import write_whole
from tunexfer.core.graph import fingerprint
from tunexfer.data.prepare import Prepared
from tunexfer.errors import TrialFailed
from tunexfer.tasks.kinds.base import IGNORE_INDEX
from tunexfer.training.encoder import Pieces, PlanEncoder
from tunexfer.training.model import Head

HIDDEN_SHARE = 0.15
"""Of the pieces that are not special: Devlin et al. 2019 (BERT), section 3.1."""

log = logging.getLogger(__name__)


def hide_pieces(batch: Mapping[str, Tensor], number: int, *, mask: int, places: int, seed: int) -> dict[str, Tensor]:
    """Hide pieces of a batch: 80% become the mask, 10% any piece of the stage, 10% stay themselves.

    The same seed and batch number hide the same ones, whichever process asks.

    mask:    place of the mask in the module's embedding, which has so many `places`
    returns: the batch with `labels`, the hidden pieces' places, IGNORE_INDEX elsewhere; both (B, P). `special` pieces
             stay.
    """
    tokenizer: Any = _Places(places, mask)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=HIDDEN_SHARE)
    collator.generator = torch.Generator().manual_seed(int(fingerprint([seed, "hidden", number])[:8], 16))
    rest = {name: value for name, value in batch.items() if name != "special"}
    ids, labels = collator.torch_mask_tokens(batch["input_ids"].clone(), special_tokens_mask=batch["special"])
    return rest | {"input_ids": ids, "labels": labels}


class _Places:
    """All that the collator asks of a tokenizer, for pieces that are named by their place in the embedding."""

    mask_token = "<mask>"

    def __init__(self, count: int, mask: int) -> None:
        self._count, self._mask = count, mask

    def __len__(self) -> int:
        return self._count

    def convert_tokens_to_ids(self, token: str) -> int:
        return self._mask


class _LanguageHead(Head):
    """The head of transformers' masked language model; logits (M, N): M hidden pieces, N to choose from.

    These are the stage's pieces, not all of the checkpoint's: those of every text the stage trains on, whatever else
    the plan reads. Loss and gradients are those of the full model with its softmax restricted to them, so the loss is
    the lower one: no probability goes to pieces that the stage never sees. Where the checkpoint's output embeddings
    are its word embeddings, as in BERT and XLM-R, they are here too: the loss moves them from both sides, and from
    neither with `freeze_embeddings`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """model: without its encoder"""
        super().__init__()
        self.model = model

    def logits(self, hidden: Tensor, pooled: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = self.model(inputs_embeds=hidden[batch["labels"] != IGNORE_INDEX][None]).logits[0]
        return found

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor], smoothing: float) -> Tensor:
        """Mean over the hidden pieces; 0 where the draw hid none, as happens to a few short texts."""
        hidden = batch["labels"][batch["labels"] != IGNORE_INDEX]
        return cross_entropy(logits, hidden, reduction="sum", label_smoothing=smoothing) / max(1, len(hidden))


def language_head(encoder: PlanEncoder, prepared: Prepared, pieces: Pieces) -> _LanguageHead:
    """The checkpoint's head for these pieces, on the encoder that is loaded with them.

    A checkpoint without one gets a fresh one, the same for every seed.

    raises: TrialFailed if transformers has no masked language model of this kind
    """
    config = copy.deepcopy(encoder.module.config)
    config.vocab_size = len(pieces)
    if type(config) not in AutoModelForMaskedLM._model_mapping:
        raise TrialFailed(
            f"transformers has no masked language model for encoders of the kind {config.model_type!r}. "
            "Leave the masked_lm task out, or take another encoder."
        )
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config)
    output: Any = model.get_output_embeddings()  # some classes find them only while their encoder is there
    setattr(model, model.base_model_prefix, _AlreadyEncoded())
    own = {
        name: value[pieces] if len(value) == encoder.vocabulary else value
        for name, value in _own_head(prepared).items()
    }
    model.load_state_dict(own, strict=False, assign=True)
    if output.weight.is_meta:
        output.weight = encoder.module.get_input_embeddings().weight
    return _LanguageHead(model)


class _AlreadyEncoded(nn.Module):
    """In the place of a masked language model's encoder: the hidden states come in as they go out."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


def _own_head(prepared: Prepared) -> dict[str, Tensor]:
    """All that the checkpoint has beside its encoder, over all of its pieces; looked up once per encoder.

    Output embeddings are left out where they are the word embeddings.
    """
    file = prepared.cache / "encoders" / f"{prepared.contents.encoder}-language.safetensors"
    if not file.is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, report = AutoModelForMaskedLM.from_pretrained(
                prepared.encoder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
        if report["missing_keys"]:
            log.warning("%s has no masked-language-model head: a fresh one is trained.", prepared.encoder)
        words = model.get_input_embeddings().weight
        own = {
            name: value.detach().clone()
            for name, value in model.state_dict(keep_vars=True).items()
            if not name.startswith(f"{model.base_model_prefix}.") and value is not words
        }
        write_whole(file, save(own))
    return load_file(file)
