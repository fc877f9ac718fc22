"""Where a study stands, as a table: drawn in a terminal, or shown as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult, highest
from tunexfer.record.ending import State, StudyStatus
from tunexfer.record.progress import TrialProgress, read_progress
from tunexfer.record.record import Record, read_plan, read_trial_scores

MOST_COLUMNS = 4
"""Targets that get a column each; of more, the scores share one."""
MOST_IN_HTML = 100
"""TrialResult trials that a notebook shows."""
CAPTION = "scores: test, mean of languages"
_IN_TERMINAL = {"running": "cyan", "failed": "red", "stopped": "dim"}
_IN_HTML = {"running": "font-weight: bold", "failed": "font-style: italic", "stopped": "opacity: 0.6"}


@dataclass(frozen=True, kw_only=True, repr=False)
class LiveTable:
    """The trials of a study: those that run, then those that have ended, the last one first.

    A notebook shows the object as an HTML table: `LiveTable.read("runs/multitask")`.
    """

    name: str
    """The study's."""
    wanted: int
    """Trials the study is to have in the end."""
    running: Mapping[int, Trial]
    standing: Mapping[int, TrialProgress]
    """Of running trials; one that hasn't said anything yet isn't in it."""
    ended: Sequence[TrialResult]
    stand: StudyStatus | None = None
    """How the study stands; None to those who run it."""
    seconds_left: float | None = None

    @classmethod
    def read(cls, path: Path | str) -> LiveTable:
        """The table of the study in that folder, whether it runs, has ended or was killed.

        raises: StudyError, if there is no study
        """
        folder = StudyFolder(Path(path))
        wanted = trials_wanted(read_plan(folder))
        record = Record(folder, check=False)
        stand = StudyStatus.of(folder, wanted - len(record.complete))
        begun = running(record) if stand.state == "running" else record.waiting
        standing = {trial.number: read_progress(folder.trial(trial.number).progress) for trial in begun}
        return cls(
            name=folder.path.resolve().name,
            wanted=wanted,
            running={trial.number: trial for trial in begun},
            standing={number: at for number, at in standing.items() if at},
            ended=[with_scores(folder, result) for result in record.ended],
            stand=stand,
        )

    @property
    def state(self) -> State:
        return self.stand.state if self.stand else "running"

    @property
    def best(self) -> TrialResult | None:
        """Of the search's own complete trials, the one with the highest objective."""
        return highest(self._complete())

    @property
    def headline(self) -> str:
        """How many trials there are of how many, the best objective, and how long the rest will take."""
        parts = [f"{len(self._complete())} of {self.wanted} trials"]
        if self.best:
            parts.append(f"best objective {self.best.objective:.2f} (trial {self.best.trial.number})")
        if (left := self.seconds_left) is not None:
            parts.append(f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left")
        return f"{self.name}: {' · '.join(parts)}"

    @property
    def ending(self) -> str:
        """Whether a search is at work, and what a person can do where none is."""
        stand = self.stand or StudyStatus(state="running", missing=self.wanted - len(self._complete()))
        return stand.in_words(self.name)

    def rich(self, height: int) -> Group:
        """The table with the headline below it.

        height: lines there are; what ended first is left out where they don't suffice
        """
        table = Table(expand=True, box=None, header_style="bold", caption=CAPTION)
        for heading in self._headings():
            if heading == "stages":
                table.add_column(heading, no_wrap=True, ratio=1)
            else:
                table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
        for style, cells in self._rows(max(height - len(self.running) - 5, 3)):
            table.add_row(*map(Text, cells), style=_IN_TERMINAL.get(style, ""))
        return Group(table, Text(self.headline, style="bold"))

    def __repr__(self) -> str:
        return f"<{self.headline}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(heading)}</th>" for heading in self._headings())
        rows = "".join(
            f'<tr style="{_IN_HTML.get(style, "")}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
            for style, cells in self._rows(MOST_IN_HTML)
        )
        more = f"; the last {MOST_IN_HTML} of those that ended" if len(self.ended) > MOST_IN_HTML else ""
        caption = f"<b>{escape(self.headline)}</b><br>{CAPTION}{more}"
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _complete(self) -> list[TrialResult]:
        return [ended for ended in self.ended if ended.state == "complete"]

    def _tasks(self) -> list[str]:
        known = [*self.running.values(), *(ended.trial for ended in self.ended)]
        return list(dict.fromkeys(target.name for trial in known for target in trial.chain.targets))

    def _headings(self) -> list[str]:
        tasks = self._tasks()
        return [
            "trial",
            "stages",
            "state",
            *(tasks if len(tasks) <= MOST_COLUMNS else ["scores"]),
            "objective",
            "reused",
        ]

    def _rows(self, most: int) -> list[tuple[str, list[str]]]:
        """What decides each row's look, and its cells.

        most: ended trials, counted from the last one
        """
        tasks, rows = self._tasks(), []
        for number, trial in sorted(self.running.items()):
            at = self.standing.get(number, TrialProgress())
            jobs = [f"{job.name} {job.step}/{job.steps}" if job.steps else job.name for job in at.running]
            state = ", ".join(jobs) or "starts"
            style, state = ("running", state) if self.state == "running" else ("stopped", f"unfinished: {state}")
            means = _cells(_means(at.scores), tasks)
            rows.append((style, [str(number), _in_short(trial.chain), state, *means, "", str(at.reused or "")]))
        for ended in sorted(self.ended, key=lambda ended: -(ended.started + ended.seconds))[:most]:
            objective = "" if ended.objective is None else f"{ended.objective:.2f}"
            reused = (
                f"{sum(stage.reused for stage in ended.trainings)} of {len(ended.trainings)}" if ended.trainings else ""
            )
            what = f"{_in_short(ended.trial.chain)}{reason(ended)}"
            means = _cells(_means(ended.scores), tasks)
            rows.append((ended.state, [str(ended.trial.number), what, ended.state, *means, objective, reused]))
        return rows


