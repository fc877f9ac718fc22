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
    return [encoding.ids for encoding in _uncut(tokenizer).encode_batch_fast(texts, add_special_tokens=False)]


def bare_encodings(tokenizer: Tokenizer, texts: Sequence[str]) -> Any:
    """The tokenizer's encodings of each text, with ids and offsets, uncut and without special pieces."""
    return _uncut(tokenizer).encode_batch(texts, add_special_tokens=False)


def word_encodings(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> Any:
    """The encodings of sentences that are given as words, with ids and words, uncut and without special pieces.

    A word has the pieces that it has in running text, after a space. Byte-level BPE and Gemma's tokenizer, which
    ModernBERT and mmBERT use, put no space before a word that is given on its own, so it is given with one.
    """
    if spaces_needed(tokenizer):
        sentences = [[f" {word}" for word in sentence] for sentence in sentences]
    return _uncut(tokenizer).encode_batch(sentences, is_pretokenized=True, add_special_tokens=False)


def _uncut(tokenizer: Tokenizer) -> Any:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def spaces_needed(tokenizer: Tokenizer) -> bool:
    """Tell whether a word on its own is encoded as in running text only with a space before it."""

    def second(*texts: str, words: bool) -> list[int]:
        """The pieces that the last text, or word, adds to those before it."""

        def ids(own: Sequence[str]) -> list[int]:
            text = list(own) if words else "".join(own)
            found: list[int] = tokenizer.backend_tokenizer.encode(
                text, is_pretokenized=words, add_special_tokens=False
            ).ids
            return found

        return ids(texts)[len(ids(texts[:-1])) :]

    running = second("a", " a", words=False)
    return second("a", "a", words=True) != running == second("a", " a", words=True)


def truncated(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """The pieces of each text with the special ones around it, at most `max_length`."""
    return [encoding.ids for encoding in framed(tokenizer, texts, max_length)]


def framed(tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]], max_length: int) -> Any:
    """The encodings of each text or pair with the special pieces around it, with ids and token types alone.

    They have at most `max_length` pieces; the longer of two texts is cut first.
    """
    backend = _uncut(tokenizer)
    backend.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    return backend.encode_batch_fast(texts)
