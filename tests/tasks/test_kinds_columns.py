"""Every way a set may write its columns and labels, and what the errors say."""

from __future__ import annotations

from typing import Any

import pytest

from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock

PAIR = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
NLI = ["entailment", "neutral", "contradiction"]


def block(kind: str = "classification", **fields: Any) -> TaskBlock:
    return TaskBlock.model_validate({"kind": kind, "files": "x.jsonl", "columns": PAIR, "labels": NLI} | fields)


def read(task: TaskBlock, **row: Any) -> Any:
    return KINDS[task.kind].read(row, task)


def pair(task: TaskBlock, label: Any) -> Any:
    found = read(task, premise="p", hypothesis="h", label=label)
    return found and found["label"]


def test_a_label_is_its_position_or_its_name() -> None:
    assert pair(block(), 2) == pair(block(), "2") == 2
    assert pair(block(), "contradiction") == 2


def test_ocnli_counts_its_labels_in_another_order() -> None:
    ocnli = block(label_values=[1, 0, 2])  # there 0 is neutral and 1 entailment
    assert [pair(ocnli, label) for label in (0, 1, 2)] == [1, 0, 2]


def test_labels_may_be_numbers_written_as_text() -> None:
    assert pair(block(labels=["0", "1"]), "1") == 1
    assert pair(block(labels=["other", "same"], label_values=["0", "1"]), "1") == 1


def test_labels_whose_names_are_numbers_are_meant_by_name() -> None:
    stars = block(labels=["1", "2", "3"])
    assert [pair(stars, label) for label in (1, "3", 2.0)] == [0, 2, 1]
    with pytest.raises(DataError, match="column 'label' has the label 0"):
        pair(stars, 0)


def test_pandas_writes_whole_numbers_as_floats_where_others_are_missing() -> None:
    assert pair(block(), 1.0) == 1
    assert pair(block(drop_labels=[-1]), -1.0) is None
    assert pair(block(), "1.0") == 1
    assert pair(block(drop_labels=["-1"]), "-1.0") is None
    assert pair(block(labels=["1.0", "1"]), "1.0") == 0


def test_yes_and_no_need_their_order_said() -> None:
    with pytest.raises(DataError, match="label_values"):
        pair(block(labels=["yes", "no"]), True)
    assert pair(block(labels=["yes", "no"], label_values=[True, False]), True) == 0


def test_white_space_around_a_label_is_not_part_of_it() -> None:
    assert pair(block(), "neutral\n") == 1


def test_rows_without_consensus_are_left_out() -> None:
    assert pair(block(drop_labels=["-"]), "-") is None
    assert pair(block(drop_labels=[-1]), -1) is None


@pytest.mark.parametrize("label", ["entailed", -1, 3, None, True, 1.5, float("nan"), "1.5", ".0"])
def test_an_unknown_label_is_an_error_that_names_column_label_and_next_moves(label: Any) -> None:
    with pytest.raises(DataError, match=r"column 'label' has the label .*'entailment'.*label_values.*drop_labels"):
        pair(block(), label)


def test_text_loses_white_space_around_it() -> None:
    row = read(block("retrieval", columns={"text": "s", "english": "t"}), s="Guten Tag.\n", t="Good day.\n")
    assert row == {"text": "Guten Tag.", "english": "Good day."}


def test_a_single_sentence_has_no_pair() -> None:
    task = block(columns={"text": "tweet", "label": "label"})
    assert read(task, tweet="fine", label=0) == {"text": "fine", "text_pair": None, "label": 0}


def test_several_text_columns_are_joined() -> None:
    task = block(columns={"text": ["title", "body"], "label": "label"})
    assert read(task, title="Rain ", body="It rains.", label=0)["text"] == "Rain It rains."


def test_id_and_cluster_are_text() -> None:
    task = block(columns=PAIR | {"id": "idx", "cluster": "group"})
    row = read(task, premise="p", hypothesis="h", label=0, idx=7, group=3)
    assert (row["id"], row["cluster"]) == ("7", "3")


def test_a_renamed_column_is_named_with_the_columns_there_are() -> None:
    with pytest.raises(
        DataError, match=r"no column 'premise' for 'text'.*sentence1, hypothesis, label.*`columns: text:`"
    ):
        read(block(), sentence1="p", hypothesis="h", label=0)


def test_a_field_without_column_is_named() -> None:
    with pytest.raises(DataError, match=r"`columns:` has to name the column that holds 'label'.*premise"):
        read(block(columns={"text": "premise"}), premise="p")


def test_a_number_where_text_is_expected_is_shown() -> None:
    with pytest.raises(DataError, match="column 'premise' should hold text, but got 3"):
        read(block(), premise=3, hypothesis="h", label=0)


def test_a_path_looks_inside_a_column() -> None:
    task = block(
        "multiple_choice", columns={"prompt": "q", "options": "choices.text", "label": "key"}, labels=["A", "B"]
    )
    expected = {"prompt": "why", "options": ["x", "y"], "label": 1}
    assert read(task, q="why", choices={"label": ["A", "B"], "text": ["x", "y"]}, key="B") == expected
    assert read(task, q="why", choices=[{"text": "x"}, {"text": "y"}], key="B") == expected


def test_a_path_that_leads_nowhere_is_an_error() -> None:
    task = block(
        "multiple_choice", columns={"prompt": "q", "options": "choices.txt", "label": "key"}, labels=["A", "B"]
    )
    with pytest.raises(DataError, match=r"no column 'choices\.txt' for 'options'"):
        read(task, q="why", choices={"text": ["x", "y"]}, key="B")
