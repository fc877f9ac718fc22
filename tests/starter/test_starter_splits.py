"""Nothing that is trained on is tested on, and there is enough to search over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import resources
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from starter.conftest import Row, Starter

from tunexfer.core.scores import Split
from tunexfer.plan.plan import Plan
from tunexfer.tasks.suite import SPLITS

TARGETS = ("command_intent", "command_slots", "ui_retrieval")
COMMANDS = ("command_intent", "command_slots", "command_qa", "same_command")
INTERFACE = ("ui_match", "ui_choice", "ui_retrieval")
NAMES = ("name_type",)
What = Callable[[str, Row], list[str]]


def texts(task: str, row: Row) -> list[str]:
    """What must not be in two splits, besides the cluster."""
    if task == "command_slots":
        return ["".join(row["tokens"])]
    if task == "command_qa":
        return [row["context"].replace(" ", "")]
    if task == "same_command":
        return [row["text"], row["text_pair"]]
    return [row[field] for field in ("text", "english", "prompt") if field in row]


def clusters(task: str, row: Row) -> list[str]:
    """The templates, messages or names that a row is made from."""
    if task == "same_command":
        return [part.rsplit("/", 1)[0] for part in row["id"].split("=")]
    return [row["cluster"]]


def in_split(starter: Starter, tasks: Iterable[str], language: str, split: Split, what: What) -> set[str]:
    return {one for task in tasks for row in starter.rows(task, language, split) for one in what(task, row)}


@pytest.mark.parametrize("tasks", [COMMANDS, INTERFACE, NAMES], ids=["commands", "interface", "names"])
@pytest.mark.parametrize("what", [texts, clusters])
def test_no_two_splits_of_a_language_share_a_text_or_what_it_is_made_from(
    starter: Starter, tasks: tuple[str, ...], what: What
) -> None:
    """Nor do two splits of different tasks with the same origin."""
    for language in {language for task in tasks for language in starter.languages(task)}:
        for one, other in combinations(SPLITS, 2):
            shared = in_split(starter, tasks, language, one, what) & in_split(starter, tasks, language, other, what)
            assert not shared, f"{language}, {one} and {other}"


def test_a_translation_is_in_one_split(starter: Starter) -> None:
    """The right answer of a choice, and either side of a match."""
    for language in starter.languages("ui_choice"):
        seen = {
            split: {row["options"][row["label"]] for row in starter.rows("ui_choice", language, split)}
            | {row["text_pair"] for row in starter.rows("ui_match", language, split)}
            | {row["text"] for row in starter.rows("ui_retrieval", language, split)}
            for split in SPLITS
        }
        assert not any(seen[one] & seen[other] for one, other in combinations(SPLITS, 2)), language


def test_no_training_command_is_word_for_word_a_held_out_one_of_another_language(starter: Starter) -> None:
    written = ("command_intent", "same_command")  # the others hold the same commands, cut into tokens or not
    every = {language for task in written for language in starter.languages(task)}
    held_out = {
        text
        for language in every
        for split in SPLITS[1:]
        for text in in_split(starter, written, language, split, texts)
    }
    trained = {text for language in every for text in in_split(starter, written, language, "train", texts)}
    assert len(trained) > 5000
    assert not trained & held_out


def test_a_message_or_name_is_in_the_same_split_in_every_language(starter: Starter) -> None:
    for tasks in (INTERFACE, NAMES):
        found = {
            split: {
                one
                for task in tasks
                for language in starter.languages(task)
                for one in in_split(starter, (task,), language, split, clusters)
            }
            for split in SPLITS
        }
        assert not any(found[one] & found[other] for one, other in combinations(SPLITS, 2))


def test_words_for_test_commands_are_not_the_words_for_training_commands() -> None:
    fillers = yaml.safe_load((resources.files("tunexfer_starter") / "fillers.yaml").read_text(encoding="utf-8"))
    for language, kinds in fillers.items():
        for kind, words in kinds.items():
            assert not set(words[0::2]) & set(words[1::2]), f"{kind} in {language}"
            assert len(words) == len(fillers["en"][kind]), f"{kind} in {language}"


@pytest.mark.parametrize("split", SPLITS[1:])
def test_retrieval_pools_have_one_size_and_no_two_messages_alike(starter: Starter, split: Split) -> None:
    sizes = set()
    for language in starter.languages("ui_retrieval"):
        rows = starter.rows("ui_retrieval", language, split)
        sizes.add(len(rows))
        for side in ("english", "text"):
            assert len({row[side] for row in rows}) == len(rows), language
    assert len(sizes) == 1


@pytest.mark.parametrize("task", TARGETS)
def test_a_target_has_validation_rows_in_each_of_its_fifteen_languages_and_more(starter: Starter, task: str) -> None:
    assert len(starter.languages(task, "test")) >= 15
    assert starter.languages(task, "test") == starter.languages(task, "validation", "test")


def test_five_intermediate_tasks_of_different_kinds_can_be_trained(starter: Starter) -> None:
    others = [task for task in starter.suite.tasks if task not in TARGETS and starter.languages(task, "train")]
    assert len(others) >= 5
    kinds = {(starter.suite.task(task).kind, "text_pair" in starter.suite.task(task).columns) for task in others}
    assert len(kinds) >= 4, "one text, two texts, a choice, an answer"


def test_every_answer_stands_where_its_row_says(starter: Starter) -> None:
    for language in starter.languages("command_qa"):
        for split in SPLITS:
            for row in starter.rows("command_qa", language, split):
                [text], [start] = row["answers"]["text"], row["answers"]["answer_start"]
                assert text
                assert row["context"][start : start + len(text)] == text


def test_tags_begin_before_they_continue_and_belong_to_the_intent_rows_words(starter: Starter) -> None:
    labels = set(starter.suite.task("command_slots").labels)
    for language in starter.languages("command_slots"):
        for row in starter.rows("command_slots", language, "test"):
            assert len(row["tokens"]) == len(row["tags"])
            assert set(row["tags"]) <= labels
            assert any(tag != "O" for tag in row["tags"])
            for before, tag in zip(["O", *row["tags"]], row["tags"], strict=False):
                assert not tag.startswith("I-") or before[2:] == tag[2:], row["id"]


def test_no_options_of_a_choice_are_the_same(starter: Starter) -> None:
    for language in starter.languages("ui_choice"):
        for split in SPLITS:
            assert all(len(set(row["options"])) == 4 for row in starter.rows("ui_choice", language, split))


@pytest.mark.parametrize(
    ("language", "louder", "softer"),
    [
        ("en", "up increase raise", "down decrease reduce"),
        ("de", "lauter erhöh", "leiser verring"),
        ("zh", "大 高", "小 低"),
    ],
)
def test_louder_is_not_the_same_command_as_softer(starter: Starter, language: str, louder: str, softer: str) -> None:
    def direction(text: str) -> tuple[bool, bool]:
        return any(word in text for word in louder.split()), any(word in text for word in softer.split())

    rows = [row for split in SPLITS for row in starter.rows("same_command", language, split)]
    found = [
        {direction(row["text"]), direction(row["text_pair"])}
        for row in rows
        if "SetVolumeRelative" in row["id"] and row["label"] == "same"
    ]
    assert {(True, False)} in found
    assert {(False, True)} in found
    assert {(True, False), (False, True)} not in found


def test_the_default_space_tags_no_language_whose_words_are_single_characters(starter: Starter, tmp_path: Path) -> None:
    """Chinese and Thai are cut into characters, which tell too little: their scores are near 0 whatever the chain."""
    plan = Plan.load("multitask", cache=tmp_path)
    for language in {language for task, language, _ in plan.evaluated if task == "command_slots"}:
        words = [word for row in starter.rows("command_slots", language, "test") for word in row["tokens"]]
        assert sum(map(len, words)) / len(words) > 2, language
