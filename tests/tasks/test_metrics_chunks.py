"""Expected numbers: seqeval 0.0.12, run on these tags."""

from __future__ import annotations

import pytest

from tunexfer.tasks.metrics.chunks import chunk_scores, chunks, xtreme_tag

GOLDEN = [
    ("DET NOUN NOUN VERB PUNCT", "DET NOUN NOUN NOUN PUNCT", (66.67, 50, 57.14)),
    (
        "PROPN PROPN VERB ADP PROPN PUNCT ; PRON VERB ADV PUNCT",
        "PROPN NOUN VERB ADP PROPN PUNCT ; PRON VERB ADV PUNCT",
        (80, 88.89, 84.21),
    ),
    ("NOUN CCONJ VERB", "NOUN SCONJ VERB", (66.67, 66.67, 66.67)),
    ("SCONJ SCONJ VERB", "SCONJ ADV VERB", (66.67, 66.67, 66.67)),
    ("INTJ INTJ NOUN", "INTJ NOUN NOUN", (0, 0, 0)),
    ("NOUN ; NOUN", "NOUN ; VERB", (50, 50, 50)),
    ("B-PER I-PER O B-LOC", "I-PER I-PER O B-ORG", (50, 50, 50)),
    ("B-PER I-PER O B-LOC I-LOC", "B-PER I-PER O B-LOC O", (50, 50, 50)),
    ("O I-PER I-PER", "O B-PER I-PER", (100, 100, 100)),
    ("B-PER I-LOC", "B-PER B-LOC", (100, 100, 100)),
]


@pytest.mark.parametrize(("gold", "predicted", "expected"), GOLDEN)
def test_chunk_scores_are_those_of_seqeval(gold: str, predicted: str, expected: tuple[float, float, float]) -> None:
    split = [[sentence.split() for sentence in text.split(" ; ")] for text in (gold, predicted)]
    assert [score * 100 for score in chunk_scores(*split)] == pytest.approx(expected, abs=0.005)


def test_equal_bare_tags_form_one_chunk_except_single_ones() -> None:
    assert chunks([*map(xtreme_tag, "NOUN NOUN SYM SYM".split())]) == {("NOUN", 0, 1), ("SYM", 2, 2), ("SYM", 3, 3)}


def test_a_bare_x_at_the_end_of_a_sentence_is_a_chunk() -> None:
    assert ("X", 1, 1) in chunks([*map(xtreme_tag, ["NOUN", "X"])])


def test_no_sentences_score_zero() -> None:
    assert chunk_scores([], []) == (0.0, 0.0, 0.0)
