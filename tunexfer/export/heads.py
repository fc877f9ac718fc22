"""Encoder and head as one model of transformers' own where one computes the same; else the head beside the encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from tunexfer.core.chain import Pooling
from tunexfer.errors import StudyError
from tunexfer.training.encoder import Weights, no_pooler, word_name
from tunexfer.training.model import HEADS, Head, mean_vector

MODELS: dict[str, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "span": AutoModelForQuestionAnswering,
    "choice": AutoModelForMultipleChoice,
}
"""By kind of head, as in `training.model.HEADS`."""
LAYOUTS: dict[str, tuple[dict[str, str], ...]] = {
    "sequence": (
        {"stack.1": "classifier.dense", "stack.4": "classifier.out_proj"},  # XLM-R
        {"stack.1": "{encoder}.pooler.dense", "stack.4": "classifier"},  # BERT
    ),
    "choice": ({"stack.1": "{encoder}.pooler.dense", "stack.4": "classifier"},),
    "token": ({"linear": "classifier"},),
    "span": ({"linear": "qa_outputs"},),
}
"""Where models of transformers keep what our heads are made of: our layer -> theirs."""
APART = {"stack.1": "dense", "stack.4": "out_proj", "linear": "linear"}
"""What our layers are called in a file of their own."""
HEAD_FILE = "head.safetensors"
SAME = 1e-4
"""Logits of two models that compute the same, each of the order of 1, differ by less in float32."""


def whole_encoder(checkpoint: Path, weights: Weights) -> PreTrainedModel:
    """The encoder with these weights and all of the checkpoint's word pieces.

    weights: word embeddings that no stage trained are the checkpoint's own
    raises: StudyError, if they are of another encoder
    """
    config = AutoConfig.from_pretrained(checkpoint)
    encoder: PreTrainedModel = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, **no_pooler(config))
    state = encoder.state_dict()
    words = state.pop(word_name(encoder))
    if weights.body:
        if _shapes(weights.body) != _shapes(state):
            raise StudyError(
                f"{checkpoint} holds another encoder than the one that was trained. Put back what the search ran on."
            )
        encoder.load_state_dict(weights.body, strict=False)
    if len(weights.pieces):
        words[torch.from_numpy(weights.pieces)] = weights.words
    encoder.eval()
    return encoder


def make_head(kind: str, width: int, labels: int, state: Mapping[str, Tensor]) -> Head:
    head = HEADS[kind](width, labels, 0.0)
    head.load_state_dict(state)
    return head.eval()


def with_head(
    encoder: PreTrainedModel, kind: str, head: Head, pooling: Pooling, labels: Sequence[str]
) -> PreTrainedModel | None:
    """One model of transformers' own that gives the same logits; None where there is none.

    That it does is tried rather than known: classes with layers of the same names may put another function between.
    """
    config = labelled(encoder.config, labels)
    if kind == "span":
        config.num_labels = 2
    if type(config) not in MODELS[kind]._model_mapping:
        return None
    with no_init_weights():
        model: PreTrainedModel = MODELS[kind].from_config(config)
    prefix = model.base_model_prefix
    body = {f"{prefix}.{name}": value for name, value in encoder.state_dict().items()}
    for layout in LAYOUTS[kind]:
        state = body | _renamed(head, {ours: theirs.format(encoder=prefix) for ours, theirs in layout.items()})
        if _shapes(state) == _shapes(model.state_dict()):
            model.load_state_dict(state, assign=True)
            return model if _same_logits(model.eval(), encoder, kind, head, pooling) else None
    return None


def save_apart(encoder: PreTrainedModel, head: Head, labels: Sequence[str], folder: Path) -> None:
    """The encoder for `AutoModel`, and the head's two or four tensors in a file beside it."""
    encoder.config = labelled(encoder.config, labels)
    encoder.save_pretrained(folder)
    save_file(_renamed(head, APART), folder / HEAD_FILE)


def labelled(config: Any, labels: Sequence[str]) -> Any:
    """A copy of the config that names the labels, if there are any."""
    config = copy.deepcopy(config)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: place for place, label in enumerate(labels)}
    return config


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _renamed(head: Head, names: Mapping[str, str]) -> dict[str, Tensor]:
    state = ((name.rpartition("."), value) for name, value in head.state_dict().items())
    return {f"{names[layer]}.{last}": value for (layer, _, last), value in state if layer in names}


@torch.inference_mode()
def _same_logits(model: Any, encoder: PreTrainedModel, kind: str, head: Head, pooling: Pooling) -> bool:
    """On two sequences of any pieces, one of them padded."""
    padding = encoder.config.pad_token_id or 0
    ids = torch.randint(padding + 1, encoder.config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    ids[1, 6:] = padding
    inputs = {"input_ids": ids, "attention_mask": (ids != padding).long()}
    hidden = encoder(**inputs).last_hidden_state
    pooled = hidden[:, 0] if pooling == "first" else mean_vector(hidden, inputs["attention_mask"])
    ours = head.logits(hidden, pooled, inputs | {"options": torch.ones(1, 2, dtype=torch.bool)})
    if kind == "choice":
        inputs = {name: value[None] for name, value in inputs.items()}
    found = model(**inputs)
    theirs = torch.stack([found.start_logits, found.end_logits], dim=-1) if kind == "span" else found.logits
    return bool(torch.allclose(ours, theirs, atol=SAME))
