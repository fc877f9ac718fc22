"""A first suite from a folder of files: tasks, columns, labels, languages and splits, and what isn't sure of them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tunexfer.core.languages import is_language
from tunexfer.core.scores import Split
from tunexfer.data.archives import is_archive, unpacked
from tunexfer.data.guess import Columns, Guess, guess_kind
from tunexfer.data.label_names import names_in_schema
from tunexfer.data.layout import SPLIT_NAMES, Layout, layouts
from tunexfer.data.origin import Origin
from tunexfer.data.readers import READERS, reader_of
from tunexfer.data.text import bare_name, numbered_lines
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import SPLITS, TaskBlock

SAMPLE = 200
"""Rows of a file from which its columns are guessed."""
HELD_OUT = 500
"""Validation rows taken from train at most, where there are none."""
MANY_LABELS = 1000
NO_ROWS = re.compile(
    r"(^|/)(readme|licen[cs]e|manifest|changelog|citation|dataset_infos?)\b[^/]*$"
    r"|\.(md|rst|ya?ml|toml|cfg|ini|py|sh|ipynb|html?|pdf|log|png|jpe?g)$",
    re.IGNORECASE,
)
"""Files beside the data that hold no rows."""
NO_GOLD = ("", "-", "-1", "?")
"""Labels of rows without a gold label."""
LANGUAGE_COLUMNS = ("language", "lang", "locale", "lang_code", "language_code", "lang_id")
ENGLISH = ("en", "eng", "eng_Latn")
SPLIT_COLUMNS = ("split", "set", "partition", "subset", "fold")
SCRIPTS = {
    **{"HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "THAI": "th", "GREEK": "el", "ARABIC": "ar"},
    **{"CYRILLIC": "ru", "DEVANAGARI": "hi", "HEBREW": "he", "ETHIOPIC": "am", "TAMIL": "ta", "TELUGU": "te"},
    **{"BENGALI": "bn", "GEORGIAN": "ka", "ARMENIAN": "hy", "MYANMAR": "my", "KHMER": "km", "LAO": "lo"},
}
"""How names of letters in Unicode begin -> the language that most texts in this script are in."""


@dataclass
class TaskGuess:
    """The block of one task, as a suite has it, and what isn't sure of its keys."""

    name: str
    block: dict[str, Any]
    doubts: dict[str, list[str]] = field(default_factory=dict)
    """Key of the block -> sentences."""
    labels: Counter[str] = field(default_factory=Counter)
    """Labels as the data writes them -> how often."""

    def doubt(self, key: str, *sentences: str) -> None:
        for sentence in sentences:
            own = self.doubts.setdefault(key, [])
            own += [sentence] if sentence not in own else []


def inspect_folder(folder: Path, cache: Path) -> tuple[list[TaskGuess], list[str]]:
    """Guess the tasks that a folder's files hold.

    returns: tasks, and a sentence for each group of files that none was made of
    raises:  DataError, if there is no such folder
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Give the folder that holds the files with rows.")
    tasks: list[TaskGuess] = []
    files, unknown = _files(folder, cache)
    groups = layouts(files)
    tags = _tag_sides(files, groups)
    english = _english_sides(files, [layout for layout in groups if layout.pattern not in {*tags, *tags.values()}])
    for layout in groups:
        if layout.pattern in (*english.values(), *tags.values()):
            continue
        beside = ("tag_files", tags) if layout.pattern in tags else ("english_files", english)
        try:
            guess = _TaskFiles(files, cache, layout, beside[0], beside[1].get(layout.pattern)).guess()
        except DataError as error:
            guess = str(error)
        if isinstance(guess, TaskGuess):
            tasks.append(guess)
        else:
            unknown.append(f"{layout.pattern}: {guess}")
    return _named(_joined(tasks), folder.resolve().name), unknown


def _files(folder: Path, cache: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the files that may hold rows, those in archives too.

    returns: path in the folder, which may lead into an archive -> where the file is; and what can't be unpacked
    """
    files: dict[str, Path] = {}
    damaged = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not _may_hold_rows(path, name):
            continue
        if not is_archive(name):
            files[name] = path
            continue
        try:
            inside = unpacked(path, cache)
        except DataError as error:
            damaged.append(str(error))
            continue
        members = {f"{name}/{member.relative_to(inside).as_posix()}": member for member in sorted(inside.rglob("*"))}
        files |= {inner: member for inner, member in members.items() if _may_hold_rows(member, inner)}
    return files, damaged


