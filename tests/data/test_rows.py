from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunexfer.core.scores import Split
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, TaskBlock

FILES = "{language}/{split}.jsonl"
COLUMNS = {"text": "text", "label": "label"}


def rows_of(folder: Path, root: str = "data", **block: Any) -> Rows:
    """One task, `mood`, in the suite whose root is `folder`/data."""
    task = {
        "kind": "classification",
        "files": "{language}/{split}.jsonl",
        "columns": COLUMNS,
        "labels": ["bad", "good"],
    }
    suite = Suite.model_validate({"name": "toy", "root": root, "tasks": {"mood": task | block}})
    return Rows(suite, folder, folder / "cache")


def write(folder: Path, name: str, *rows: dict[str, Any] | str) -> Path:
    path = folder / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def moods(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text {number}", "label": number % 2} for number in range(count)]


def texts(rows: Rows, split: Split, language: str = "en") -> list[str]:
    found: list[str] = rows.table("mood", language, split)["text"].to_pylist()
    return found


# What is there


def test_languages_and_counts_are_found_by_looking(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods(3))
    write(tmp_path, "sw/train.jsonl", *moods(2), "")
    write(tmp_path, "sw/test.jsonl", *moods(4))
    rows = rows_of(tmp_path)
    assert rows.languages("mood", "train") == ["en", "sw"]
    assert rows.languages("mood", "test") == ["sw"]
    assert (rows.count("mood", "sw", "train"), rows.count("mood", "en", "test")) == (2, 0)


def test_declared_counts_are_believed_without_looking(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, rows={"en": (100, 0, 10), "sw": (0, 0, 5)})
    assert rows.languages("mood", "train") == ["en"]
    assert rows.languages("mood", "test") == ["en", "sw"]
    assert rows.count("mood", "en", "train") == 100


def test_languages_that_no_file_name_tells_have_to_be_declared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task 'mood'.*declare them in `rows:`"):
        rows_of(tmp_path, files="{split}.jsonl").languages("mood", "train")


def test_a_missing_file_is_named_with_the_languages_there_are(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods(3))
    with pytest.raises(DataError, match=r"no train rows in 'sw': .*sw/train\.jsonl isn't there.*train rows: en"):
        rows_of(tmp_path).table("mood", "sw", "train")


# Reading


def test_rows_become_canonical_and_take_their_position_as_id(tmp_path: Path) -> None:
    write(
        tmp_path,
        "en/test.jsonl",
        {"text": "a ", "label": "bad"},
        {"text": "b", "label": "?"},
        {"text": "c", "label": 1},
    )
    table = rows_of(tmp_path, drop_labels=["?"]).table("mood", "en", "test")
    assert table.schema == KINDS["classification"].schema
    assert table.to_pylist() == [
        {"id": "0", "cluster": "0", "text": "a", "text_pair": None, "label": 0},
        {"id": "2", "cluster": "2", "text": "c", "text_pair": None, "label": 1},
    ]
    assert rows_of(tmp_path, drop_labels=["?"]).count("mood", "en", "test") == 2


def test_a_cluster_is_the_id_unless_the_data_has_one(tmp_path: Path) -> None:
    write(tmp_path, "en/test.jsonl", {"text": "a", "label": 0, "n": 7, "template": "t"})
    columns = COLUMNS | {"id": "n"}
    [row] = rows_of(tmp_path, columns=columns).table("mood", "en", "test").to_pylist()
    assert (row["id"], row["cluster"]) == ("7", "7")
    [row] = rows_of(tmp_path, columns=columns | {"cluster": "template"}).table("mood", "en", "test").to_pylist()
    assert (row["id"], row["cluster"]) == ("7", "t")


def test_rows_without_a_value_that_the_task_needs_are_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        "en/test.jsonl",
        {"text": "a", "label": 0, "source": {"page": [1]}},
        {"text": None, "label": 0, "source": {"page": [1]}},
        {"text": " ", "label": 1, "source": {"page": [1]}},
        {"text": "d", "label": 1, "source": {"page": []}},
        {"text": "e", "label": 1, "source": None},
        {"text": "f", "label": 1, "source": {"page": [0]}},
    )
    rows = rows_of(tmp_path, drop_without=["text", "source.page"])
    assert rows.table("mood", "en", "test")["id"].to_pylist() == ["0", "5"]
    assert rows.count("mood", "en", "test") == 2
    assert rows.content("mood", "en", "test") != rows_of(tmp_path).content("mood", "en", "test")
    with pytest.raises(DataError, match=r"row 1: column 'text' should hold text, but got None.*drop_without: \[text\]"):
        rows_of(tmp_path).table("mood", "en", "test")
    with pytest.raises(DataError, match=r"no column 'txt' for `drop_without:`\. The data has text, label, source"):
        rows_of(tmp_path, drop_without=["txt"]).table("mood", "en", "test")


