"""Every reader yields the same rows from its own format, and names the line that is broken.

A new reader needs a class here with the same sentences in its format.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunexfer.data.origin import Origin
from tunexfer.data.readers import READERS, reader_of
from tunexfer.data.rows import Rows
from tunexfer.data.tables import table_rows
from tunexfer.errors import DataError
from tunexfer.tasks.suite import ReadOptions, Suite

SENTENCES = [
    {"tokens": ["Dogs", "bark"], "tags": ["NOUN", "VERB"]},
    {"tokens": ["Собаки", "лают", "!"], "tags": ["NOUN", "VERB", "PUNCT"]},
]


class ReaderConformance:
    """The claims that hold for every reader; a subclass says how its format writes the sentences."""

    name: str
    fields: dict[str, Any] = {"files": "test.x"}
    labels = ["NOUN", "VERB", "PUNCT"]
    """Of the task block."""
    kind = "tagging"
    columns = {"tokens": "tokens", "tags": "tags"}
    expected: list[dict[str, Any]] = [
        {"tokens": ["Dogs", "bark"], "tags": [0, 1]},
        {"tokens": ["Собаки", "лают", "!"], "tags": [0, 1, 2]},
    ]
    broken: dict[str, bytes]
    """Contents of the files that are broken -> what the error says."""
    message: str

    def write(self, folder: Path) -> None:
        """Write the files of `fields`."""
        raise NotImplementedError

    def suite(self, folder: Path) -> Rows:
        block = {"kind": self.kind, "columns": self.columns, "labels": self.labels, **self.fields}
        suite = Suite.model_validate(
            {"name": "s", "root": str(folder), "tasks": {"t": block | {"rows": self.declared}}}
        )
        return Rows(suite, folder, folder / "cache")

    declared = {"ru": (0, 2, 0)}

    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        self.write(tmp_path)
        block = self.suite(tmp_path).task("t")
        files = tuple(tmp_path / pattern for pattern in block.patterns)
        places = {"cache": tmp_path / "cache", "root": tmp_path, "files": files}
        return Origin(block=block, language="ru", written="ru", split="validation", **places)

    def test_it_is_the_reader_of_its_files(self, origin: Origin) -> None:
        assert reader_of(origin) is READERS[self.name]

    def test_its_rows_are_those_of_every_other_format(self, origin: Origin, tmp_path: Path) -> None:
        table = self.suite(tmp_path).table("t", "ru", "validation").select(list(self.expected[0]))
        assert table.to_pylist() == self.expected

    def test_its_identity_is_json_and_stays_as_long_as_the_rows_do(self, origin: Origin) -> None:
        identity = READERS[self.name].identity(origin)
        assert json.dumps(identity) == json.dumps(READERS[self.name].identity(origin))

    def test_what_is_broken_is_named_by_file_and_line(self, origin: Origin, tmp_path: Path) -> None:
        for name, content in self.broken.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=self.message):
            list(READERS[self.name].rows(origin))


class FileConformance(ReaderConformance):
    """What holds besides for rows in files: they are identified by their bytes."""

    def test_its_identity_changes_with_every_file(self, origin: Origin) -> None:
        identity = READERS[self.name].identity
        before = [identity(origin)]
        for file in origin.files:
            file.write_bytes(file.read_bytes() + b"\n")
            assert identity(origin) not in before
            before.append(identity(origin))


class TestJsonl(FileConformance):
    name = "jsonl"
    fields = {"files": "test.jsonl"}
    broken = {"test.jsonl": b'{"tokens": [], "tags": []}\n{"tokens": ["\xff"]}\n'}
    message = r"test\.jsonl, line 2: not UTF-8"

    def write(self, folder: Path) -> None:
        lines = [json.dumps(row, ensure_ascii=False) + "\r\n\n" for row in SENTENCES]
        (folder / "test.jsonl").write_text("".join(lines), encoding="utf-8", newline="")

    @pytest.mark.parametrize(
        ("line", "message"),
        [(b'{"text": "c", "lab', "line 3: not JSON"), (b"[1, 2]", r"line 3: a row is an object .* but got \[1, 2\]")],
    )
    def test_a_line_is_an_object(self, line: bytes, message: str, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "test.jsonl").write_bytes(b"{}\n\n" + line + b"\n")
        with pytest.raises(DataError, match=rf"test\.jsonl, {message}"):
            list(READERS["jsonl"].rows(origin))


class TestParquet(FileConformance):
    name = "parquet"
    fields = {"files": "test.parquet"}
    broken = {"test.parquet": b"PAR1 and no more"}
    message = r"test\.parquet is not a Parquet file, or is damaged"

    def write(self, folder: Path) -> None:
        pq.write_table(pa.Table.from_pylist(SENTENCES), folder / "test.parquet")


class TestConllu(FileConformance):
    name = "conllu"
    fields = {"files": "test.conllu"}
    columns = {"tokens": "tokens", "tags": "pos_tags"}
    broken = {"test.conllu": b"# one\n1\tone\tNOUN\n\n"}
    message = r"test\.conllu, line 1: not a sentence in the ten columns of CoNLL-U"

    def write(self, folder: Path) -> None:
        text = ""
        for row in SENTENCES:
            for number, (token, tag) in enumerate(zip(row["tokens"], row["tags"], strict=True), start=1):
                text += f"{number}\t{token}\t_\t{tag}\t_\t_\t0\troot\t_\t_\n"
            text += "\n"
        (folder / "test.conllu").write_text(text, encoding="utf-8")


class TestTagged(FileConformance):
    name = "tagged"
    fields = {"files": "test.words", "tag_files": "test.tags"}
    broken = {"test.tags": b"NOUN VERB\nNOUN VERB\n"}
    message = r"test\.words, line 2: 3 words, but 2 tags in .*test\.tags"

    def write(self, folder: Path) -> None:
        for suffix, column in (("words", "tokens"), ("tags", "tags")):
            text = "".join(" ".join(row[column]) + "\n" for row in SENTENCES)
            (folder / f"test.{suffix}").write_text(text, encoding="utf-8")

    def test_marks_line_ends_and_no_break_spaces_part_no_words(self, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "test.words").write_bytes("\ufeff10\u00a0000 men\u3000!\r\nYes\r\n".encode())
        (tmp_path / "test.tags").write_bytes("\ufeffNUM NOUN\r\nX\r\n".encode())
        assert list(READERS["tagged"].rows(origin)) == [
            {"tokens": ["10\u00a0000", "men\u3000!"], "tags": ["NUM", "NOUN"]},
            {"tokens": ["Yes"], "tags": ["X"]},
        ]

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ("NOUN VERB\n", r"test\.words goes on at line 2, where .*test\.tags has ended"),
            ("NOUN VERB\nNOUN VERB PUNCT\nX\n", r"test\.tags goes on at line 3, where .*test\.words has ended"),
        ],
    )
    def test_both_files_have_as_many_lines(self, tags: str, message: str, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "test.tags").write_text(tags)
        with pytest.raises(DataError, match=message):
            list(READERS["tagged"].rows(origin))


class TestPairs(FileConformance):
    name = "pairs"
    kind = "mining"
    fields = {"files": "test.de", "english_files": "test.en", "gold_files": "test.gold"}
    columns = {column: column for column in ("id", "text", "english_id", "english")}
    expected = [
        {"id": "de-1", "text": "Ja.", "english_id": "en-1", "english": "Yes."},
        {"id": "de-2", "text": "Nein.", "english_id": None, "english": None},
        {"id": "en-2", "text": None, "english_id": "en-2", "english": "Bye."},
    ]
    broken = {"test.gold": b"de-1\ten-5\n"}
    message = r"test\.gold, line 1: there is no sentence 'en-5' in .*test\.en"

    def write(self, folder: Path) -> None:
        (folder / "test.de").write_text("de-1\tJa.\n\nde-2\tNein.\nde-3\t\n")
        (folder / "test.en").write_text("en-1\tYes.\nen-2\tBye.\n")
        (folder / "test.gold").write_text("de-1\ten-1\nde-1\ten-1\n")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("test.en", "en-1 Yes.\n", r"test\.en, line 1: expected an id, a tab and more, but got 'en-1 Yes\.'"),
            ("test.de", "de-1\tJa.\nde-1\tNein.\n", r"test\.de, line 2: the id 'de-1' is there already"),
        ],
    )
    def test_a_sentence_has_an_id_of_its_own(
        self, name: str, text: str, message: str, origin: Origin, tmp_path: Path
    ) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            list(READERS["pairs"].rows(origin))


class TestHub(ReaderConformance):
    """A folder stands for the hub: `load_dataset` reads both alike."""

    name = "hub"
    broken = {"validation.jsonl": b'{"tokens": ["a"]\n'}
    message = r"could not load .*, config default, split 'validation'.*Check the id"

    def write(self, folder: Path) -> None:
        self.fields = {"hub": {"path": str(folder)}}
        text = "".join(json.dumps(row) + "\n" for row in SENTENCES)
        (folder / "validation.jsonl").write_text(text, encoding="utf-8")

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))


SENTENCE_ROWS = [
    {"text": 'He said "yes, no".', "label": "x"},
    {"text": "", "label": "y"},
    {"text": "𝔘𝔫𝔦 \u00a0 naïve", "label": "x"},
]
"""Quotation marks and separators inside, an empty field, characters beyond the first plane, a no-break space."""


class TableConformance(FileConformance):
    """One text and one label a row."""

    kind = "classification"
    columns = {"text": "text", "label": "label"}
    expected = [
        {"text": 'He said "yes, no".', "label": 0},
        {"text": "", "label": 1},
        {"text": "𝔘𝔫𝔦 \u00a0 naïve", "label": 0},
    ]
    labels = ["x", "y"]
    declared = {"ru": (0, 3, 0)}


class TestJson(TableConformance):
    name = "json"
    fields = {"files": "test.json"}
    broken = {"test.json": b'[{"text": "a"},\n {"text": ]'}
    message = r"test\.json, line 2: not JSON"

    def write(self, folder: Path) -> None:
        (folder / "test.json").write_text(json.dumps(SENTENCE_ROWS, indent=1), encoding="utf-8")

    def test_lines_of_objects_and_an_object_with_data_are_read_too(self, origin: Origin, tmp_path: Path) -> None:
        rows = list(READERS["json"].rows(origin))
        (tmp_path / "test.json").write_text("\n".join(map(json.dumps, SENTENCE_ROWS)))
        assert list(READERS["json"].rows(origin)) == rows
        (tmp_path / "test.json").write_text(json.dumps({"version": 1, "data": SENTENCE_ROWS}))
        assert list(READERS["json"].rows(origin)) == rows

    @pytest.mark.parametrize("text", ['{"text": {"0": "a"}}', "[1]", '"a"'])
    def test_other_json_is_refused(self, text: str, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "test.json").write_text(text)
        with pytest.raises(DataError, match=r"test\.json.*(array of objects|a row is an object)"):
            list(READERS["json"].rows(origin))


class TestCsv(TableConformance):
    name = "csv"
    fields = {"files": "test.csv"}
    broken = {"test.csv": b'text,label\na,x\n"b,y\n'}
    message = r"test\.csv, line 3: unexpected end of data.*quoting: false"

    def write(self, folder: Path) -> None:
        with (folder / "test.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(SENTENCE_ROWS)

    def test_a_row_has_the_fields_of_the_header(self, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "test.csv").write_text("text,label\na,x\nb,c,y\n")
        with pytest.raises(DataError, match=r"test\.csv, line 3: 3 fields, but 2 columns \(text, label\)"):
            list(READERS["csv"].rows(origin))


class TestTsv(TableConformance):
    """Without a header, the marks part of the text."""

    name = "tsv"
    fields = {"files": "test.tsv", "read": {"header": False, "columns": ["label", "text"], "quoting": False}}
    broken = {"test.tsv": b"x\ta\nx\n"}
    message = r"test\.tsv, line 2: 1 fields, but 2 columns \(label, text\)"

    def write(self, folder: Path) -> None:
        text = "".join(f"{row['label']}\t{row['text']}\n" for row in SENTENCE_ROWS)
        (folder / "test.tsv").write_text(text, encoding="utf-8")

    def test_a_field_that_begins_with_a_mark_needs_a_word_on_quoting(self, tmp_path: Path) -> None:
        (tmp_path / "test.tsv").write_text('text\tlabel\n"a"\tx\n')
        readings = {True: "a", False: '"a"'}
        for quoting, text in readings.items():
            [row] = table_rows(tmp_path / "test.tsv", ReadOptions(quoting=quoting), "\t")
            assert row["text"] == text
        with pytest.raises(DataError, match=r"test\.tsv, line 2: a field begins with a quotation mark"):
            list(table_rows(tmp_path / "test.tsv", ReadOptions(), "\t"))


class TestConll(FileConformance):
    name = "conll"
    fields = {"files": "test.txt", "read": {"format": "conll", "columns": ["tags", "lemmas", "tokens"]}}
    broken = {"test.txt": b"NOUN dog Dogs\nVERB bark\n\n"}
    message = r"test\.txt, line 2: 2 columns, but `read:` has 3 \(tags, lemmas, tokens\)"

    def write(self, folder: Path) -> None:
        text = "-DOCSTART- -X- O\n\n"
        for number, row in enumerate(SENTENCES):
            text += f"# id {number} domain=x\n"
            text += (
                "".join(f"{tag}\t_ {token}\r\n" for token, tag in zip(row["tokens"], row["tags"], strict=True)) + "\n"
            )
        (folder / "test.txt").write_text(text, encoding="utf-8", newline="")


class TestText(TableConformance):
    name = "text"
    kind = "masked_lm"
    columns = {"text": "text"}
    fields = {"files": "test.txt", "read": {"format": "text"}}
    expected = [{"text": "Dogs bark."}, {"text": "𝔘𝔫𝔦 \u00a0 naïve"}]
    broken = {"test.txt": b"a\nna\xefve\n"}
    message = r"test\.txt, line 2: not UTF-8: .*\(byte 0xef\).*`read: {encoding: latin-1}`"

    def write(self, folder: Path) -> None:
        (folder / "test.txt").write_text("Dogs bark.\n\n𝔘𝔫𝔦 \u00a0 naïve\n", encoding="utf-8")


class TestParallel(FileConformance):
    name = "parallel"
    kind = "retrieval"
    columns = {"text": "text", "english": "english"}
    fields = {"files": "test.ru", "english_files": "test.en"}
    expected = [{"text": "Собаки лают.", "english": "Dogs bark."}, {"text": "Да.", "english": "Yes."}]
    broken = {"test.en": b"Dogs bark.\n"}
    message = r"test\.ru goes on at line 2, where .*test\.en has ended"

    def write(self, folder: Path) -> None:
        (folder / "test.ru").write_text("Собаки лают.\nДа.\n", encoding="utf-8")
        (folder / "test.en").write_text("Dogs bark.\nYes.\n")


def test_every_reader_is_tested() -> None:
    cases: list[type[ReaderConformance]] = [ReaderConformance]
    for case in cases:
        cases += case.__subclasses__()
    assert {case.name for case in cases if hasattr(case, "name")} == READERS.keys()
    formats = get_args(get_args(ReadOptions.model_fields["format"].annotation)[0])
    assert set(formats) == {name for name, reader in READERS.items() if not reader.field}
