"""The record of a study: files that stand alone. A trial counts once its status says `complete`, written last."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from filelock import FileLock, Timeout

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder, TrialFolder, write_whole
from tunexfer.core.phrases import without_passwords
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult, best_of
from tunexfer.errors import StudyError
from tunexfer.record.deltas import SCORES_SCHEMA
from tunexfer.record.ending import Ending, How, write_ending

LIBRARIES = ("tunexfer", "torch", "transformers", "datasets", "ray", "optuna", "mlflow", "pyarrow", "numpy")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LOCK_S = 1.0
"""How long a driver waits for the lock: who asks whether there is a driver holds it for a moment."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""What reading a damaged file of ours raises."""


class Record:
    """What a study has done so far, on disk and (for those who drive it) in memory."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self._ended: dict[int, TrialResult] = {}
        self._waiting: dict[int, Trial] = {}
        self.damaged: list[str] = []
        """What could not be read of trials that had ended, in sentences for the user."""
        for trial_folder in folder.all_trials():
            self.load(trial_folder)

    @classmethod
    @contextmanager
    def drive(cls, folder: StudyFolder, plan: Mapping[str, Any]) -> Iterator[Record]:
        """Start or continue the study of `plan` in `folder`, alone: one driver at a time.

        plan: the resolved plan in plain values; its `identity` is what makes the study this one
        raises: StudyError, if another driver is at work there or the folder was made by a different plan
        """
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.lock)
        try:
            lock.acquire(timeout=LOCK_S)
        except Timeout:
            raise StudyError(
                f"{folder.path}: another search is running on this study. Wait for it, stop it, or take another --name."
            ) from None
        try:
            _begin(folder, plan)
            folder.ending.unlink(missing_ok=True)
            record = cls(folder)
            try:
                yield record
            except BaseException as error:
                if not folder.ending.exists():
                    how: How = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                    record.end(how, str(error) or type(error).__name__)
                raise
            finally:
                record.write_scores()
        finally:
            lock.release()

    @property
    def study_id(self) -> str:
        """Tells this study from any other of the same name."""
        return str(read_plan(self.folder)["study_id"])

    @property
    def ended(self) -> list[TrialResult]:
        """Every trial that is complete, failed or stopped, by number."""
        return [ended for _, ended in sorted(self._ended.items())]

    @property
    def complete(self) -> list[TrialResult]:
        return [ended for ended in self.ended if ended.state == "complete"]

    @property
    def waiting(self) -> list[Trial]:
        """Every trial that was begun and has no end on record, by number: it runs right now, or was cut off."""
        return [trial for _, trial in sorted(self._waiting.items())]

    def unfinished(self) -> list[Trial]:
        """Trials that were begun and aren't complete: the next driver runs them again, under the same numbers."""
        again = {ended.trial.number: ended.trial for ended in self.ended if ended.state != "complete"}
        return [trial for _, trial in sorted({**self._waiting, **again}.items())]

    def free_numbers(self) -> Iterator[int]:
        """The numbers that no trial has, from 1 on; 0 is the baseline's."""
        taken = self._ended.keys() | self._waiting.keys()
        return (number for number in itertools.count(1) if number not in taken)

    def begin(self, trial: Trial) -> None:
        """Note what a trial is before it runs, so that it can be run again as the same trial."""
        folder = self.folder.trial(trial.number)
        folder.status.unlink(missing_ok=True)
        folder.progress.unlink(missing_ok=True)
        head = {"trial": trial.number, "phase": trial.phase, "seed": trial.seed, "point": dict(trial.point)}
        write_whole(folder.chain, _yaml({**head, "chain": _plain(trial.chain.as_dict())}))
        self._ended.pop(trial.number, None)
        self._waiting[trial.number] = trial

    def finish(self, ended: TrialResult) -> TrialResult:
        """Write the mark that ends a trial; its scores are read from what the worker left.

        returns: the same with its scores; `failed`, if a complete trial's files can't be read
        """
        folder = self.folder.trial(ended.trial.number)
        status = ended.status()
        try:
            ended = _ended(ended.trial, status, folder)
        except _UNREADABLE as error:
            status |= {
                "state": "failed",
                "failure": {"kind": "bug", "message": f"its results can't be read back: {error}", "detail": ""},
            }
            ended = _ended(ended.trial, status, folder)
        write_whole(folder.status, json.dumps(status, indent=2, ensure_ascii=False) + "\n")
        self._waiting.pop(ended.trial.number, None)
        self._ended[ended.trial.number] = ended
        return ended

    def end(self, how: How, reason: str = "") -> None:
        """Note how the search ended, for those who look later. A driver that is killed notes nothing."""
        write_ending(self.folder, Ending(how, reason))

    def best(self) -> TrialResult | None:
        """The complete trial whose chain the study recommends, as `best_of` chooses it."""
        return best_of(self.complete)

    def scores_table(self) -> pa.Table:
        """Every score of every complete trial beside the baseline's, in the columns of `scores.parquet`."""
        from tunexfer.record.score_table import scores_of, with_deltas

        complete = self.complete
        found = with_deltas(scores_of(complete), [ended.trial for ended in complete]).assign(study=self.folder.name)
        return pa.Table.from_pandas(found[SCORES_SCHEMA.names], preserve_index=False).cast(SCORES_SCHEMA)

    def write_scores(self) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(self.scores_table(), sink)
        write_whole(self.folder.scores, sink.getvalue().to_pybytes())

    def load(self, folder: TrialFolder) -> Trial | TrialResult | None:
        """Take one trial folder up, again where it has changed; what is damaged or half written counts as not run.

        returns: what was found there, None where nothing can be read
        """
        self._ended.pop(folder.number, None)
        self._waiting.pop(folder.number, None)
        try:
            trial = read_trial(folder)
        except ValueError as error:
            if folder.status.exists():
                self.damaged.append(f"{folder.chain} can't be read ({error}): that trial counts as not run.")
            return None
        try:
            ended = self._ended[trial.number] = _ended(
                trial, json.loads(folder.status.read_text(encoding="utf-8")), folder
            )
        except _UNREADABLE as error:
            self._waiting[trial.number] = trial
            if folder.status.exists():
                self.damaged.append(
                    f"{folder.path}: the record of this trial is damaged ({_first_line(error)}): it is run again."
                )
            return trial
        return ended


