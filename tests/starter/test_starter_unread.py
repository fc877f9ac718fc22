"""Whoever reads no word stays near chance: lengths, signs, digits and capitals give no answer away.

Scores are means over languages: one language's 70 to 150 test rows leave a standard error of three to five points.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starter.conftest import Row, Starter

LIMIT = 5.0
"""Points above the larger of 1/k and the commonest label's share."""
Floats = NDArray[np.float64]


def surface(text: str) -> list[float]:
    """Characters, words, digits, numbers, capitals, signs in all, and some signs apart."""
    kinds = Counter(unicodedata.category(character)[0] for character in text)
    words = text.split()
    counts = [len(text), len(words), kinds["N"], sum(any(map(str.isdigit, word)) for word in words)]
    counts += [sum(map(str.isupper, text)), kinds["P"] + kinds["S"], *map(text.count, "%,?-°.'")]
    return [float(count) for count in counts]


def of_texts(row: Row) -> list[Floats]:
    """One text, or two and how they differ."""
    sides = [np.array(surface(row[field])) for field in ("text", "text_pair") if field in row]
    if len(sides) == 2:
        sides += [sides[0] - sides[1], np.abs(sides[0] - sides[1]), np.log(sides[0][:1] / sides[1][:1])]
    return [np.concatenate(sides)]


def of_options(row: Row) -> list[Floats]:
    """Each option beside the prompt and the other options."""
    prompt = np.array(surface(row["prompt"]))
    options = np.array([surface(option) for option in row["options"]])
    ranks = np.argsort(np.argsort(options[:, 0]))
    return [
        np.concatenate([one, one - prompt, np.abs(one - prompt), one - options.mean(0), [place, ranks[place]]])
        for place, one in enumerate(options)
    ]


def linear() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))


def trees() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(60, min_samples_leaf=3, random_state=0)


def guesses(train: Sequence[Row], test: Sequence[Row], model: Any) -> list[Any]:
    """What the model answers to the test rows; where there are options, the one that it believes in most."""
    if "options" not in train[0]:
        model.fit([of_texts(row)[0] for row in train], [row["label"] for row in train])
        return list(model.predict([of_texts(row)[0] for row in test]))
    right = [place == row["label"] for row in train for place in range(len(row["options"]))]
    model.fit([option for row in train for option in of_options(row)], right)
    belief = model.predict_proba([option for row in test for option in of_options(row)])[:, 1]
    return list(belief.reshape(len(test), -1).argmax(1))


def above_chance(starter: Starter, task: str, language: str, model: Any) -> float:
    """Points of accuracy above the larger of 1/k and the commonest label's share in the test rows."""
    train, test = starter.rows(task, language, "train"), starter.rows(task, language, "test")
    gold = [row["label"] for row in test]
    right = np.mean([one == other for one, other in zip(guesses(train, test, model), gold, strict=True)])
    labels = len(train[0].get("options", ())) or len({row["label"] for row in train})
    return float(100 * (right - max(1 / labels, Counter(gold).most_common(1)[0][1] / len(gold))))


CHOSEN = ["command_intent", "same_command", "ui_match", "ui_choice", "name_type"]


@pytest.mark.parametrize("model", [linear, trees])
@pytest.mark.parametrize("task", CHOSEN)
def test_no_label_can_be_told_without_reading(starter: Starter, task: str, model: Callable[[], Any]) -> None:
    found = {one: above_chance(starter, task, one, model()) for one in starter.languages(task, "train", "test")}
    assert np.mean(list(found.values())) <= LIMIT, found


def test_the_bound_would_notice_a_label_that_length_tells(starter: Starter) -> None:
    rows = [{"text": "x" * (1 + number), "label": number < 20} for number in range(40)]
    assert guesses(rows, rows, trees()) == [row["label"] for row in rows]


def spans(row: Row) -> dict[str, str]:
    """One to three words counted from either end, and the longest word."""
    words = row["context"].split()
    found = {"longest": max(words, key=len)}
    for length in (1, 2, 3):
        for start in range(6):
            found[f"{length} from {start}"] = " ".join(words[start : start + length])
            found[f"{length} before {start}"] = " ".join(words[len(words) - start - length : len(words) - start])
    return found


def test_no_answer_stands_in_one_place(starter: Starter) -> None:
    """The place that is best in the train rows finds little more than the commonest answer would."""
    found = {}
    for language in starter.languages("command_qa", "train", "test"):
        train, test = starter.rows("command_qa", language, "train"), starter.rows("command_qa", language, "test")
        hits = Counter(
            place for row in train for place, text in spans(row).items() if text == row["answers"]["text"][0]
        )
        best = hits.most_common(1)[0][0] if hits else "longest"
        right = np.mean([spans(row)[best] == row["answers"]["text"][0] for row in test])
        commonest = Counter(row["answers"]["text"][0] for row in test).most_common(1)[0][1] / len(test)
        found[language] = float(100 * (right - commonest))
    assert np.mean(list(found.values())) <= LIMIT, found


def test_length_does_not_find_a_translation(starter: Starter) -> None:
    found = {}
    for language in starter.languages("ui_retrieval", "test"):
        rows = starter.rows("ui_retrieval", language, "test")
        sides = []
        for field in ("text", "english"):
            lengths = np.log1p([surface(row[field]) for row in rows])
            sides.append((lengths - lengths.mean(0)) / np.maximum(lengths.std(0), 1e-9))
        nearest = np.abs(sides[0][:, None] - sides[1][None]).sum(2).argmin(1)
        found[language] = float(100 * (np.mean(nearest == np.arange(len(rows))) - 1 / len(rows)))
    assert np.mean(list(found.values())) <= LIMIT, found


def test_text_of_every_task_is_in_lower_case_and_without_digits(starter: Starter) -> None:
    for task in starter.suite.tasks:
        for language in starter.languages(task, "test"):
            for row in starter.rows(task, language, "test"):
                for field in ("text", "text_pair", "english", "prompt", "context"):
                    text = row.get(field, "")
                    assert not any(map(str.isdigit, text)), f"{task} in {language}: {text}"
                    assert text == text.lower(), f"{task} in {language}: {text}"