def test_questions_on_one_passage_are_a_cluster_that_parallel_languages_share(tmp_path: Path) -> None:
    columns = {"question": "q", "context": "c", "answers": "a"}
    asked = {"en": ["two", "one", "two", "one"], "sw": ["mbili", "moja", "mbili", "moja"]}
    for language, passages in asked.items():
        answers = {"text": ["o"], "answer_start": [2]}
        write(
            tmp_path,
            f"{language}/test.jsonl",
            *({"id": f"q{n}", "group": "gggh"[n], "q": "?", "c": c, "a": answers} for n, c in enumerate(passages)),
        )

    def clusters(language: str, **more: str) -> list[str]:
        rows = rows_of(tmp_path, kind="extractive_qa", columns=columns | more, labels=[])
        found: list[str] = rows.table("mood", language, "test")["cluster"].to_pylist()
        return found

    assert clusters("en", id="id") == clusters("sw", id="id") == ["q0", "q1", "q0", "q1"]
    assert clusters("en") == clusters("sw") == ["0", "1", "0", "1"]
    assert clusters("en", id="id", cluster="group") == ["g", "g", "g", "h"]


def test_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    write(tmp_path, "en/test.jsonl", {"text": "2020-01-01T00:00:00", "label": 0})
    assert texts(rows_of(tmp_path), "test") == ["2020-01-01T00:00:00"]


def test_a_row_that_can_not_be_read_is_named_by_task_file_and_position(tmp_path: Path) -> None:
    write(tmp_path, "en/test.jsonl", {"text": "a", "label": 0}, {"sentence": "b", "label": 0})
    with pytest.raises(
        DataError, match=r"task 'mood', .*test\.jsonl, row 1: there is no column 'text'.*sentence, label"
    ):
        rows_of(tmp_path).table("mood", "en", "test")


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "en/test.dat", "text,label")
    with pytest.raises(DataError, match=r"test\.dat: the name doesn't tell the format, as \.jsonl,.*`read: {format:"):
        rows_of(tmp_path, files="{language}/{split}.dat").table("mood", "en", "test")


@pytest.mark.parametrize("files", ["../{language}.jsonl", "{language}/../../x.jsonl", "/etc/passwd"])
def test_a_path_may_not_leave_the_suites_root(tmp_path: Path, files: str) -> None:
    with pytest.raises(DataError, match="leads out of the suite's root"):
        rows_of(tmp_path, files=files, rows={"en": (1, 0, 0)}).table("mood", "en", "train")


def test_files_that_belong_together_are_all_needed_to_count_rows(tmp_path: Path) -> None:
    """No row can be read of a language whose tags are missing, so it must not look as if it had some."""
    block = {"kind": "tagging", "files": "{language}/{split}.words", "tag_files": "{language}/{split}.tags"}
    rows = rows_of(tmp_path, **block, columns={"tokens": "tokens", "tags": "tags"})
    write(tmp_path, "en/train.words", "a b")
    with pytest.raises(DataError, match=r"no train rows in 'en': .*en/train\.tags isn't there"):
        rows.languages("mood", "train")


def test_files_that_belong_together_have_no_wildcard() -> None:
    with pytest.raises(ValueError, match=r"named one by one, without `\*`"):
        TaskBlock(kind="tagging", files="*.words", tag_files="*.tags", columns={})


