"""A guess at the kind of task that rows are, from the names of their columns and what these hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunexfer.tasks.kinds.base import Row

CONTEXTS = ("context", "passage", "paragraph", "document", "article")
QUESTIONS = ("question", "query")
TAGS = ("ner_tags", "ner", "tags", "slots", "pos_tags", "upos", "labels", "label", "xpos", "chunk_tags")
LABELS = (
    *("label", "gold_label", "labels", "class", "category", "sentiment", "intent", "target", "stance", "topic"),
    *("emotion", "polarity", "is_duplicate", "answer", "answerkey", "answer_key", "gold", "correct", "y"),
)
PAIRS = (("premise", "hypothesis"), ("question", "sentence"), ("query", "passage"), ("question", "passage"))
TEXTS = (
    *("text", "sentence", "tweet", "content", "utterance", "review", "comment", "headline", "title", "message"),
    *("question", "query", "body", "document", "premise", "article", "prompt"),
)
PROMPTS = ("context", "passage", "article", "premise", "story", "sentence", "goal", "prompt", "question", "query")
OPTIONS = ("choices", "options", "endings", "answers", "candidates", "alternatives")
OPTION_PREFIXES = ("choice", "option", "answer", "ending", "alternative", "hypothesis", "sol", "solution", "")
IDS = ("id", "idx", "guid", "uid", "qid", "q_id", "pairid", "pair_id", "index")
ENGLISH = ("english", "en", "eng", "target_sentence")
ENGLISH_WORDS = frozenset("the a is are to of and in i you it he she was we that this my your do not".split())


@dataclass
class Guess:
    """A kind of task, the columns of its fields, and what isn't sure of them."""

    kind: str
    columns: dict[str, str | list[str]]
    doubts: list[str] = field(default_factory=list)


