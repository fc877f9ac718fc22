"""Exact match and F1 of extracted answers, by the rules of SQuAD v1.1 and of MLQA."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from tunexfer.errors import DataError

Rules = Literal["squad", "mlqa"]

_ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ARTICLES = {
    "en": _ENGLISH_ARTICLES,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    "ar": re.compile("ال"),  # anywhere in a word: the benchmark's own rule
    "hi": None,
    "zh": None,
}
_IDEOGRAPH = re.compile("([\u4e00-\u9fa5])")


def normalise_squad(text: str) -> str:
    """Lower-case, and remove ASCII punctuation, English articles and extra spaces, whatever the language."""
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(_ENGLISH_ARTICLES.sub(" ", bare).split())


def normalise_mlqa(text: str, language: str) -> str:
    """Lower-case, and remove Unicode punctuation and the language's articles; split Chinese into characters."""
    if language not in _ARTICLES:
        raise DataError(
            f"MLQA's rules for answers cover {', '.join(sorted(_ARTICLES))}, not {language!r}. "
            "Set `answer_language_rules: squad` for this task."
        )
    bare = "".join(char for char in text.lower() if not _is_punctuation(char))
    articles = _ARTICLES[language]
    if articles:
        bare = articles.sub(" ", bare)
    if language == "zh":
        bare = _IDEOGRAPH.sub(r" \1 ", bare)
    return " ".join(bare.split())


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")


def normaliser(rules: Rules, language: str) -> Callable[[str], str]:
    return normalise_squad if rules == "squad" else lambda text: normalise_mlqa(text, language)


def answer_scores(prediction: str, golds: Sequence[str], normalise: Callable[[str], str]) -> tuple[float, float]:
    """Compute exact match and F1, each against the gold answer that it is highest for, in [0, 1].

    golds: every accepted answer; without any, the right prediction is empty
    """
    predicted = normalise(prediction)
    if not golds:
        return float(not predicted), float(not predicted)
    pairs = [(predicted, normalise(gold)) for gold in golds]
    return max(float(guess == gold) for guess, gold in pairs), max(_token_f1(guess, gold) for guess, gold in pairs)


def _token_f1(prediction: str, gold: str) -> float:
    """Compute the F1 of two bags of words; 0 if they share none, also if both are empty, as in SQuAD v1.1."""
    predicted, expected = prediction.split(), gold.split()
    common = sum((Counter(predicted) & Counter(expected)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(expected)
    return 2 * precision * recall / (precision + recall)
