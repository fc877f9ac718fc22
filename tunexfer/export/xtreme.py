"""A trial's test predictions as the folder that XTREME's leaderboard takes and `tunexfer score` reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.core.chain import Chain
from tunexfer.core.files import TrialFolder, write_whole
from tunexfer.errors import DataError, StudyError
from tunexfer.export.xtreme_scores import TARGETS

Side = Literal["gold", "prediction"]
Row = dict[str, Any]
NAMES = {"udpos": ["udpos_treebanks", "udpos"]}
"""Tasks of suite `xtreme` that are one of the benchmark's, the closest first; others go by the benchmark's name."""
OTHER_ROWS = {
    "udpos": "udpos: the hub's rows are other sentences and tokens than the leaderboard's (`udpos_treebanks`).",
    "mlqa": "mlqa: the hub's Spanish rows are 5,253 of the leaderboard's 5,254.",
}
"""What to say of tasks of suite `xtreme` whose rows aren't the benchmark's own."""
COLUMNS = ("id", "language", "gold", "prediction", "place")


class Exported(NamedTuple):
    written: tuple[str, ...]
    """The tasks that were."""
    left_out: dict[str, str]
    """Every other task of the benchmark, and why."""
    notes: tuple[str, ...]
    """What else a user should know, in sentences."""

    @property
    def remarks(self) -> list[str]:
        """A line for each task left out and for each note."""
        return [f"left out: {task}: {why}" for task, why in self.left_out.items()] + [
            f"note: {note}" for note in self.notes
        ]


def export_xtreme(trial: TrialFolder, chain: Chain, to: Path, labels: Path | None) -> Exported:
    """Write `<task>/test-<language>.tsv` (or `.json`) for every task that the trial was scored on in all languages.

    chain:  the trial's; tells which of the benchmark's tasks a target is, whatever its name
    labels: a folder for what `score` compares them with, of the same shape
    raises: StudyError, where the trial's rows can't be read; DataError, where none of them are the benchmark's
    """
    written: list[str] = []
    left_out: dict[str, str] = {}
    notes: list[str] = []
    for name, target in TARGETS.items():
        found: dict[str, list[Row]] = {}
        try:
            task, found = _variant(trial, chain, name, target.languages.split())
            missing = [language for language in target.languages.split() if language not in found]
            if not found:
                raise DataError("the study has no test rows of a task of this name")
            if missing:
                raise DataError(f"no test rows in {' '.join(missing)}, and the benchmark asks for every language")
            texts = {language: _both(name, found[language]) for language in target.languages.split()}
        except DataError as error:
            left_out[name] = str(error)
            continue
        for language, (predicted, gold) in texts.items():
            file = Path(name) / f"test-{language}.{target.suffix}"
            write_whole(to / file, predicted)
            if labels:
                write_whole(labels / file, gold)
        written.append(name)
        notes += _notes(name, found, target.languages.split())
        notes += [OTHER_ROWS[task]] if chain.suite == "xtreme" and task in OTHER_ROWS else []
    if not written:
        reasons = "\n".join(f"  {name}: {why}" for name, why in left_out.items())
        raise DataError(f"{trial.path} has no predictions for any task of the benchmark:\n{reasons}")
    return Exported(tuple(written), left_out, tuple(notes))


def _variant(trial: TrialFolder, chain: Chain, name: str, languages: Sequence[str]) -> tuple[str, dict[str, list[Row]]]:
    """Of the tasks that are the benchmark's, the first with rows in all languages, else the first with any rows."""
    variants = [(task, _rows(trial, _target(chain, task))) for task in NAMES.get(name, [name])]
    there = [(task, rows) for task, rows in variants if rows]
    whole = (one for one in there if one[1].keys() >= set(languages))
    return next(whole, there[0] if there else (name, {}))