class Columns:
    """The columns of some rows, and what they hold."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.names = list(dict.fromkeys(name for row in rows for name in row))
        self._lower = {name.lower(): name for name in reversed(self.names)}
        self._held = {name: [row[name] for row in rows if row.get(name) is not None] for name in self.names}

    def held(self, name: str) -> list[Any]:
        """The values of a column, nulls aside."""
        return self._held[name]

    def named(self, names: Sequence[str], fits: Callable[[str], bool]) -> Iterator[str]:
        """Yield the columns with one of these names that fit, in the order of the names."""
        return (self._lower[name] for name in names if name in self._lower and fits(self._lower[name]))

    def all(self, name: str, form: Callable[[Any], bool]) -> bool:
        return bool(self._held[name]) and all(map(form, self._held[name]))

    def text(self, name: str) -> bool:
        return self.all(name, lambda value: isinstance(value, str))

    def words(self, name: str) -> bool:
        return self.all(name, lambda value: _list_of(value, str))

    def scalar(self, name: str) -> bool:
        return self.all(name, lambda value: isinstance(value, str | int | float))

    def distinct(self, name: str) -> int:
        return len(set(map(str, self._held[name])))

    def length(self, name: str) -> float:
        """Mean number of characters."""
        held = self._held[name]
        return sum(len(value) for value in held) / max(1, len(held))

    def identifies(self, name: str) -> bool:
        """Tell whether every row has a value of its own."""
        return self.scalar(name) and self.distinct(name) == len(self._held[name]) > 1

    def labels(self, name: str) -> bool:
        """Tell whether values may be labels: not all different, unless they are scores such as 3.25."""
        return self.scalar(name) and (isinstance(self._held[name][0], float) or not self.identifies(name))

    @property
    def texts(self) -> list[str]:
        """The columns of text that are no labels, codes or ids, as far as their values tell."""
        return [
            name
            for name in self.names
            if self.text(name) and name.lower() not in (*IDS, "lang", "language", "split") and self._is_prose(name)
        ]

    def _is_prose(self, name: str) -> bool:
        # Few distinct values are labels, and values without any space or a letter of a long script are codes.
        held = self._held[name]
        several = self.distinct(name) > max(2, len(held) // 10)
        return several and any(" " in value or not value.isascii() for value in held)


def guess_kind(rows: Sequence[Row]) -> Guess | str:
    """Guess the kind of task that rows are, or say in a sentence why none fits."""
    columns = Columns(rows)
    for guess in (_questions, _tagging, _choices, _labelled, _translations):
        if found := guess(columns):
            ids = [name for name in columns.named(IDS, columns.identifies) if name not in found.columns.values()]
            if ids and not isinstance(columns.held(ids[0])[0], float):
                found.columns = {"id": ids[0], **found.columns}
            return found
    if texts := columns.texts:
        if any(name in columns.names for name in ("answer_start", "answer_text")):
            return "questions need a column `answers`, each with `text` and `answer_start`"
        longest = next(columns.named(TEXTS, texts.__contains__), max(texts, key=columns.length))
        doubt = "there is no column of labels, so the texts are only trained on, as a masked language model"
        return Guess("masked_lm", {"text": longest}, [doubt] if len(columns.names) > 1 else [])
    return f"no kind of task has columns such as {', '.join(columns.names) or 'none'}"


def _list_of(value: Any, *types: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, types) for item in value)


def _questions(columns: Columns) -> Guess | None:
    """Extractive QA: answers with their text and where it starts, a question and a context."""
    answers = [name for name in columns.names if columns.all(name, _is_answers) and any(columns.held(name))]
    contexts = list(columns.named(CONTEXTS, columns.text))
    named = [name for name in columns.names if name.lower().startswith(QUESTIONS) and not name.lower().endswith("id")]
    questions = [*dict.fromkeys([*columns.named(QUESTIONS, columns.text), *filter(columns.text, named)])]
    if not (answers and contexts and questions):
        return None
    doubts = [f"{', '.join(questions[1:])} may be the question too"] if questions[1:] else []
    return Guess("extractive_qa", {"question": questions[0], "context": contexts[0], "answers": answers[0]}, doubts)


def _is_answers(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, Mapping) and {"text", "answer_start"} <= item.keys() for item in items)


def _tagging(columns: Columns) -> Guess | None:
    """Tagging: a list of words, and a list of tags as long."""
    lists = [name for name in columns.names if columns.all(name, lambda value: _list_of(value, str, int))]
    words = [name for name in lists if columns.words(name)]
    if not words:
        return None
    tokens = next(columns.named(("tokens", "words", "form", "token"), words.__contains__), None)
    tokens = tokens or max(words, key=lambda name: len({word for value in columns.held(name) for word in value}))
    sizes = [len(value) for value in columns.held(tokens)]
    tags = [name for name in lists if name != tokens and [len(value) for value in columns.held(name)] == sizes]
    if not tags or (len(set(sizes)) == 1 and len(tags) == 1 and tags[0].lower() not in TAGS):
        return None
    ranked = [*columns.named(TAGS, tags.__contains__), *tags]
    others = [name for name in tags if name != ranked[0]]
    return Guess(
        "tagging", {"tokens": tokens, "tags": ranked[0]}, [f"{', '.join(others)} may be the tags too"] * bool(others)
    )


def _choices(columns: Columns) -> Guess | None:
    """Multiple choice: a column with a list of options, or several columns of options, and a label."""
    options = _options(columns)
    labels = list(columns.named(LABELS, columns.scalar))
    if not (options and labels):
        return None
    prompts = list(columns.named(PROMPTS, lambda name: columns.text(name) and name not in options))
    if not prompts:
        return None
    prompt: str | list[str] = prompts[0] if len(prompts) == 1 else prompts
    return Guess("multiple_choice", {"prompt": prompt, "options": options, "label": labels[0]})


def _options(columns: Columns) -> str | list[str] | None:
    for name in columns.named(OPTIONS, lambda name: True):
        if columns.words(name):
            return name
        if columns.all(name, lambda value: isinstance(value, Mapping) and _list_of(value.get("text"), str)):
            return f"{name}.text"
        if columns.all(name, lambda value: _list_of(value, dict) and all("text" in item for item in value)):
            return f"{name}.text"
    numbered: dict[str, list[str]] = {}
    for name in filter(columns.text, columns.names):
        if match := re.fullmatch(r"(.*?)[_ ]?(\d|[A-Ea-e])", name):
            numbered.setdefault(match[1].lower(), []).append(name)
    for prefix in OPTION_PREFIXES:
        if len(own := numbered.get(prefix, [])) > 1 and any(columns.named(PROMPTS, lambda name: name not in own)):
            return own
    return None


def _labelled(columns: Columns) -> Guess | None:
    """Classification: a label, and one text or two."""
    doubts = []
    labels = list(columns.named(LABELS, columns.labels))
    if not labels:
        labels = [name for name in columns.names if _like_labels(columns, name)]
        doubts = [f"{labels[0]!r} is taken for the label: it has few distinct values"] if labels else []
    texts = [name for name in columns.texts if name not in labels[:1]]
    texts = texts or [
        name for name in columns.names if columns.text(name) and name not in labels and name.lower() not in IDS
    ]
    if not (labels and texts):
        return None
    if len(labels) > 1:
        doubts.append(f"{', '.join(labels[1:])} may be labels too")
    pair = _pair(columns, texts)
    if pair is None and len(texts) == 2 and all(re.fullmatch(r"column\d+", name) for name in texts):
        pair = (texts[0], texts[1])
        doubts.append("two columns of text are taken for a pair")
    if pair:
        return Guess("classification", {"text": pair[0], "text_pair": pair[1], "label": labels[0]}, doubts)
    text = next(columns.named(TEXTS, texts.__contains__), max(texts, key=columns.length))
    if len(texts) > 1:
        doubts.append(f"{', '.join(name for name in texts if name != text)} may be texts too")
    return Guess("classification", {"text": text, "label": labels[0]}, doubts)


def _like_labels(columns: Columns, name: str) -> bool:
    distinct, held = columns.distinct(name), columns.held(name)
    few = columns.scalar(name) and "lang" not in name.lower() and 1 < distinct <= min(20, len(held) // 2)
    return few and name.lower() not in IDS and not isinstance(held[0], float)


def _pair(columns: Columns, texts: Sequence[str]) -> tuple[str, str] | None:
    for first, second in PAIRS:
        if len(pair := list(columns.named((first, second), texts.__contains__))) == 2:
            return pair[0], pair[1]
    for name in texts:
        for one, two in (("1", "2"), ("_a", "_b"), ("_A", "_B"), ("A", "B")):
            if name.endswith(one) and (other := name.removesuffix(one) + two) in texts:
                return name, other
    return None


def _translations(columns: Columns) -> Guess | None:
    """Retrieval: two columns of text, one of them English."""
    texts = columns.texts
    inside = [
        name
        for name in columns.names
        if columns.all(name, lambda value: isinstance(value, Mapping) and len(value) == 2)
    ]
    if inside:
        return _translation(columns, inside[0])
    if len(texts) != 2:
        return None
    english = next(columns.named(ENGLISH, texts.__contains__), None) or max(
        texts, key=lambda name: _english(columns.held(name))
    )
    [foreign] = [name for name in texts if name != english]
    doubt = [f"{english!r} is taken for the English sentences, {foreign!r} for their translations"]
    sure = english.lower() in ENGLISH or foreign.lower() in ENGLISH
    return Guess("retrieval", {"text": foreign, "english": english}, [] if sure else doubt)


def _translation(columns: Columns, name: str) -> Guess | None:
    """A column of the form `{"en": ..., "sw": ...}`."""
    keys = {key for value in columns.held(name) for key in value}
    english = [key for key in keys if key in ENGLISH]
    foreign = [key for key in keys if key not in ENGLISH]
    if len(english) != 1 or len(foreign) != 1:
        return None
    return Guess("retrieval", {"text": f"{name}.{foreign[0]}", "english": f"{name}.{english[0]}"})


def _english(texts: Sequence[str]) -> float:
    """Share of words that are frequent English ones."""
    words = [word for text in texts for word in text.lower().split()]
    return sum(word in ENGLISH_WORDS for word in words) / max(1, len(words))
