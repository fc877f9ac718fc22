"""Compilation of a character map to sentencepiece's precompiled form, which the tokenizers library takes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

LEAF = 1 << 8
VALUE = 1 << 31


def charsmap(mapping: Mapping[str, str]) -> bytes:
    """Compile `mapping`, from single characters to texts, to a Darts double array over UTF-8 bytes and its texts.

    A unit's lowest byte is the byte that leads to it; bits 10 to 30 give the position of its children, as an XOR with
    its own; bit 8 marks the end of a key, and then the child under byte 0 holds the offset of its text.
    """
    texts, starts = b"", {}
    for text in dict.fromkeys(mapping.values()):
        starts[text] = len(texts)
        texts += text.encode() + b"\0"
    tree: dict[int, Any] = {}
    for character, text in mapping.items():
        node = tree
        for byte in character.encode():
            node = node.setdefault(byte, {})
        node[0] = starts[text]
    inner, leaves = _nodes(tree)
    units = np.zeros(256 * (len(inner) + 1) + len(leaves), dtype="<u4")
    place = {id(tree): 0}
    for number, node in enumerate(inner, start=1):  # a block of 256 places for the children of each
        own, base = place[id(node)], 256 * number
        units[own] |= (own ^ base) << 10
        for byte, child in node.items():
            units[base ^ byte] = byte
            place[id(child)] = base ^ byte
    for base, node in enumerate(leaves, start=256 * (len(inner) + 1)):
        own = place[id(node)]
        units[own] |= (own ^ base) << 10 | LEAF
        units[base] = VALUE | node[0]
    return struct.pack("<I", units.nbytes) + units.tobytes() + texts


def _nodes(tree: dict[int, Any]) -> tuple[list[dict[int, Any]], list[dict[int, Any]]]:
    """Return nodes with children, parents first, and nodes where a key ends. No character is a prefix of another."""
    inner: list[dict[int, Any]] = [tree]
    leaves: list[dict[int, Any]] = []
    for node in inner:
        for child in node.values():
            (leaves if 0 in child else inner).append(child)
    return inner, leaves
