from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from families import tiny_tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS, ROWS_SCHEMA
from tunexfer.tasks.kinds.base import LeftOut
from tunexfer.tasks.suite import TaskBlock

KIND = KINDS["tagging"]
TASK = TaskBlock(
    kind="tagging", files="x", columns={"tokens": "tokens", "tags": "ner"}, labels=["O", "B-PER", "I-PER"], max_length=8
)


def row(tokens: list[str], tags: list[int]) -> dict[str, Any]:
    return {"id": "0", "cluster": "0", "tokens": tokens, "tags": tags}


def outputs(features: list[dict[str, Any]], tags: list[int]) -> list[Any]:
    """Logits that give every word its tag, and other pieces another."""
    return [np.eye(3, dtype=np.float32)[[tags[w] if w >= 0 else 2 for w in feature["words"]]] for feature in features]


def test_the_first_piece_of_a_word_carries_its_label(letters: Any, ids: Callable[[str], list[int]]) -> None:
    assert KIND.encode([row(["abc", "d"], [1, 0])], letters, TASK, training=True) == [
        {
            "row": 0,
            "input_ids": [0, *ids("abc d"), 1],
            "labels": [-100, 1, -100, -100, 0, -100],
            "words": [-1, 0, -1, -1, 1, -1],
        }
    ]


def test_a_word_without_pieces_or_with_too_many_becomes_one_unknown_piece(letters: Any) -> None:
    feature = KIND.encode([row(["a", "", "x" * 101, "b"], [0, 1, 2, 0])], letters, TASK, training=False)[0]
    assert feature["input_ids"] == [0, 3, letters.unk_token_id, letters.unk_token_id, 4, 1]
    assert feature["words"] == [-1, 0, 1, 2, 3, -1]


@pytest.mark.parametrize(("label_piece", "place"), [("content", 2), ("first", 1)])
def test_the_first_piece_with_content_carries_the_label_and_not_the_space_before_it(
    label_piece: Literal["content", "first"], place: int
) -> None:
    """Unigram makes `▁` and `家` of a Chinese word: the first is the same before all of them."""
    tokenizer = tiny_tokenizer("xlm-r")
    task = TASK.model_copy(update={"label_piece": label_piece})
    [feature] = KIND.encode([row(["家", "house"], [1, 2])], tokenizer, task, training=True)
    assert tokenizer.convert_ids_to_tokens(feature["input_ids"]) == ["<s>", "▁", "家", "▁house", "</s>"]
    assert feature["words"] == [-1, 0 if place == 1 else -1, 0 if place == 2 else -1, 1, -1]
    assert feature["labels"] == [-100, 1 if place == 1 else -100, 1 if place == 2 else -100, 2, -100]


def test_the_choice_of_piece_enters_the_fingerprint_of_tagging_alone() -> None:
    assert KIND.settings(TASK) == {"label_piece": "content"}
    assert KIND.settings(TASK.model_copy(update={"label_piece": "first"})) == {}
    assert KINDS["classification"].settings(TASK) == {}


@pytest.mark.parametrize("family", ["eurobert", "mmbert", "xlm-r", "mbert"])
def test_words_have_the_pieces_that_they_have_in_running_text(family: str) -> None:
    """Byte-level BPE and Gemma's tokenizer put no space before a word on its own: `tree` is not ` tree` there."""
    tokenizer = tiny_tokenizer(family)
    task = TASK.model_copy(update={"max_length": 128})
    [feature] = KIND.encode([row(["tree", "house", "дом"], [0, 1, 2])], tokenizer, task, training=True)
    running = tokenizer("+ tree house дом", add_special_tokens=False)["input_ids"]
    assert feature["input_ids"][1:-1] == running[-len(feature["input_ids"][1:-1]) :]


def test_without_an_unknown_piece_a_long_word_is_cut_and_an_empty_one_refused() -> None:
    tokenizer = tiny_tokenizer("eurobert")
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)  # no space is put before empty words
    task = TASK.model_copy(update={"max_length": 300})
    [feature] = KIND.encode([row(["家" * 101, "tree"], [1, 0])], tokenizer, task, training=True)
    assert [place for place, word in enumerate(feature["words"]) if word == 1] == [101]
    with pytest.raises(DataError, match="makes nothing of the word '' and has no unknown piece"):
        KIND.encode([row(["tree", ""], [1, 0])], tokenizer, task, training=True)


