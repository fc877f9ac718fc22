from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.extractive_qa import MAX_ANSWER, N_BEST, STRIDE, _owners, _windows
from tunexfer.tasks.suite import TaskBlock

KIND = KINDS["extractive_qa"]


def block(**fields: Any) -> TaskBlock:
    columns = {"question": "question", "context": "context", "answers": "answers"}
    return TaskBlock.model_validate({"kind": "extractive_qa", "files": "x", "columns": columns} | fields)


TASK = block(max_length=12)


def row(question: str, context: str, *answers: str) -> dict[str, Any]:
    found = [{"text": answer, "start": context.index(answer)} for answer in answers]
    return {"id": "0", "cluster": "0", "question": question, "context": context, "answers": found}


def logits(feature: dict[str, Any], start: int, end: int, height: float = 1.0) -> Any:
    """Highest for the answer from piece `start` to piece `end`."""
    output = np.zeros((len(feature["input_ids"]), 2), dtype=np.float32)
    output[start, 0] = output[end, 1] = height
    return output


def answer(rows: list[Any], features: list[Any], outputs: list[Any], task: TaskBlock = TASK) -> Any:
    return [json.loads(p["prediction"]) for p in KIND.predict(rows, features, outputs, task, "en")]


def test_the_recipe_of_the_benchmarks() -> None:
    assert (STRIDE, N_BEST, MAX_ANSWER) == (128, 20, 30)


def test_windows_start_a_stride_apart_until_one_reaches_the_end() -> None:
    assert _windows(700, 316) == [(0, 316), (128, 444), (256, 572), (384, 700)]
    assert _windows(316, 316) == [(0, 316)]
    assert _windows(317, 316) == [(0, 316), (128, 317)]
    assert _windows(0, 316) == [(0, 0)]


def test_a_piece_belongs_to_the_window_that_gives_it_most_context() -> None:
    # piece 5 has 0 pieces after it in the first window and 2 before it in the second
    assert _owners(9, [(0, 6), (3, 9)]).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_training_windows_point_at_the_answers_pieces(letters: Any, ids: Callable[[str], list[int]]) -> None:
    [feature] = KIND.encode([row("q", "ab cd e", "cd")], letters, TASK, training=True)
    assert feature == {"row": 0, "input_ids": [0, *ids("q"), 1, *ids("ab cd e"), 1], "start": 5, "end": 6}


def test_a_window_without_the_whole_answer_points_at_the_first_piece(letters: Any) -> None:
    """Room for 7 pieces, so windows start 3 apart."""
    features = KIND.encode([row("qq", "abcdefghij", "efgh")], letters, TASK, training=True)
    assert [(feature["start"], feature["end"]) for feature in features] == [(0, 0), (5, 8)]


def test_a_training_row_whose_answer_is_not_where_it_should_be_is_left_out(letters: Any) -> None:
    wrong = row("q", "ab cd", "cd") | {"answers": [{"text": "cd", "start": 1}]}
    assert KIND.encode([wrong], letters, TASK, training=True) == []
    assert len(KIND.encode([wrong], letters, TASK, training=False)) == 1


def test_a_question_without_answer_trains_on_the_first_piece(letters: Any) -> None:
    [feature] = KIND.encode([row("q", "ab cd")], letters, block(unanswerable=True), training=True)
    assert (feature["start"], feature["end"]) == (0, 0)


def test_a_long_question_is_cut_and_leaves_room_for_the_passage(letters: Any) -> None:
    [feature] = KIND.encode([row("q" * 100, "ab", "ab")], letters, block(max_length=384), training=True)
    assert len(feature["input_ids"]) == 64 + 2 + 3


def test_scoring_windows_know_their_characters(letters: Any) -> None:
    [feature] = KIND.encode([row("q", "ab  cd", "cd")], letters, TASK, training=False)
    nowhere = (-1, -1)
    assert feature["offsets"] == [nowhere, nowhere, nowhere, (0, 1), (1, 2), (4, 5), (5, 6), nowhere]
    assert feature["may_start"] == [False, False, False, True, True, True, True, False]


def test_the_answer_is_the_original_text_between_its_pieces(letters: Any) -> None:
    rows = [row("q", "x  ab,  cd y", "ab,  cd")]
    features = KIND.encode(rows, letters, block(max_length=32), training=False)
    last = next(place for place, (_, end) in enumerate(features[0]["offsets"]) if end == 10)
    assert answer(rows, features, [logits(features[0], 4, last)]) == ["ab,  cd"]


def test_an_answer_keeps_the_accent_of_its_last_letter(letters: Any) -> None:
    rows = [row("q", "x lome\u0301 y", "lome\u0301")]
    features = KIND.encode(rows, letters, block(max_length=32), training=False)
    features[0]["offsets"][4] = (2, 6)  # as a tokenizer has it that reads e and accent as one letter
    assert answer(rows, features, [logits(features[0], 4, 4)]) == ["lome\u0301"]


def test_an_answer_is_no_longer_than_thirty_pieces(letters: Any) -> None:
    rows, task = [row("q", "a" * 60, "a")], block(max_length=128)
    features = KIND.encode(rows, letters, task, training=False)
    output = logits(features[0], 3, 3 + 30, height=9.0)
    output[3 + 29, 1] = 5.0
    assert answer(rows, features, [output], task) == ["a" * 30]


