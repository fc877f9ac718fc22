"""The four tasks made from commands: intents, slots, questions about slots, and paraphrases."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from tunexfer_starter.commands import Command
from tunexfer_starter.rows import Row, evenly, evenly_in_size
from tunexfer_starter.templates import Span

THAI = r"[\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46][\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]*"
TOKEN = re.compile(rf"\d+|[\u4e00-\u9fff]|{THAI}|[^\s\d\W\u4e00-\u9fff\u0e00-\u0e7f](?:[^\s\d!-/:-@°]|['’-])*|\S")
"""Numbers, words, single signs; in Chinese and Thai, which write no spaces, each character with its marks."""

QUESTIONS = {
    "area": "Which room is it about?",
    "device": "Which device is it about?",
    "name": "What is it called?",
    "item": "Which product is it about?",
    "state": "Which state is asked about?",
    "color": "Which color is wanted?",
    "level": "Which level is wanted?",
    "temperature": "Which temperature is wanted?",
    "hours": "How many hours?",
    "minutes": "How many minutes?",
    "seconds": "How many seconds?",
}


def intent(commands: list[Command]) -> Iterator[Row]:
    for command in evenly_in_size(commands, lambda c: c.label, lambda c: (len(c.text), len(c.text.split()))):
        yield _row(command, text=command.text, label=command.label)


def slots(commands: list[Command]) -> Iterator[Row]:
    for command in evenly((c for c in commands if c.spans), lambda c: c.label):
        tokens, tags = tag(command.text, command.spans)
        yield _row(command, tokens=tokens, tags=tags)


def tag(text: str, spans: tuple[Span, ...]) -> tuple[list[str], list[str]]:
    """Split `text` into tokens, and tag each one that overlaps a slot as its beginning (B-) or continuation (I-)."""
    tokens, tags, last = [], [], None
    for token in TOKEN.finditer(text):
        span = next((s for s in spans if token.start() < s[1] and token.end() > s[0]), None)
        tokens.append(token.group())
        tags.append(f"{'I' if span == last else 'B'}-{span[2]}" if span else "O")
        last = span
    return tokens, tags


def question(commands: list[Command]) -> Iterator[Row]:
    """Ask about each slot of commands with at least two kinds of slot, so that the question has to be read."""
    for command in evenly(commands, lambda c: frozenset(kind for *_, kind in c.spans)):
        kinds = Counter(kind for *_, kind in command.spans)
        for start, end, kind in command.spans if len(kinds) > 1 else ():
            if kinds[kind] == 1:
                answers = {"text": [command.text[start:end]], "answer_start": [start]}
                row = _row(command, question=QUESTIONS[kind], context=command.text, answers=answers)
                yield row | {"id": f"{row['id']}/{kind}"}


def same(commands: list[Command]) -> Iterator[Row]:
    """Pair commands with the same words in their slots, same or different in meaning. Four commands make four rows."""
    groups: dict[object, dict[str, list[Command]]] = defaultdict(lambda: defaultdict(list))
    for command in commands:
        slots = frozenset((kind, command.text[start:end]) for start, end, kind in command.spans)
        groups[slots][command.meaning].append(command)
    fours = (four for by_meaning in groups.values() for four in _fours(by_meaning))
    for first, second in evenly(fours, lambda four: frozenset(pair[0].label for pair in four)):
        for (a, b), label in (
            (first, "same"),
            (second, "same"),
            ((first[0], second[1]), "different"),
            ((second[0], first[1]), "different"),
        ):
            row = _row(a, text=a.text, text_pair=b.text, label=label)
            yield row | {"id": f"{row['id']}={b.template}/{b.number}"}


Pair = tuple[Command, Command]


def _fours(by_meaning: dict[str, list[Command]]) -> Iterator[tuple[Pair, Pair]]:
    """Yield two paraphrases of one meaning beside two of another, using no command twice."""
    pairs = {meaning: list(_pairs(commands)) for meaning, commands in by_meaning.items()}
    while True:
        most = sorted((meaning for meaning in pairs if pairs[meaning]), key=lambda m: (-len(pairs[m]), m))[:2]
        if len(most) < 2:
            return
        yield pairs[most[0]].pop(0), pairs[most[1]].pop(0)


def _pairs(commands: list[Command]) -> Iterator[Pair]:
    """Pair up commands from different templates."""
    waiting: list[Command] = []
    for command in commands:
        partner = next((c for c in waiting if c.template != command.template), None)
        if partner is None:
            waiting.append(command)
        else:
            waiting.remove(partner)
            yield partner, command


def _row(command: Command, **columns: object) -> Row:
    return {"id": f"{command.template}/{command.number}", "cluster": command.template, **columns}
