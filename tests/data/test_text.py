"""Text files in the forms that people have them in."""

from __future__ import annotations

import bz2
import gzip
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tunexfer.data.archives import unpacked
from tunexfer.data.readers import json_rows, jsonl_rows
from tunexfer.data.text import numbered_lines, whole_text
from tunexfer.errors import DataError

LINES = [(1, "naïve"), (2, "Ж 𝔘")]
TEXT = "naïve\r\nЖ 𝔘\n"


@pytest.mark.parametrize(
    ("codec", "given"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-16-le", None),
        ("utf-16-be", None),
        ("utf-16-le", "utf-16-le"),
    ],
)
def test_unicode_is_read_with_a_mark_or_without(codec: str, given: str | None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(TEXT.encode(codec))
    assert list(numbered_lines(tmp_path / "a", given)) == LINES
    assert whole_text(tmp_path / "a", given) == TEXT


def test_another_encoding_has_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("one\nnaïve\n".encode("latin-1"))
    assert list(numbered_lines(tmp_path / "a", "latin-1")) == [(1, "one"), (2, "naïve")]
    readings: list[Callable[[Path], object]] = [lambda file: list(numbered_lines(file)), whole_text]
    for reading in readings:
        with pytest.raises(DataError, match=r"a, line 2: not UTF-8: .*0xef.*`read: {encoding: latin-1}`"):
            reading(tmp_path / "a")


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_files_are_read_and_damaged_ones_named(
    suffix: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(compress(TEXT.encode()))
    assert list(numbered_lines(file)) == LINES
    file.write_bytes(compress(TEXT.encode() * 100)[:-9])
    with pytest.raises(DataError, match=r"a\.jsonl.* can't be read"):
        list(numbered_lines(file))


def test_a_pointer_of_git_lfs_is_not_the_data(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match=r"a is a Git LFS pointer.*git lfs pull"):
        list(numbered_lines(tmp_path / "a"))


def test_half_a_character_is_named_by_its_row(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"text": "\\ud835\\udd18"}\n{"text": "\\ud835"}\n')
    with pytest.raises(DataError, match=r"a, line 2: .*half of a character"):
        list(jsonl_rows(tmp_path / "a", None))
    (tmp_path / "a").write_text('[{"text": "\\ud835\\udd18"}, {"text": "\\ud835"}]')
    with pytest.raises(DataError, match=r"a, row 1: .*half of a character"):
        list(json_rows(tmp_path / "a", None))


def test_an_archive_is_a_folder_that_follows_its_bytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("en/x.txt", "one")
    folder = unpacked(tmp_path / "a.zip", tmp_path / "cache")
    assert (folder / "en" / "x.txt").read_text() == "one"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("en/x.txt", "other")
    assert (unpacked(tmp_path / "a.zip", tmp_path / "cache") / "en" / "x.txt").read_text() == "other"
    (tmp_path / "b.zip").write_bytes(b"PK and no more")
    with pytest.raises(DataError, match=r"b\.zip can't be unpacked"):
        unpacked(tmp_path / "b.zip", tmp_path / "cache")


def test_no_member_of_an_archive_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x", arcname="../../outside")
    with pytest.raises(DataError, match=r"a\.tar\.gz can't be unpacked.*outside"):
        unpacked(tmp_path / "a.tar.gz", tmp_path / "cache")
    assert not list(tmp_path.rglob("outside"))
