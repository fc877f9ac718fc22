"""Layouts: the languages and splits that names of files tell, as patterns with `{language}` and `{split}`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tunexfer.core.languages import canonical, is_language
from tunexfer.core.scores import Split

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval", "trial"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "devtest"), "test"),
}
"""What data sets call their splits -> our name."""
_SPLIT = re.compile(
    rf"(?<![A-Za-z])({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(?![A-Za-z])", re.IGNORECASE
)
_LANGUAGE = re.compile(
    r"(?<![A-Za-z0-9{])(?:[A-Za-z]{2,3}[-_](?:[A-Z][a-z]{3}|[A-Z]{2})(?![A-Za-z0-9])|[A-Za-z]{2,3}(?![A-Za-z0-9}]))"
)
_FORMAT = re.compile(r"(\.(jsonl|ndjson|json|parquet|csv|tsv|tab|conllu?|iob2?|bio|txt|gz|bz2|xz))+$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


@dataclass
class Layout:
    """Files whose names differ in language and split alone."""

    pattern: str
    """With `{language}`, `{split}` and `*`, as far as names tell."""
    files: dict[tuple[str, Split | None], list[str]] = field(default_factory=dict)
    """Language as it is written, empty if no name tells it, and split -> paths."""
    splits: dict[Split, str] = field(default_factory=dict)
    """Our name of a split -> what the names of files have."""
    doubts: list[str] = field(default_factory=list)

    @property
    def languages(self) -> list[str]:
        return sorted({language for language, _ in self.files} - {""})

    @property
    def name(self) -> str:
        """Return what the names of files have beside languages, splits and suffixes; empty if that is nothing."""
        parts = PurePosixPath(self.pattern).parts
        bare = "/".join([*parts[:-1], parts[-1].split(".")[0] if not parts[-1].startswith("{") else ""])
        words = re.findall(r"[^\W_]+", re.sub(r"\{\w+\}|\*|\.(zip|tgz|tar(\.\w+)?)(?=/)", " ", bare))
        return "_".join(dict.fromkeys(words))


def layouts(paths: Iterable[str]) -> list[Layout]:
    """Group paths, relative to one folder, by what they have beside a language and a split."""
    split_of = {path: _without_split(path) for path in sorted(paths)}
    language_of = _languages([rest for rest, _ in split_of.values()])
    groups: dict[str, Layout] = {}
    for path, (rest, own_split) in split_of.items():
        pattern, language, sure = language_of[rest]
        layout = groups.setdefault(pattern, Layout(pattern))
        split = SPLIT_NAMES[own_split.lower()] if own_split else None
        if split and own_split and layout.splits.setdefault(split, own_split) != own_split:
            doubt = f"`{layout.splits[split]}` and `{own_split}` both look like {split} rows; {path} is left out"
            layout.doubts.append(doubt)
            continue
        if not sure:
            layout.doubts.append(f"{language!r} is taken for a language")
        layout.files.setdefault((language, split), []).append(path)
    return [layout for layout in groups.values() if layout.files]


def _without_split(path: str) -> tuple[str, str | None]:
    """Replace the last word that names a split, wherever the path has it, and numbers of shards."""
    path = _SHARD.sub("-*", path)
    names: list[str] = _SPLIT.findall(path)
    if not names:
        return path, None
    return re.sub(rf"(?<![A-Za-z]){re.escape(names[-1])}(?![A-Za-z])", "{split}", path), names[-1]


def _languages(paths: Sequence[str]) -> dict[str, tuple[str, str, bool]]:
    """Find the word of each path that names its language: that in whose place others have other languages.

    returns: path -> pattern, language (empty if there is none), whether that is sure
    """
    candidates = {path: _candidates(path) for path in paths}
    languages: dict[str, set[str]] = defaultdict(set)
    for own in candidates.values():
        for pattern, code in own:
            languages[pattern].add(code)
    chosen = {}
    for path, own in candidates.items():
        fitting = [(pattern, code) for pattern, code in own if any(map(_usual, languages[pattern]))]
        ranked = sorted(fitting, key=lambda pair: (len(languages[pair[0]]), _whole(path, pair[1]), -_partial(pair[0])))
        pattern, code = ranked[-1] if ranked else (path, "")
        chosen[path] = (pattern, code, not code or len(languages[pattern]) > 1 or _whole(path, code))
    return chosen


def _candidates(path: str) -> list[tuple[str, str]]:
    """Patterns with `{language}` in place of a word that may be a language, and that word."""
    stem = _FORMAT.sub("", path)
    found = []
    for code in dict.fromkeys(code for code in _LANGUAGE.findall(stem) if is_language(code)):
        own = re.escape(code)
        for form in (rf"(?<![A-Za-z0-9{{]){own}(?![A-Za-z0-9}}])", rf"(?<![^/]){own}(?![^/])"):
            if (pattern := re.sub(form, "{language}", stem)) != stem:
                found.append((pattern + path[len(stem) :], code))
    return found


def _usual(code: str) -> bool:
    """Tell whether a word is a language for sure enough: `ner` and `pos` are codes of ISO 639-3 too."""
    return len(canonical(code).split("-")[0]) == 2 or "_" in code


def _partial(pattern: str) -> int:
    """In how many folders' names a language is only a part: `afriqa_en/en/train.jsonl`."""
    return sum("{language}" in part and part != "{language}" for part in PurePosixPath(pattern).parts[:-1])


def _whole(path: str, code: str) -> bool:
    """Tell whether a word is a folder's whole name, or stands between dots in a file's."""
    return code in (*PurePosixPath(path).parts[:-1], *PurePosixPath(path).name.split("."))
