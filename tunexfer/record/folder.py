"""Read a study folder: its plan, its trials, and whether a search is running on it. Looking needs no right to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import yaml

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder, TrialFolder, write_whole
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.errors import StudyError

UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""Errors of reading a damaged file of ours."""
How = Literal["finished", "exhausted", "out of time", "interrupted", "failed"]
"""`exhausted`: every chain of the space has been run; `out of time`: the search reached `search.minutes`."""
State = Literal["running", "finished", "exhausted", "out of time", "interrupted", "failed", "stopped", "unknown"]
"""`stopped`: no search is running, trials are missing, and the last search left no note: it was killed, for example.
`unknown`: whether a search is running can't be told."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_plan(folder: StudyFolder) -> dict[str, Any]:
    """Read `plan.yaml` as plain values.

    raises: StudyError, if it isn't there or isn't a plan
    """
    try:
        plan: dict[str, Any] = yaml.load(folder.plan.read_text(encoding="utf-8"), Loader=_Loader)
        if not isinstance(plan, dict) or not isinstance(plan.get("identity"), dict) or not plan.get("study_id"):
            raise ValueError("it has no identity and study_id")
        return plan
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise StudyError(
            f"{folder.plan} can't be read as a plan ({first_line(error)}), so what was studied there is unknown. "
            "Restore that file, or take another --name."
        ) from error


def trials_wanted(plan: Mapping[str, Any]) -> int:
    """Return the number of trials that a study is to have, those of its confirmation included.

    plan: as `plan.yaml` has it
    """
    confirm = plan.get("confirm")
    return int(plan["search"]["trials"]) + ((confirm["top"] + 1) * confirm["seeds"] if confirm else 0)


def read_trial(folder: TrialFolder) -> Trial:
    """Read a trial's `chain.yaml`.

    raises: ValueError, if that file isn't there or isn't whole
    """
    try:
        head = yaml.load(folder.chain.read_text(encoding="utf-8"), Loader=_Loader)
        return Trial(
            number=folder.number,
            phase=head["phase"],
            seed=head["seed"],
            point=head["point"],
            chain=Chain.from_dict(head["chain"]),
        )
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise ValueError(first_line(error)) from error


def read_ended(trial: Trial, folder: TrialFolder) -> TrialResult:
    """Read a trial's `status.json`: how it ended, without its scores.

    raises: ValueError, if that file isn't there or isn't whole
    """
    try:
        return TrialResult.from_status(trial, json.loads(folder.status.read_text(encoding="utf-8")))
    except UNREADABLE as error:
        raise ValueError(first_line(error)) from error


def read_trial_scores(folder: TrialFolder) -> tuple[Score, ...]:
    """Read the scores of one trial; version 0.1 calls their target `task`.

    raises: ValueError or OSError, if they aren't there or aren't whole
    """
    lines = folder.scores.read_text(encoding="utf-8").replace('{"task": "', '{"target": "').splitlines()
    try:
        scores = tuple(Score(**json.loads(line)) for line in lines)
    except TypeError as error:
        raise ValueError(f"{folder.scores}: {error}") from error
    if not scores:
        raise ValueError(f"{folder.scores} is empty")
    return scores


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """Whether a search is running on a study, and how the last one ended."""

    state: State
    missing: int
    """Trials wanted that are not complete."""
    reason: str = ""
    """Of a failed search."""

    @classmethod
    def of(cls, folder: StudyFolder, missing: int) -> StudyStatus:
        """Read it from the study folder."""
        ending = _read_ending(folder)  # while it is there, a driver that still holds the lock only tidies up
        if ending:
            return cls(state=ending[0], missing=missing, reason=ending[1])
        driven = is_driven(folder)
        if driven is None:
            return cls(state="unknown", missing=missing)
        return cls(state="running" if driven else "stopped" if missing > 0 else "finished", missing=missing)

    def in_words(self, study: str) -> str:
        """Describe the state in a sentence or two, with what to do about it.

        study: its name, or a word for it
        """
        missing = f"trials missing: {self.missing}."
        resume = f"{missing} Rerun the same command to resume."
        if self.state == "finished" and self.missing > 0:
            return f"{study} has finished; {missing} Rerun the same command to retry failed trials."
        words = {
            "running": f"{study} is running.",
            "finished": f"{study} has finished.",
            "exhausted": f"{study} has finished: every chain of the space has been run; {missing}",
            "out of time": f"{study} reached its time limit; {resume}",
            "interrupted": f"{study} was interrupted; {resume}",
            "failed": f"{study} failed ({next(iter(self.reason.splitlines()), 'no reason was recorded')}); {resume}",
            "stopped": f"{study} is not running; {resume}",
            "unknown": f"{study} may be running: its .lock can't be checked; {missing}",
        }
        return words[self.state]


def write_ending(folder: StudyFolder, how: How, reason: str) -> None:
    """Note how a search ended."""
    write_whole(folder.ending, json.dumps({"how": how, "reason": reason}, indent=2, ensure_ascii=False) + "\n")


def _read_ending(folder: StudyFolder) -> tuple[How, str] | None:
    """Return None if a search is running, was killed, or left a note that can't be read."""
    try:
        ending = json.loads(folder.ending.read_text(encoding="utf-8"))
        return (ending["how"], str(ending["reason"])) if ending["how"] in get_args(How) else None
    except UNREADABLE:
        return None


def is_driven(folder: StudyFolder) -> bool | None:
    """Return whether a driver holds the study's lock, None if that can't be told.

    A driver locks by `flock`, as filelock does, exclusively; asking takes a shared lock for a moment.
    """
    try:
        import fcntl  # not on Windows

        lock = folder.lock.open("rb")
    except FileNotFoundError:
        return False
    except (OSError, ImportError):
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # some file systems give the second for a lock that is held
            return True
        except OSError:
            return None
    return False


def first_line(error: Exception) -> str:
    """Return what an error says, cut to one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)