def test_an_answer_does_not_end_before_it_starts_nor_outside_the_passage(letters: Any) -> None:
    rows = [row("q", "ab cd", "cd")]
    features = KIND.encode(rows, letters, TASK, training=False)
    output = logits(features[0], 5, 0, height=9.0)  # its best end is outside
    output[3, 1], output[6, 1] = 5.0, 1.0  # the next one before the start
    assert answer(rows, features, [output]) == ["cd"]


def test_only_the_twenty_best_starts_and_ends_are_looked_at(letters: Any) -> None:
    rows, task = [row("q", "a" * 60, "a")], block(max_length=128)
    features = KIND.encode(rows, letters, task, training=False)
    output = np.zeros((len(features[0]["input_ids"]), 2), dtype=np.float32)
    output[43:63, 0] = np.linspace(2, 1, 20)  # twenty late starts
    output[3:23, 1] = 3.0  # twenty early ends: no pair of them is a span
    assert answer(rows, features, [output], task) == [""]


def test_a_span_may_only_start_where_its_window_has_the_most_context(letters: Any) -> None:
    rows = [row("qq", "abcdefghij", "a")]
    first, second = features = KIND.encode(rows, letters, TASK, training=False)
    assert [feature["may_start"].count(True) for feature in features] == [5, 5]  # a to e, f to j
    outputs = [logits(first, 4, 4), logits(second, 4, 4, height=9.0)]  # a; d, which begins the second window
    assert answer(rows, features, outputs) == ["a"]


def test_the_best_window_wins(letters: Any) -> None:
    rows = [row("qq", "abcdefghij", "a")]
    first, second = features = KIND.encode(rows, letters, TASK, training=False)
    assert answer(rows, features, [logits(first, 4, 4), logits(second, 10, 10, height=2.0)]) == ["j"]
    assert answer(rows, features, [logits(first, 4, 4, height=3.0), logits(second, 10, 10, height=2.0)]) == ["a"]


def test_no_answer_is_predicted_only_where_the_data_has_such_questions(letters: Any) -> None:
    rows = [row("q", "ab cd", "cd")]
    features = KIND.encode(rows, letters, TASK, training=False)
    output = logits(features[0], 5, 6)
    output[0] = 4.0
    assert answer(rows, features, [output], TASK) == ["cd"]
    assert answer(rows, features, [output], block(max_length=12, unanswerable=True)) == [""]


def test_statistics_follow_the_tasks_rules(letters: Any) -> None:
    rows = [row("q", "die rote Katze", "rote Katze")]
    features = KIND.encode(rows, letters, block(max_length=32), training=False)
    outputs = [logits(features[0], 3, len(features[0]["input_ids"]) - 2)]
    for rules, em, f1 in (("squad", 0.0, 0.8), ("mlqa", 1.0, 1.0)):
        [found] = KIND.predict(rows, features, outputs, block(max_length=32, answer_language_rules=rules), "de")
        assert (found["prediction"], found["em"], found["f1"]) == ('"die rote Katze"', em, pytest.approx(f1))


def test_the_main_number_is_the_mean_of_exact_match_and_f1() -> None:
    assert KIND.summarise({"em": [1, 0], "f1": [1, 0.5]}) == {"mean": 62.5, "f1": 75.0, "exact_match": 50.0}
    assert KIND.main_metric == "mean"


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["cd", "d"], "answer_start": [3, 4]},
        {"answer_start": [3, 4], "text": ["cd", "d"], "answer_end": [5, 5]},
        [{"text": "cd", "answer_start": 3}, {"text": "d", "answer_start": 4}],
        [{"text": "cd", "start": 3}, {"text": "d", "start": 4}],
    ],
)
def test_answers_come_in_several_forms(answers: Any) -> None:
    read = KIND.read({"question": " q", "context": " ab cd", "answers": answers}, TASK)
    assert read is not None
    assert read["answers"] == [{"text": "cd", "start": 3}, {"text": "d", "start": 4}]
    assert (read["question"], read["context"]) == ("q", " ab cd")


def test_answers_in_no_known_form_are_an_error() -> None:
    with pytest.raises(DataError, match="column 'answers' should hold answers, each with `text` and `answer_start`"):
        KIND.read({"question": "q", "context": "ab", "answers": ["ab"]}, TASK)


def test_answers_that_do_not_say_where_each_starts_are_an_error() -> None:
    unplaced = {"answer_start": [], "text": ["15,000"]}
    with pytest.raises(DataError, match=r"column 'answers' .* but got .*'15,000'.*`drop_without: \[answers\]`"):
        KIND.read({"question": "q", "context": "ab", "answers": unplaced}, TASK)
    with pytest.raises(DataError, match=r"column 'answers' .* but got .*'two'"):
        KIND.read({"question": "q", "context": "ab", "answers": [{"text": "b", "start": "two"}]}, TASK)


def test_a_passage_that_is_not_there_is_an_error_that_says_how_to_leave_it_out() -> None:
    with pytest.raises(DataError, match=r"column 'context' should hold text, but got None.*`drop_without:`"):
        KIND.read({"question": "q", "context": None, "answers": []}, TASK)


def test_a_question_without_answer_has_to_be_declared() -> None:
    source = {"question": "q", "context": "ab", "answers": {"text": [], "answer_start": []}}
    with pytest.raises(DataError, match="unanswerable: true"):
        KIND.read(source, TASK)
    assert KIND.read(source, block(unanswerable=True)) is not None
