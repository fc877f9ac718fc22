"""The live view and the progress files it reads."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from record.made_up import chain, run, scores, study, trial
from rich.console import Console

from tunexfer.cli.live import LiveView
from tunexfer.core.files import StudyFolder
from tunexfer.record.progress import read_progress
from tunexfer.record.record import Record
from tunexfer.search.jobs import ProgressFile


def progress(stage: str, step: int, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"stage": stage, "step": step, "steps": 10, "loss": 0.5, "reused": False, "scores": ()} | more
    )


def test_steps_are_written_once_a_second_and_scores_at_once(tmp_path: Path) -> None:
    now = 0.0
    file = ProgressFile(tmp_path / "progress.json", clock=lambda: now)
    file(progress("intermediate", 1))
    now = 0.5
    file(progress("intermediate", 2))
    assert read_progress(file.path).running[0].step == 1  # type: ignore[union-attr]
    now = 1.5
    file(progress("intermediate", 3))
    assert read_progress(file.path).running[0].step == 3  # type: ignore[union-attr]
    file(progress("intent scores", 1, scores=scores(chain(), 50.0)))
    file(progress("intent", 10, reused=True))
    standing = read_progress(file.path)
    assert standing is not None
    assert standing.scores == scores(chain(), 50.0)
    assert standing.reused == 1


def test_the_pace_is_of_steps_that_are_trained_since_the_file_was_last_written(tmp_path: Path) -> None:
    now = 10.0
    file = ProgressFile(tmp_path / "progress.json", clock=lambda: now)

    def pace() -> float | None:
        standing = read_progress(file.path)
        assert standing is not None
        return standing.running[0].steps_per_second

    file(progress("intermediate", 0, loss=None))
    assert pace() is None
    now = 10.5
    file(progress("intermediate", 4))
    now = 12.0
    file(progress("intermediate", 10))
    assert pace() == 10 / 2.0
    now = 16.0
    file(progress("intermediate", 20))
    assert pace() == 10 / 4.0
    file(progress("intent scores", 1, loss=None, scores=scores(chain(), 50.0)))
    assert pace() is None


def test_a_missing_or_half_written_progress_file_is_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "progress.json") is None
    (tmp_path / "progress.json").write_text('{"stage": ')
    assert read_progress(tmp_path / "progress.json") is None


def view(tmp_path: Path, *, terminal: bool = False, quiet: bool = False) -> tuple[LiveView, io.StringIO, Record]:
    out, folder = io.StringIO(), StudyFolder(tmp_path / "toy")
    study(folder)
    console = Console(file=out, width=120, height=30, force_terminal=terminal)
    record = Record(folder)
    return LiveView(folder, wanted=3, before=record.ended, quiet=quiet, console=console), out, record


def test_without_a_terminal_things_are_told_as_they_happen(tmp_path: Path) -> None:
    live, out, record = view(tmp_path)
    with live:
        live.started(trial(5))
        ProgressFile(record.folder.trial(5).progress)(progress("intent scores", 1, scores=scores(chain(), 40.0)))
        live.refresh()
        live.finished(run(record, trial(5), 40.0))
        live.info("a word")
    text = out.getvalue()
    assert "trial 5 starts: intermediate: 100% intent/de" in text
    assert "trial 5: first score: intent, en, validation: " in text
    assert "trial 5: intent: validation " in text
    assert "test 39.0 (en 40.0, ru 38.0)" in text
    assert "trial 5 complete after 5 s, objective 40.00; 0 of 1 stages reused" in text
    assert "best objective 53.00 (trial 1)" in text
    assert "a word" in text


def test_in_a_terminal_there_is_a_table(tmp_path: Path) -> None:
    live, out, record = view(tmp_path, terminal=True)
    with live:
        live.started(trial(5))
        ProgressFile(record.folder.trial(5).progress)(progress("intermediate", 7))
        live.refresh()
    text = out.getvalue()
    assert "7/10" in text
    assert "it broke" in text  # the failed trial of the made-up study
    assert "52.0" in text  # trial 1: intent, mean of 53, 52, 51
    assert "intent de" in text  # what its stage trains on


def test_quiet_says_nothing_but_warnings(tmp_path: Path) -> None:
    live, out, record = view(tmp_path, quiet=True)
    with live:
        live.started(trial(5))
        live.info("a word")
        live.finished(run(record, trial(5), 40.0))
        live.warning("a warning")
    assert out.getvalue().strip() == "a warning"