def _target(chain: Chain, task: str) -> str:
    """The name of the target of that task, which its rows go by.

    raises: DataError, if there are several and none has the task's name
    """
    names = [target.name for target in chain.targets if target.task == task]
    if len(names) > 1 and task not in names:
        raise DataError(f"several targets are of this task, {', '.join(names)}, and none has its name")
    return task if task in names or not names else names[0]


def _rows(trial: TrialFolder, task: str) -> dict[str, list[Row]]:
    """Language -> the test rows of a target, in the order they were scored in."""
    try:
        there = pq.read_schema(trial.rows).names
        columns = [name for name in COLUMNS if name in there]
        table = pq.read_table(trial.rows, columns=columns, filters=[("task", "==", task), ("split", "==", "test")])
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StudyError(f"{trial.rows} can't be read: {error}") from error
    found: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        found.setdefault(row["language"], []).append(row)
    return found


def _both(task: str, rows: list[Row]) -> tuple[str, str]:
    """A file of predictions and the file of labels that goes with it."""
    values = [row | {side: row[side] and json.loads(row[side]) for side in ("gold", "prediction")} for row in rows]
    return FILES[task](values, "prediction"), FILES[task](values, "gold")


def _notes(task: str, found: dict[str, list[Row]], languages: Sequence[str]) -> list[str]:
    others = sorted(found.keys() - set(languages))
    notes = [f"{task}: the benchmark doesn't have it in {' '.join(others)}."] if others else []
    if task == "tatoeba" and any(row.get("place") is None for language in languages for row in found[language]):
        notes.append(
            "tatoeba: its rows were scored before their place among the English sentences was kept, so they are in the "
            "order of the suite's rows, not in the leaderboard's; `score` gives the same numbers."
        )
    return notes


# What a file of one language says


def _labels(names: dict[str, str]) -> Callable[[list[Row], Side], str]:
    """A label a line, each as the benchmark calls it."""

    def text(rows: list[Row], side: Side) -> str:
        strange = sorted({str(row[side]) for row in rows} - names.keys())
        if strange:
            raise DataError(f"its labels are {', '.join(strange)}, where the benchmark knows {', '.join(names)}")
        return _lines(names[row[side]] for row in rows)

    return text


def _tags(rows: list[Row], side: Side) -> str:
    """A tag a line, an empty line after each sentence."""
    return "".join(_lines(row[side]) + "\n" for row in rows)


def _answers(rows: list[Row], side: Side) -> str:
    """Predictions: the answer of each question's id. Labels: SQuAD's form, as far as scoring reads it."""
    if len({row["id"] for row in rows}) < len(rows):
        raise DataError("several questions have the same id; name the column of ids in the suite's `columns:`")
    if side == "prediction":
        content: Any = {row["id"]: row[side] for row in rows}
    else:
        questions = [{"id": row["id"], "answers": [{"text": text} for text in row[side]]} for row in rows]
        content = {"data": [{"paragraphs": [{"qas": questions}]}]}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _indices(rows: list[Row], side: Side) -> str:
    """Per English sentence the number of the foreign one, the English ones in the order of the alphabet."""
    ordered = rows if any(row.get("place") is None for row in rows) else sorted(rows, key=lambda row: row["place"])
    return _lines(str(row[side]) for row in ordered)


def _pairs(rows: list[Row], side: Side) -> str:
    """The ids of a foreign sentence and of the English one that goes with it."""
    return _lines(f"{row['id']}\t{row[side]}" for row in rows if row[side] is not None)


def _lines(found: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in found)


FILES: dict[str, Callable[[list[Row], Side], str]] = {
    "xnli": _labels({name: name for name in ("entailment", "neutral", "contradiction")}),
    "pawsx": _labels({"different": "0", "same": "1", "0": "0", "1": "1"}),
    "udpos": _tags,
    "panx": _tags,
    "xquad": _answers,
    "mlqa": _answers,
    "tydiqa": _answers,
    "bucc2018": _pairs,
    "tatoeba": _indices,
}