def test_a_language_may_not_leave_it_either(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leads out of the suite's root"):
        rows_of(tmp_path, rows={"en": (1, 0, 0)}).table("mood", "../..", "train")


# Files with several languages


def mixed(folder: Path) -> dict[str, Any]:
    write(
        folder,
        "test.jsonl",
        {"text": "one", "label": 0, "lang": "English", "id": "english-1"},
        {"text": "moja", "label": 1, "lang": "Swahili", "id": "swahili-1"},
        {"text": "two", "label": 0, "lang": "English", "id": "english-2"},
    )
    return {"files": "{split}.jsonl", "codes": {"en": "English", "sw": "Swahili"}, "where": {"lang": "{code}"}}


def test_a_mixed_file_is_filtered_by_language(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, **mixed(tmp_path))
    assert rows.languages("mood", "test") == ["en", "sw"]
    assert texts(rows, "test", "sw") == ["moja"]
    assert rows.count("mood", "en", "test") == 2


def test_a_beginning_is_enough_to_filter_by(tmp_path: Path) -> None:
    block = mixed(tmp_path) | {"codes": {"en": "english", "sw": "swahili"}, "where": {"id": "{code}-*"}}
    assert texts(rows_of(tmp_path, **block), "test") == ["one", "two"]


def test_a_filter_that_keeps_nothing_shows_what_there_is(tmp_path: Path) -> None:
    block = mixed(tmp_path) | {"codes": {"fi": "Finnish"}}
    with pytest.raises(DataError, match=r"where: {'lang': 'Finnish'}`. In the data, lang is English, Swahili"):
        rows_of(tmp_path, **block, rows={"fi": (0, 0, 1)}).table("mood", "fi", "test")


def test_a_filter_on_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    block = mixed(tmp_path) | {"where": {"tongue": "{code}"}}
    with pytest.raises(DataError, match=r"no column 'tongue' for `where:`.*text, label, lang, id"):
        rows_of(tmp_path, **block).table("mood", "en", "test")


# Several places


def two_parts(folder: Path) -> dict[str, Any]:
    """English rows in two files; Chinese ones in a third, which writes columns and labels in another way."""
    write(folder, "first.jsonl", *moods(3))
    write(folder, "second.jsonl", *moods(2))
    write(folder, "zh.jsonl", {"sentence": "好", "label": 0}, {"sentence": "?", "label": -1})
    other = {"columns": {"text": "sentence", "label": "label"}, "label_values": [1, 0], "drop_labels": [-1]}
    return {
        "files": None,
        "parts": [
            {"files": "first.jsonl", "rows": {"en": (3, 0, 0)}},
            {"files": "second.jsonl", "rows": {"en": (2, 0, 0)}},
            {"files": "{language}.jsonl", "rows": {"zh": (1, 0, 0)}, **other},
        ],
    }


def test_rows_of_several_places_are_one_task(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, **two_parts(tmp_path))
    assert rows.languages("mood", "train") == ["en", "zh"]
    assert rows.count("mood", "en", "train") == 5
    assert texts(rows, "train") == ["text 0", "text 1", "text 2", "text 0", "text 1"]
    assert rows.table("mood", "en", "train")["id"].to_pylist() == ["1-0", "1-1", "1-2", "2-0", "2-1"]


def test_a_part_has_its_own_columns_and_label_order(tmp_path: Path) -> None:
    [row] = rows_of(tmp_path, **two_parts(tmp_path)).table("mood", "zh", "train").to_pylist()
    assert (row["id"], row["text"], row["label"]) == ("0", "好", 1)


def test_no_part_with_rows_is_an_error_with_the_languages_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train rows in 'fi'\. Languages with train rows: en, zh"):
        rows_of(tmp_path, **two_parts(tmp_path)).table("mood", "fi", "train")


def test_content_depends_on_every_part_of_the_language_and_on_no_other(tmp_path: Path) -> None:
    block = two_parts(tmp_path)
    before = rows_of(tmp_path, **block).content("mood", "en", "train")
    write(tmp_path, "zh.jsonl", {"sentence": "坏", "label": 1})
    assert rows_of(tmp_path, **block).content("mood", "en", "train") == before
    write(tmp_path, "second.jsonl", *moods(4))
    assert rows_of(tmp_path, **block).content("mood", "en", "train") != before


# Words and tags in two text files


def supertags(folder: Path, monkeypatch: pytest.MonkeyPatch, tags: str = "NP S\\NP\nNP/N N .\n") -> Rows:
    """A tagged set in the reader's own folder, its labels in a file."""
    data = folder / "own" / "ccg"
    data.mkdir(parents=True)
    (data / "train.words").write_text("Dogs bark\nThe cat .\n")
    (data / "train.tags").write_text(tags)
    (data / "tags.json").write_text(json.dumps({"N": 1, "NP": 0, "NP/N": 2, ".": 4, "S\\NP": 3}))
    monkeypatch.setenv("TUNEXFER_DATA", str(folder / "own"))
    return rows_of(folder, "data:", **SUPERTAGS)


SUPERTAGS = {
    "kind": "tagging",
    "files": "ccg/{split}.words",
    "tag_files": "ccg/{split}.tags",
    "labels": [],
    "labels_file": "ccg/tags.json",
    "columns": {"tokens": "tokens", "tags": "tags"},
    "rows": {"en": (2, 0, 0)},
}


def test_words_and_tags_may_lie_in_two_text_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = supertags(tmp_path, monkeypatch)
    assert rows.task("mood").labels == ["NP", "N", "NP/N", "S\\NP", "."]
    assert rows.table("mood", "en", "train").to_pylist() == [
        {"id": "0", "cluster": "0", "tokens": ["Dogs", "bark"], "tags": [0, 3]},
        {"id": "1", "cluster": "1", "tokens": ["The", "cat", "."], "tags": [2, 1, 4]},
    ]


def test_an_unknown_tag_is_named_by_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"row 1: column 'tags' has the label ','.*'NP', 'N'"):
        supertags(tmp_path, monkeypatch, "NP S\\NP\nNP/N N ,\n").table("mood", "en", "train")


