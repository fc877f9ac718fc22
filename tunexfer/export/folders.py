"""The study folder that an export reads, and the new folder that it writes."""

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
from tunexfer.record.folder import read_plan
from tunexfer.record.record import Record
from tunexfer.tasks.suite import Suite, load_suite, named_suites, nearest


def find_trial(study: StudyFolder, number: int | None, target: str | None = None) -> TrialResult:
    """Return the complete trial of that number; if `number` is None the best one, or the winner of a target.

    raises: StudyError, if there is no such study, trial or target, or the trial is not complete
    """
    plan = read_plan(study)
    record = Record(study)
    if target is not None:
        from tunexfer.record.findings import Findings  # pandas, which other exports do without

        won = Findings.of(record.ended, record.score_table(), plan).best_per_target
        if target not in won:
            known = f"Targets with a winner: {', '.join(won) or 'none'}."
            raise StudyError(f"{study.path}: no trial has won target {target!r}. {known}{nearest(target, won)}")
        number = won[target]["trial"] if number is None else number
    complete = {result.trial.number: result for result in record.complete}
    chosen = record.best() if number is None else complete.get(number)
    if chosen is not None:
        return chosen
    damage = "".join(f"\n{line}" for line in record.damaged)
    if number is None:
        raise StudyError(f"{study.path} has no complete trial to export yet.{damage}")
    states = {trial.number: "is not finished" for trial in record.waiting}
    states |= {
        end.trial.number: end.state + (f" ({end.failure.message})" if end.failure else "") for end in record.ended
    }
    raise StudyError(
        f"{study.path}: trial {number} {states.get(number, 'does not exist')}. "
        f"Complete trials: {', '.join(map(str, complete)) or 'none'}.{damage}"
    )


def suite_of(study: StudyFolder) -> tuple[Suite, Path]:
    """Load the suite that the study was planned with, and the folder that its `root` is relative to.

    raises: StudyError, if the suite is neither shipped nor installed nor kept in `plan.yaml`
    """
    plan = read_plan(study)
    name = plan["identity"]["suite"]
    if plan.get("own_suite"):
        return Suite.model_validate(plan["own_suite"]), Path()
    if name not in named_suites():
        raise StudyError(
            f"{study.plan} does not contain the suite {name!r}, and no installed package provides it. Install the "
            "package, or, if the suite was a file, rerun the `tunexfer search` command of the study: it writes the "
            "suite there, and trains nothing again."
        )
    return load_suite(name)


def absolute_encoder(study: StudyFolder, encoder: Encoder) -> Encoder:
    """Make the path of an encoder in a local folder absolute; it may be relative to where the search was started."""
    environment = study.environment
    start = json.loads(environment.read_text(encoding="utf-8"))["folder"] if environment.is_file() else ""
    for base in (Path(), Path(start)):
        folder = base / Path(encoder.name).expanduser()
        if folder.is_dir():
            return replace(encoder, name=str(folder.resolve()))
    return encoder


@contextmanager
def new_folder(path: Path, option: str = "--to") -> Iterator[Path]:
    """Yield a draft folder that becomes `path` if the block succeeds; otherwise nothing is left of it.

    path:   absent, or an empty folder
    option: the option that named it, for the message
    raises: StudyError, if something is there already
    """
    if path.exists() and not path.is_dir():
        raise StudyError(f"{option} {path}: that is a file. Give a new folder.")
    if path.is_dir() and any(path.iterdir()):
        raise StudyError(f"{option} {path}: the folder is not empty. Empty it, or give another one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-draft-"))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp's is for its owner alone
        if path.is_dir():
            path.rmdir()
        os.rename(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
