"""The rows of a suite: how many there are, and the canonical table of each task, language and split."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunexfer.core.graph import Key, fingerprint
from tunexfer.core.languages import canonical, is_language
from tunexfer.core.scores import Split
from tunexfer.data.canonical import canonical_batches, canonical_rows, canonical_table, joined, numbered
from tunexfer.data.hub import commit, known_commit
from tunexfer.data.origin import Origin
from tunexfer.data.patterns import languages_of, matching, path_of, under, usual_name
from tunexfer.data.readers import reader_of
from tunexfer.data.survey import SURVEY_VERSION, Survey, Tally
from tunexfer.data.weak import weaknesses
from tunexfer.errors import DataError
from tunexfer.tasks.installed import Progress, Provider, build, suite_provider
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import TUNING, Row
from tunexfer.tasks.suite import SPLITS, HubRows, Suite, TaskBlock, starter_hint

READ_SETTINGS = {
    *("kind", "columns", "labels", "label_values", "drop_labels", "unanswerable"),
    *("max_length", "answer_language_rules"),
}
"""The fields of a task block that rows, their encoding or their scores depend on."""
OTHER_SETTINGS = {"drop_without", "read", "answer_offsets"}
"""The same for fields that not every task has; they count where they are given."""

INSTALLED = "installed:"
"""The root of rows that an installed package provides: `installed:NAME`."""
OWN_DATA = "data:"
"""The root of data that cannot be downloaded: the folder that TUNEXFER_DATA names."""


class Rows:
    """The rows of a suite's tasks, on disk or on the hub."""

    def __init__(self, suite: Suite, folder: Path, cache: Path) -> None:
        """folder: what the suite's `root` is relative to; cache: where built suites and file hashes are kept"""
        self.suite = suite
        self.cache = cache
        self._folder = folder
        self._root: Path | None = None
        self._surveyed: dict[tuple[str, int, str, Split], Survey | None] = {}
        self._written: dict[tuple[str, int], dict[str, str]] = {}
        self._labelled: dict[str, TaskBlock] = {}

    @property
    def root(self) -> Path:
        """The folder that `files:` patterns start from; rows of an installed package are built the first time."""
        if self._root is None:
            if self._provider:
                self._root = build(self._provider, self.cache)
            elif self.suite.root == OWN_DATA:
                self._root = Path(os.environ.get("TUNEXFER_DATA", "data")).absolute()
            else:
                self._root = self._folder / self.suite.root
        return self._root

    @property
    def ready(self) -> bool:
        """Tell whether rows can be read without building them first."""
        return self._provider is None or self._provider.find(self.cache) is not None

    def build(self, on_progress: Progress) -> None:
        """Build the rows if an installed package provides them and they aren't built yet."""
        if self._provider:
            self._root = build(self._provider, self.cache, on_progress)

    @cached_property
    def _provider(self) -> Provider | None:
        """The package that the suite's rows come from; None for files and rows on the hub."""
        if not self.suite.root.startswith(INSTALLED):
            return None
        name = self.suite.root.removeprefix(INSTALLED)
        if provider := suite_provider(name):
            return provider
        raise DataError(f"suite {self.suite.name!r}: no installed package provides rows of {name!r}.{starter_hint()}")

    def task(self, name: str) -> TaskBlock:
        """Return the suite's task, with the labels of its `labels_file:` filled in."""
        block = self.suite.task(name)
        if not block.labels_file:
            return block
        if name not in self._labelled:
            file = under(self.root, block.labels_file, "labels_file")
            if not file.is_file():
                raise DataError(f"task {name!r} takes its labels from {file}, which isn't there. {self._what_to_do()}")
            labels = read_labels(file)
            labelled = block.model_copy(update={"labels": labels, "labels_file": None})
            for problem in KINDS[block.kind].problems(labelled):
                raise DataError(f"task {name!r}, {file}: {problem}")
            self._labelled[name] = labelled
        return self._labelled[name]

    def languages(self, task: str, split: Split) -> list[str]:
        """List the languages that have rows of this split, in alphabetical order of their canonical codes."""
        return [language for language in self._known(task) if self.count(task, language, split)]

    def count(self, task: str, language: str, split: Split) -> int:
        """Return the number of rows that can be used, or of those that the suite declares, if there are no files."""
        held_out = self._held_out(task, language)
        if split == "validation" and held_out:
            return held_out
        return self._own_count(task, language, split) - (held_out if split == "train" else 0)

    def left_out(self, task: str, language: str, split: Split) -> dict[str, int]:
        """Count the rows of local files that can't be used by the reason, 'the answer is not at answer_start'."""
        reasons: Counter[str] = Counter()
        for survey in self._surveys(task, language, split):
            reasons += survey.tally.left_out
        return dict(reasons)

    def remarks(self, keys: Iterable[Key] | None = None) -> list[str]:
        """Say what is odd about rows: left out, declared otherwise, shared between splits, without ids, in no language.

        keys:    the rows to look at; those of the whole suite by default
        raises:  DataError, if rows can't be used at all
        """
        chosen = sorted(self._every_key() if keys is None else keys)
        lines = [line for key in chosen for line in self._own_remarks(*key)]
        for task in dict.fromkeys(task for task, _, _ in chosen):
            languages = sorted({language for name, language, _ in chosen if name == task})
            unknown = [language for language in languages if not is_language(language)]
            if unknown:
                lines.append(
                    f"task {task!r}: {', '.join(unknown)} {'is no code' if len(unknown) == 1 else 'are no codes'} of a "
                    "language (ISO 639, FLORES); distances and languages seen elsewhere are unknown for it"
                )
            lines += self._overlaps(task, languages)
            for split in SPLITS:
                if not self.languages(task, split) and (reason := self.missing(task, split)):
                    lines.append(f"task {task!r} has no {split} rows: {reason}")
        return lines

    def warnings(self, keys: Iterable[Key] | None = None) -> list[str]:
        """List those of the remarks that say that more than 1 % of the rows are left out.

        keys: as in `remarks`
        """
        return [
            f"{_place(*key)}: {survey.tally}"
            for key in sorted(self._every_key() if keys is None else keys)
            for survey in self._surveys(*key)
            if survey.tally.warned
        ]

    def weaknesses(self, keys: Iterable[Key]) -> list[str]:
        """Say what makes results from these rows weak, as far as their numbers and local files tell."""
        return list(weaknesses(keys, self.count, self._surveys, lambda task: self.task(task).labels))

    def _every_key(self) -> Iterator[Key]:
        for task in self.suite.tasks:
            for split in SPLITS:
                yield from ((task, language, split) for language in self.languages(task, split))

    def _own_remarks(self, task: str, language: str, split: Split) -> Iterator[str]:
        place = _place(task, language, split)
        if split != "train":
            try:
                KINDS[self.suite.task(task).kind].check_language(self.suite.task(task), language)
            except DataError as error:
                raise DataError(f"{place}: {error}") from error
        for number, block in enumerate(self.suite.task(task).places):
            survey = self._survey(task, number, block, language, split)
            if survey is None:
                continue
            yield from (f"{place}: {remark}" for remark in survey.tally.remarks)
            declared = self._declared(task, number, block, language, split)
            if declared is not None and declared != survey.tally.used:
                yield f"{place}: `rows:` says {declared:,}, but {survey.tally.used:,} can be used, and these count"

    def _overlaps(self, task: str, languages: Iterable[str]) -> Iterator[str]:
        """Say how many rows of a split are also in an earlier one.

        raises: DataError, if two splits read the same file
        """
        for earlier, split in itertools.combinations(SPLITS, 2):
            shared = {}
            for language in languages:
                first, second = (self._surveys(task, language, part) for part in (earlier, split))
                pairs = list(itertools.product(first, second))
                if any(one.source == other.source for one, other in pairs):
                    raise DataError(
                        f"task {task!r}: {earlier} and {split} read the same file in {language!r}. Give each split "
                        "rows of its own: correct `files:` or `splits:`."
                    )
                if count := sum(len(np.intersect1d(one.hashes, other.hashes)) for one, other in pairs):
                    shared[language] = count
            if shared:
                where = ", ".join(f"{language} {count:,}" for language, count in shared.items())
                count = sum(shared.values())
                rows = f"row is also a {earlier} row" if count == 1 else f"rows are also {earlier} rows"
                yield f"task {task!r}: {count:,} distinct {split} {rows} ({where})"

    def content(self, task: str, language: str, split: Split) -> str:
        """Hash everything that the canonical rows and their encoding depend on.

        The hub is asked for the commit of a data set that has not been used before.
        """
        contents = [self._content(task, language, part) for part in self._splits(task, split)]
        return contents[0] if len(contents) == 1 else fingerprint(contents)

    def _content(self, task: str, language: str, split: Split) -> str:
        held_out, origins = self._held_out(task, language), self._origins(task, language, split)
        parts = [
            [_settings(origin, split) | {"held_out": held_out}, reader_of(origin).identity(origin)]
            for origin in origins
        ]
        return fingerprint([task, origins[0].written, split, *(parts[0] if len(parts) == 1 else parts)])

    def known(self, task: str, language: str, split: Split) -> bool:
        """Tell whether `content` can be computed without asking the hub for the commit of a data set."""
        hubs = [hub for part in self._splits(task, split) for hub in self._hubs(task, language, part)]
        return all(known_commit(hub, self.cache) for hub in hubs)

    def address(self, task: str, language: str, split: Split) -> str | None:
        """Return `owner/name@commit` of the rows' first data set on the hub, or None if they are not on the hub."""
        hubs = self._hubs(task, language, split)
        return f"{hubs[0].path}@{commit(hubs[0], self.cache)}" if hubs else None

    def _hubs(self, task: str, language: str, split: Split) -> list[HubRows]:
        _, blocks = self._blocks(task, language, split)
        return [block.hub for _, block in blocks if block.hub and block.hub.has_commits]

    def table(self, task: str, language: str, split: Split) -> pa.Table:
        """Read the canonical rows, with the schema of the task's kind.

        Test rows of a kind that is `tuned` come after the validation rows, which are marked in the column `TUNING`.
        """
        own = self._split_table(task, language, split)
        if len(self._splits(task, split)) == 1:
            return own
        if not self.count(task, language, "validation"):
            raise DataError(
                f"task {task!r} has no validation rows in {language!r}, and mining sets its threshold on them. "
                "Add some, or leave the language out with the target's `languages:`."
            )
        tuning = self._split_table(task, language, "validation")
        column = tuning.schema.get_field_index(TUNING)
        return pa.concat_tables([tuning.set_column(column, TUNING, pa.array([True] * len(tuning))), own])

    def tables(self, task: str, language: str, split: Split) -> Iterator[pa.Table]:
        """Yield the same rows; those to train on as they are read, so that few of them are in memory."""
        if split != "train":
            yield self.table(task, language, split)
            return
        held_out, held = self._held_out(task, language), KINDS[self.suite.task(task).kind].schema.empty_table()
        origins = self._origins(task, language, split)
        for number, origin in enumerate(origins, start=1):
            for batch in self._read(task, origin)[0]:
                table = numbered(number, batch) if len(origins) > 1 else batch
                held = pa.concat_tables([held, table])
                if len(held) > held_out:
                    yield held.slice(0, len(held) - held_out)
                    held = held.slice(len(held) - held_out)

    def _splits(self, task: str, split: Split) -> list[Split]:
        """The splits whose rows make up the table."""
        tuned = split == "test" and KINDS[self.suite.task(task).kind].tuned
        return [split, "validation"] if tuned else [split]

    def _split_table(self, task: str, language: str, split: Split) -> pa.Table:
        table = joined([self._whole(task, origin) for origin in self._origins(task, language, split)])
        held_out = self._held_out(task, language)
        if held_out and split != "test":
            kept = max(0, table.num_rows - held_out)
            table = table.slice(0, kept) if split == "train" else table.slice(kept)
        return table

    def _held_out(self, task: str, language: str) -> int:
        """Number of rows at the end of train that serve as validation rows of this language."""
        wanted = self.suite.task(task).validation_from_train
        if not wanted or self._own_count(task, language, "validation"):
            return 0
        return min(wanted, self._own_count(task, language, "train"))

    def _known(self, task: str) -> list[str]:
        """Every language that the suite declares for a task, or that its files are named after."""
        return sorted(
            {code for number in range(len(self.suite.task(task).places)) for code in self._codes(task, number)}
        )

    def _codes(self, task: str, number: int) -> dict[str, str]:
        """Map the canonical code of each language of a place to how the data writes it."""
        if (task, number) not in self._written:
            block = self.suite.task(task).places[number]
            if block.rows or (block.codes and block.files):
                written = {*block.rows, *block.codes}
            elif not block.files or not re.search(r"\{(language|code)\}", block.files):
                raise DataError(f"task {task!r}: its languages can't be seen from file names; declare them in `rows:`.")
            else:
                written = languages_of(block, self.root, self.cache)
                if not written and self.suite.root != OWN_DATA:
                    raise DataError(f"task {task!r}: no file fits `files: {block.files}` in {self.root.absolute()}.")
            codes: dict[str, str] = {}
            for name in sorted(written):
                other = codes.setdefault(canonical(name), name)
                if other != name:
                    raise DataError(
                        f"task {task!r}: {other!r} and {name!r} are the same language, {canonical(name)!r}. Write one "
                        "of them everywhere, or make them two tasks with `same_as:`."
                    )
            self._written[task, number] = codes
        return self._written[task, number]

    def _own_count(self, task: str, language: str, split: Split) -> int:
        places = self.suite.task(task).places
        return sum(self._place_count(task, number, place, language, split) for number, place in enumerate(places))

    def _place_count(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> int:
        survey = self._survey(task, number, block, language, split)
        if survey is not None:
            return survey.tally.used
        return self._declared(task, number, block, language, split) or 0

    def _declared(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> int | None:
        """The number of rows in `rows:`; None if the place declares none at all."""
        if not block.rows:
            return None
        written = self._codes(task, number).get(language, language)
        return block.rows.get(written, (0, 0, 0))[SPLITS.index(split)]

    def _surveys(self, task: str, language: str, split: Split) -> list[Survey]:
        places = enumerate(self.suite.task(task).places)
        surveys = (self._survey(task, number, block, language, split) for number, block in places)
        return [survey for survey in surveys if survey is not None]

    def _survey(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> Survey | None:
        """Survey a place's files, once for each content.

        returns: None where the rows aren't in local files, or where an installed package vouches for their number
        """
        declared = self._declared(task, number, block, language, split)
        if not block.files or declared == 0 or (declared and self._provider):
            return None
        key = (task, number, language, split)
        if key not in self._surveyed:
            self._surveyed[key] = self._made_survey(task, number, block, language, split)
        return self._surveyed[key]

    def _made_survey(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> Survey | None:
        origin = self._origin(task, number, block, language, split)
        if block.only_split not in (None, split) or not matching(block.files or "", origin):
            return None
        origin = self._resolved(task, self._origin(task, number, self.task(task).places[number], language, split))
        file = self._survey_file(origin)
        if not Survey.is_kept(file):
            tally, source = Tally(), fingerprint([[str(file) for file in origin.files], origin.where])
            Survey.make(file, _rows(task, origin, tally), KINDS[block.kind].schema, tally, source)
            if self._survey_file(origin) != file:  # these rows may be partly of the old content, partly of the new
                file.unlink()
                raise DataError(f"task {task!r}, {origin}: a file changed while it was read. Start again.")
        survey = Survey.load(file)
        survey.tally.check(f"task {task!r}, {origin}", allowed=block.allow_dropped)
        return survey

    def _survey_file(self, origin: Origin) -> Path:
        """The file of a survey: its name follows from all that the rows depend on."""
        place = [str(file) for file in origin.files]
        where = [origin.language, origin.split]
        parts = [_settings(origin, origin.split), where, place, reader_of(origin).identity(origin)]
        content = fingerprint([*parts, SURVEY_VERSION])
        return self.cache / "surveys" / content[:2] / f"{content}.json"

    def _whole(self, task: str, origin: Origin) -> pa.Table:
        batches, tally = self._read(task, origin)
        return canonical_table(batches, KINDS[origin.block.kind].schema, tally)

    def _read(self, task: str, origin: Origin) -> tuple[Iterator[pa.Table], Tally]:
        """Return canonical rows, those that a survey has kept or else the data's own, and their tally.

        The tally is complete once the last row is read.
        """
        if origin.files and Survey.is_kept(file := self._survey_file(origin)):
            survey = Survey.load(file)
            return survey.rows, survey.tally
        tally = Tally()
        return canonical_batches(_rows(task, origin, tally), KINDS[origin.block.kind].schema), tally

    def _blocks(self, task: str, language: str, split: Split) -> tuple[Split, list[tuple[int, TaskBlock]]]:
        """The split that rows are read from (train, if it has the validation rows), and the task's parts with rows."""
        if split == "validation" and self._held_out(task, language):
            split = "train"
        blocks = list(enumerate(self.task(task).places))
        if len(blocks) == 1:
            return split, blocks
        own = [(number, block) for number, block in blocks if self._place_count(task, number, block, language, split)]
        if not own:
            raise DataError(f"task {task!r} has no {split} rows in {language!r}. {self._languages_with(task, split)}")
        return split, own

    def _origins(self, task: str, language: str, split: Split) -> list[Origin]:
        read_split, blocks = self._blocks(task, language, split)
        return [
            self._resolved(task, self._origin(task, number, block, language, read_split)) for number, block in blocks
        ]

    def _origin(self, task: str, number: int, block: TaskBlock, language: str, split: Split) -> Origin:
        written = self._codes(task, number).get(language, language)
        root = self.root if block.files or not self._provider else self._folder
        return Origin(block=block, language=language, written=written, split=split, cache=self.cache, root=root)

    def _resolved(self, task: str, origin: Origin) -> Origin:
        """Find the files of a block's rows, then the files that belong to them: tags, or sentences and pairs."""
        files: list[Path] = []
        for pattern in origin.block.patterns:
            matches = matching(pattern, origin)
            if not matches:
                others = "" if files else f" {self._languages_with(task, origin.split)}"
                raise DataError(
                    f"task {task!r} has no {origin.split} rows in {origin.language!r}: {_missing(pattern, origin)}. "
                    f"{self._what_to_do()}{others}"
                )
            files += matches
        return replace(origin, files=tuple(files))

    def missing(self, task: str, split: Split) -> str:
        """Say why no language has rows of a split, if another of its usual names is there; else an empty sentence."""
        if self._provider:
            return ""
        for number, block in enumerate(self.suite.task(task).places):
            for language in self._codes(task, number) if block.files else ():
                origin = self._origin(task, number, block, language, split)
                if usual_name(block.files or "", origin):
                    return f"{_missing(block.files or '', origin)}."
        return ""

    def _languages_with(self, task: str, split: Split) -> str:
        return f"Languages with {split} rows: {', '.join(self.languages(task, split)) or 'none'}."

    def _what_to_do(self) -> str:
        if self.suite.root != OWN_DATA:
            return "Correct the suite, or put the file there."
        return (
            "It can't be downloaded: set TUNEXFER_DATA to the folder with your copy of the data, "
            "or leave the task out of the space."
        )


def _place(task: str, language: str, split: Split) -> str:
    return f"task {task!r}, {split} in {language!r}"


def _missing(pattern: str, origin: Origin) -> str:
    path = path_of(pattern, origin)
    name = usual_name(pattern, origin)
    if name is None:
        return f"{path} isn't there"
    other = replace(origin, block=origin.block.model_copy(update={"splits": {origin.split: name}}))
    return f"{path} isn't there, but {path_of(pattern, other).name} is: set `splits: {{{origin.split}: {name}}}`"


def _rows(task: str, origin: Origin, tally: Tally) -> Iterator[Row]:
    return canonical_rows(reader_of(origin).rows(origin), origin, f"task {task!r}, {origin}", tally)


def _settings(origin: Origin, split: Split) -> dict[str, Any]:
    """The settings that the canonical rows of a split depend on; those with a default only where they differ."""
    block = origin.block
    settings = block.model_dump(include=READ_SETTINGS) | {"where": origin.where}
    settings |= block.model_dump(include=OTHER_SETTINGS, exclude_defaults=True)
    settings |= KINDS[block.kind].settings(block)
    version = KINDS[block.kind].rows_version
    if split != "train" and version > 1:
        settings["version"] = version
    return settings


def read_labels(file: Path) -> list[str]:
    """Read the labels of a JSON file, in order: a list, or an object of labels and their numbers from 0."""
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not JSON: {error}") from error
    if isinstance(labels, dict):
        by_number = {number: label for label, number in labels.items()}
        labels = [by_number.get(number) for number in range(len(labels))]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{file} has to hold a list of labels, or an object of labels and their numbers from 0 on.")
    return labels