def test_licensed_data_that_is_not_there_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = supertags(tmp_path, monkeypatch)
    (tmp_path / "own" / "ccg" / "train.tags").unlink()
    with pytest.raises(DataError, match=r"ccg/train\.tags isn't there.*set TUNEXFER_DATA.*or leave the task out"):
        rows.content("mood", "en", "train")
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path / "nowhere"))
    rows = rows_of(tmp_path, "data:", **SUPERTAGS)
    assert rows.count("mood", "en", "train") == 2
    with pytest.raises(DataError, match=r"labels from .*nowhere/ccg/tags\.json, which isn't there.*TUNEXFER_DATA"):
        rows.table("mood", "en", "train")


@pytest.mark.parametrize("labels", ['{"N": 1, "NP": 2}', '["N", 3]', '"N"', "N"])
def test_a_labels_file_of_another_form_is_refused(labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = supertags(tmp_path, monkeypatch)
    (tmp_path / "own" / "ccg" / "tags.json").write_text(labels)
    with pytest.raises(DataError, match=r"tags\.json.*(not JSON|list of labels, or an object)"):
        rows.task("mood")


# Validation rows from train


def test_the_last_rows_of_train_serve_as_validation_where_there_are_none(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods(5))
    write(tmp_path, "de/train.jsonl", *moods(5))
    write(tmp_path, "de/validation.jsonl", *moods(1))
    rows = rows_of(tmp_path, validation_from_train=2)
    assert texts(rows, "train") == ["text 0", "text 1", "text 2"]
    assert texts(rows, "validation") == ["text 3", "text 4"]
    assert [rows.count("mood", "en", split) for split in ("train", "validation")] == [3, 2]
    assert [rows.count("mood", "de", split) for split in ("train", "validation")] == [5, 1]
    assert rows.languages("mood", "validation") == ["de", "en"]


def test_test_rows_are_never_held_out(tmp_path: Path) -> None:
    write(tmp_path, "en/test.jsonl", *moods(5))
    write(tmp_path, "en/train.jsonl", *moods(5))
    assert len(texts(rows_of(tmp_path, validation_from_train=2), "test")) == 5


# Content


def test_content_changes_with_the_bytes_and_with_how_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods(5))
    before = rows_of(tmp_path).content("mood", "en", "train")
    assert rows_of(tmp_path, about="the same").content("mood", "en", "train") == before
    assert rows_of(tmp_path, max_length=64).content("mood", "en", "train") != before
    assert rows_of(tmp_path, labels=["good", "bad"]).content("mood", "en", "train") != before
    assert rows_of(tmp_path, validation_from_train=1).content("mood", "en", "train") != before
    write(tmp_path, "en/train.jsonl", *moods(6))
    assert rows_of(tmp_path).content("mood", "en", "train") != before


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods(5))
    before = rows_of(tmp_path).content("mood", "en", "train")
    [memo] = (tmp_path / "cache" / "hashes").iterdir()
    memo.write_text("remembered")
    assert rows_of(tmp_path).content("mood", "en", "train") != before


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `load_dataset` reads as it reads a data set on the hub."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    folder = tmp_path / "hub"
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["good", "bad"]),
            "tags": datasets.List(datasets.ClassLabel(names=["X", "Y"])),
        }
    )
    plain = {"text": ["a", "b", "c"], "label": [0, 1, 0], "tags": [[0], [1], [0]]}
    (folder / "data").mkdir(parents=True)
    datasets.Dataset.from_dict(plain, features=features).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


def hub_block(hub: Path, **more: Any) -> dict[str, Any]:
    return {"files": None, "hub": {"path": str(hub), **more}, "rows": {"en": (3, 0, 0)}}


def labels(rows: Rows) -> list[int]:
    found: list[int] = rows.table("mood", "en", "train")["label"].to_pylist()
    return found


