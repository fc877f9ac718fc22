"""The record of a study: files that stand alone. A trial counts once its status, written last, says `complete`."""

from __future__ import annotations

import itertools
import json
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from tunexfer.core.files import StudyFolder, TrialFolder, whole, write_whole
from tunexfer.core.objective import Objective
from tunexfer.core.scores import Score
from tunexfer.core.trial import Failure, Trial, TrialResult
from tunexfer.core.winners import best_of
from tunexfer.core.yaml_text import dump_yaml
from tunexfer.errors import StudyError
from tunexfer.record.environment import environment
from tunexfer.record.folder import UNREADABLE, How, first_line, read_ended, read_plan, read_trial, read_trial_scores

if TYPE_CHECKING:
    import pandas as pd

LOCK_S = 1.0
"""Seconds that a driver waits for the lock, which `is_driven` holds for a moment."""


class Record:
    """The trials of a study so far, on disk and, without their scores, in memory."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self._ended: dict[int, TrialResult] = {}
        self._waiting: dict[int, Trial] = {}
        self.damaged: list[str] = []
        """Sentences about what can't be read of trials that have ended."""
        self._table: pd.DataFrame | None = None
        """The score table, once it has been asked for and until a trial begins or ends."""
        self._saved: pd.DataFrame | None = None
        """The one in `scores.parquet`."""
        self._free = 1
        """No free number is below this one."""
        for trial_folder in folder.all_trials():
            self._load(trial_folder)
        self._check()

    @classmethod
    @contextmanager
    def drive(cls, folder: StudyFolder, plan: Mapping[str, Any]) -> Iterator[Record]:
        """Start or continue the study of `plan` in `folder`, alone: one driver at a time.

        plan: the resolved plan in plain values; its `identity` is what makes the study this one
        raises: StudyError, if another search is running on the study or a different plan or version made the folder
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
        """Distinguishes this study from any other of the same name."""
        return str(read_plan(self.folder)["study_id"])

    @property
    def ended(self) -> list[TrialResult]:
        """Every trial that is complete, failed or stopped, by number; without its scores: see `scores`."""
        return [result for _, result in sorted(self._ended.items())]

    @property
    def complete(self) -> list[TrialResult]:
        return [result for result in self.ended if result.state == "complete"]

    @property
    def waiting(self) -> list[Trial]:
        """Every trial that was begun and has not ended, by number: it is running, or was cut off."""
        return [trial for _, trial in sorted(self._waiting.items())]

    def unfinished(self) -> list[Trial]:
        """Trials that were begun and aren't complete: the next driver runs them again, under the same numbers."""
        again = {result.trial.number: result.trial for result in self.ended if _to_run_again(result)}
        return [trial for _, trial in sorted({**self._waiting, **again}.items())]

    def free_numbers(self) -> Iterator[int]:
        """The numbers that no trial has, from 1 on; 0 is the baseline's."""
        while self._is_taken(self._free):
            self._free += 1
        return (number for number in itertools.count(self._free) if not self._is_taken(number))

    def _is_taken(self, number: int) -> bool:
        return number in self._ended or number in self._waiting

    def begin(self, trial: Trial) -> None:
        """Write a trial's chain before it runs, so that it can be run again as the same trial."""
        self._table = None
        folder = self.folder.trial(trial.number)
        folder.status.unlink(missing_ok=True)
        folder.progress.unlink(missing_ok=True)
        folder.scores.unlink(missing_ok=True)
        head = {"trial": trial.number, "phase": trial.phase, "seed": trial.seed, "point": dict(trial.point)}
        write_whole(folder.chain, dump_yaml({**head, "chain": _plain(trial.chain.as_dict())}))
        self._ended.pop(trial.number, None)
        self._waiting[trial.number] = trial

    def finish(self, result: TrialResult, rows: Iterable[pa.Table] = ()) -> TrialResult:
        """Write how a trial ended: its scores, its scored rows and, last, the status that makes it count.

        result:  with its scores, of a trial that isn't complete those that were finished
        rows:    the columns of `rows.parquet`, `target` first; each table is written as it comes
        returns: the same result; `failed`, if the files of a complete trial can't be written or read back
        """
        self._table = None
        folder = self.folder.trial(result.trial.number)
        if result.state == "complete":
            try:
                _write_scores(folder.scores, result.scores)
                _write_rows(folder.rows, rows)
                pq.read_metadata(folder.rows)
                if read_trial_scores(folder) != result.scores:
                    raise ValueError("other scores were read than were written")
            except UNREADABLE as error:
                message = f"its results can't be written or read back: {first_line(error)}"
                failure = Failure(kind="bug", message=message, detail=traceback.format_exc())
                result = replace(result, state="failed", objective=None, failure=failure, scores=())
        elif result.scores:
            _write_scores(folder.scores, result.scores)
        write_whole(folder.status, json.dumps(result.status(), indent=2, ensure_ascii=False) + "\n")
        self._waiting.pop(result.trial.number, None)
        self._ended[result.trial.number] = replace(result, scores=())
        return result

    def end(self, how: How, reason: str = "") -> None:
        """Note how the search ended. A driver that is killed leaves no note."""
        note = json.dumps({"how": how, "reason": reason}, indent=2, ensure_ascii=False)
        write_whole(self.folder.ending, note + "\n")

    def best(self) -> TrialResult | None:
        """The complete trial whose chain the study recommends, as `best_of` chooses it."""
        return best_of(self.complete, self.objective)

    @property
    def objective(self) -> Objective:
        """Read the study's objective."""
        return Objective(**(read_plan(self.folder)["identity"].get("objective") or {}))

    def scores(self, number: int) -> tuple[Score, ...]:
        """Read the scores of a trial that has ended from disk; none of a trial that ended before its first score.

        raises: ValueError or OSError, if they can't be read
        """
        folder = self.folder.trial(number)
        if self._ended[number].state != "complete" and not folder.scores.exists():
            return ()
        return read_trial_scores(folder)

    def score_table(self) -> pd.DataFrame:
        """Read every score of every complete trial, beside the baseline's: the columns of `SCORES_SCHEMA`.

        raises: StudyError, if the scores of a trial can't be read
        """
        from tunexfer.record.score_table import read_scores, score_table

        if self._table is not None:
            return self._table
        complete = self.complete
        scores, damaged = read_scores([self.folder.trial(result.trial.number) for result in complete])
        if damaged:
            lines = "".join(f"\n  trial {number}: {reason}" for number, reason in damaged.items())
            raise StudyError(f"{self.folder.path}: scores can't be read:{lines}")
        table = score_table(scores, [result.trial for result in complete])
        table.insert(0, "study", self.folder.name)
        self._table = table
        return table

    def write_scores(self) -> None:
        """Write `scores.parquet`. It takes seconds in a large study, so it is done once, at the end of a search."""
        from tunexfer.record.score_table import SCORES_SCHEMA

        table = self.score_table()
        if table is not self._saved:
            with whole(self.folder.scores) as draft:
                pq.write_table(pa.Table.from_pandas(table, preserve_index=False).cast(SCORES_SCHEMA), draft)
            self._saved = table

    def _load(self, folder: TrialFolder) -> None:
        """Read one trial folder; a trial whose status can't be read counts as not run."""
        try:
            trial = read_trial(folder)
        except ValueError as error:
            if folder.status.exists():
                self.damaged.append(f"{folder.chain} can't be read ({error}): that trial counts as not run.")
            return
        try:
            self._ended[trial.number] = read_ended(trial, folder)
        except ValueError as error:
            self._waiting[trial.number] = trial
            if folder.status.exists():
                self._is_damaged(folder, str(error))

    def _check(self) -> None:
        """Take complete trials whose scores or rows can't be read as not run."""
        from tunexfer.record.score_table import read_scores

        folders = {result.trial.number: self.folder.trial(result.trial.number) for result in self.complete}
        _, reasons = read_scores([*folders.values()])
        for number in folders.keys() - reasons.keys():
            try:
                pq.read_metadata(folders[number].rows)
            except UNREADABLE as error:
                reasons[number] = first_line(error)
        for number, reason in sorted(reasons.items()):
            self._waiting[number] = self._ended.pop(number).trial
            self._is_damaged(folders[number], reason)

    def _is_damaged(self, folder: TrialFolder, reason: str) -> None:
        self.damaged.append(f"{folder.path}: the record of this trial is damaged ({reason}): it is run again.")


