"""Which trial of a study is exported, and where what it leaves may be written. Reads the study folder alone."""

from __future__ import annotations

from pathlib import Path

from tunexfer.core.folder import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.tracking.record import Record, read_plan
from tunexfer.tracking.trial import Ended


def find_trial(folder: StudyFolder, number: int | None) -> Ended:
    """The trial of that number, or the one with the highest objective.

    raises: StudyError, if there is no such study or trial, or the trial isn't complete
    """
    if not folder.path.is_dir():
        raise StudyError(
            f"{folder.path}: there is no such folder. Give the folder of a study, for example runs/multitask."
        )
    read_plan(folder)
    record = Record(folder)
    complete = {ended.trial.number: ended for ended in record.complete}
    if number is None:
        best = record.best()
        if best is None:
            raise StudyError(f"{folder.path} has no complete trial to export yet.{_damage(record)}")
        return best
    if number in complete:
        return complete[number]
    known = ", ".join(map(str, complete)) or "none"
    raise StudyError(f"{folder.path}: {_why_not(record, number)} Trials that are complete: {known}.{_damage(record)}")


def empty_folder(path: Path, option: str) -> Path:
    """The same path, if nothing can be overwritten there.

    raises: StudyError, if there is something already
    """
    if path.exists() and not path.is_dir():
        raise StudyError(f"{option} {path}: that is a file. Name a folder; it is made.")
    if path.is_dir() and any(path.iterdir()):
        raise StudyError(f"{option} {path}: there is something in that folder already. Empty it, or name another.")
    return path


def _why_not(record: Record, number: int) -> str:
    ended = next((one for one in record.ended if one.trial.number == number), None)
    if ended is not None:
        return f"trial {number} {ended.state}{f' ({ended.reason})' if ended.reason else ''}."
    if any(trial.number == number for trial in record.unfinished()):
        return f"trial {number} isn't finished."
    return f"there is no trial {number}."


def _damage(record: Record) -> str:
    return "".join(f"\n{line}" for line in record.damaged)
