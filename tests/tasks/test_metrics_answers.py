"""Expected texts and numbers: the scorers of SQuAD v1.1 and MLQA, run on these answers."""

from __future__ import annotations

import pytest

from tunexfer.errors import DataError
from tunexfer.tasks.metrics.answers import answer_scores, normalise_mlqa, normalise_squad, normaliser


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The  Cat, sat on a mat.", "cat sat on mat"),
        ("de", "Der Hund und die Katze, im Jahr 1989!", "hund und katze im jahr 1989"),
        ("es", "El perro y los gatos.", "perro y gatos"),
        ("vi", "của những người ở Hà Nội", "người ở hà nội"),
        ("ar", "المدينة في العراق، 1990", "مدينة في عراق 1990"),
        ("hi", "यह 1990 में दिल्ली है।", "यह 1990 में दिल्ली है"),
        ("zh", "在1990年，北京(Beijing)市。", "在 1990 年 北 京 beijing 市"),
    ],
)
def test_mlqa_answers_lose_punctuation_and_their_languages_articles(language: str, text: str, expected: str) -> None:
    assert normalise_mlqa(text, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat, sat on a mat.", "cat sat on mat"),
        ("Der Hund, 1989!", "der hund 1989"),
        ("在1990年，北京。", "在1990年，北京。"),
        ("Año: «1.990»", "año «1990»"),
    ],
)
def test_squad_answers_lose_ascii_punctuation_and_english_articles(text: str, expected: str) -> None:
    assert normalise_squad(text) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "rules", "f1"),
    [
        ("the big red dog", "red dog house", normalise_squad, 2 / 3),
        ("die rote Katze", "rote Katze", normalise_squad, 0.8),
        ("die rote Katze", "rote Katze", normaliser("mlqa", "de"), 1.0),
        ("北京市", "北京", normalise_squad, 0.0),
        ("北京市", "北京", normaliser("mlqa", "zh"), 0.8),
    ],
)
def test_f1_compares_bags_of_words(prediction: str, gold: str, rules: object, f1: float) -> None:
    assert answer_scores(prediction, [gold], rules)[1] == pytest.approx(f1)  # type: ignore[arg-type]


def test_the_best_of_several_gold_answers_counts() -> None:
    assert answer_scores("In 1990.", ["the year 1990", "in 1990"], normalise_squad) == (1.0, 1.0)


def test_two_answers_of_articles_alone_match_exactly_but_share_no_word() -> None:
    assert answer_scores("the", ["a"], normalise_squad) == (1.0, 0.0)


def test_a_question_without_answer_wants_none() -> None:
    assert answer_scores("", [], normalise_squad) == (1.0, 1.0)
    assert answer_scores("Paris", [], normalise_squad) == (0.0, 0.0)


def test_mlqas_rules_are_refused_in_other_languages() -> None:
    with pytest.raises(DataError, match=r"not 'sw'.*answer_language_rules: squad"):
        normalise_mlqa("mji", "sw")
