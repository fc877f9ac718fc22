"""Watch a study by its folder alone: a live table in a terminal, otherwise plain lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tunexfer.cli.live_table import LiveTable
from tunexfer.core.files import StudyFolder
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.record.folder import is_driven
from tunexfer.record.listener import Listener
from tunexfer.record.progress import TrialProgress

POLL_S = 0.5


class LiveView(Listener):
    """Shows a study while it runs, on standard error by default: a table in a terminal, otherwise plain lines.

    In a `with` block, a thread of its own refreshes it.
    """

    def __init__(self, folder: StudyFolder, *, quiet: bool = False, console: Console | None = None) -> None:
        """quiet: show warnings alone"""
        self.quiet, self.console = quiet, console or Console(stderr=True)
        self.table = LiveTable(folder)
        self._jobs: set[tuple[int, str]] = set()
        """Trials and running jobs that lines were printed for."""
        self._scored: set[tuple[int, str]] = set()
        """Likewise trials and targets."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live-view", daemon=True)
        live = Live(console=self.console, auto_refresh=False, redirect_stdout=False)
        self._live = live if self.console.is_terminal and not quiet else None
        if self._live:
            self._live.start()
        for number, trial in self.table.running.items():
            self._line(f"trial {number} is running: {chain_in_words(trial.chain)}")

    def __enter__(self) -> LiveView:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Show the last state and leave the terminal as it is."""
        self.refresh()
        if self._live:
            self._live.stop()

    def info(self, text: str) -> None:
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=True)

    def warning(self, text: str) -> None:
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def refresh(self) -> None:
        """Look at the folder, and show what is new."""
        if self.quiet:
            return
        before = self.table.progress
        for event in self.table.look():
            if isinstance(event, Trial):
                self._line(f"trial {event.number} starts: {chain_in_words(event.chain)}")
            else:
                self._finished(event, before.get(event.trial.number))
        for number, progress in self.table.progress.items():
            if number in self.table.running:
                self._progressed(number, progress)
        if self._live:
            self._live.update(self.table.rich(self.console.height), refresh=True)

    def _work(self) -> None:
        while not self._stop.wait(POLL_S):
            self.refresh()

    def _line(self, text: str) -> None:
        if not self._live:
            self.info(text)

    def _progressed(self, number: int, progress: TrialProgress) -> None:
        for job in progress.running:
            if (number, job.name) not in self._jobs:
                self._jobs.add((number, job.name))
                self._line(f"trial {number}: {job.name}")
        self._show_scores(number, progress.scores, over=False)

    def _finished(self, result: TrialResult, progress: TrialProgress | None) -> None:
        number, jobs = result.trial.number, result.trainings
        self._jobs = {(other, name) for other, name in self._jobs if other != number}
        scores = self.table.scores(number) if result.state == "complete" else progress.scores if progress else ()
        self._show_scores(number, scores, over=True)
        reused = f"; {sum(job.reused for job in jobs)} of {len(jobs)} trainings reused" if jobs else ""
        objective = "" if result.objective is None else f", objective {result.objective:.2f}"
        reason = f": {result.failure.message}" if result.failure else ""
        self._line(f"trial {number} {result.state} after {result.seconds:.0f} s{objective}{reused}{reason}")
        self._line(self.table.headline)

    def _show_scores(self, number: int, scores: Sequence[Score], *, over: bool) -> None:
        """Print the very first score at once, and a target's scores when all of them are there."""
        if scores and not self._scored:
            first = scores[0]
            where = f"{first.target}, {first.language}, {first.split}"
            self._line(f"trial {number}: first score: {where}: {first.value:.1f}")
            self._scored.add((number, ""))
        targets = list(dict.fromkeys(score.target for score in scores))
        for target in targets if over else targets[:-1]:
            if (number, target) not in self._scored:
                self._scored.add((number, target))
                own = [score for score in scores if score.target == target]
                self._line(f"trial {number}: {target}: {_range(own)}")


def watch(folder: StudyFolder, console: Console) -> LiveTable:
    """Show a study until the search that runs it ends; if none does, show its state.

    returns: the state in the end
    raises: StudyError, if there is no study
    """
    if not is_driven(folder):
        table = LiveTable(folder)
        console.print(table.rich(console.height))
        return table
    view = LiveView(folder, console=console)
    try:
        while is_driven(folder):
            view.refresh()
            time.sleep(POLL_S)
    finally:
        view.close()
    return view.table


def _range(scores: Sequence[Score]) -> str:
    """Give the mean over languages of each split, with the highest and the lowest language."""
    parts = []
    for split in ("validation", "test"):
        values = {score.language: score.value for score in scores if score.main and score.split == split}
        if values:
            ordered = sorted(values, key=values.__getitem__)
            low, high = ordered[0], ordered[-1]
            ends = f" ({high} {values[high]:.1f}, {low} {values[low]:.1f})" if len(values) > 1 else f" ({low})"
            parts.append(f"{split} {sum(values.values()) / len(values):.1f}{ends}")
    return ", ".join(parts)
