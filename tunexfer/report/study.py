"""A study as its folder tells it: running, finished, killed or damaged. Tables are pandas', trials go by number."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow.parquet as pq

from tunexfer.cli.live_table import trials_wanted
from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.phrases import chain_in_words, stages_in_words
from tunexfer.core.trial import Trial, TrialResult, best_of
from tunexfer.errors import StudyError
from tunexfer.record.ending import StudyStatus
from tunexfer.record.record import read_ended, read_plan, read_trial
from tunexfer.record.score_table import read_scores, score_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNFINISHED = "unfinished"
"""The state of a trial that was begun and has no end on record: it runs right now, or was cut off."""


class Study:
    """What a study folder holds. `Study.load("runs/multitask")`."""

    def __init__(self, folder: StudyFolder, plan: dict[str, Any], problems: list[str]) -> None:
        self.folder = folder
        self.name = folder.path.resolve().name
        """Its folder's, unless it stands beside a study of the same name: `named_apart`."""
        self.plan = plan
        """`plan.yaml`, the resolved plan; empty where that file can't be read."""
        self.problems = problems
        """Sentences about what is missing in the folder or damaged; everything else is there."""
        self._trials: dict[int, Trial] = {}
        self._ended: dict[int, TrialResult] = {}
        for trial_folder in folder.all_trials():
            try:
                trial = self._trials[trial_folder.number] = read_trial(trial_folder)
            except ValueError as error:
                problems.append(f"Trial {trial_folder.number}: what it is can't be read from chain.yaml ({error}).")
                continue
            if not trial_folder.status.exists():
                continue
            try:
                self._ended[trial.number] = read_ended(trial, trial_folder)
            except ValueError as error:
                problems.append(f"Trial {trial.number}: how it ended can't be read from status.json ({error}).")
        complete = [number for number, ended in self._ended.items() if ended.state == "complete"]
        raw, damaged = read_scores([folder.trial(number) for number in complete])
        for number, why in damaged.items():
            problems.append(f"Trial {number} is complete, but its scores.jsonl can't be read ({why}).")
        self._scored = [number for number in complete if number not in damaged]
        self._raw_scores = raw
        self._tell_what_is_missing()

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a study folder, `runs/<name>`. What is damaged in it is told in `problems`.

        raises: StudyError, if there is no study in that folder
        """
        folder = StudyFolder(Path(path))
        if not folder.path.is_dir():
            raise StudyError(
                f"{folder.path}: there is no such folder. Give the folder of a study, for example runs/multitask."
            )
        problems: list[str] = []
        try:
            plan = read_plan(folder)
        except StudyError as error:
            if not folder.all_trials():
                raise StudyError(
                    f"{folder.path} holds no study: neither a plan.yaml that can be read nor trials. "
                    "Give the folder of a study, for example runs/multitask."
                ) from error
            plan = {}
            problems.append("plan.yaml can't be read: the space, the objective and the trials wanted are unknown.")
        return cls(folder, plan, problems)

    def standing(self) -> str:
        """How many trials there are of how many, whether a search is at work now, and how the last one ended."""
        complete = sum(ended.state == "complete" for ended in self.ended)
        if not self.plan:
            return f"{self.name}: {complete} trials are complete; how many were wanted is unknown."
        wanted = trials_wanted(self.plan)
        words = StudyStatus.of(self.folder, wanted - complete).in_words("It")
        return f"{self.name}: {complete} of {wanted} trials wanted are complete. {words}"

    @property
    def suite(self) -> str | None:
        """The name of the suite that the chains are of; None where no trial can be read."""
        return next((trial.chain.suite for trial in self._trials.values()), None)

    @property
    def objective(self) -> dict[str, Any]:
        """The plan's `objective` block: `maximize`, `split`, `languages`; empty where the plan can't be read."""
        return dict(self.plan.get("identity", {}).get("objective") or {})

    @property
    def ended(self) -> list[TrialResult]:
        """Every trial that is complete, failed or stopped; without its scores, which `scores` has."""
        return list(self._ended.values())

    def chain(self, trial: int) -> Chain:
        """The trial's recipe.

        raises: StudyError, if there is no such trial
        """
        return self._known(trial).chain

    def baseline(self) -> int | None:
        """The trial that all others are compared with: no stage before the targets, the study's own seed."""
        return next((n for n in self._scored if self._trials[n].phase == "baseline"), None)

    def best(self) -> int | None:
        """The complete trial whose chain the study recommends: the one with the highest objective, or of chains that
        were confirmed the one with the highest mean over fresh seeds. It may be the baseline."""
        best = best_of(self._ended[number] for number in self._scored if number in self._ended)
        return None if best is None else best.trial.number

    def repeats(self, trial: int) -> list[int]:
        """The complete trials that ran the same chain with fresh seeds, to confirm it."""
        chain = self.chain(trial)
        return [n for n in self._scored if self._trials[n].phase == "confirm" and self._trials[n].chain == chain]

    def trials(self) -> pd.DataFrame:
        """One row a trial, indexed by `trial`, its number.

        phase:          baseline, search or confirm
        state:          complete, failed, stopped, or unfinished
        seed, objective, reason
        started:        Unix time; NaN where unfinished, as the following
        seconds:        of the whole trial
        steps_trained, steps_reused, seconds_trained: of its fine-tunings, targets' own included
        stages, chain:  in words, one line
        """
        return self._trials_table.copy(deep=False)

    def stages(self) -> pd.DataFrame:
        """One row a fine-tuning of an ended trial, in the order they ran.

        trial, name, target (whether it is a target's own), fingerprint, reused (taken from the store), steps, seconds
        """
        rows = [
            {
                "trial": number,
                "name": run.name,
                "target": run.name in {target.name for target in self._trials[number].chain.targets},
                "fingerprint": run.key,
                "reused": run.reused,
                "steps": run.steps,
                "seconds": run.seconds,
            }
            for number, ended in self._ended.items()
            for run in ended.trainings
        ]
        return pd.DataFrame(rows, columns=["trial", "name", "target", "fingerprint", "reused", "steps", "seconds"])

    def coordinates(self) -> pd.DataFrame:
        """What each trial drew: one row a trial, indexed by `trial`, one column a coordinate in the order of the space.

        Options are text, numbers from ranges are numbers; NaN where the coordinate doesn't exist in that trial.
        """
        points = pd.DataFrame.from_dict({n: dict(trial.point) for n, trial in self._trials.items()}, orient="index")
        planned = list(self.plan.get("coordinates") or {})
        columns = [*planned, *(name for name in points.columns if name not in planned)]
        return points.reindex(index=pd.Index(self._trials, name="trial", dtype="int64"), columns=columns)

    def scores(self) -> pd.DataFrame:
        """Every score of every complete trial, one a row.

        study, trial, phase, seed, task (the target's name), language, split, metric,
        value:      a percentage
        main:       whether it is the task's main metric
        unseen:     whether nothing that was trained on before saw this task in this language
        unseen_by_both: whether the baseline didn't either, so that means of delta are over these
        baseline:   the baseline's score with the same seed; NaN where there is none
        delta:      value - baseline, points
        delta_own:  against the chain without stages that has the trial's own target values, where one was trained
        """
        return self._scores.copy(deep=False)

    def rows(self, trial: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Every scored row of a complete trial: gold, prediction and the row's own statistics, as in `rows.parquet`.

        columns: those wanted; all by default
        raises: StudyError, if there is no such trial or its rows can't be read
        """
        self._known(trial)
        path, wanted = self.folder.trial(trial).rows, None if columns is None else list(columns)
        try:
            table = pq.read_table(path, columns=wanted, read_dictionary=["task", "language", "split"])
            if missing := set(wanted or ()) - set(table.column_names):
                raise ValueError(f"it has no column {', '.join(sorted(missing))}")
            rows: pd.DataFrame = table.to_pandas()
            return rows
        except (OSError, ValueError) as error:
            raise StudyError(f"{path} can't be read ({next(iter(str(error).splitlines()), '')}).") from error

    def compare(self, a: int, b: int) -> pd.DataFrame:
        """How far trial `a` is ahead of trial `b`, one row per target and language, then their means.

        target, language, metric, split, unseen; before (b's score), after (a's), delta; low, high: 95 % interval by
        paired bootstrap over rows; p: two-sided, p_holm corrected over the target's languages; verdict: gain or loss,
        beyond the noise of rows, followed by "one seed", as two trials of one seed know nothing of others
        raises: StudyError, if one of them has no scores
        """
        from tunexfer.report.comparison import Run, compare_runs

        for trial in (a, b):
            self._known(trial)
            if trial not in self._scored:
                raise StudyError(f"{self.folder.path}: trial {trial} has no scores to compare.")
        found = compare_runs([(Run(self, a), Run(self, b))])
        return pd.concat([found.languages, found.means], ignore_index=True)

    def plot_heatmap(self, target: str | None = None) -> Figure:
        """Mean delta against the baseline by intermediate task: for each target, or for each language of one of them.

        raises: StudyError, if there is nothing to draw
        """
        from tunexfer.report.transfer import draw_gains

        return draw_gains([self], target)

    def _called(self, name: str) -> Self:
        if name == self.name:
            return self
        found = copy.copy(self)
        found.name = name
        return found

    def _known(self, trial: int) -> Trial:
        if trial in self._trials:
            return self._trials[trial]
        known = f"0 to {max(self._trials)}" if self._trials else "none"
        raise StudyError(f"{self.folder.path}: there is no trial {trial} that can be read. Trials there: {known}.")

    @cached_property
    def _trials_table(self) -> pd.DataFrame:
        rows = [self._trial_row(trial) for trial in self._trials.values()]
        table = pd.DataFrame(rows, index=pd.Index(self._trials, name="trial", dtype="int64"), columns=list(_COLUMNS))
        return table.astype(_COLUMNS)

    def _trial_row(self, trial: Trial) -> dict[str, Any]:
        ended = self._ended.get(trial.number)
        row: dict[str, Any] = {
            "phase": trial.phase,
            "state": UNFINISHED,
            "seed": trial.seed,
            "stages": stages_in_words(trial.chain),
            "chain": chain_in_words(trial.chain),
            "reason": "",
        }
        if ended is None:
            return row
        trained = [run for run in ended.trainings if not run.reused]
        return row | {
            "state": ended.state,
            "objective": ended.objective,
            "reason": ended.failure.message if ended.failure else "",
            "started": ended.started,
            "seconds": ended.seconds,
            "steps_trained": sum(run.steps for run in trained),
            "steps_reused": sum(run.steps for run in ended.trainings if run.reused),
            "seconds_trained": sum(run.seconds for run in trained),
        }

    @cached_property
    def _scores(self) -> pd.DataFrame:
        found = score_table(self._raw_scores, [self._trials[number] for number in self._scored])
        found.insert(0, "study", self.name)
        return found[[*_SCORE_COLUMNS]]

    def _tell_what_is_missing(self) -> None:
        if self.baseline() is None:
            self.problems.append("There is no complete baseline (trial 0), so there is nothing to compare with.")
        for number in self._scored:
            try:
                pq.read_metadata(self.folder.trial(number).rows)
            except FileNotFoundError:
                self.problems.append(f"Trial {number}: rows.parquet is missing, so its scores have no intervals.")
            except (OSError, ValueError) as error:
                why = next(iter(str(error).splitlines()), "")
                self.problems.append(
                    f"Trial {number}: rows.parquet can't be read, so its scores have no intervals ({why})."
                )


def named_apart(studies: Sequence[Study]) -> list[Study]:
    """The studies, each under a name that no other has: of those with the same name, the ends of their paths.

    raises: StudyError, if a study is given twice
    """
    paths = [study.folder.path.resolve() for study in studies]
    if twice := [path for at, path in enumerate(paths) if path in paths[:at]]:
        raise StudyError(f"{twice[0]} is given twice. Give each study once.")
    found = []
    for study, path in zip(studies, paths, strict=True):
        alike = [other.parts for other in paths if other.name == path.name]
        length = next(n for n in range(1, max(map(len, alike)) + 1) if len({one[-n:] for one in alike}) == len(alike))
        found.append(study._called(Path(*path.parts[-length:]).as_posix()))
    return found


_COLUMNS = {
    "phase": "str",
    "state": "str",
    "seed": "int64",
    "objective": "float64",
    "started": "float64",
    "seconds": "float64",
    "steps_trained": "float64",
    "steps_reused": "float64",
    "seconds_trained": "float64",
    "stages": "str",
    "chain": "str",
    "reason": "str",
}
_SCORE_COLUMNS = (
    *("study", "trial", "phase", "seed", "target", "language", "split", "metric"),
    *("value", "main", "unseen", "unseen_by_both", "baseline", "delta", "delta_own"),
)
