"""Texts as pieces, and the special pieces that a tokenizer puts around one text and between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunexfer.tasks.kinds.base import Feature, Tokenizer


@dataclass(frozen=True, slots=True)
class Frame:
    before: tuple[int, ...]
    between: tuple[int, ...]
    """Empty for a single text."""
    after: tuple[int, ...]
    types: tuple[int, ...]
    """Token types of `before`, first text, `between`, second text, `after`."""

    @property
    def size(self) -> int:
        """Number of special pieces."""
        return len(self.before) + len(self.between) + len(self.after)

    def join(self, first: list[int], second: list[int] | None = None) -> Feature:
        """Join the pieces of one or two texts to `input_ids`, with `token_type_ids` if they are not all 0."""
        parts = [list(self.before), first, list(self.between), second or [], list(self.after)]
        feature: Feature = {"input_ids": [piece for part in parts for piece in part]}
        if any(self.types):
            feature["token_type_ids"] = [t for t, part in zip(self.types, parts, strict=True) for _ in part]
        return feature


def single_frame(tokenizer: Tokenizer) -> Frame:
    return _frame(tokenizer("a"))


def pair_frame(tokenizer: Tokenizer) -> Frame:
    return _frame(tokenizer("a", "a"))


def _frame(encoded: Tokenizer) -> Frame:
    """Find the pieces of an encoded example that belong to neither text."""
    example = encoded.encodings[0]
    ids, texts, types = example.ids, example.sequence_ids, example.type_ids
    first, last = texts.index(0), len(texts) - texts[::-1].index(0)
    if 1 not in texts:
        between, second, after = last, last, last
    else:
        between, second, after = last, texts.index(1), len(texts) - texts[::-1].index(1)
    starts = [0, first, between, second, after]
    return Frame(
        before=tuple(ids[:first]),
        between=tuple(ids[between:second]),
        after=tuple(ids[after:]),
        types=tuple(types[start] if start < len(types) else 0 for start in starts),
    )


def pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The pieces of each text, uncut and without special ones."""
    return [encoding.ids for encoding in bare_encodings(tokenizer, texts)]


def bare_encodings(tokenizer: Tokenizer, texts: Sequence[Any], **options: bool) -> Any:
    """The tokenizer's encodings of each text, with ids, offsets and words, uncut and without special pieces."""
    return tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **options,
    ).encodings


def truncated(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """The pieces of each text with the special ones around it, at most `max_length`."""
    ids: list[list[int]] = tokenizer(
        texts, truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    return ids