def with_scores(folder: StudyFolder, result: TrialResult) -> TrialResult:
    if result.state != "complete" or result.scores:
        return result
    return replace(result, scores=read_trial_scores(folder.trial(result.trial.number)))


def trials_wanted(plan: Mapping[str, Any]) -> int:
    """How many trials a study is to have, those of its confirmation included.

    plan: as `plan.yaml` has it
    """
    confirm = plan.get("confirm")
    return int(plan["search"]["trials"]) + ((confirm["top"] + 1) * confirm["seeds"] if confirm else 0)


def running(record: Record) -> list[Trial]:
    """The trials that the search at work has begun and not ended; what an earlier one left half done waits its turn."""
    folder = record.folder
    started = folder.plan.stat().st_mtime_ns  # a search writes the plan anew when it starts
    return [trial for trial in record.waiting if folder.trial(trial.number).chain.stat().st_mtime_ns >= started]


def reason(ended: TrialResult) -> str:
    """The last line of why a trial failed, to follow what it was."""
    return f": {ended.failure.message}" if ended.failure else ""


def _in_short(chain: Chain) -> str:
    """What the stages train on, without the recipe."""
    stages = []
    for stage in chain.stages:
        languages = sorted({source.language for source in stage.mixture.sources})
        stages.append(f"{'+'.join(stage.mixture.tasks)} {'+'.join(languages)}")
    return ", ".join(stages) or "none"


def _cells(means: Mapping[str, str], tasks: Sequence[str]) -> list[str]:
    if len(tasks) <= MOST_COLUMNS:
        return [means.get(task, "") for task in tasks]
    return ["  ".join(f"{task} {mean}" for task, mean in means.items())]


def _means(scores: Sequence[Score]) -> dict[str, str]:
    """Of each task, over the languages whose test scores are there."""
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.main and score.split == "test":
            values.setdefault(score.target, []).append(score.value)
    return {task: f"{sum(own) / len(own):.1f}" for task, own in values.items()}
