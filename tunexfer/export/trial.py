"""Which trial of a study is exported, what its suite and encoder were, and where what it leaves may be written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tunexfer.core.chain import Encoder
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.errors import StudyError
from tunexfer.record.record import Record, read_plan
from tunexfer.tasks.suite import Suite, load_suite, named_suites


def find_trial(folder: StudyFolder, number: int | None) -> TrialResult:
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


def suite_of(folder: StudyFolder) -> tuple[Suite, Path]:
    """The suite that the study was planned with, and the folder its `root` is relative to.

    It is a shipped or installed one, or a file of the user's as `plan.yaml` keeps it.

    raises: StudyError, if the study was recorded before suites of one's own were kept
    """
    plan = read_plan(folder)
    name = plan["identity"]["suite"]
    if plan.get("own_suite"):
        return Suite.model_validate(plan["own_suite"]), Path()
    if name not in named_suites():
        raise StudyError(
            f"{folder.plan} doesn't hold the suite {name!r}, and no installed package provides it. Install the "
            "package, or, if the suite was a file, rerun the `tunexfer search` that made the study: it writes the "
            "suite there, and trains nothing again."
        )
    return load_suite(name)


def found_encoder(folder: StudyFolder, encoder: Encoder) -> Encoder:
    """The same encoder; one that is a folder by its whole path, if need be as seen from where the search ran."""
    began = json.loads(folder.environment.read_text(encoding="utf-8"))["folder"] if folder.environment.is_file() else ""
    for start in (Path(), Path(began)):
        place = start / Path(encoder.name).expanduser()
        if place.is_dir():
            return replace(encoder, name=str(place.resolve()))
    return encoder


@contextmanager
def written_at_once(to: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `to` at the end; nothing is left of it if that isn't reached.

    to: absent or empty, as `empty_folder` sees to
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}-draft-"))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp's is for its owner alone
        if to.is_dir():
            to.rmdir()
        os.rename(draft, to)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
        return f"trial {number} {ended.state}{f' ({ended.failure.message})' if ended.failure else ''}."
    if any(trial.number == number for trial in record.unfinished()):
        return f"trial {number} isn't finished."
    return f"there is no trial {number}."


def _damage(record: Record) -> str:
    return "".join(f"\n{line}" for line in record.damaged)