def _may_hold_rows(path: Path, name: str) -> bool:
    hidden = any(part.startswith((".", "__")) for part in name.split("/"))
    return path.is_file() and not hidden and not NO_ROWS.search(name)


class _TaskFiles:
    """The files of one layout, while a task is made of them."""

    def __init__(self, files: Mapping[str, Path], cache: Path, layout: Layout, key: str, beside: str | None) -> None:
        """beside: the pattern of the files that go with the layout's, which a suite has under `key`, if any do"""
        self.files, self.cache, self.layout = files, cache, layout
        self.task = TaskGuess(layout.name, {})
        self.task.doubt("files", *layout.doubts)
        self.beside = {key: beside} if beside else {}
        self.english = self.beside.get("english_files")
        self.first = files[next(iter(layout.files.values()))[0]]
        self.read = {} if beside else _read_options(self.first, self.task)

    def rows(self, language: str, split: Split | None) -> Iterator[Row]:
        """The rows of the files of a language and split, as their reader yields them."""
        paths = list(self.layout.files[language, split])
        for pattern in self.beside.values():
            filled = pattern.replace("{split}", self.layout.splits.get(split or "train", ""))
            paths.append(filled.replace("{language}", language))
        block = {"files": "any", **self.beside, "read": self.read or None}
        reading = TaskBlock.model_validate(block | {"kind": "masked_lm", "columns": {"text": "any"}})
        origin = Origin(
            block=reading, language=language, written=language, split=split or "train", cache=self.cache,
            files=tuple(self.files[path] for path in paths),
        )  # fmt: skip
        return reader_of(origin).rows(origin)

    def guess(self) -> TaskGuess | str:
        """Make the task, or say why none can be made."""
        sample = [row for key in self._first() for row in itertools.islice(self.rows(*key), SAMPLE)]
        if not sample:
            return "there are no rows"
        found: Guess | str = guess_kind(sample)
        if self.english:
            found = Guess("retrieval", {"text": "text", "english": "english"})
        if isinstance(found, str):
            return found
        columns = Columns(sample)
        language = next(
            columns.named(LANGUAGE_COLUMNS, lambda name: not self.layout.languages and columns.text(name)), None
        )
        split = next(columns.named(SPLIT_COLUMNS, lambda name: self._splits_in(columns, name)), None)
        self._block(found)
        labels, counts = self._counted(found, language, split)
        if problem := self._labels(found, labels):
            return problem
        self._places(found, counts, language, split, sample)
        return self.task

    def _first(self) -> list[tuple[str, Split | None]]:
        """A few languages in every split, those with train rows first."""
        keys = sorted(self.layout.files, key=lambda key: (SPLITS.index(key[1]) if key[1] else -1, key[0]))
        return keys[:3] + keys[3:][-3:]

    def _splits_in(self, columns: Columns, name: str) -> bool:
        return {split for _, split in self.layout.files} == {None} and columns.all(
            name, lambda value: isinstance(value, str) and value.lower() in SPLIT_NAMES
        )

    def _block(self, found: Guess) -> None:
        self.task.block |= {"kind": found.kind, "files": self.layout.pattern}
        if self.read:
            self.task.block["read"] = self.read
        self.task.block |= {**self.beside, "columns": found.columns}
        if found.kind == "extractive_qa":
            self.task.block["max_length"] = 384
        self.task.doubt("kind" if found.kind == "masked_lm" else "columns", *found.doubts)

    def _counted(
        self, found: Guess, language: str | None, split: str | None
    ) -> tuple[dict[str, Counter[Any]], dict[str, Counter[str]]]:
        """Count the labels in each split, and the rows of each language in each split, over all files."""
        labels: dict[str, Counter[Any]] = defaultdict(Counter)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        column = str(found.columns.get("tags", found.columns.get("label", "")))
        for own_language, own_split in self.layout.files:
            for row in self.rows(own_language, own_split):
                written = str(row.get(split)) if split else self.layout.splits.get(own_split or "train", "")
                counts[str(row.get(language)) if language else own_language][written] += 1
                label = row.get(column)
                labels[written].update(label if isinstance(label, list) else [label])
        return (labels if column else {}), counts

    def _labels(self, found: Guess, labels: dict[str, Counter[Any]]) -> str | None:
        """Name the labels; or say why that is impossible."""
        if not labels:
            return None
        values = {label for counter in labels.values() for label in counter}
        gold = {label for label in values if label is not None and str(label) not in NO_GOLD}
        if any(isinstance(label, float) and not label.is_integer() for label in gold):
            return f"the labels are numbers such as {sorted(gold)[0]}: there is no kind of task for regression"
        if len(gold) > MANY_LABELS or not gold:
            return f"there are {len(gold):,} distinct labels"
        if None in values:
            self.task.block["drop_without"] = [found.columns["label"]]
        given = dict(enumerate(self._names_in_schema(found)))
        own = {
            split: {given.get(label, _plain(label)) for label in counter if label in gold}
            for split, counter in labels.items()
        }
        names = list(given.values()) or sorted(set().union(*own.values()), key=_order)
        for label in sorted(gold, key=str):
            self.task.labels[given.get(label, _plain(label))] += sum(counter[label] for counter in labels.values())
        if found.kind != "multiple_choice" or names != [str(number) for number in range(len(names))]:
            self.task.block["labels"] = self._tag_names(found, names) if found.kind == "tagging" else names
        if dropped := sorted((label for label in values - gold if label is not None), key=str):
            self.task.block["drop_labels"] = dropped
        if all(name.lstrip("-").isdecimal() for name in names) and found.kind != "multiple_choice":
            self.task.doubt("labels", "the data has numbers: write the names that they stand for, in this order")
        for split, there in own.items():
            lacking = [name for name in names if name not in there]
            if SPLIT_NAMES.get(split.lower()) == "train" and lacking:
                self.task.doubt("labels", f"train has no {', '.join(lacking)}")
        return None

    def _names_in_schema(self, found: Guess) -> list[str]:
        """The names that a Parquet file gives to its labels, where it gives any."""
        if not self.first.name.endswith(".parquet"):
            return []
        return names_in_schema(pq.read_schema(self.first)).get(
            str(found.columns.get("tags", found.columns.get("label"))), []
        )

    def _tag_names(self, found: Guess, names: list[str]) -> list[str]:
        """Name tags; numbers as the positions in chunks that they are, where their order tells: O, B-1, I-1."""
        if not all(name.isdecimal() for name in names) or len(names) % 2 == 0 or len(names) < 3:
            return names
        pairs = len(names) // 2
        if names != [str(number) for number in range(len(names))]:
            return names
        column = str(found.columns["tags"])
        for key in self.layout.files:
            for row in self.rows(*key):
                tags = [int(tag) for tag in row[column]]
                if any(
                    tag and tag % 2 == 0 and last not in (tag, tag - 1) for last, tag in itertools.pairwise([0, *tags])
                ):
                    return names
        self.task.doubt("labels", "numbers that follow each other as O, B- and I- do")
        return ["O", *(f"{letter}-{kind}" for kind in range(1, pairs + 1) for letter in "BI")]

    def _places(
        self,
        found: Guess,
        counts: dict[str, Counter[str]],
        language: str | None,
        split: str | None,
        sample: Sequence[Row],
    ) -> None:
        """Say which languages and splits there are, where the names of files don't."""
        block = self.task.block
        where: dict[str, str] = {}
        splits: dict[Split, str] = dict(self.layout.splits)
        if language:
            where[language] = "{language}"
        if split:
            where[split] = "{split}"
            splits = {}
            for name in sorted({name for own in counts.values() for name in own}):
                splits.setdefault(SPLIT_NAMES[name.lower()], name)
        if where:
            block["where"] = where
        if not splits:
            splits = self._only_split(found)
            counts = {code: Counter({next(iter(splits.values())): own.total()}) for code, own in counts.items()}
        written = {own: name for name, own in splits.items()}
        if different := {name: own for name, own in splits.items() if name != own or "{split}" not in str(block)}:
            block["splits"] = different
        if not self.layout.languages or (self.english and "{language}" not in self.english):
            self._declare(counts, written, language, found, sample)
        self._hold_out(found, counts, written)

    def _only_split(self, found: Guess) -> dict[Split, str]:
        several = len(self.layout.languages) > 1
        split: Split = "train"
        if found.kind == "retrieval" or (several and found.kind != "masked_lm"):
            split = "test"
        self.task.doubt("splits", f"no name and no column tells the split: these are taken for {split} rows")
        return {split: split}

    def _declare(
        self,
        counts: dict[str, Counter[str]],
        written: dict[str, Split],
        language: str | None,
        found: Guess,
        sample: Sequence[Row],
    ) -> None:
        """Declare languages with their rows, since names of files tell none."""
        if self.layout.languages:
            self.task.doubt("rows", f"{self.english} has the English sentences")
        elif not language:
            code = _language_of(found, sample)
            counts[code] = counts.pop("")
            self.task.doubt("rows", f"no name and no column tells the language: taken for {code}, by its letters")
        elif strange := [code for code in counts if not is_language(code)]:
            self.task.doubt("rows", f"{', '.join(strange[:5])}: no codes of languages; name them with `codes:`")
        rows = {}
        for code, own in sorted(counts.items()):
            by_split = Counter({written[name]: count for name, count in own.items() if name in written})
            rows[code] = [by_split[split] for split in SPLITS]
        self.task.block["rows"] = rows

    def _hold_out(self, found: Guess, counts: dict[str, Counter[str]], written: dict[str, Split]) -> None:
        """Take validation rows from train, if there are none."""
        splits = {written[name] for own in counts.values() for name in own if name in written}
        if "train" in splits and "validation" not in splits and found.kind != "masked_lm":
            fewest = min(own.total() for own in counts.values())
            self.task.block["validation_from_train"] = max(1, min(HELD_OUT, fewest // 10))
            self.task.doubt("validation_from_train", "no validation rows: the last ones of train serve")


def _plain(label: Any) -> str:
    if isinstance(label, bool):
        return str(label).lower()
    return str(int(label)) if isinstance(label, float) else str(label).strip()


def _order(label: str) -> tuple[bool, Any, str]:
    """Sort numbers by value, and `O` before tags, which go by their type."""
    if label.isdecimal():
        return False, ("", int(label)), label
    position, dash, kind = label.partition("-")
    return label != "O", (kind, 0) if dash and len(position) == 1 else (label, 0), label


def _language_of(found: Guess, sample: Sequence[Row]) -> str:
    """Guess the language by the letters of its texts: the one that most texts in this script are in."""
    columns = [name for value in found.columns.values() for name in (value if isinstance(value, list) else [value])]
    texts = [str(row.get(name.split(".")[0], "")) for row in sample[:50] for name in columns]
    letters = Counter(
        unicodedata.name(letter, "").split(" ")[0] for text in texts for letter in text if letter.isalpha()
    )
    if any(letters[kana] for kana in ("HIRAGANA", "KATAKANA")):
        return "ja"
    return SCRIPTS.get(letters.most_common(1)[0][0], "en") if letters else "en"


def _read_options(file: Path, task: TaskGuess) -> dict[str, Any]:
    """Find out how a file is read, as far as its name doesn't tell."""
    name = bare_name(file)
    known = next((key for key, reader in READERS.items() if reader.suffixes and name.endswith(reader.suffixes)), None)
    if known in ("jsonl", "json", "parquet", "conllu"):
        return {}
    lines = [line for _, line in itertools.islice(numbered_lines(file), 2 * SAMPLE)]
    filled = [line for line in lines if line.strip()]
    format_ = known or _format_of(lines, filled)
    told = {} if known else {"format": format_}
    if format_ == "conll":
        return _conll_options(filled, told)
    if format_ in ("csv", "tsv"):
        return told | _table_options(filled, "," if format_ == "csv" else "\t", task)
    return told


def _format_of(lines: Sequence[str], filled: Sequence[str]) -> str:
    if filled and filled[0].startswith(("{", "[")):
        return "jsonl" if filled[0].rstrip().endswith("}") else "json"
    sizes = {len(line.split()) for line in filled if not line.startswith(("#", "-DOCSTART-"))}
    blank = any(not line.strip() for line in lines[: len(lines) - 1])
    if blank and len(sizes) == 1 and sizes != {1}:
        return "conll"
    return "tsv" if filled and all("\t" in line for line in filled) else "text"


def _conll_options(filled: Sequence[str], told: dict[str, Any]) -> dict[str, Any]:
    words = next((line.split() for line in filled if not line.startswith(("#", "-DOCSTART-"))), [])
    if len(words) <= 2:
        return told
    between = [f"column{number}" for number in range(2, len(words))]
    return told | {"format": "conll", "columns": ["tokens", *between, "tags"]}


def _table_options(filled: Sequence[str], separator: str, task: TaskGuess) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if separator == "," and filled and "," not in filled[0]:
        separator = next((other for other in (";", "\t", "|") if other in filled[0]), separator)
        options |= {"separator": separator} if separator != "," else {}
    if separator == "\t" and any(field.startswith('"') for line in filled for field in line.split("\t")):
        options["quoting"] = all(
            field.endswith('"') == field.startswith('"') for line in filled for field in line.split("\t")
        )
        task.doubt("read", "quotation marks at the beginning of a field: do they enclose it?")
    first, *others = [[cell.strip().strip('"') for cell in line.split(separator)] for line in filled] or [[]]
    if not _header(first, others):
        options |= {"header": False, "columns": [f"column{number}" for number in range(1, len(first) + 1)]}
        task.doubt("read", "the first line looks like a row and not like names of columns")
    return options


def _header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Tell whether a table's first line names its columns: no cell is text, a number or a value of later lines."""
    later = {_shape(cell) for cells in others for cell in cells}
    return all(_NAME.fullmatch(cell) and cell.count(" ") < 3 and _shape(cell) not in later for cell in first if cell)


_NAME = re.compile(r"[^\W\d][\w .:()-]{0,30}")


def _shape(cell: str) -> str:
    """A cell without the numbers in it: `de-000413461` and `de-000413462` are alike."""
    return re.sub(r"\d+", "0", cell) if len(re.findall(r"\d", cell)) > 1 else cell


def _tag_sides(files: Mapping[str, Path], groups: Sequence[Layout]) -> dict[str, str]:
    """Find plain texts that have a tag for each word of others: pattern of the words -> pattern of the tags."""
    sides: dict[str, str] = {}
    plain = [layout for layout in groups if _is_plain_text(files[next(iter(layout.files.values()))[0]])]
    for words, tags in itertools.permutations(plain, 2):
        if words.files.keys() == tags.files.keys() and not {words.pattern, tags.pattern} & {*sides, *sides.values()}:
            pairs = [(own, tags.files[key]) for key, own in words.files.items()]
            if all(len(own) == len(other) == 1 for own, other in pairs) and _are_tags(
                [files[own] for [own], _ in pairs], [files[other] for _, [other] in pairs]
            ):
                sides[words.pattern] = tags.pattern
                words.doubts.append(f"{tags.pattern} is taken for the tags: it has as many words in each line, and few")
    return sides


def _are_tags(words: Iterable[Path], tags: Iterable[Path]) -> bool:
    """Tell whether texts have a tag for each word of others."""
    own, other = (
        [line.split() for file in side for _, line in itertools.islice(numbered_lines(file), SAMPLE)]
        for side in (words, tags)
    )
    return [*map(len, own)] == [*map(len, other)] and 1 < len(set().union(*other)) <= len(set().union(*own)) / 2


def _english_sides(files: Mapping[str, Path], groups: Sequence[Layout]) -> dict[str, str]:
    """Find plain texts whose lines translate English ones: pattern of the foreign texts -> that of the English.

    English files under the pattern of the foreign ones, `train.en` beside `train.sw`, are taken out of these.
    """
    sides: dict[str, str] = {}
    by_pattern = {layout.pattern: layout for layout in groups}
    for layout in groups:
        before, language, after = layout.pattern.rpartition("{language}")
        if not language or not _is_plain_text(files[next(iter(layout.files.values()))[0]]):
            continue
        for code in ENGLISH:
            pattern = before + code + after
            apart = by_pattern.get(pattern)
            inside = {key[1]: paths for key, paths in layout.files.items() if key[0] == code}
            others = {key: paths for key, paths in layout.files.items() if key[0] != code}
            beside = {key: apart.files.get(key, []) if apart else inside.get(key[1], []) for key in others}
            if others and all(_as_long(files, paths, beside[key]) for key, paths in others.items()):
                layout.files = others
                sides[layout.pattern] = pattern
    return sides


def _is_plain_text(file: Path) -> bool:
    if any(reader.suffixes and bare_name(file).endswith(reader.suffixes) for reader in READERS.values()):
        return False
    try:
        lines = [line for _, line in itertools.islice(numbered_lines(file), SAMPLE)]
    except DataError:
        return False
    return _format_of(lines, [line for line in lines if line.strip()]) == "text"


def _as_long(files: Mapping[str, Path], paths: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether there is one file on either side, and they have as many lines."""
    if len(paths) != 1 or len(others) != 1:
        return False
    lines, other_lines = (sum(1 for _ in numbered_lines(files[path])) for path in (*paths, *others))
    return lines == other_lines


def _joined(tasks: list[TaskGuess]) -> list[TaskGuess]:
    """Join tasks of one name, kind and columns as the parts of one: `train.tsv` and `test-de.tsv`."""
    joined: list[TaskGuess] = []
    for task in tasks:
        twin = next((other for other in joined if _parts_of_one(other, task)), None)
        if twin is None:
            joined.append(task)
        else:
            _add_part(twin, task)
    return joined


def _parts_of_one(task: TaskGuess, other: TaskGuess) -> bool:
    same = ("kind", "columns")
    return task.name == other.name and all(task.block[key] == other.block[key] for key in same)


PART_KEYS = ("files", "read", "splits", "where", "rows", "drop_labels", "drop_without")


def _add_part(task: TaskGuess, part: TaskGuess) -> None:
    block = task.block
    if "parts" not in block:
        block["parts"] = [{key: block.pop(key) for key in PART_KEYS if key in block}]
    block["parts"].append({key: part.block[key] for key in PART_KEYS if key in part.block})
    if "labels" in part.block:
        block["labels"] = sorted({*block["labels"], *part.block["labels"]}, key=_order)
    if "validation_from_train" in part.block:
        block["validation_from_train"] = part.block["validation_from_train"]
    task.labels += part.labels
    for key, sentences in part.doubts.items():
        task.doubt(key, *sentences)


def _named(tasks: list[TaskGuess], fallback: str) -> list[TaskGuess]:
    """Give each task a name of its own."""
    taken: Counter[str] = Counter()
    for task in tasks:
        name = task.name or "_".join(re.findall(r"\w+", fallback)) or "task"
        taken[name] += 1
        task.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
    return tasks