def write_result(folder: TrialFolder, scores: tuple[Score, ...], rows: pa.Table) -> None:
    """What a worker leaves of a trial that went well: every score, and every scored row."""
    write_whole(folder.scores, "".join(json.dumps(asdict(score), ensure_ascii=False) + "\n" for score in scores))
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    write_whole(folder.rows, sink.getvalue().to_pybytes())


def read_trial(folder: TrialFolder) -> Trial:
    """What a trial is, from its `chain.yaml`.

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
    except (*_UNREADABLE, yaml.YAMLError) as error:
        raise ValueError(_first_line(error)) from error


def read_ended(trial: Trial, folder: TrialFolder) -> TrialResult:
    """How a trial ended, from its `status.json` alone: without its scores.

    raises: ValueError, if that file isn't there or isn't whole
    """
    try:
        return TrialResult.from_status(trial, json.loads(folder.status.read_text(encoding="utf-8")))
    except _UNREADABLE as error:
        raise ValueError(_first_line(error)) from error


def read_plan(folder: StudyFolder) -> dict[str, Any]:
    """`plan.yaml` as plain values.

    raises: StudyError, if it isn't there or isn't a plan
    """
    try:
        plan: dict[str, Any] = yaml.load(folder.plan.read_text(encoding="utf-8"), Loader=_Loader)
        if not isinstance(plan, dict) or not isinstance(plan.get("identity"), dict) or not plan.get("study_id"):
            raise ValueError("it has no identity and study_id")
        return plan
    except (*_UNREADABLE, yaml.YAMLError) as error:
        raise StudyError(
            f"{folder.plan} can't be read as a plan ({_first_line(error)}), so what was studied there is unknown. "
            "Put it back as it was, or take another --name."
        ) from error


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """Where two trees of plain values differ, one line each."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = list(dict.fromkeys([*there, *here]))
        return [
            line for key in keys for line in differences(there.get(key), here.get(key), f"{path}.{key}".lstrip("."))
        ]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True))
        return [line for index, (a, b) in pairs for line in differences(a, b, f"{path}[{index}]")]
    return [] if there == here else [f"{path}: {json.dumps(there)} there, {json.dumps(here)} now"]


def _ended(trial: Trial, status: Mapping[str, Any], folder: TrialFolder) -> TrialResult:
    """raises: ValueError or OSError, if a complete trial's results aren't whole"""
    ended = TrialResult.from_status(trial, status)
    if ended.state != "complete":
        return ended
    lines = folder.scores.read_text(encoding="utf-8").splitlines()
    scores = tuple(_score(json.loads(line)) for line in lines)
    pq.read_metadata(folder.rows)
    if not scores:
        raise ValueError("there are no scores")
    return replace(ended, scores=scores)


def _score(plain: dict[str, Any]) -> Score:
    """Read one score; version 0.1 calls the target `task`."""
    if "task" in plain:
        plain["target"] = plain.pop("task")
    return Score(**plain)


def _begin(folder: StudyFolder, plan: Mapping[str, Any]) -> None:
    plain = _plain(plan)
    if not folder.plan.exists():
        if folder.all_trials():
            raise StudyError(
                f"{folder.path} holds trials but no plan.yaml, so whose they are is unknown. Take another --name."
            )
        plain["study_id"] = uuid.uuid4().hex
    else:
        before = read_plan(folder)
        if different := differences(before["identity"], plain["identity"]):
            lines = "\n".join(f"  {line}" for line in different)
            raise StudyError(f"{folder.path} was made by a different plan:\n{lines}\nTake another --name for this one.")
        plain["study_id"] = before["study_id"]
    write_whole(folder.environment, json.dumps(_environment(), indent=2) + "\n")
    write_whole(folder.plan, _yaml(plain))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _environment() -> dict[str, Any]:
    installed = {name: _version(name) for name in LIBRARIES}
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": _command(),
        "folder": os.getcwd(),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "libraries": installed,
    }


def _command() -> list[str]:
    """The command line without passwords."""
    return [without_passwords(word) for word in sys.argv]


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Of the working folder, where it is in a git repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def _plain(value: Any) -> Any:
    """As JSON would give it back: tuples become lists."""
    return json.loads(json.dumps(value, ensure_ascii=False))
