"""Random sentences from the templates of the intents package, which hassil parses.

hassil's own sampler enumerates every wording in order and doesn't say where the slots are; this one draws a wording at
random and keeps their spans.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from unicodedata import category

from hassil.expression import Alternative, Expression, Group, ListReference, Permutation, RuleReference, TextChunk
from hassil.parse_expression import parse_sentence

SPACES = re.compile(r"\s+")
INNER = "'’-\u200c\u200d"
"""Characters allowed in a word besides letters and their marks."""
USUAL = 0.6
"""Probability of taking the first wording of a choice, its usual one, and of omitting an optional word."""

Piece = tuple[str, str | None]
"""Some text, and the tag of the slot that it fills."""
Span = tuple[int, int, str]
"""Start and end in characters, and the tag."""


class Missing(Exception):
    """A list or rule that the template needs has no words."""


@cache
def parse(template: str) -> Expression:
    return parse_sentence(template).expression


def draw(
    expression: Expression, rules: dict[str, str], fill: Callable[[str, str], Piece], rng: random.Random
) -> list[Piece]:
    """Draw a wording of `expression`, piece by piece.

    rules: the templates that `<name>` stands for
    fill:  the words for a list and slot name, `{list:slot}`
    """
    if isinstance(expression, TextChunk):
        return [(expression.original_text, None)]
    if isinstance(expression, ListReference):
        return [fill(expression.list_name, expression.slot_name)]
    if isinstance(expression, RuleReference):
        if expression.rule_name not in rules:
            raise Missing(expression.rule_name)
        return draw(parse(rules[expression.rule_name]), rules, fill, rng)
    assert isinstance(expression, Group)
    if isinstance(expression, Alternative):
        choices = expression.items[:-1] if expression.is_optional else expression.items
        if expression.is_optional and rng.random() < USUAL:
            return []
        return draw(choices[0] if rng.random() < USUAL else rng.choice(choices), rules, fill, rng)
    items = list(expression.items)
    if isinstance(expression, Permutation) and rng.random() >= USUAL:
        rng.shuffle(items)
    drawn: list[Piece] = []
    for item in items:
        pieces = draw(item, rules, fill, rng)
        after_slot = drawn and drawn[-1][1] and isinstance(item, Alternative) and item.is_optional
        if not (after_slot and _starts_with_letter(pieces)):
            drawn += pieces  # else it is an ending, `{area}[ssa|ssä]`, and the right one depends on the filler
    return drawn


def _starts_with_letter(pieces: list[Piece]) -> bool:
    return "".join(text for text, _ in pieces)[:1].isalpha()


def assemble(pieces: list[Piece]) -> tuple[str, list[Span]]:
    """Join pieces to a text in lower case without punctuation, which would reveal labels, and its slots' spans."""
    text, spans = "", []
    for words, tag in pieces:
        words = SPACES.sub(" ", "".join(c if c in INNER or category(c)[0] in "LMN" else " " for c in words.lower()))
        words = words.strip() if tag else words
        words = words.lstrip() if not text or text.endswith(" ") else words
        if tag and words:
            spans.append((len(text), len(text) + len(words), tag))
        text += words
    return text.rstrip(), spans
