"""Interface messages and their human translations, from Django's gettext catalogues."""

from __future__ import annotations

import gettext
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from tunexfer_starter.packages import chance, installed
from tunexfer_starter.rows import Row, Split

LOCALES = {"zh": "zh_Hans"}
UNFIT = re.compile(r"[%{}<>&_=@/:#\d\\]|[A-Z]{2,}|[a-z][A-Z]|\.\w")
"""Placeholders, identifiers, acronyms, digits: copied rather than translated, so they could be matched unread."""
MOST_WORDS = 8
FEWEST_LETTERS = 4
TYPICAL_LETTERS = 11


@dataclass(frozen=True, slots=True)
class Message:
    english: str
    split: Split
    """The same in every language."""
    texts: dict[str, str] = field(default_factory=dict)
    """Translations by language."""


class Messages:
    def __init__(self, languages: list[str]) -> None:
        table: dict[str, Message] = {}
        for language in languages:
            for english, text in _translations(language):
                if english not in table:
                    table[english] = Message(english, _split(english))
                table[english].texts.setdefault(language, text)
        self.all = list(table.values())
        chance("messages").shuffle(self.all)

    def of(self, language: str, split: Split) -> list[Message]:
        """Return the messages translated into `language`. A text in two splits stays in the earlier one only."""
        order: tuple[Split, ...] = ("train", "validation", "test")
        earlier = {
            m.texts[language] for m in self.all if language in m.texts and order.index(m.split) < order.index(split)
        }
        found: list[Message] = []
        for message in self.all:
            text = message.texts.get(language)
            if message.split == split and text and text not in earlier:
                earlier.add(text)
                found.append(message)
        return found

    def fours(self, language: str, split: Split, *, shift: int = 0) -> list[list[Message]]:
        """Group messages by four of about the same length in `language`, so that length doesn't reveal the translation.

        shift: number of messages to leave out at the start, which gives other groups
        """
        found = sorted(self.of(language, split), key=lambda m: (m.texts[language].count(" "), len(m.texts[language])))
        fours = [found[i : i + 4] for i in range(shift, len(found) - 3, 4)]
        chance("fours", language, split, shift).shuffle(fours)
        return fours


def _split(english: str) -> Split:
    share = chance("message", english).random()
    return "train" if share < 0.46 else "validation" if share < 0.64 else "test"


def _translations(language: str) -> Iterator[tuple[str, str]]:
    """Yield English messages and their translations, letters only, from every part of Django that has the language."""
    locale = LOCALES.get(language, language)
    for path in sorted(installed("Django", "django").glob(f"**/locale/{locale}/LC_MESSAGES/django.mo")):
        with path.open("rb") as file:
            catalogue: dict[object, str] = vars(gettext.GNUTranslations(file))["_catalog"]
        for key, text in catalogue.items():
            if isinstance(key, str) and key and not UNFIT.search(key) and not re.search(r"[%{}<>&_\d]", text):
                english, foreign = _letters(key.split("\x04")[-1]), _letters(text)
                fits = len(english) >= FEWEST_LETTERS and len(english.split()) <= MOST_WORDS
                if fits and foreign and foreign.lower() != english.lower():
                    yield english, foreign


def _letters(text: str) -> str:
    """Keep letters, marks, joiners, hyphens and apostrophes, in lower case; the rest would align without reading."""
    kept = (c if unicodedata.category(c)[0] in "LM" or c in "'-\u200c\u200d" else " " for c in text.replace("’", "'"))
    words = (word.strip("'-") for word in "".join(kept).lower().split())
    return " ".join(word for word in words if word)


def retrieval(messages: Messages, language: str, split: Split) -> Iterator[Row]:
    """Yield messages of typical length first: long ones could be matched by their length."""
    found = messages.of(language, split)
    for message in sorted(found, key=lambda m: abs(math.log(len(m.english) / TYPICAL_LETTERS))):
        yield {
            "id": f"{language}/{message.english}",
            "cluster": message.english,
            "text": message.texts[language],
            "english": message.english,
        }


def match(messages: Messages, language: str, split: Split) -> Iterator[Row]:
    """Pair each English message with its translation, and with its neighbour's."""
    for four in messages.fours(language, split):
        for message, other in zip(four, four[1:] + four[:1], strict=True):
            for label, shown in (("match", message), ("no_match", other)):
                yield {
                    "id": f"{language}/{message.english}/{label}",
                    "cluster": message.english,
                    "text": message.english,
                    "text_pair": shown.texts[language],
                    "label": label,
                }


def choice(messages: Messages, language: str, split: Split) -> Iterator[Row]:
    """Ask which of four options is the translation. Four options serve four questions, and each is asked twice."""
    for shift in (0, 2):
        for four in messages.fours(language, split, shift=shift):
            for message in four:
                options = list(four)
                chance("choice", language, message.english, shift).shuffle(options)
                yield {
                    "id": f"{language}/{message.english}/{shift}",
                    "cluster": message.english,
                    "prompt": message.english,
                    "options": [option.texts[language] for option in options],
                    "label": options.index(message),
                }
