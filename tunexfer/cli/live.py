"""What a search shows while it runs: a live table in a terminal, else plain lines. All of it on standard error."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tunexfer.cli.live_table import LiveTable, reason, with_scores
from tunexfer.core.files import StudyFolder
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.record.listener import Listener
from tunexfer.record.progress import TrialProgress, read_progress

POLL_S = 0.5


class LiveView(Listener):
    """Shows trials with state, stage and step, scores as they come in, objective, best so far, and time left."""

    def __init__(
        self,
        folder: StudyFolder,
        *,
        wanted: int,
        before: Sequence[TrialResult] = (),
        running: Sequence[Trial] = (),
        quiet: bool = False,
        console: Console | None = None,
    ) -> None:
        """
        wanted:   trials the study is to have in the end
        before:   those that have ended already
        running:  those that have begun already
        """
        self.folder, self.wanted, self.quiet = folder, wanted, quiet
        self.console = console or Console(stderr=True)
        self._running = {trial.number: trial for trial in running}
        self._standing: dict[int, TrialProgress] = {}
        self._ended = {result.trial.number: with_scores(folder, result) for result in before}
        self._fresh: list[TrialResult] = []
        """TrialResult while we watched: the times to extrapolate from."""
        self._told: set[tuple[int, str]] = set()
        """Trials and targets whose scores have been said."""
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="live-view", daemon=True)
        table = self.console.is_terminal and not quiet
        self._live = Live(console=self.console, auto_refresh=False, redirect_stdout=False) if table else None

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        for number, trial in self._running.items():
            self._line(f"trial {number} runs: {chain_in_words(trial.chain)}")
        if not self.quiet:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if not self.quiet:
            self._thread.join()
        if self._live:
            self.refresh()
            self._live.stop()

    def started(self, trial: Trial) -> None:
        with self._lock:
            self._running[trial.number] = trial
            self._standing.pop(trial.number, None)
        self._line(f"trial {trial.number} starts: {chain_in_words(trial.chain)}")

    def finished(self, ended: TrialResult) -> None:
        number = ended.trial.number
        with self._lock:
            self._look(number)
            self._running.pop(number, None)
            self._ended[number] = ended
            self._fresh.append(ended)
            self._tell(number, ended.scores, over=True)
        reused = f"; {_reused(ended)}" if ended.trainings else ""
        objective = "" if ended.objective is None else f", objective {ended.objective:.2f}"
        self._line(f"trial {number} {ended.state} after {ended.seconds:.0f} s{objective}{reused}{reason(ended)}")
        self._line(self.table().headline)

    def info(self, text: str) -> None:
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=True)

    def warning(self, text: str) -> None:
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def _line(self, text: str) -> None:
        if not self._live:
            self.info(text)

    def refresh(self) -> None:
        """Look where the running trials stand."""
        with self._lock:
            for number in list(self._running):
                self._look(number)
            if self._live:
                self._live.update(self.table().rich(self.console.height), refresh=True)

    def table(self) -> LiveTable:
        """Where everything stands now."""
        with self._lock:
            ended = list(self._ended.values())
            return LiveTable(
                name=self.folder.name,
                wanted=self.wanted,
                running=dict(self._running),
                standing=dict(self._standing),
                ended=ended,
                seconds_left=self._seconds_left(sum(one.state == "complete" for one in ended)),
            )

    def _poll(self) -> None:
        while not self._stop.wait(POLL_S):
            self.refresh()

    def _look(self, number: int) -> None:
        """Read where a trial stands; say what is new about it."""
        now, before = read_progress(self.folder.trial(number).progress), self._standing.get(number, TrialProgress())
        if now is None or number not in self._running:
            return
        self._standing[number] = now
        known = {job.name for job in before.running}
        for job in now.running:
            if job.name not in known and len(now.scores) == len(before.scores):
                self._line(f"trial {number}: {job.name}")
        self._tell(number, now.scores)

    def _tell(self, number: int, scores: Sequence[Score], *, over: bool = False) -> None:
        """Say a target's scores once it has all of them, and the very first score at once."""
        if scores and not self._told:
            first = scores[0]
            self._line(
                f"trial {number}: first score: {first.target}, {first.language}, {first.split}: {first.value:.1f}"
            )
            self._told.add((number, ""))
        tasks = list(dict.fromkeys(score.target for score in scores))
        for task in tasks if over else tasks[:-1]:
            if (number, task) not in self._told:
                self._told.add((number, task))
                self._line(f"trial {number}: {task}: {_spread([score for score in scores if score.target == task])}")

    def _seconds_left(self, complete: int) -> float | None:
        """What is missing, at the pace of the last ten trials."""
        recent = self._fresh[-10:]
        if not recent:
            return None
        spent = time.time() - min(ended.started for ended in recent)
        return max(self.wanted - complete, 0) * spent / len(recent)


def _spread(scores: Sequence[Score]) -> str:
    """Mean over languages of each split, and the ends of the last one."""
    parts = []
    for split in ("validation", "test"):
        values = {score.language: score.value for score in scores if score.main and score.split == split}
        if values:
            ordered = sorted(values, key=values.__getitem__)
            low, high = ordered[0], ordered[-1]
            ends = f" ({high} {values[high]:.1f}, {low} {values[low]:.1f})" if len(values) > 1 else f" ({low})"
            parts.append(f"{split} {sum(values.values()) / len(values):.1f}{ends}")
    return ", ".join(parts)


def _reused(ended: TrialResult) -> str:
    return f"{sum(stage.reused for stage in ended.trainings)} of {len(ended.trainings)} stages reused"
