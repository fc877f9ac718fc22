"""Words and their parts of speech from the files of Universal Dependencies, in the words that XTREME counts.

A multi-word token ("della") is one word, not the syntactic words it stands for ("di la"). It has the part of speech of
the one that stands highest in the tree; of several as high, of the first in an order of preference. Nodes without a
form in the text are passed over, spaces and U+200C inside a form are left out, and so is a sentence whose forms are
withheld (`_`).

Source: google-research/xtreme, utils_preprocess.py and ud-conversion-tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tunexfer.errors import DataError

PREFERRED = {
    "es": "VERB AUX PRON ADP DET".split(),
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ".split(),
    "it": "VERB AUX ADV PRON ADP DET INTJ".split(),
}
PREFERRED_ELSEWHERE = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT".split()
COLUMNS = 10
ZERO_WIDTH_NON_JOINER = "\u200c"


class _Word(NamedTuple):
    form: str
    tag: str
    heads: frozenset[int]
    """Of the tree and of the enhanced graph; 0 is the root."""


def conllu_rows(file: Path, language: str) -> Iterator[dict[str, list[str]]]:
    """`tokens` and `pos_tags` of each sentence of a CoNLL-U file.

    language: decides which part of speech is preferred
    """
    preferred = PREFERRED.get(language, PREFERRED_ELSEWHERE)
    for number, lines in _sentences(file):
        try:
            tokens, tags = _fused(lines, preferred)
        except (ValueError, KeyError) as error:
            raise DataError(f"{file}, line {number}: no sentence of CoNLL-U's ten columns: {error}") from error
        withheld = tokens.count("_")
        if withheld == 0 or withheld < len(tokens) - 1:
            yield {"tokens": tokens, "pos_tags": tags}


def conllu_length(file: Path) -> int:
    """Sentences of a CoNLL-U file whose forms aren't withheld, told from their first words."""
    with file.open("rb") as lines:
        return sum(line.startswith(b"1\t") and not line.startswith(b"1\t_\t") for line in lines)


def _sentences(file: Path) -> Iterator[tuple[int, list[list[str]]]]:
    """The columns of every line of a sentence, with the number of its first line."""
    begin, sentence = 1, []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.startswith("#"):
                sentence.append(line.rstrip("\n").split("\t"))
            elif not line.strip():
                if sentence:
                    yield begin, sentence
                begin, sentence = number + 1, []
    if sentence:
        yield begin, sentence


def _fused(lines: list[list[str]], preferred: list[str]) -> tuple[list[str], list[str]]:
    words: dict[int, _Word] = {}
    fused: dict[int, tuple[str, range]] = {}
    for columns in lines:
        if len(columns) != COLUMNS:
            raise ValueError(f"{len(columns)} columns in {columns[:2]}")
        number, form, tag, head, graph = (columns[place] for place in (0, 1, 3, 6, 8))
        first, _, last = number.partition("-")
        if last:
            fused[int(first)] = form, range(int(first), int(last) + 1)
        elif "." not in number:
            others = (one.partition(":")[0] for one in graph.split("|"))
            words[int(number)] = _Word(form, tag, frozenset(int(one) for one in (head, *others) if one.isdigit()))
    tokens, tags, place = [], [], 1
    while place <= len(words):
        form, span = fused.get(place, (words[place].form, range(place, place + 1)))
        tokens.append(form.replace(ZERO_WIDTH_NON_JOINER, "").replace(" ", ""))
        tags.append(words[_highest(span, words, preferred)].tag)
        place = span.stop
    return tokens, tags


def _highest(span: range, words: Mapping[int, _Word], preferred: list[str]) -> int:
    """Which word of a span has the fewest words above it; of several, the one whose part of speech is preferred."""
    if len(span) == 1:
        return span.start
    above = {word: len(_above(word, words)) for word in span}
    highest = [word for word in span if above[word] == min(above.values())]
    rank = {tag: place for place, tag in enumerate(preferred)}
    return min(highest, key=lambda word: rank.get(words[word].tag, len(rank)))


def _above(word: int, words: Mapping[int, _Word]) -> set[int]:
    """Every head on the way to the root, the root included."""
    found: set[int] = set()
    waiting = [word]
    while waiting:
        new = words[waiting.pop()].heads - found
        found |= new
        waiting += new - {0}
    return found - {word}
