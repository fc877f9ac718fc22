"""Encoder and head as a model of transformers where one computes the same; otherwise the head in a file beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from tunexfer.core.chain import Pooling
from tunexfer.data.weights import ENCODERS_WITH_DECODERS, read_encoder, word_name
from tunexfer.errors import StudyError
from tunexfer.tasks.kinds import KINDS
from tunexfer.training.encoder import Weights
from tunexfer.training.model import HEADS, Head, mean_vector

_BERT = {"stack.1": "{encoder}.pooler.dense", "stack.4": "classifier"}
_XLMR = {"stack.1": "classifier.dense", "stack.4": "classifier.out_proj"}
FORMATS: dict[str | None, tuple[Any, list[dict[str, str]]]] = {
    "sequence": (AutoModelForSequenceClassification, [_XLMR, _BERT]),
    "choice": (AutoModelForMultipleChoice, [_BERT]),
    "token": (AutoModelForTokenClassification, [{"linear": "classifier"}]),
    "span": (AutoModelForQuestionAnswering, [{"linear": "qa_outputs"}]),
    None: (AutoModel, []),
}
"""Kind of head, as `tasks.kinds.base.Kind.head` names it -> the class of transformers, and where its models keep our
layers, in each way that is known."""
SEPARATE = {"stack.1": "dense", "stack.4": "out_proj", "linear": "linear"}
"""Our layer -> its name in a head's own file."""
HEAD_FILE = "head.safetensors"
SAME = 1e-4
"""Largest difference between the float32 logits (each of the order of 1) of two models that compute the same."""


def auto_class(kind: str) -> Any:
    """Look up the class of transformers for a kind of task.

    raises: StudyError, if models of this kind cannot be exported
    """
    head = KINDS[kind].head
    if head not in FORMATS:
        raise StudyError(
            f"tasks of kind {kind!r} can't be exported: their head, {head!r}, has no format in tunexfer.export.heads."
        )
    return FORMATS[head][0]


def whole_encoder(checkpoint: Path, weights: Weights) -> PreTrainedModel:
    """Load the checkpoint's encoder, its whole vocabulary included, and put trained weights in.

    weights: word embeddings that no stage trained stay as in the checkpoint
    raises: StudyError, if they are of another encoder, or of an encoder-decoder, which no folder holds without decoder
    """
    encoder = read_encoder(checkpoint)
    if encoder.config.model_type in ENCODERS_WITH_DECODERS:
        raise StudyError(
            f"{checkpoint} is an encoder-decoder, whose encoder alone was trained: transformers' classes for the "
            "targets would load it with a decoder. Its models can't be exported; `--format replay` can."
        )
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
    """Build a head of that kind with trained weights."""
    head = HEADS[kind](width, labels, 0.0)
    head.load_state_dict(state)
    return head.eval()


def whole_model(
    encoder: PreTrainedModel, kind: str, head: Head, pooling: Pooling, labels: Sequence[str]
) -> PreTrainedModel | None:
    """Join encoder and head in a model of transformers, or return None if no class of it gives the same logits.

    The logits are compared, as a class whose layers have the right names may put another function between them.
    """
    config = _labelled(encoder.config, labels)
    if kind == "span":
        config.num_labels = 2
    model_class, layouts = FORMATS[kind]
    if type(config) not in model_class._model_mapping:
        return None
    with no_init_weights():
        model: PreTrainedModel = model_class.from_config(config)
    prefix = model.base_model_prefix
    body = {f"{prefix}.{name}": value for name, value in encoder.state_dict().items()}
    for layout in layouts:
        state = body | _renamed(head, {ours: theirs.format(encoder=prefix) for ours, theirs in layout.items()})
        if _shapes(state) == _shapes(model.state_dict()):
            model.load_state_dict(state, assign=True)
            return model if _same_logits(model.eval(), encoder, kind, head, pooling) else None
    return None


def save_separately(encoder: PreTrainedModel, head: Head, labels: Sequence[str], folder: Path) -> None:
    """Save the encoder for `AutoModel`, and the head's two or four tensors in a file beside it."""
    encoder.config = _labelled(encoder.config, labels)
    encoder.save_pretrained(folder)
    save_file(_renamed(head, SEPARATE), folder / HEAD_FILE)


def _labelled(config: Any, labels: Sequence[str]) -> Any:
    """Copy the config and name the labels in it, if there are any."""
    config = copy.deepcopy(config)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    return config


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _renamed(head: Head, names: Mapping[str, str]) -> dict[str, Tensor]:
    state = ((name.rpartition("."), value) for name, value in head.state_dict().items())
    return {f"{names[layer]}.{last}": value for (layer, _, last), value in state if layer in names}


@torch.inference_mode()
def _same_logits(model: Any, encoder: PreTrainedModel, kind: str, head: Head, pooling: Pooling) -> bool:
    """Compare the logits of two random sequences, one of them padded."""
    padding = encoder.config.pad_token_id or 0
    ids = torch.randint(padding + 1, encoder.config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    ids[1, 6:] = padding
    inputs = {"input_ids": ids, "attention_mask": (ids != padding).long()}
    hidden = encoder(**inputs).last_hidden_state
    pooled = hidden[:, 0] if pooling == "first" else mean_vector(hidden, inputs["attention_mask"])
    ours = head.logits(hidden, pooled, inputs | {"options": torch.ones(1, 2, dtype=torch.bool)})
    if kind == "choice":
        inputs = {name: value[None] for name, value in inputs.items()}
    output = model(**inputs)
    theirs = torch.stack([output.start_logits, output.end_logits], dim=-1) if kind == "span" else output.logits
    return bool(torch.allclose(ours, theirs, atol=SAME))
