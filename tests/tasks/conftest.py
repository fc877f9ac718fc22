from __future__ import annotations

from collections.abc import Callable
from string import ascii_lowercase
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def _letters(second_type: int) -> Any:
    """A word of n letters has n pieces; 0 begins a text, 1 ends it, 2 is unknown. `a` is 3, and a later `a` 29."""
    vocabulary = ["[CLS]", "[SEP]", "[UNK]", *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase)]
    places = {piece: place for place, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(places, unk_token="[UNK]", max_input_chars_per_word=500))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B:{second_type} [SEP]:{second_type}",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


@pytest.fixture(scope="session")
def letters() -> Any:
    """A tokenizer with one piece a letter."""
    return _letters(second_type=0)


@pytest.fixture(scope="session")
def typed_letters() -> Any:
    """The same, marking the second of two texts as BERT's tokenizers do."""
    return _letters(second_type=1)


@pytest.fixture(scope="session")
def ids() -> Callable[[str], list[int]]:
    """Pieces of bare text: `ids("ab")` is the one for a first `a` and the one for a following `b`."""

    def pieces(text: str) -> list[int]:
        return [
            ascii_lowercase.index(letter) + (3 if place == 0 else 29)
            for word in text.split()
            for place, letter in enumerate(word)
        ]

    return pieces
