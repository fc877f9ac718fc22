"""An encoder's weights as transformers reads them, all of them from the checkpoint, split for use by a plan's trials.

Imports torch and transformers when it is used: a plan whose encoder was split before needs neither.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunexfer.core.files import whole_folder
from tunexfer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPLIT_VERSION = 2
"""Raise it when what a split encoder holds changes."""
ENCODERS_WITH_DECODERS = ("mt5", "t5", "umt5")
"""Types of encoder-decoders whose encoder transformers has a class for."""
UNREAD = "pooler."
"""Weights of these names may be missing: tunexfer's heads read hidden states alone."""
NAMED = 3
"""Names of weights in a message."""


def split_encoder(encoder: Path, content: str, cache: Path) -> Path:
    """Return the folder with an encoder's config, word embeddings and other weights apart; made once per content.

    encoder: the checkpoint's folder; content: hash of its files
    raises:  DataError, if transformers can't read it or some weight is not in its files
    """
    folder = cache / "encoders" / f"{content}-{SPLIT_VERSION}"
    if folder.is_dir():
        return folder
    from safetensors.torch import save_file

    module = read_encoder(encoder)
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    words = state.pop(word_name(module)).numpy()
    facts = {"vocabulary": len(words), "causal": _is_causal(module, len(words))}
    with whole_folder(folder) as draft:
        np.save(draft / "words.npy", words)
        save_file(state, draft / "body.safetensors")
        module.config.save_pretrained(draft)
        (draft / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def facts_of(split: Path) -> tuple[int, bool]:
    """Read what only a loaded encoder shows: rows of its word embeddings; whether a piece sees only those before it."""
    facts = json.loads((split / "facts.json").read_text(encoding="utf-8"))
    return facts["vocabulary"], facts["causal"]


def read_encoder(folder: Path) -> PreTrainedModel:
    """Load a checkpoint's encoder in float32 on the CPU; of an encoder-decoder, its encoder alone.

    raises: DataError, if transformers can't read it, needs code from the checkpoint, or finds a weight missing
    """
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()  # its report of weights that are read by heads alone
    logging.disable_progress_bar()
    config = read_config(folder)
    own, options = _model_class(config), no_pooler(config)
    try:
        module, report = own.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False, **options
        )
    except Exception as error:  # transformers and safetensors raise a dozen unrelated types
        raise DataError(
            f"{folder}: transformers can't load the encoder's weights ({type(error).__name__}: {error}). Download or "
            "save it again."
        ) from error
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith(UNREAD)):
        raise DataError(
            f"{folder}: {len(missing)} of the encoder's {len(module.state_dict())} weights are not in its files: "
            f"{_some(missing)}. The files have others that it doesn't know: "
            f"{_some(sorted(report['unexpected_keys'])) or 'none'}. If those are the same weights under another name, "
            "save the encoder by itself with `save_pretrained`."
        )
    return _encoder_alone(module)


def read_config(folder: Path) -> Any:
    """Read a checkpoint's config with a class that transformers has.

    raises: DataError, if it has none, be it that the checkpoint brings code of its own
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    plain: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if plain.get("model_type") not in CONFIG_MAPPING:
        code = " and its `auto_map` asks for code from the checkpoint, which tunexfer doesn't run"
        raise DataError(
            f"{folder / 'config.json'}: transformers has no model of the type {plain.get('model_type')!r}"
            f"{code if 'auto_map' in plain else ''}. Take an encoder that transformers has a class for."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each config class checks its fields in its own way
        raise DataError(f"{folder / 'config.json'}: transformers can't read it: {error}") from error


def new_encoder(config: Any) -> PreTrainedModel:
    """Make the module that `read_encoder` fills, without weights."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        return _encoder_alone(_model_class(config).from_config(config, **no_pooler(config)))


def no_pooler(config: Any) -> dict[str, bool]:
    """The argument that leaves out a pooler nothing of ours reads, for the models that have one."""
    own = _model_class(config)._model_mapping[type(config)]
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(own).parameters else {}


def word_name(module: PreTrainedModel) -> str:
    """Name the word embeddings' weights."""
    words = module.get_input_embeddings().weight
    return next(name for name, value in module.named_parameters() if value is words)


def _model_class(config: Any) -> Any:
    from transformers import AutoModel, AutoModelForTextEncoding

    if config.model_type in ENCODERS_WITH_DECODERS:
        return AutoModelForTextEncoding
    if config.is_encoder_decoder:
        raise DataError(
            f"{config.model_type!r} models are encoder-decoders; of these, tunexfer takes the encoders of "
            f"{', '.join(ENCODERS_WITH_DECODERS)} alone. Take another encoder."
        )
    if type(config) not in AutoModel._model_mapping:
        raise DataError(f"transformers has no encoder for configs of the type {config.model_type!r}.")
    return AutoModel


def _encoder_alone(module: PreTrainedModel) -> PreTrainedModel:
    """Take T5's encoder out of the class around it, which holds the word embeddings twice."""
    own: Any = module.encoder if module.config.model_type in ENCODERS_WITH_DECODERS else module
    encoder: PreTrainedModel = own
    return encoder


def _is_causal(module: PreTrainedModel, vocabulary: int) -> bool:
    """Try whether another last piece leaves the first one's hidden state as it is."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]]) % vocabulary
        first = module.eval()(input_ids=ids).last_hidden_state[:, 0]
    return bool(torch.equal(first[0], first[1]))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
