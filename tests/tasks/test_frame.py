"""Texts as pieces: the tokenizer is called below transformers, and gives what it gives through transformers."""

from __future__ import annotations

import pytest
from families import FAMILIES, WORDS, tiny_tokenizer

from tunexfer.tasks.kinds.frame import bare_encodings, framed, pieces, truncated

TEXTS = ["", "a", " ".join(WORDS[:4]), f"  {WORDS[0]}\t{WORDS[1]} ", " ".join(WORDS[:40]), "\u00e9\u0301 \U0001d518 ?!"]
PAIRS = [(first, second) for first in TEXTS[1:] for second in TEXTS[1:]]


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_those_of_transformers(family: str) -> None:
    own, theirs = tiny_tokenizer(family), tiny_tokenizer(family)
    first, second = (list(side) for side in zip(*PAIRS, strict=True))
    cut = {"truncation": "longest_first", "max_length": 16}
    for _ in range(2):  # one call leaves no truncation to the next
        assert truncated(own, TEXTS, 16) == theirs(TEXTS, **cut)["input_ids"]
        assert pieces(own, TEXTS) == theirs(TEXTS, add_special_tokens=False)["input_ids"]
        bare = theirs(TEXTS, add_special_tokens=False, return_offsets_mapping=True)
        assert [encoding.offsets for encoding in bare_encodings(own, TEXTS)] == bare["offset_mapping"]
        joined, expected = framed(own, PAIRS, 16), theirs(first, second, return_token_type_ids=True, **cut)
        assert [encoding.ids for encoding in joined] == expected["input_ids"]
        assert [encoding.type_ids for encoding in joined] == expected["token_type_ids"]
