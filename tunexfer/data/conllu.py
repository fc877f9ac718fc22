"""Words and parts of speech from the CoNLL-U files of Universal Dependencies, by XTREME's rules.

A multi-word token ("della") is one word, not the syntactic words it stands for ("di la"), unless `read: {words:
syntactic}` asks for these. Its tags are those of the syntactic word that is highest in the tree; ties are broken by an
order of preference, then by position. Empty nodes are skipped, spaces and U+200C inside a form are removed, and a
sentence whose forms are withheld (`_`) is left out.

Source: google-research/xtreme, utils_preprocess.py and ud-conversion-tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tunexfer.data.text import numbered_lines
from tunexfer.errors import DataError
from tunexfer.tasks.suite import ReadOptions

PREFERRED = {
    "es": "VERB AUX PRON ADP DET".split(),
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ".split(),
    "it": "VERB AUX ADV PRON ADP DET INTJ".split(),
}
PREFERRED_ELSEWHERE = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT".split()
COLUMNS = 10
TAGS = {"pos_tags": 3, "xpos_tags": 4, "feats": 5}
"""Columns of our rows -> their places in the file: universal and the treebank's own parts of speech, and features."""
ZERO_WIDTH_NON_JOINER = "\u200c"


class _Word(NamedTuple):
    form: str
    tag: str
    columns: list[str]
    heads: frozenset[int]
    """Heads in the tree and in the enhanced graph; 0 is the root."""


def conllu_rows(file: Path, language: str, options: ReadOptions) -> Iterator[dict[str, list[str]]]:
    """Yield `tokens` and the columns of `TAGS` of each sentence; the language decides which tag is preferred."""
    preferred = PREFERRED.get(language, PREFERRED_ELSEWHERE)
    for number, lines in _sentences(file, options.encoding):
        try:
            tokens, words = _fused(lines, preferred, split=options.words == "syntactic")
        except (ValueError, KeyError) as error:
            raise DataError(f"{file}, line {number}: not a sentence in the ten columns of CoNLL-U: {error}") from error
        withheld = tokens.count("_")
        if withheld == 0 or withheld < len(tokens) - 1:
            yield {"tokens": tokens} | {name: [word.columns[at] for word in words] for name, at in TAGS.items()}


def _sentences(file: Path, encoding: str | None) -> Iterator[tuple[int, list[list[str]]]]:
    """Yield the columns of every line of a sentence, with the number of its first line."""
    begin, sentence = 1, []
    for number, line in numbered_lines(file, encoding):
        if line.strip() and not line.startswith("#"):
            sentence.append(line.split("\t"))
        elif not line.strip():
            if sentence:
                yield begin, sentence
            begin, sentence = number + 1, []
    if sentence:
        yield begin, sentence


def _fused(lines: list[list[str]], preferred: list[str], *, split: bool) -> tuple[list[str], list[_Word]]:
    """Return the forms of a sentence and the syntactic word that stands for each; `split` keeps those apart."""
    words: dict[int, _Word] = {}
    fused: dict[int, tuple[str, range]] = {}
    for columns in lines:
        if len(columns) != COLUMNS:
            raise ValueError(f"{len(columns)} columns in {columns[:2]}")
        number, form, tag, head, graph = (columns[place] for place in (0, 1, 3, 6, 8))
        first, _, last = number.partition("-")
        if last:
            if not split:
                fused[int(first)] = form, range(int(first), int(last) + 1)
        elif "." not in number:
            heads = (head, *(edge.partition(":")[0] for edge in graph.split("|")))
            words[int(number)] = _Word(
                form, tag, columns, frozenset(int(parent) for parent in heads if parent.isdigit())
            )
    tokens, chosen, place = [], [], 1
    while place <= len(words):
        form, span = fused.get(place, (words[place].form, range(place, place + 1)))
        tokens.append(form.replace(ZERO_WIDTH_NON_JOINER, "").replace(" ", ""))
        chosen.append(words[_highest(span, words, preferred)])
        place = span.stop
    return tokens, chosen


def _highest(span: range, words: Mapping[int, _Word], preferred: list[str]) -> int:
    """Find the word of a span with the fewest words above it; ties are broken by the preferred part of speech."""
    if len(span) == 1:
        return span.start
    above = {word: len(_above(word, words)) for word in span}
    highest = [word for word in span if above[word] == min(above.values())]
    rank = {tag: place for place, tag in enumerate(preferred)}
    return min(highest, key=lambda word: rank.get(words[word].tag, len(rank)))


def _above(word: int, words: Mapping[int, _Word]) -> set[int]:
    """Collect every head on the way to the root, the root included."""
    heads: set[int] = set()
    waiting = [word]
    while waiting:
        new = words[waiting.pop()].heads - heads
        heads |= new
        waiting += new - {0}
    return heads - {word}
