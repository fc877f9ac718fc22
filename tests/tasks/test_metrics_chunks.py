"""Expected numbers: seqeval 0.0.12, run on these tags."""

from __future__ import annotations

import pytest

from tunexfer.tasks.metrics.chunks import chunk_scores, chunks, read_tags, xtreme_tag

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


PLACES = {("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 4)}


@pytest.mark.parametrize(
    "tags",
    [
        "B-PER I-PER O B-LOC B-LOC",  # IOB2
        "I-PER I-PER O I-LOC B-LOC",  # IOB1
        "B-PER E-PER O S-LOC S-LOC",  # BIOES
        "B-PER L-PER O U-LOC U-LOC",  # BILOU
        "B_PER I_PER O B_LOC B_LOC",
        "PER-B PER-I O LOC-B LOC-B",
    ],
)
def test_the_usual_schemes_mark_the_same_chunks(tags: str) -> None:
    meaning = read_tags(set(tags.split()))
    assert chunks([meaning[tag] for tag in tags.split()]) == PLACES


def test_bare_classes_are_chunks_whatever_their_first_letter() -> None:
    """XTREME's scorer reads ORGANIZACAO as outside, and every word of an ELEMENT as a chunk."""
    tags = "ORGANIZACAO ORGANIZACAO O ELEMENT ELEMENT".split()
    meaning = read_tags(set(tags))
    assert chunks([meaning[tag] for tag in tags]) == {("ORGANIZACAO", 0, 1), ("ELEMENT", 3, 4)}
    assert chunks([*map(xtreme_tag, tags)]) == {("ELEMENT", 3, 3), ("ELEMENT", 4, 4)}


def test_a_class_with_hyphens_is_read_whole() -> None:
    tags = "B-person-other I-product-other".split()
    meaning = read_tags(tags)
    assert chunks([meaning[tag] for tag in tags]) == {("person-other", 0, 0), ("product-other", 1, 1)}


def test_positions_without_a_class_are_one_class() -> None:
    meaning = read_tags(["O", "B", "I"])
    assert chunks([meaning[tag] for tag in "B I O I".split()]) == {("", 0, 1), ("", 3, 3)}


def test_labels_that_fit_no_scheme_are_refused_unless_it_is_named() -> None:
    with pytest.raises(ValueError, match=r"'B-PER' has one, 'MISC' has not.*scheme: bare"):
        read_tags(["O", "B-PER", "I-PER", "MISC"])
    assert read_tags(["B-PER", "I-PER", "MISC"], "bare")["B-PER"] == ("I", "B-PER")
    with pytest.raises(ValueError, match="scheme: suffix doesn't fit the label 'B-PER'"):
        read_tags(["O", "B-PER"], "suffix")
