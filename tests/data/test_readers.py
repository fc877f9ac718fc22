"""Every reader yields the same rows from its own format, counts them, and names the line that is broken.

A new reader needs a class here with the same sentences in its format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunexfer.data.origin import Origin
from tunexfer.data.readers import READERS, reader_of
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.suite import Suite

SENTENCES = [
    {"tokens": ["Dogs", "bark"], "tags": ["NOUN", "VERB"]},
    {"tokens": ["Собаки", "лают", "!"], "tags": ["NOUN", "VERB", "PUNCT"]},
]


class ReaderConformance:
    """The claims that hold for every reader; a subclass says how its format writes the sentences."""

    name: str
    fields: dict[str, Any] = {"files": "test.x"}
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
        block = {"kind": self.kind, "columns": self.columns, "labels": ["NOUN", "VERB", "PUNCT"], **self.fields}
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
        return Origin(block=block, language="ru", split="validation", cache=tmp_path / "cache", files=files)

    def test_it_is_the_reader_of_its_files(self, origin: Origin) -> None:
        assert reader_of(origin) is READERS[self.name]

    def test_its_rows_are_those_of_every_other_format(self, origin: Origin, tmp_path: Path) -> None:
        table = self.suite(tmp_path).table("t", "ru", "validation").select(list(self.expected[0]))
        assert table.to_pylist() == self.expected

    def test_its_count_is_the_number_of_its_rows(self, origin: Origin) -> None:
        reader = READERS[self.name]
        assert reader.count(origin) == len(list(reader.rows(origin))) == len(self.expected)

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

    def test_a_damaged_file_can_not_be_counted_either(self, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "test.parquet").write_bytes(self.broken["test.parquet"])
        with pytest.raises(DataError, match=self.message):
            READERS["parquet"].count(origin)


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


def test_every_reader_is_tested() -> None:
    cases = [*FileConformance.__subclasses__(), *ReaderConformance.__subclasses__()]
    tested = {case.name for case in cases if case is not FileConformance}
    assert tested == READERS.keys()
