"""Read a study folder in whatever state it is, and give its trials, scores and rows as pandas tables."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow.parquet as pq

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.objective import Objective
from tunexfer.core.phrases import chain_in_words, stages_in_words
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.core.winners import best_of
from tunexfer.errors import StudyError
from tunexfer.record.environment import Dataset, read_datasets
from tunexfer.record.findings import Findings
from tunexfer.record.folder import (
    first_line,
    read_ended,
    read_plan,
    read_state,
    read_trial,
    state_in_words,
    trials_in_all,
    trials_missing,
)
from tunexfer.record.score_table import read_scores, score_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNFINISHED = "unfinished"
"""State of a trial that was begun and has no end on record: it is running, or was interrupted."""
_TRIAL_COLUMNS = {
    **{"phase": "str", "state": "str", "seed": "int64"},
    **dict.fromkeys(("objective", "started", "seconds", "steps_trained", "steps_reused", "seconds_trained"), "float64"),
    **{"stages": "str", "chain": "str", "reason": "str"},
}


class Study:
    """A study as its folder records it; finished, running, killed or damaged. `Study.load("runs/multitask")`."""

    def __init__(self, folder: StudyFolder, plan: dict[str, Any], problems: list[str]) -> None:
        self.folder = folder
        self.name = folder.path.resolve().name
        """The folder's name, longer beside a study of the same name: see `with_distinct_names`."""
        self.plan = plan
        """`plan.yaml`, the resolved plan; empty where that file can't be read."""
        self.problems = problems
        """Sentences about what is missing in the folder or damaged."""
        self._trials: dict[int, Trial] = {}
        self._ended: dict[int, TrialResult] = {}
        self._read_trials()
        complete = [number for number, result in self._ended.items() if result.state == "complete"]
        self._raw_scores, damaged = read_scores([folder.trial(number) for number in complete])
        for number, why in damaged.items():
            problems.append(f"Trial {number} is complete, but its scores.jsonl can't be read ({why}).")
        self._scored = [number for number in complete if number not in damaged]
        self._check_baseline_and_rows()
        self._datasets: list[Dataset] = []
        try:
            self._datasets = read_datasets(folder)
        except (ValueError, TypeError) as error:
            problems.append(f"datasets.jsonl can't be read ({error}), so it is unknown whether rows are left out.")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a study folder, `runs/<name>`. What is missing or damaged in it is listed in `problems`.

        raises: StudyError, if there is no study in that folder
        """
        folder = StudyFolder(Path(path))
        try:
            return cls(folder, read_plan(folder), [])
        except StudyError:
            if not folder.all_trials():
                raise
            missing = "plan.yaml can't be read: the space, the objective and the number of trials are unknown."
            return cls(folder, {}, [missing])

    def status(self) -> str:
        """Describe in a sentence or two how many trials are complete and whether a search is running."""
        complete = sum(result.state == "complete" for result in self.ended)
        if not self.plan:
            return f"{self.name}: {complete} trials are complete; how many were planned is unknown."
        begun = len(self._trials) - len(self._ended)
        missing = trials_missing(self.plan, self.ended, begun)
        words = state_in_words("It", missing, *read_state(self.folder, missing))
        planned = trials_in_all(self.plan, self.ended, begun)
        of = "" if planned is None else f" of {planned}"
        return f"{self.name}: {complete}{of} trials are complete. {words}"

    @property
    def suite(self) -> str | None:
        """Name of the chains' suite; None where no trial can be read."""
        return next((trial.chain.suite for trial in self._trials.values()), None)

    @property
    def objective(self) -> dict[str, Any]:
        """The plan's `objective` block: `maximize`, `split`, `languages`; empty where the plan can't be read."""
        return dict(self.plan.get("identity", {}).get("objective") or {})

    @property
    def ended(self) -> list[TrialResult]:
        """Every trial that is complete, failed or stopped, without its scores."""
        return list(self._ended.values())

    @cached_property
    def findings(self) -> Findings:
        """The conclusions that the terminal, MLflow and the model card print as well."""
        from tunexfer.report.languages import row_noise

        return Findings.of(self.ended, self.scores(), self.plan, row_noise(self), self._datasets)

    def chain(self, trial: int) -> Chain:
        """Look up the trial's chain.

        raises: StudyError, if there is no such trial
        """
        if trial not in self._trials:
            known = f"0 to {max(self._trials)}" if self._trials else "none"
            raise StudyError(f"{self.folder.path}: there is no trial {trial} that can be read. Trials there: {known}.")
        return self._trials[trial].chain

    def baseline(self) -> int | None:
        """Find the trial that all others are compared with: no stage before the targets, the study's own seed."""
        return next((n for n in self._scored if self._trials[n].phase == "baseline"), None)

    def best(self) -> int | None:
        """Find the trial whose chain the study recommends, as `core.winners.best_of`; it may be the baseline."""
        best = best_of((self._ended[number] for number in self._scored), Objective(**self.objective))
        return None if best is None else best.trial.number

    def repeats(self, trial: int) -> list[int]:
        """List the complete trials that ran the same chain with fresh seeds, to confirm it."""
        chain = self.chain(trial)
        return [n for n in self._scored if self._trials[n].phase == "confirm" and self._trials[n].chain == chain]

    def trials(self) -> pd.DataFrame:
        """Tabulate the trials, one row each, indexed by `trial`, the number.

        phase:          baseline, search or confirm
        state:          complete, failed, stopped, or unfinished
        seed, objective
        started:        Unix time; NaN where unfinished, as the following
        seconds:        of the whole trial
        steps_trained, steps_reused, seconds_trained: of its fine-tunings, targets' own included
        stages, chain:  in words, one line
        reason:         why the trial failed or was stopped, one sentence
        """
        return self._trials_table.copy(deep=False)

    def coordinates(self) -> pd.DataFrame:
        """Tabulate what each trial drew: one row a trial, one column a coordinate, in the order of the space.

        Options are text, numbers from ranges are numbers; NaN where the coordinate doesn't exist in that trial.
        """
        points = pd.DataFrame.from_dict({n: dict(trial.point) for n, trial in self._trials.items()}, orient="index")
        columns = dict.fromkeys([*(self.plan.get("coordinates") or {}), *points.columns])
        return points.reindex(index=pd.Index(self._trials, name="trial", dtype="int64"), columns=[*columns])

    def scores(self) -> pd.DataFrame:
        """Tabulate every score of every complete trial, one a row.

        study, trial, phase, seed, target, language, split, metric,
        value:      a percentage
        main:       whether it is the task's main metric
        unseen:     whether nothing that was trained on before saw this task in this language
        unseen_by_both: the same for both the trial and the baseline; means of delta are over these
        baseline:   the baseline's score with the same seed; NaN where there is none
        delta:      value - baseline, points
        delta_own:  against the chain without stages that has the trial's own target values, where one was trained
        """
        return self._scores.copy(deep=False)

    def rows(self, trial: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read the scored rows of a complete trial: gold, prediction and the row's own statistics.

        columns: those of `tasks.kinds.base.ROWS_SCHEMA` to read; all by default
        raises:  StudyError, if there is no such trial or its rows can't be read
        """
        self.chain(trial)
        path = self.folder.trial(trial).rows
        try:
            known = pq.read_schema(path).names
            target = "target" if "target" in known else "task"  # as version 0.1 calls it
            wanted = [target if name == "target" else name for name in columns or known]
            if missing := set(wanted) - set(known):
                raise ValueError(f"it has no column {', '.join(sorted(missing))}")
            table = pq.read_table(path, columns=wanted, read_dictionary=[target, "language", "split"])
            rows: pd.DataFrame = table.to_pandas().rename(columns={target: "target"})
            return rows
        except (OSError, ValueError) as error:
            raise StudyError(f"{path} can't be read ({first_line(error)}).") from error

    def compare(self, a: int, b: int) -> pd.DataFrame:
        """Compute how far trial `a` is ahead of trial `b`, one row per target and language, then their means.

        The columns are those of `report.comparison.Comparison`. Two trials of one seed have no p-value; they have an
        interval where the study ran its baseline with several seeds.

        raises: StudyError, if one of them has no scores
        """
        from tunexfer.report.comparison import Run, compare_runs

        for trial in (a, b):
            self.chain(trial)
            if trial not in self._scored:
                raise StudyError(f"{self.folder.path}: trial {trial} has no scores to compare.")
        comparison = compare_runs([(Run(self, a), Run(self, b))])
        return pd.concat([comparison.languages, comparison.means], ignore_index=True)

    def plot_heatmap(self, target: str | None = None) -> Figure:
        """Plot the mean delta to the baseline by intermediate task, for each target or each language of one target.

        raises: StudyError, if there is nothing to plot
        """
        from tunexfer.report.transfer import draw_gains

        return draw_gains([self], target)

    def _renamed(self, name: str) -> Self:
        if name == self.name:
            return self
        renamed = copy.copy(self)
        renamed.name = name
        vars(renamed).pop("_scores", None)  # a table under the earlier name
        return renamed

    def _read_trials(self) -> None:
        for folder in self.folder.all_trials():
            number, file = folder.number, folder.chain
            try:
                trial = self._trials[number] = read_trial(folder)
                file = folder.status
                if file.exists():
                    self._ended[number] = read_ended(trial, folder)
            except ValueError as error:
                lost = "its chain" if file == folder.chain else "how it ended"
                self.problems.append(f"Trial {number}: {lost} can't be read from {file.name} ({error}).")

    def _check_baseline_and_rows(self) -> None:
        if self.baseline() is None:
            self.problems.append("There is no complete baseline (trial 0), so there is nothing to compare with.")
        for number in self._scored:
            try:
                pq.read_metadata(self.folder.trial(number).rows)
            except (OSError, ValueError) as error:
                why = "is missing" if isinstance(error, FileNotFoundError) else f"can't be read ({first_line(error)})"
                self.problems.append(f"Trial {number}: rows.parquet {why}, so its scores have no intervals.")

    @cached_property
    def _trials_table(self) -> pd.DataFrame:
        rows = [self._trial_row(trial, self._ended.get(trial.number)) for trial in self._trials.values()]
        index = pd.Index(self._trials, name="trial", dtype="int64")
        return pd.DataFrame(rows, index=index, columns=[*_TRIAL_COLUMNS]).astype(_TRIAL_COLUMNS)

    @staticmethod
    def _trial_row(trial: Trial, result: TrialResult | None) -> dict[str, Any]:
        words = {"stages": stages_in_words(trial.chain), "chain": chain_in_words(trial.chain)}
        head = {"phase": trial.phase, "seed": trial.seed, **words, "state": UNFINISHED, "reason": ""}
        if result is None:
            return head
        trained = [job for job in result.trainings if not job.reused]
        return head | {
            "state": result.state,
            "objective": result.objective,
            "reason": result.failure.message if result.failure else "",
            "started": result.started,
            "seconds": result.seconds,
            "steps_trained": sum(job.steps for job in trained),
            "steps_reused": sum(job.steps for job in result.trainings if job.reused),
            "seconds_trained": sum(job.seconds for job in trained),
        }

    @cached_property
    def _scores(self) -> pd.DataFrame:
        scores = score_table(self._raw_scores, [self._trials[number] for number in self._scored])
        scores.insert(0, "study", self.name)
        return scores


def with_distinct_names(studies: Sequence[Study]) -> list[Study]:
    """Name studies of the same name by as much of the ends of their paths as tells them apart.

    raises: StudyError, if a study is given twice
    """
    paths = [study.folder.path.resolve() for study in studies]
    if twice := [path for at, path in enumerate(paths) if path in paths[:at]]:
        raise StudyError(f"{twice[0]} is given twice. Give each study once.")
    renamed = []
    for study, path in zip(studies, paths, strict=True):
        alike = [other.parts for other in paths if other.name == path.name]
        lengths = range(1, max(map(len, alike)) + 1)
        length = next(n for n in lengths if len({parts[-n:] for parts in alike}) == len(alike))
        renamed.append(study._renamed(Path(*path.parts[-length:]).as_posix()))
    return renamed