def _write_scores(path: Path, scores: Iterable[Score]) -> None:
    write_whole(path, "".join(json.dumps(asdict(score), ensure_ascii=False) + "\n" for score in scores))


def _write_rows(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema as they come; without any, an empty file."""
    tables = iter(tables)
    first = next(tables, pa.table({"target": pa.array([], pa.string())}))
    with whole(path) as draft, pq.ParquetWriter(draft, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def differences(there: Any, here: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """List the places where two trees of plain values differ, each with what both have there; None for nothing."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        pairs = [(f"{path}.{key}".lstrip("."), there.get(key), here.get(key)) for key in dict.fromkeys([*there, *here])]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{path}[{index}]", *both) for index, both in enumerate(zip(there, here, strict=True))]
    else:
        return [] if there == here else [(path, there, here)]
    return [place for inside, one, other in pairs for place in differences(one, other, inside)]


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
        if str(before.get("tunexfer")).startswith("0.1."):
            raise StudyError(
                f"{folder.path} was made by tunexfer {before['tunexfer']}, and this version can't continue it. Take "
                "another --name; `tunexfer report` and `tunexfer compare` still read the old study."
            )
        if different := differences(before["identity"], plain["identity"]):
            values = ((path, *map(json.dumps, both)) for path, *both in different)
            lines = "\n".join(f"  {path}: {there} there, {now} now" for path, there, now in values)
            raise StudyError(f"{folder.path} was made by a different plan:\n{lines}\nTake another --name for this one.")
        plain["study_id"] = before["study_id"]
    write_whole(folder.environment, json.dumps(environment(), indent=2) + "\n")
    write_whole(folder.plan, dump_yaml(plain))


def _plain(value: Any) -> Any:
    """Return the value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value, ensure_ascii=False))


def _to_run_again(result: TrialResult) -> bool:
    """Tell whether the next search runs a trial again: not one that is complete or that a rule has stopped."""
    by_rule = result.state == "stopped" and result.failure is not None
    return result.state != "complete" and not by_rule
