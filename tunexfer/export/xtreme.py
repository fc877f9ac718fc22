"""Exports a trial's test predictions as the folder that XTREME's leaderboard takes and `tunexfer score` reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder, TrialFolder, write_whole
from tunexfer.errors import DataError, StudyError
from tunexfer.export.folders import find_trial, new_folder
from tunexfer.export.xtreme_scores import XTREME_TASKS

Row = dict[str, Any]
VARIANTS = {"udpos": ["udpos_treebanks", "udpos"]}
"""Tasks of suite `xtreme` with the rows of one of the benchmark's, the closest first; others have the same name."""
DIFFERENT_ROWS = {
    "udpos": "udpos: the hub's rows are other sentences and tokens than the leaderboard's (`udpos_treebanks`).",
    "mlqa": "mlqa: the hub's Spanish rows are 5,253 of the leaderboard's 5,254.",
}
"""Notes on tasks of suite `xtreme` whose rows are not the benchmark's own."""
COLUMNS = ("id", "language", "gold", "prediction", "place")


def export_xtreme(
    study: StudyFolder, number: int | None, to: Path, labels: Path | None
) -> tuple[int, list[str], list[str]]:
    """Write `<task>/test-<language>.tsv` (or `.json`) for every task that a trial was scored on in all languages.

    number: of the trial; None for the best one
    labels: a folder of the same shape for the labels, which `score` compares the predictions with
    returns: the trial's number, the benchmark's tasks that were exported, and remarks: a line for each reason
        to leave tasks out, then notes on those exported
    raises: StudyError, if there is no such trial, its rows can't be read, or a folder isn't empty; DataError, if none
        of its rows are the benchmark's
    """
    if labels and labels.absolute() == to.absolute():
        raise StudyError("--labels: choose another folder than that of the predictions (--to).")
    result = find_trial(study, number)
    trial, chain = study.trial(result.trial.number), result.trial.chain
    written, missing, notes = list[str](), dict[str, list[str]](), list[str]()
    with new_folder(to) as predicted, new_folder(labels, "--labels") if labels else nullcontext() as gold:
        for name, task in XTREME_TASKS.items():
            try:
                source, rows = _rows(trial, chain, name)
                texts = {
                    language: [FILES[name](rows[language], side) for side in ("prediction", "gold")]
                    for language in task.languages
                }
            except DataError as error:
                missing.setdefault(str(error), []).append(name)
                continue
            for language, both in texts.items():
                for folder, text in zip((predicted, gold), both, strict=True):
                    if folder:
                        write_whole(folder / name / f"test-{language}.{task.suffix}", text)
            written.append(name)
            notes += [f"note: {note}" for note in _notes(name, source, rows, chain)]
        left_out = [f"left out: {', '.join(names)}: {reason}" for reason, names in missing.items()]
        if not written:
            raise DataError("\n  ".join([f"{trial.path} has no predictions for any task of the benchmark:", *left_out]))
    return result.trial.number, written, left_out + notes


def _rows(trial: TrialFolder, chain: Chain, name: str) -> tuple[str, dict[str, list[Row]]]:
    """Find the suite's task that has the benchmark's rows, the first with all languages if there are several.

    returns: its name, and its test rows by language
    """
    languages = XTREME_TASKS[name].languages
    variants = {task: _read(trial, _target(chain, task)) for task in VARIANTS.get(name, [name])}
    present = {task: rows for task, rows in variants.items() if rows}
    if not present:
        raise DataError("the study has no test rows of a task of this name")
    task = next((task for task, rows in present.items() if rows.keys() >= set(languages)), next(iter(present)))
    if missing := [language for language in languages if language not in present[task]]:
        raise DataError(f"no test rows in {' '.join(missing)}, and the benchmark needs every language")
    return task, present[task]


def _target(chain: Chain, task: str) -> str:
    """The name of the target of that task, by which its rows are recorded.

    raises: DataError, if there are several and none has the task's name
    """
    names = [target.name for target in chain.targets if target.task == task]
    if len(names) > 1 and task not in names:
        raise DataError(f"several targets are of this task, {', '.join(names)}, and none has its name")
    return task if task in names or not names else names[0]


def _read(trial: TrialFolder, target: str) -> dict[str, list[Row]]:
    """Read a target's test rows by language, in the order they were scored in."""
    try:
        names = pq.read_schema(trial.rows).names
        key = "target" if "target" in names else "task"  # its name in version 0.1
        columns = [name for name in names if name in COLUMNS]
        table = pq.read_table(trial.rows, columns=columns, filters=[(key, "==", target), ("split", "==", "test")])
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StudyError(f"{trial.rows} can't be read: {error}") from error
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        row |= {side: row[side] and json.loads(row[side]) for side in ("gold", "prediction")}
        rows.setdefault(row["language"], []).append(row)
    return rows


def _notes(name: str, task: str, rows: dict[str, list[Row]], chain: Chain) -> Iterable[str]:
    if more := sorted(rows.keys() - set(XTREME_TASKS[name].languages)):
        yield f"{name}: the benchmark doesn't have it in {' '.join(more)}."
    if chain.suite == "xtreme" and task in DIFFERENT_ROWS:
        yield DIFFERENT_ROWS[task]


# The text of one language's file: (rows, "gold" or "prediction") -> text


def _labels(names: dict[str, str]) -> Callable[[list[Row], str], str]:
    """A label a line; names: our label -> the benchmark's."""

    def text(rows: list[Row], side: str) -> str:
        if unknown := sorted({str(row[side]) for row in rows} - names.keys()):
            raise DataError(f"its labels are {', '.join(unknown)}, where the benchmark knows {', '.join(names)}")
        return _lines(names[row[side]] for row in rows)

    return text


def _tags(rows: list[Row], side: str) -> str:
    """A tag a line, an empty line after each sentence."""
    return "".join(_lines(row[side]) + "\n" for row in rows)


def _answers(rows: list[Row], side: str) -> str:
    """Predictions: answer by question id. Labels: SQuAD's form, as far as scoring reads it."""
    if len({row["id"] for row in rows}) < len(rows):
        raise DataError("several questions have the same id; name the column of ids in the suite's `columns:`")
    if side == "prediction":
        content: Any = {row["id"]: row[side] for row in rows}
    else:
        questions = [{"id": row["id"], "answers": [{"text": text} for text in row[side]]} for row in rows]
        content = {"data": [{"paragraphs": [{"qas": questions}]}]}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _indices(rows: list[Row], side: str) -> str:
    """For each English sentence, in alphabetical order, the index of the foreign one."""
    if any(row.get("place") is None for row in rows):
        raise DataError("its rows were recorded without their place in the benchmark's files; rerun the search")
    return _lines(str(row[side]) for row in sorted(rows, key=lambda row: row["place"]))


def _pairs(rows: list[Row], side: str) -> str:
    """The ids of a foreign sentence and of its English translation."""
    return _lines(f"{row['id']}\t{row[side]}" for row in rows if row[side] is not None)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


FILES: dict[str, Callable[[list[Row], str], str]] = {
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
