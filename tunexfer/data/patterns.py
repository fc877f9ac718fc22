"""Patterns of files: which files fit, which languages they are named after, and what else is there if none does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tunexfer.core.scores import Split
from tunexfer.data.archives import is_archive, unpacked
from tunexfer.data.origin import Origin
from tunexfer.errors import DataError
from tunexfer.tasks.suite import SPLITS, TaskBlock

USUAL: dict[Split, tuple[str, ...]] = {
    "train": ("training", "trn"),
    "validation": ("dev", "valid", "val", "devel", "development"),
    "test": ("tst", "testing", "eval", "heldout"),
}
"""Names that data sets give to splits beside ours."""


def under(root: Path, name: str, key: str) -> Path:
    """Return a path below a folder.

    raises: DataError, if it leads out of the folder
    """
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(os.path.normpath(root)):
        raise DataError(
            f"`{key}: {name}` leads out of the suite's root, {root.absolute()}. Set `root:` higher instead."
        )
    return path


def path_of(pattern: str, origin: Origin) -> Path:
    """Fill a pattern in; the path need not exist, and may lead into an archive."""
    return under(origin.root, origin.filled(pattern.replace("{split}", origin.own_split)), "files")


def matching(pattern: str, origin: Origin) -> list[Path]:
    """Find the files that match a pattern: at most one, or with `*` in it any number, sorted by name."""
    path = path_of(pattern, origin)
    root = Path(os.path.normpath(origin.root))
    folder, parts = _entered(root, path.relative_to(root).parts, origin.cache)
    name = "/".join(parts)
    if "*" not in name:
        return [folder / name] if (folder / name).is_file() else []
    files = (file for file in folder.glob(_globbed(name)) if not _hidden(file.relative_to(folder).parts, name))
    return sorted(files, key=lambda file: file.name)


def _entered(folder: Path, parts: tuple[str, ...], cache: Path) -> tuple[Path, tuple[str, ...]]:
    """Unpack the first archive of a path; one that is the whole path stands for the only file in it."""
    for place, part in enumerate(parts):
        archive = folder.joinpath(*parts[: place + 1])
        if is_archive(part) and archive.is_file():
            inside, rest = unpacked(archive, cache), parts[place + 1 :]
            if rest:
                return inside, rest
            members = sorted(member for member in inside.rglob("*") if member.is_file())
            if len(members) != 1:
                raise DataError(
                    f"{archive} holds {len(members)} files. Name the one in `files:`, "
                    f"{part}/{members[0].relative_to(inside).as_posix() if members else '{split}.jsonl'}."
                )
            return inside, members[0].relative_to(inside).parts
    return folder, parts


def languages_of(block: TaskBlock, root: Path, cache: Path) -> set[str]:
    """Collect the languages of the files that match a block's pattern, as the names have them."""
    pattern = block.files or ""
    under(root, re.sub(r"\{\w+\}", "x", pattern), "files")
    splits = [re.escape(block.splits.get(split, split)) for split in SPLITS]
    form = re.escape(pattern).replace(r"\{split\}", f"({'|'.join(splits)})").replace(r"\*", "[^/]*")
    form = re.sub(r"\\\{(language|code)\\\}", "(?P<language>[^/]+)", form, count=1)
    form = re.sub(r"\\\{(language|code)\\\}", "(?P=language)", form)
    matches = (re.fullmatch(form, name) for name in _candidates(pattern, root, cache))
    return {match["language"] for match in matches if match}


def _candidates(pattern: str, root: Path, cache: Path) -> Iterator[str]:
    """Yield the names of files that fit a pattern with anything for `{language}` and `{split}`, archives entered."""
    parts = re.sub(r"\{\w+\}", "*", pattern).split("/")
    place = next((place for place, part in enumerate(parts[:-1], start=1) if is_archive(part)), len(parts))
    for file in root.glob(_globbed("/".join(parts[:place]))):
        name = file.relative_to(root)
        if _hidden(name.parts, pattern):
            continue
        if place == len(parts):
            yield name.as_posix()
        elif file.is_file():
            folder = unpacked(file, cache)
            for member in folder.glob(_globbed("/".join(parts[place:]))):
                inside = member.relative_to(folder)
                if not _hidden(inside.parts, pattern):
                    yield (name / inside).as_posix()


def _globbed(name: str) -> str:
    """Leave `*` alone of the characters that a glob reads; two side by side are one."""
    return re.sub(r"\*+", "*", name.replace("[", "[[]").replace("?", "[?]"))


def _hidden(parts: tuple[str, ...], pattern: str) -> bool:
    """Tell whether a path has a hidden file or folder in it that the pattern doesn't name."""
    return any(part.startswith(".") and part not in pattern.split("/") for part in parts)


def usual_name(pattern: str, origin: Origin) -> str | None:
    """Return the usual name of the split under which there are files, if there are none under ours."""
    names = (name for name in USUAL[origin.split] if "{split}" in pattern)
    for name in names:
        block = origin.block.model_copy(update={"splits": {**origin.block.splits, origin.split: name}})
        if matching(pattern, replace(origin, block=block)):
            return name
    return None
