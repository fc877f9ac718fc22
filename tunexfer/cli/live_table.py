"""The trials of a study, read from its folder alone, as a table for a terminal or a notebook."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tunexfer.core.files import StudyFolder
from tunexfer.core.objective import Objective
from tunexfer.core.phrases import duration, stages_in_short
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.core.winners import allowed, highest
from tunexfer.record.folder import (
    read_ended,
    read_plan,
    read_state,
    read_trial,
    read_trial_scores,
    state_in_words,
    trials_in_all,
    trials_missing,
)
from tunexfer.record.progress import TrialProgress, read_progress

MAX_COLUMNS = 4
"""Targets that get a column each; more share one."""
MAX_JOBS = 2
"""Running jobs of a trial that are named."""
MAX_IN_HTML = 100
"""Ended trials that a notebook shows."""
CAPTION = "scores: test, mean over languages"
_IN_TERMINAL = {"running": "cyan", "failed": "red", "stopped": "dim"}
_IN_HTML = {"running": "font-weight: bold", "failed": "font-style: italic", "stopped": "opacity: 0.6"}


class LiveTable:
    """The trials of a study as its folder shows them: running ones, then ended ones, the last first.

    A notebook shows the object as an HTML table: `LiveTable.read("runs/multitask")`.
    """

    def __init__(self, folder: StudyFolder) -> None:
        """raises: StudyError, if there is no study"""
        self.folder = folder
        self._plan = read_plan(folder)
        self.begun: dict[int, Trial] = {}
        """Trials that have not ended, those that an earlier search left unfinished included."""
        self.running: dict[int, Trial] = {}
        """Those of them that the present search has begun."""
        self.results: dict[int, TrialResult] = {}
        self.progress: dict[int, TrialProgress] = {}
        self._stamps: dict[int, tuple[int, int]] = {}
        """When the files of each trial were written."""
        self._unchanged: dict[int, int] = {}
        """When the folders of ended trials were, which is enough to know of the many that are complete."""
        self._means: dict[int, Mapping[str, float]] = {}
        self._fresh: list[TrialResult] = []
        """Those that ended after the first look: the times to extrapolate from."""
        self.look()
        self._fresh.clear()

    @classmethod
    def read(cls, path: Path | str) -> LiveTable:
        """Read the study in that folder, whether it is running, has ended or was killed.

        raises: StudyError, if there is no study
        """
        return cls(StudyFolder(Path(path)))

    def look(self) -> list[Trial | TrialResult]:
        """Read what has changed since the last look, and return the trials that have begun and those that ended."""
        news: list[Trial | TrialResult] = []
        started = _modified(self.folder.plan)  # a search writes the plan when it starts
        for folder in self.folder.all_trials():
            known = self.results.get(folder.number)
            if known and known.state == "complete" and _modified(folder.path) == self._unchanged.get(folder.number):
                continue
            stamp = _modified(folder.chain), _modified(folder.status)
            if stamp == self._stamps.get(folder.number):
                continue
            self._stamps[folder.number] = stamp
            try:
                trial = read_trial(folder)
                result = read_ended(trial, folder) if stamp[1] else None
            except ValueError:
                continue  # damaged; the next search runs it again and says so
            self.results.pop(trial.number, None)
            if result:
                self.begun.pop(trial.number, None)
                self.running.pop(trial.number, None)
                self.results[trial.number] = result
                self._unchanged[trial.number] = _modified(folder.path)
                self._fresh.append(result)
                news.append(result)
                continue
            self.begun[trial.number] = trial
            if stamp[0] >= started:
                self.running[trial.number] = trial
                news.append(trial)
        read = {number: read_progress(self.folder.trial(number).progress) for number in self.begun}
        self.progress = {number: progress for number, progress in read.items() if progress}
        self.missing = trials_missing(self._plan, self.results.values(), len(self.begun))
        self.state, self._reason = read_state(self.folder, self.missing)
        return news

    @property
    def best(self) -> TrialResult | None:
        """The complete trial of the search itself with the highest objective that breaks no constraint."""
        objective = Objective(**(self._plan["identity"].get("objective") or {}))
        return highest(allowed(self._complete(), objective))

    @property
    def headline(self) -> str:
        """The number of complete trials, the best objective, and the time left."""
        in_all = trials_in_all(self._plan, self.results.values(), len(self.begun))
        of = "" if in_all is None else f" of {in_all}"
        parts = [f"{len(self._complete())}{of} trials"]
        if best := self.best:
            parts.append(f"best objective {best.objective:.2f} (trial {best.trial.number})")
        if (recent := self._fresh[-10:]) and in_all is not None:
            pace = (time.time() - min(result.started for result in recent)) / len(recent)
            left = max(self.missing, 0) * pace
            parts.append(f"about {duration(left)} left")
        return f"{self.folder.path.resolve().name}: {' · '.join(parts)}"

    @property
    def ending(self) -> str:
        """Tell whether the study is running, and what to do if it is not."""
        return state_in_words(self.folder.path.resolve().name, self.missing, self.state, self._reason)

    def scores(self, number: int) -> tuple[Score, ...]:
        """Read the scores of an ended trial; none, if it has none that can be read."""
        try:
            return read_trial_scores(self.folder.trial(number))
        except (OSError, ValueError):
            return ()

    def means(self, number: int) -> Mapping[str, float]:
        """Return the mean test score of each target of an ended trial, read once."""
        if number not in self._means:
            self._means[number] = mean_scores(self.scores(number)) if self.results[number].state == "complete" else {}
        return self._means[number]

    def rich(self, height: int) -> Group:
        """Return the table with the headline below it.

        height: lines of the terminal; trials that ended first are left out if there are too many
        """
        table = Table(expand=True, box=None, header_style="bold", caption=CAPTION)
        for heading in self._headings():
            if heading == "stages":
                table.add_column(heading, no_wrap=True, ratio=1)
            else:
                table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
        for style, cells in self._rows(max(height - len(self._not_ended()) - 5, 3)):
            table.add_row(*map(Text, cells), style=_IN_TERMINAL.get(style, ""))
        return Group(table, Text(self.headline, style="bold"))

    def __repr__(self) -> str:
        return f"<{self.headline}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(heading)}</th>" for heading in self._headings())
        rows = "".join(
            f'<tr style="{_IN_HTML.get(style, "")}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
            for style, cells in self._rows(MAX_IN_HTML)
        )
        more = f"; the last {MAX_IN_HTML} trials" if len(self.results) > MAX_IN_HTML else ""
        caption = f"<b>{escape(self.headline)}</b><br>{CAPTION}{more}"
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _complete(self) -> list[TrialResult]:
        return [result for _, result in sorted(self.results.items()) if result.state == "complete"]

    def _not_ended(self) -> Mapping[int, Trial]:
        """Select the running trials, or those that were cut off if the study is not running."""
        return self.running if self.state == "running" else self.begun

    def _targets(self) -> list[str]:
        trials = [*self._not_ended().values(), *(result.trial for _, result in sorted(self.results.items()))]
        return list(dict.fromkeys(target.name for trial in trials for target in trial.chain.targets))

    def _headings(self) -> list[str]:
        targets = self._targets()
        scores = targets if len(targets) <= MAX_COLUMNS else ["scores"]
        return ["trial", "stages", "state", *scores, "objective", "reused"]

    def _rows(self, most: int) -> list[tuple[str, list[str]]]:
        """Return the style and the cells of each row.

        most: ended trials to show
        """
        targets, rows = self._targets(), []
        for number, trial in sorted(self._not_ended().items()):
            progress = self.progress.get(number, TrialProgress())
            style, state = "running", _state(progress)
            if self.state != "running":
                style, state = "stopped", f"unfinished: {state}"
            cells = _cells(mean_scores(progress.scores), targets)
            rows.append((style, [str(number), _stages(trial), state, *cells, "", str(progress.reused or "")]))
        for result in sorted(self.results.values(), key=lambda result: -(result.started + result.seconds))[:most]:
            objective = "" if result.objective is None else f"{result.objective:.2f}"
            jobs = result.trainings
            reused = f"{sum(job.reused for job in jobs)} of {len(jobs)}" if jobs else ""
            what = _stages(result.trial) + (f": {result.failure.message}" if result.failure else "")
            cells = _cells(self.means(result.trial.number), targets)
            rows.append((result.state, [str(result.trial.number), what, result.state, *cells, objective, reused]))
        return rows


def mean_scores(scores: Sequence[Score]) -> dict[str, float]:
    """Map each target to its mean test score over languages."""
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.main and score.split == "test":
            values.setdefault(score.target, []).append(score.value)
    return {target: sum(own) / len(own) for target, own in values.items()}


def _state(progress: TrialProgress) -> str:
    jobs = [f"{job.name} {job.step}/{job.steps}" if job.steps else job.name for job in progress.running]
    more = f", +{len(jobs) - MAX_JOBS}" if len(jobs) > MAX_JOBS else ""
    done = f"{progress.done}/{progress.jobs} jobs" if progress.jobs else ""
    return ": ".join(filter(None, [done, ", ".join(jobs[:MAX_JOBS]) + more])) or "starts"


def _stages(trial: Trial) -> str:
    return ", ".join(stages_in_short(trial.chain)) or "none"


def _cells(means: Mapping[str, float], targets: Sequence[str]) -> list[str]:
    if len(targets) <= MAX_COLUMNS:
        return [f"{means[target]:.1f}" if target in means else "" for target in targets]
    return ["  ".join(f"{target} {mean:.1f}" for target, mean in means.items())]


def _modified(path: Path) -> int:
    """Return when the file was written, in ns; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
