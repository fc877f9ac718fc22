"""Tiny random encoders of the families that people use, each with a tokenizer of its family's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pico import ALPHABETS, COLOURS, FILLERS, MARKS, PLACES, THINGS, pico_tokenizer

FAMILIES = ("xlm-r", "xlm-r-xl", "mbert", "distilbert", "mdeberta", "mmbert", "eurobert", "minilm", "labse")
WORDS = [word for table in (THINGS, COLOURS, PLACES, FILLERS) for text in table.values() for word in text.split()]
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 130,
}  # fmt: skip


def family_encoder(family: str, folder: Path) -> Path:
    """Write a checkpoint of the family, as its authors publish it (with a language head or without), to `folder`."""
    import torch

    tokenizer, build = tiny_tokenizer(family), _model(family)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    return folder


def _model(family: str) -> Any:
    import transformers as hf

    distil = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 130}
    deberta = SIZES | {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True,
        "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
    }  # fmt: skip
    classes = {
        "xlm-r": (hf.XLMRobertaConfig, hf.XLMRobertaForMaskedLM, SIZES),
        "xlm-r-xl": (hf.XLMRobertaXLConfig, hf.XLMRobertaXLForMaskedLM, SIZES),
        "mbert": (hf.BertConfig, hf.BertForMaskedLM, SIZES),
        "distilbert": (hf.DistilBertConfig, hf.DistilBertForMaskedLM, distil),
        "mdeberta": (hf.DebertaV2Config, hf.DebertaV2ForMaskedLM, deberta),
        "mmbert": (hf.ModernBertConfig, hf.ModernBertForMaskedLM, SIZES),
        "eurobert": (hf.EuroBertConfig, hf.EuroBertForMaskedLM, SIZES | {"num_key_value_heads": 2}),
        "minilm": (hf.BertConfig, hf.BertModel, SIZES),
        "labse": (hf.BertConfig, hf.BertModel, SIZES),
    }
    config, model, sizes = classes[family]
    return lambda **more: model(config(**sizes, **more))


def tiny_tokenizer(family: str) -> Any:
    """Make a fast tokenizer of a few hundred pieces that reads the pico suite."""
    from transformers import PreTrainedTokenizerFast

    if family in ("mbert", "distilbert", "labse"):
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
        return PreTrainedTokenizerFast(
            tokenizer_object=_word_piece(), mask_token="[MASK]", **names, model_max_length=128
        )
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    if family == "eurobert":  # as Llama's: no unknown piece, and the padding among the last ones
        return PreTrainedTokenizerFast(tokenizer_object=byte_level(), **names, model_max_length=128)
    own = _gemma() if family == "mmbert" else pico_tokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<unk>", **names, model_max_length=128)


def _framed(tokenizer: Any, cls: str, sep: str) -> Any:
    from tokenizers import processors

    ids = [(name, tokenizer.token_to_id(name)) for name in (cls, sep)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B:1 {sep}:1", special_tokens=ids
    )
    return tokenizer


def _word_piece() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = (ALPHABETS + MARKS).replace(" ", "")
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *dict.fromkeys([*WORDS, *letters]),
        *(f"##{x}" for x in letters),
    ]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _framed(tokenizer, "[CLS]", "[SEP]")


def _gemma() -> Any:
    """Byte-fallback BPE on text whose spaces are `▁`, with none put before the first word: Gemma 2's, mmBERT's."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    special = ["<pad>", "</s>", "<s>", "<unk>", "<mask>"]
    letters = ["▁", *dict.fromkeys((ALPHABETS + MARKS).replace(" ", ""))]
    merges = [("▁", letter) for letter in "abcdefghijklmnop"]
    vocabulary = dict.fromkeys([*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *map("".join, merges)])
    tokenizer = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(vocabulary)}, merges, byte_fallback=True, unk_token="<unk>"
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _framed(tokenizer, "<s>", "</s>")


def byte_level() -> Any:
    """Byte-level BPE without a space before the first word: GPT-2's, RoBERTa's, ModernBERT's, Llama 3's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 2, trainer)
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>", "<mask>"])
    return _framed(tokenizer, "<s>", "</s>")