@pytest.mark.parametrize("training", [True, False])
def test_a_long_sentence_is_split_between_words_and_no_word_is_lost(letters: Any, training: bool) -> None:
    tokens = ["abc", "de", "fgh", "ijkl", "m", "n", "o"]  # 3 + 2 | 3 | 4 + 1 + 1 | 1 of at most 6 pieces
    features = KIND.encode([row(tokens, [0] * 7)], letters, TASK, training=training)
    assert [[word for word in feature["words"] if word >= 0] for feature in features] == [[0, 1], [2], [3, 4, 5], [6]]
    assert all(len(feature["input_ids"]) <= TASK.max_length for feature in features)


def test_split_sentences_are_rejoined_before_scoring(letters: Any) -> None:
    tags = [1, 2, 2, 0, 1, 0, 1]  # the first name goes across the first split
    rows = [row(["abc", "de", "fgh", "ijkl", "m", "n", "o"], tags)]
    features = KIND.encode(rows, letters, TASK, training=False)
    [prediction] = KIND.predict(rows, features, outputs(features, tags), TASK, "en")
    assert prediction["prediction"] == prediction["gold"]
    assert (prediction["tp"], prediction["predicted"], prediction["gold_count"]) == (3, 3, 3)


def test_a_sentence_may_be_longer_than_any_window(letters: Any) -> None:
    rows = [row(["ab"] * 500, [0] * 499 + [1])]
    features = KIND.encode(rows, letters, TASK, training=False)
    [prediction] = KIND.predict(rows, features, outputs(features, rows[0]["tags"]), TASK, "en")
    assert (len(features), prediction["tp"]) == (167, 1)


def test_parts_of_speech_score_as_xtreme_scores_them() -> None:
    """Bare tags: equal neighbours are one chunk. Four of five tags are right here, and F1 is 57.14."""
    task = TASK.model_copy(update={"labels": ["DET", "NOUN", "PUNCT", "VERB"]})
    rows = [row(["the", "stone", "house", "stands", "."], [0, 1, 1, 3, 2])]
    found = np.eye(4, dtype=np.float32)[[0, 1, 1, 1, 2]]
    [prediction] = KIND.predict(rows, [{"row": 0, "words": [0, 1, 2, 3, 4]}], [found], task, "en")
    assert KIND.summarise({name: [content] for name, content in prediction.items()}) == {
        "precision": pytest.approx(66.67, abs=0.005),
        "recall": pytest.approx(50.0),
        "f1": pytest.approx(57.14, abs=0.005),
        "token_accuracy": pytest.approx(80.0),
    }


def test_f1_counts_chunks_over_all_rows_together() -> None:
    counts: dict[str, list[Any]] = {"tp": [1, 0], "predicted": [1, 2], "gold_count": [2, 1]}
    counts |= {"gold": ['["O", "B-PER"]', '["O"]'], "prediction": ['["O", "O"]', '["B-PER"]']}
    # 1 of 3 found is right, 1 of 3 to be found
    expected = {"f1": pytest.approx(100 / 3), "precision": pytest.approx(100 / 3), "recall": pytest.approx(100 / 3)}
    expected["token_accuracy"] = pytest.approx(100 / 3)
    assert KIND.summarise(counts) == expected
    table = pa.table(counts)
    assert KIND.summarise(table.cast(pa.schema([ROWS_SCHEMA.field(n) for n in counts]))) == expected


def test_tags_may_be_names() -> None:
    assert KIND.read({"tokens": ["Ada", "ran"], "ner": ["B-PER", "O"]}, TASK) == {
        "tokens": ["Ada", "ran"],
        "tags": [1, 0],
    }


def test_a_sentence_without_words_is_left_out() -> None:
    with pytest.raises(LeftOut, match="the sentence has no words"):
        KIND.read({"tokens": [], "ner": []}, TASK)


def test_words_and_tags_of_different_number_are_an_error() -> None:
    with pytest.raises(DataError, match="columns 'tokens' and 'ner' should hold one tag per word"):
        KIND.read({"tokens": ["a", "b"], "ner": [0]}, TASK)