def test_the_hubs_own_label_names_decide_over_positions(tmp_path: Path, hub: Path) -> None:
    rows = rows_of(tmp_path, **hub_block(hub))
    assert rows.table("mood", "en", "train")["label"].to_pylist() == [1, 0, 1]
    assert (
        rows_of(tmp_path, **hub_block(hub), label_values=[0, 1]).table("mood", "en", "train")["label"][0].as_py() == 0
    )


def test_label_names_that_contradict_the_suite_are_refused_unless_it_gives_values(tmp_path: Path, hub: Path) -> None:
    block = hub_block(hub) | {"labels": ["positive", "negative"]}
    with pytest.raises(DataError, match="labels of column 'label' good, bad, but `labels:` are positive, negative"):
        labels(rows_of(tmp_path, **block))
    assert labels(rows_of(tmp_path, **block, label_values=[0, 1])) == [0, 1, 0]


def test_tags_are_read_by_name_too(tmp_path: Path, hub: Path) -> None:
    columns = {"tokens": "tags", "tags": "tags"}
    block = hub_block(hub) | {"kind": "tagging", "labels": ["Y", "X"], "columns": columns}
    assert rows_of(tmp_path, **block).table("mood", "en", "train")["tags"].to_pylist() == [[1], [0], [1]]


def test_our_splits_may_be_slices_of_theirs(tmp_path: Path, hub: Path) -> None:
    block = hub_block(hub, splits={"train": "train[1:]"})
    assert texts(rows_of(tmp_path, **block), "train") == ["b", "c"]


def test_files_may_be_picked_where_the_set_has_no_configs(tmp_path: Path, hub: Path) -> None:
    (hub / "english" / "train").mkdir(parents=True)
    (hub / "data" / "train-00000-of-00001.parquet").rename(hub / "english" / "train" / "0000.parquet")
    block = hub_block(hub, files="{code}/{split}/*.parquet") | {"codes": {"en": "english"}}
    rows = rows_of(tmp_path, **block)
    assert texts(rows, "train") == ["a", "b", "c"]
    assert labels(rows) == [1, 0, 1]
    assert rows.content("mood", "en", "train") != rows_of(tmp_path, **hub_block(hub)).content("mood", "en", "train")


def test_a_format_is_read_as_its_reader_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    (tmp_path / "Val-word.tsv").write_text('text\tlabel\nhe said "no\tn\nfine\te\n')
    table = {"path": "csv", "files": f"{tmp_path}/{{split}}-word.tsv", "splits": {"validation": "Val"}}
    block = {"files": None, "hub": table | {"options": {"sep": "\t", "quoting": 3}}, "rows": {"en": (0, 2, 0)}}
    rows = rows_of(tmp_path, **block, label_values=["n", "e"])
    assert texts(rows, "validation") == ['he said "no', "fine"]
    assert rows.table("mood", "en", "validation")["label"].to_pylist() == [0, 1]


def test_content_of_hub_rows_is_their_place_and_revision(tmp_path: Path, hub: Path) -> None:
    first, again, other = (
        rows_of(tmp_path, **hub_block(hub, revision=revision)).content("mood", "en", "train")
        for revision in ("abc", "abc", "def")
    )
    assert first == again != other


def test_content_of_hub_rows_is_what_their_branch_was_at_when_it_was_first_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def dataset_info(self: Any, path: str, *, revision: str | None) -> SimpleNamespace:
        asked.append((path, revision))
        return SimpleNamespace(sha=str(len(asked)) * 40)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)

    def content(revision: str | None, cache: str = "cache") -> str:
        rows = rows_of(tmp_path, **hub_block(Path("some/set"), revision=revision))
        rows.cache = tmp_path / cache
        return rows.content("mood", "en", "train")

    first = content(None)
    assert content(None) == first == content("1" * 40)
    assert content("refs/pr/1") != first
    assert content(None, "another cache") not in (first, content("2" * 40))
    assert asked == [("some/set", None), ("some/set", "refs/pr/1"), ("some/set", None)]


def test_a_split_the_hub_does_not_have_says_what_to_check(tmp_path: Path, hub: Path) -> None:
    block = hub_block(hub, splits={"train": "training"})
    with pytest.raises(DataError, match=r"could not load .*split 'training'.*Check the id, config, revision and split"):
        rows_of(tmp_path, **block).table("mood", "en", "train")


def test_rows_on_the_hub_have_to_be_counted_in_the_suite(tmp_path: Path, hub: Path) -> None:
    with pytest.raises(DataError, match="declare them in `rows:`"):
        rows_of(tmp_path, **hub_block(hub) | {"rows": {}, "codes": {"en": "en"}}).languages("mood", "train")
