"""What can be used of a suite's files, and what is said of the rest."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunexfer.cli.tables import suite_table
from tunexfer.data.rows import Rows
from tunexfer.data.survey import Survey
from tunexfer.errors import DataError
from tunexfer.tasks.suite import Suite, load_suite

MOOD = {
    "kind": "classification",
    "files": "{language}/{split}.jsonl",
    "columns": {"text": "text", "label": "label"},
    "labels": ["bad", "good"],
}
QA = {"kind": "extractive_qa", "columns": {"question": "q", "context": "c", "answers": "a"}, "labels": []}


def rows_of(folder: Path, **block: Any) -> Rows:
    suite = Suite.model_validate({"name": "s", "root": "data", "tasks": {"t": MOOD | block}})
    return Rows(suite, folder, folder / "cache")


def write(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    file = folder / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def moods(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text, "label": number % 2} for number, text in enumerate(texts)]


def question(context: str, answer: str, start: int) -> dict[str, Any]:
    return {"q": "?", "c": context, "a": [{"text": answer, "answer_start": start}]}


# Rows that can't be used


def test_questions_whose_answer_is_elsewhere_are_counted_and_left_out_of_training(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", question("a b", "b", 2), question("a b", "b", 1), question("c d", "d", 2))
    write(tmp_path, "en/test.jsonl", question("a b", "b", 1))
    rows = rows_of(tmp_path, **QA)
    assert rows.count("t", "en", "train") == rows.table("t", "en", "train").num_rows == 2
    assert rows.count("t", "en", "test") == 1  # it is scored by its text
    assert rows.left_out("t", "en", "train") == {"the answer is not at answer_start": 1}
    [remark] = [remark for remark in rows.remarks() if "used" in remark]
    assert remark == "task 't', train in 'en': 2 of 3 rows used; in 1 the answer is not at answer_start"


@pytest.mark.parametrize(("good", "warned"), [(99, False), (98, True)])
def test_more_than_one_row_in_a_hundred_that_is_left_out_is_a_warning(good: int, warned: bool, tmp_path: Path) -> None:
    rows = [question("a b", "b", 2)] * good + [question("a b", "b", 1)]  # 1 of 100 is 1 %, 1 of 99 is more
    write(tmp_path, "en/train.jsonl", *rows)
    own = rows_of(tmp_path, **QA)
    [line] = [remark for remark in own.remarks() if "rows used" in remark]
    assert own.warnings() == ([line] if warned else [])


def test_tasks_shows_warnings_before_notes(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", question("a b", "b", 2), question("a b", "b", 1))
    write(tmp_path, "en/dev.jsonl", question("c d", "d", 2))
    own, shown = rows_of(tmp_path, **QA), Console(record=True, width=200, file=io.StringIO())
    shown.print(suite_table(own.suite, own))
    lines = [line.partition(":")[0] for line in shown.export_text().splitlines() if "task 't'" in line]
    assert lines == ["warning", "note"]


@pytest.mark.parametrize(("unit", "start"), [("bytes", 9), ("utf-16", 5)])
def test_offsets_in_other_units_are_named_and_converted_on_request(unit: str, start: int, tmp_path: Path) -> None:
    """In `𝔘é ab` the answer begins at character 3, byte 7 and, in UTF-16, unit 4."""
    context = "𝔘éé ab"  # 4 + 2 + 2 + 1 bytes, 2 + 1 + 1 + 1 units, 4 characters
    write(tmp_path, "en/train.jsonl", question(context, "ab", start))
    with pytest.raises(DataError, match=rf"0 of 1 rows used; in 1 answer_start counts {unit}.*allow_dropped: true"):
        rows_of(tmp_path, **QA).count("t", "en", "train")
    assert rows_of(tmp_path, **QA, allow_dropped=True).count("t", "en", "train") == 0
    [row] = rows_of(tmp_path, **QA, answer_offsets=unit).table("t", "en", "train").to_pylist()
    assert row["answers"] == [{"text": "ab", "start": 4}]


def test_an_answer_without_text_is_named_by_file_and_row(tmp_path: Path) -> None:
    write(tmp_path, "en/test.jsonl", {"q": "?", "c": "a", "a": [{"text": None, "answer_start": 0}]})
    with pytest.raises(DataError, match=r"test\.jsonl, row 0: column 'a' should hold answers"):
        rows_of(tmp_path, **QA).count("t", "en", "test")


def test_files_count_where_the_suite_declares_other_numbers(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods("a", "b"))
    rows = rows_of(tmp_path, rows={"en": (4000, 0, 10)})
    assert (rows.count("t", "en", "train"), rows.count("t", "en", "test")) == (2, 10)
    assert rows.remarks([("t", "en", "train")]) == [
        "task 't', train in 'en': `rows:` says 4,000, but 2 can be used, and these count"
    ]


def test_more_than_half_left_out_is_refused_again_when_it_is_no_longer_allowed(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", question("a b", "b", 2), *[question("a b", "b", 0)] * 3)
    assert rows_of(tmp_path, **QA, allow_dropped=True).count("t", "en", "train") == 1
    with pytest.raises(DataError, match=r"1 of 4 rows used; in 3 the answer is not at answer_start.*allow_dropped"):
        rows_of(tmp_path, **QA).count("t", "en", "train")


def test_a_survey_is_made_again_when_the_file_or_the_suite_changes(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods("a", "b"))
    assert rows_of(tmp_path).count("t", "en", "train") == 2
    write(tmp_path, "en/train.jsonl", *moods("a", "b", "c"))
    assert rows_of(tmp_path).count("t", "en", "train") == 3
    assert rows_of(tmp_path, drop_labels=[1]).count("t", "en", "train") == 2


def test_a_survey_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods("a", "b"))
    rows_of(tmp_path).count("t", "en", "train")
    [kept] = (tmp_path / "cache" / "surveys").rglob("*.arrow")
    kept.unlink()
    assert rows_of(tmp_path).table("t", "en", "train")["text"].to_pylist() == ["a", "b"]
    assert rows_of(tmp_path).count("t", "en", "train") == 2
    assert kept.is_file()


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "en/train.jsonl", *moods("a", "b"))
    make = Survey.make

    def make_slowly(*survey: Any) -> None:
        make(*survey)
        write(tmp_path, "en/train.jsonl", *moods("a", "b", "c"))

    with monkeypatch.context() as patch:
        patch.setattr(Survey, "make", make_slowly)
        with pytest.raises(DataError, match="a file changed while it was read"):
            rows_of(tmp_path).count("t", "en", "train")
    assert rows_of(tmp_path).count("t", "en", "train") == 3


# Ids


@pytest.mark.parametrize("name", [None, "x"])
def test_ids_that_tell_no_rows_apart_give_way_to_positions(name: str | None, tmp_path: Path) -> None:
    write(tmp_path, "en/test.jsonl", *({"id": name, **row} for row in moods("a", "b")))
    rows = rows_of(tmp_path, columns={"id": "id", "text": "text", "label": "label"})
    table = rows.table("t", "en", "test")
    assert table["id"].to_pylist() == table["cluster"].to_pylist() == ["0", "1"]
    said = [remark for remark in rows.remarks() if "every row has the id 'x' and the cluster 'x'" in remark]
    assert len(said) == (name == "x")


def test_rules_for_answers_that_do_not_cover_a_language_are_refused_before_training(tmp_path: Path) -> None:
    write(tmp_path, "ru/test.jsonl", question("a b", "b", 2))
    with pytest.raises(DataError, match=r"task 't', test in 'ru': MLQA's rules .* not 'ru'\. Set `answer_language_"):
        rows_of(tmp_path, **QA, answer_language_rules="mlqa").remarks()


# Splits


def test_a_column_may_name_the_split(tmp_path: Path) -> None:
    parts = [{"text": part, "label": 0, "info": {"part": part}} for part in ("train", "dev", "train", "test")]
    write(tmp_path, "en.jsonl", *parts)
    rows = rows_of(tmp_path, files="{language}.jsonl", where={"info.part": "{split}"}, splits={"validation": "dev"})
    counts = [rows.count("t", "en", split) for split in ("train", "validation", "test")]
    assert counts == [2, 1, 1]
    assert not [remark for remark in rows.remarks() if "rows are also" in remark]


def test_a_pattern_without_split_is_refused_unless_it_is_one_split(tmp_path: Path) -> None:
    write(tmp_path, "en.jsonl", *moods("a"))
    with pytest.raises(ValueError, match=r"has no \{split\}, so train, validation and test would be the same rows"):
        rows_of(tmp_path, files="{language}.jsonl")
    rows = rows_of(tmp_path, files="{language}.jsonl", splits={"test": "all"})
    assert [rows.count("t", "en", split) for split in ("train", "validation", "test")] == [0, 0, 1]


def test_splits_that_read_the_same_file_are_refused_and_shared_rows_are_said(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods("a", "b", "c"))
    write(tmp_path, "en/test.jsonl", *moods("x", "c", "b", "y"))
    assert rows_of(tmp_path).remarks() == ["task 't': 2 distinct test rows are also train rows (en 2)"]
    with pytest.raises(DataError, match="train and test read the same file in 'en'"):
        rows_of(tmp_path, splits={"test": "train"}).remarks()


def test_a_missing_split_is_named_with_the_name_that_it_has(tmp_path: Path) -> None:
    write(tmp_path, "en/train.jsonl", *moods("a"))
    write(tmp_path, "en/dev.jsonl", *moods("b"))
    sentence = r"en/validation\.jsonl isn't there, but dev\.jsonl is: set `splits: \{validation: dev\}`"
    with pytest.raises(DataError, match=sentence):
        rows_of(tmp_path).table("t", "en", "validation")
    assert [remark for remark in rows_of(tmp_path).remarks() if "validation: dev" in remark]


# Languages and patterns


def test_languages_have_one_code_and_are_read_as_the_files_write_them(tmp_path: Path) -> None:
    write(tmp_path, "run_Latn/train.jsonl", *moods("a"))
    write(tmp_path, "eng/train.jsonl", *moods("b", "c"))
    write(tmp_path, ".hidden/train.jsonl", *moods("d"))
    write(tmp_path, "eng/._train.jsonl", *moods("e"))
    rows = rows_of(tmp_path)
    assert rows.languages("t", "train") == ["en", "rn"]
    assert rows.table("t", "en", "train")["text"].to_pylist() == ["b", "c"]
    write(tmp_path, "en/train.jsonl", *moods("d"))
    with pytest.raises(DataError, match="'en' and 'eng' are the same language, 'en'"):
        rows_of(tmp_path).languages("t", "train")


def test_files_that_are_no_languages_are_said(tmp_path: Path) -> None:
    write(tmp_path, "all/train.jsonl", *moods("a"))
    write(tmp_path, "en_old/train.jsonl", *moods("a"))
    [remark] = rows_of(tmp_path).remarks()
    assert remark.startswith("task 't': all, en_old are no codes of a language")


def test_hidden_files_are_no_languages(tmp_path: Path) -> None:
    for name in ("en.jsonl", "._en.jsonl", ".de.jsonl", ".cache/sw.jsonl"):
        write(tmp_path, name, *moods("a"))
    for files in ("{language}.jsonl", "{language}*.jsonl"):
        rows = rows_of(tmp_path, files=files, splits={"train": "all"})
        assert rows.languages("t", "train") == ["en"]
        assert rows.count("t", "en", "train") == 1


@pytest.mark.parametrize("files", ["no/{language}/{split}.jsonl", "{split}{language}.jsonl", "[x]/{language}{split}"])
def test_a_pattern_that_fits_no_file_is_named_with_the_folder(files: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file fits `files: .* in .*data"):
        rows_of(tmp_path, files=files).languages("t", "train")


def test_a_placeholder_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"files: there is no \{lang\} to fill in, only \{language\}"):
        Suite.model_validate({"name": "s", "tasks": {"t": MOOD | {"files": "{lang}/{split}.jsonl"}}})


def test_a_pattern_may_lead_into_an_archive(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "set.zip", "w") as archive:
        for language in ("en", "__MACOSX/._en", "swa"):
            archive.writestr(f"{language}/train.tsv", "text\tlabel\na\tbad\n")
    rows = rows_of(tmp_path, files="set.zip/{language}/{split}.tsv")
    assert rows.languages("t", "train") == ["en", "sw"]
    assert rows.table("t", "sw", "train")["text"].to_pylist() == ["a"]


# Content


def test_a_table_that_datasets_reads_is_known_by_its_bytes(tmp_path: Path) -> None:
    block = {"files": None, "hub": {"path": "csv", "files": "{split}.csv"}, "rows": {"en": (1, 0, 0)}}
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train.csv"
    file.write_text("text,label\na,bad\n")
    before = rows_of(tmp_path, **block).content("t", "en", "train")
    file.write_text("text,label\na,good\n")
    assert rows_of(tmp_path, **block).content("t", "en", "train") != before


# Suites


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("text: text", "text_pairs: text", "no field 'text_pairs'; did you mean 'text_pair'?"),
        ("[bad, good]", "[bad, bad]", "the label 'bad' is there twice"),
        ("[bad, good]", "[no, good]", r"labels.0: expected text, got false\. YAML reads `no`, `off`"),
        ("licence: x", "codes: {no: nb}", r"codes.*: expected text, got false\. YAML reads `no`"),
        ("licence: x", "licence: x, licence: y", r"the key 'licence' is there twice\s+in line 3, column"),
        ("licence: x", "metric: f1", r"there is no 'f1'; those of classification are accuracy, macro_f1"),
        ("licence: x", "licens: x", "there is no such key. Did you mean 'licence'?"),
    ],
)
def test_a_slip_in_a_suite_is_explained(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (
        'name: s\ntasks:\n  t: {kind: classification, licence: x, files: "{language}/{split}.jsonl", '
        "columns: {text: text, label: label}, labels: [bad, good]}\n"
    )
    (tmp_path / "s.yaml").write_text(text)
    load_suite("s.yaml", beside=tmp_path)
    (tmp_path / "s.yaml").write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        load_suite("s.yaml", beside=tmp_path)
