"""Extractive question answering: find the answer to a question in a passage.

Windows and decoding are those of the XTREME and SQuAD scripts: a long passage is split into overlapping windows, and a
span may start at a piece only in the window that gives the piece the most context.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Answer, Feature, Kind, LeftOut, Output, Row, Scored, Tokenizer, canonical
from tunexfer.tasks.kinds.columns import identity, text, value
from tunexfer.tasks.kinds.frame import Frame, bare_encodings, pair_frame, pieces
from tunexfer.tasks.metrics.answers import answer_scores, normaliser
from tunexfer.tasks.metrics.metric import mean_of

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock

STRIDE = 128
"""Pieces from the start of one window to the start of the next."""
MAX_QUESTION = 64
"""Maximum number of pieces of a question."""
N_BEST = 20
"""Number of starts and ends that are considered in each window."""
MAX_ANSWER = 30
"""Maximum number of pieces of an answer."""


class _ExtractiveQA(Kind):
    name = "extractive_qa"
    head = "span"
    schema = canonical(
        ("question", pa.string()),
        ("context", pa.string()),
        ("answers", pa.list_(pa.struct([("text", pa.string()), ("start", pa.int64())]))),
    )
    fields = {"question": True, "context": True, "answers": True}
    metrics = {"mean": mean_of("f1", "em"), "f1": mean_of("f1"), "exact_match": mean_of("em")}
    statistics = {"em": pa.float32(), "f1": pa.float32()}
    clustered_by = "context"
    rows_version = 2
    hub_task = "question-answering"
    export_limits = "The code under *Use* reads one window of a long context; the scores cover all of its windows."

    def read(self, row: Row, task: TaskBlock) -> Row | None:
        """The context keeps its white space, because answers are given by their position in it."""
        context = value(row, task, "context")
        if not isinstance(context, str):
            raise DataError(
                f"column {task.columns['context']!r} should hold text, but got {context!r}. "
                "Leave rows without it out with `drop_without:`."
            )
        answers = _answers(value(row, task, "answers"), task.columns["answers"])
        if task.answer_offsets != "characters":
            answers = [
                answer | {"start": _in_characters(context, answer["start"], task.answer_offsets)} for answer in answers
            ]
        if not answers and not task.unanswerable:
            raise DataError(
                f"column {task.columns['answers']!r} is empty: a question without an answer. "
                "If the data has such questions, set `unanswerable: true`."
            )
        return identity(row, task) | {"question": text(row, task, "question"), "context": context, "answers": answers}

    def check_trainable(self, row: Row, task: TaskBlock) -> None:
        """The first answer has to be where it starts, white space aside."""
        if not row["answers"]:
            return
        context, answer = row["context"], row["answers"][0]
        if not answer["text"].strip():
            raise LeftOut("the answer is empty")
        if _is_at(context, answer, answer["start"]):
            return
        for unit in ("bytes", "utf-16"):
            if _is_at(context, answer, _in_characters(context, answer["start"], unit)):
                raise LeftOut(f"answer_start counts {unit}: set `answer_offsets: {unit}`")
        raise LeftOut("the answer is not at answer_start")

    def check_language(self, task: TaskBlock, language: str) -> None:
        """MLQA's rules know the articles of its own languages alone."""
        normaliser(task.answer_language_rules, language)("")

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, task: TaskBlock, *, training: bool) -> list[Feature]:
        """Makes several windows per row, with columns of their own.

        training: `start` and `end`, the first and last piece of the answer; 0 in a window without all of it
        else: `offsets`, per piece its start and end in the context, (-1, -1) outside the context; `may_start`, per
            piece whether an answer may start there
        """
        frame = pair_frame(tokenizer)
        questions = pieces(tokenizer, [row["question"] for row in rows])
        contexts = bare_encodings(tokenizer, [row["context"] for row in rows])
        features: list[Feature] = []
        for index, (row, question, context) in enumerate(zip(rows, questions, contexts, strict=True)):
            space = task.max_length - frame.size
            question = question[: min(MAX_QUESTION, space // 2)]
            passage = _Passage(question, context.ids, _bare(context.offsets, row["context"]), frame)
            windows = _windows(len(passage.ids), space - len(question))
            encoded = _training_windows(row, passage, windows) if training else _scoring_windows(passage, windows)
            features += [{"row": index, **window} for window in encoded]
        return features

    def decode(self, row: Row, scored: Sequence[Scored], task: TaskBlock, language: str) -> Answer:
        """The best span of all windows, or no answer if that scores higher and the data has such questions."""
        best = max((_best_span(*pair, row["context"]) for pair in scored), key=lambda span: span.score)
        no_answer = min(float(output[0].sum(dtype=np.float64)) for _, output in scored)
        prediction = "" if task.unanswerable and no_answer > best.score else best.text
        gold = [answer["text"] for answer in row["answers"]]
        exact, f1 = answer_scores(prediction, gold, normaliser(task.answer_language_rules, language))
        return Answer(gold, prediction, {"em": exact, "f1": f1})


KIND = _ExtractiveQA()


def _answers(content: Any, column: str | list[str]) -> list[dict[str, Any]]:
    """Read answers from SQuAD's two lists, or from a list of answers with text and start."""
    answers = content
    try:
        if isinstance(content, Mapping) and isinstance(content.get("text"), list):
            starts = content.get("answer_start", content.get("start")) or []
            answers = [{"text": text, "start": start} for text, start in zip(content["text"], starts, strict=True)]
        return [
            {"text": _answer_text(answer["text"]), "start": int(answer.get("start", answer.get("answer_start")))}
            for answer in answers
        ]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DataError(
            f"column {column!r} should hold answers, each with `text` and `answer_start`, but got {content!r}. Name "
            f"the right column in `columns: answers:`, or leave such rows out with `drop_without: [{column}]`, or with "
            "a field of it (`answers.answer_start`)."
        ) from error


def _answer_text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError
    return text


def _in_characters(context: str, start: int, unit: str) -> int:
    """Convert an offset in bytes of UTF-8, or in UTF-16's units, to one in characters."""
    codec, width = ("utf-8", 1) if unit == "bytes" else ("utf-16-le", 2)
    return len(context.encode(codec)[: width * start].decode(codec, errors="ignore"))


def _is_at(context: str, answer: Mapping[str, Any], start: int) -> bool:
    text: str = answer["text"]
    return context[start : start + len(text)].split() == text.split()


class _Passage(NamedTuple):
    question: list[int]
    ids: list[int]
    offsets: list[tuple[int, int]]
    """Start and end of each piece in the context, in characters."""
    frame: Frame

    @property
    def before(self) -> int:
        """Number of pieces before the context."""
        return len(self.frame.before) + len(self.question) + len(self.frame.between)

    def window(self, begin: int, end: int) -> Feature:
        return self.frame.join(self.question, self.ids[begin:end])


class _Span(NamedTuple):
    score: float
    """Sum of the two logits."""
    text: str


def _bare(offsets: list[tuple[int, int]], context: str) -> list[tuple[int, int]]:
    """Remove from offsets the white space that some tokenizers count to the piece after it."""
    return [(end - len(context[start:end].lstrip()), end) for start, end in offsets]


def _windows(count: int, room: int) -> list[tuple[int, int]]:
    """Split `count` pieces into windows of at most `room`: (first piece, one past the last piece)."""
    stride = min(STRIDE, max(1, room // 2))
    begins = range(0, max(1, count - room + stride), stride)
    return [(begin, min(begin + room, count)) for begin in begins]


def _training_windows(row: Row, passage: _Passage, windows: list[tuple[int, int]]) -> Iterator[Feature]:
    answer = None
    if row["answers"]:
        answer = _answer_pieces(row, passage.offsets)
        if answer is None:
            return
    for begin, end in windows:
        start = stop = 0
        if answer and begin <= answer[0] and answer[1] < end:
            start, stop = (passage.before + place - begin for place in answer)
        yield {**passage.window(begin, end), "start": start, "end": stop}


def _answer_pieces(row: Row, offsets: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Find the first and last piece of the row's first answer; None if the context has other text there."""
    answer = row["answers"][0]
    start, end = answer["start"], answer["start"] + len(answer["text"])
    if not _is_at(row["context"], answer, start):
        return None
    inside = [place for place, (first, last) in enumerate(offsets) if last > start and first < end]
    return (inside[0], inside[-1]) if inside else None


def _scoring_windows(passage: _Passage, windows: list[tuple[int, int]]) -> Iterator[Feature]:
    owner = _owners(len(passage.ids), windows)
    nowhere = [(-1, -1)]
    for number, (begin, end) in enumerate(windows):
        after = len(passage.frame.after)
        yield {
            **passage.window(begin, end),
            "offsets": [*nowhere * passage.before, *passage.offsets[begin:end], *nowhere * after],
            "may_start": [False] * passage.before + (owner[begin:end] == number).tolist() + [False] * after,
        }


def _owners(count: int, windows: list[tuple[int, int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Find for each piece the window that gives it the most context, shape (count,).

    The context is the number of pieces on the shorter side; a hundredth of the window's length breaks ties.
    """
    owner, most = np.zeros(count, dtype=np.int64), np.full(count, -1.0)
    for number, (begin, end) in enumerate(windows):
        places = np.arange(begin, end)
        context = np.minimum(places - begin, end - 1 - places) + 0.01 * (end - begin)
        more = places[context > most[begin:end]]
        owner[more], most[more] = number, context[more - begin]
    return owner


def _best_span(feature: Feature, output: Output, context: str) -> _Span:
    logits = output.astype(np.float64)
    starts, ends = (np.argsort(-logits[:, side], kind="stable")[:N_BEST] for side in (0, 1))
    offsets, may_start = np.asarray(feature["offsets"]), np.asarray(feature["may_start"], dtype=bool)
    pieces = ends[None, :] - starts[:, None] + 1
    allowed = may_start[starts][:, None] & (offsets[ends, 0] >= 0)[None, :] & (pieces >= 1) & (pieces <= MAX_ANSWER)
    if not allowed.any():
        return _Span(-np.inf, "")
    scores = np.where(allowed, logits[starts, 0][:, None] + logits[ends, 1][None, :], -np.inf)
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    first, last = offsets[starts[start], 0], _past_marks(context, offsets[ends[end], 1])
    return _Span(float(scores[start, end]), context[first:last].strip())


def _past_marks(context: str, end: int) -> int:
    """Extend an end over combining marks, which tokenizers that compose characters leave out of their offsets."""
    while end < len(context) and unicodedata.category(context[end]).startswith("M"):
        end += 1
    return end
