"""Text files as people have them: compressed, with a byte order mark, with any line ends."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tunexfer.errors import DataError

COMPRESSED: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
"""Suffix of a compressed file -> the function that opens it."""
LFS = b"version https://git-lfs.github.com/spec/"
_START = 64


def bare_name(file: Path) -> str:
    """Return the file's name without the suffix of its compression."""
    return file.stem if file.suffix in COMPRESSED else file.name


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed.

    raises: DataError, if it is damaged, can't be opened, or is a pointer that Git LFS has put in the file's place
    """
    try:
        with COMPRESSED.get(file.suffix, Path.open)(file, "rb") as raw, io.BufferedReader(raw) as stream:  # type: ignore[call-arg, type-var]
            if stream.peek(_START).startswith(LFS):
                raise DataError(f"{file} is a Git LFS pointer, not the data. Run `git lfs pull` in its checkout.")
            yield stream
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise DataError(f"{file} can't be read: {error}") from error


def numbered_lines(file: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers from 1, without their ends.

    encoding: UTF-8 if not given, or UTF-16 or UTF-32 if the file begins like it
    raises:   DataError, naming the line that can't be decoded
    """
    with opened(file) as stream:
        codec = encoding or _encoding(stream)
        if codec in ("utf-8", "utf-8-sig"):
            lines: Iterator[bytes | str] = iter(stream)
        else:
            lines = io.TextIOWrapper(stream, encoding=codec, newline="\n")
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                text = line if isinstance(line, str) else line.decode()
                yield number, (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")
        except UnicodeDecodeError as error:
            if isinstance(lines, io.TextIOWrapper):
                number += 1
            raise DataError(_undecodable(f"{file}, line {number}", codec, error)) from error


def whole_text(file: Path, encoding: str | None = None) -> str:
    """Return a text file's content."""
    with opened(file) as stream:
        codec = encoding or _encoding(stream)
        content = stream.read()
    try:
        return content.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(_undecodable(f"{file}, line {line}", codec, error)) from error


def parsed(line: str, file: Path, number: int) -> Any:
    """Parse a line of JSON.

    raises: DataError, beginning with the file and the line's number
    """
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {number}: not JSON: {error}") from error
    if "\\ud" in line or "\\uD" in line:
        check_characters(content, f"{file}, line {number}")
    return content


def check_characters(content: Any, place: str) -> None:
    """Look for escapes of half a character (a lone surrogate), which no text can be made of.

    raises: DataError, beginning with the place
    """
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise DataError(f"{place}: {half!r} is half of a character (a lone surrogate). Correct the data.") from error


def _encoding(stream: Any) -> str:
    """Tell UTF-8, UTF-16 and UTF-32 apart by a file's first bytes: a mark, or zeros of its first characters."""
    return json.detect_encoding(stream.peek(_START)[:4])


def _undecodable(place: str, codec: str, error: UnicodeDecodeError) -> str:
    name = codec.upper().removesuffix("-SIG")
    byte = error.object[error.start]
    return (
        f"{place}: not {name}: {error.reason} (byte 0x{byte:02x}). Convert the file, or name its encoding in the "
        "suite, `read: {encoding: latin-1}`."
    )
