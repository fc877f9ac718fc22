"""The special pieces a tokenizer puts around one text and between two, so that pieces can be cut before joining."""

from __future__ import annotations

from dataclasses import dataclass

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
        """How many pieces it takes."""
        return len(self.before) + len(self.between) + len(self.after)

    def join(self, first: list[int], second: list[int] | None = None) -> Feature:
        """`input_ids` of one or two texts' pieces, with `token_type_ids` where they are not all 0."""
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
    """Read off an encoded example which pieces belong to neither text."""
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


def pieces(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The bare pieces of each text, uncut."""
    ids: list[list[int]] = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    return ids
