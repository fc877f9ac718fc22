"""Watching a study that another process runs, by its folder alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tunexfer.cli.live import POLL_S, LiveView
from tunexfer.cli.live_table import LiveTable, running, trials_wanted, with_scores
from tunexfer.core.files import StudyFolder, TrialFolder
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.record.ending import is_driven
from tunexfer.record.record import Record, read_plan


def watch(folder: StudyFolder, console: Console) -> LiveTable:
    """Show what happens in a study until the search that runs it ends; where none does, only how the study stands.

    returns: how it stands in the end
    raises: StudyError, if there is no study
    """
    wanted = trials_wanted(read_plan(folder))
    if not is_driven(folder):
        found = LiveTable.read(folder.path)
        console.print(found.rich(console.height))
        return found
    news = News(folder)
    record = news.record
    with LiveView(folder, wanted=wanted, before=record.ended, running=running(record), console=console) as view:
        driven: bool | None = True
        while driven:
            driven = is_driven(folder)  # asked first, so that what the search did last is told as well
            for what in news.look():
                if isinstance(what, TrialResult):
                    view.finished(with_scores(folder, what))
                else:
                    view.started(what)
            if driven:
                time.sleep(POLL_S)
    return LiveTable.read(folder.path)


class News:
    """Which trials of a study have begun and ended since the last look."""

    def __init__(self, folder: StudyFolder) -> None:
        self._stamps = {trial.number: _stamp(trial) for trial in folder.all_trials()}
        self.record = Record(folder, check=False)
        self._known: dict[int, Trial | TrialResult | None] = {
            **{trial.number: trial for trial in running(self.record)},
            **{ended.trial.number: ended for ended in self.record.ended},
        }

    def look(self) -> Iterator[Trial | TrialResult]:
        """What is new: a trial that has begun, or one that has ended. Reads only trials whose files have changed."""
        for folder in self.record.folder.all_trials():
            stamp = _stamp(folder)
            if stamp == self._stamps.get(folder.number):
                continue
            self._stamps[folder.number] = stamp
            found = self.record.load(folder)
            if found is None or found == self._known.get(folder.number):
                continue
            if isinstance(found, TrialResult) or found in running(self.record):
                self._known[folder.number] = found
                yield found


def _stamp(trial: TrialFolder) -> tuple[int, int]:
    return _changed(trial.chain), _changed(trial.status)


def _changed(path: Path) -> int:
    """When the file was written, in ns; 0 where it isn't there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
