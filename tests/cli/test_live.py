"""The live view and the progress files it reads."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from record.made_up import PLAN, chain, run, scores, study, trial
from rich.console import Console

from tunexfer.cli.live import LiveView
from tunexfer.cli.live_table import LiveTable
from tunexfer.core.files import StudyFolder, TrialFolder
from tunexfer.record.progress import JobProgress, TrialProgress, read_progress, write_progress
from tunexfer.record.record import Record


def write(record: Record, number: int, *jobs: JobProgress, **more: Any) -> None:
    """What the driver writes of a running trial."""
    write_progress(record.folder.trial(number).progress, TrialProgress(running=jobs, **more))


def test_progress_is_read_as_it_was_written(tmp_path: Path) -> None:
    job = JobProgress(name="intent", step=3, steps=10, loss=0.5, steps_per_second=2.0)
    progress = TrialProgress(done=1, jobs=4, reused=1, running=(job,), scores=scores(chain(), 50.0))
    write_progress(tmp_path / "progress.json", progress)
    assert read_progress(tmp_path / "progress.json") == progress


def test_a_missing_or_half_written_progress_file_is_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "progress.json") is None
    (tmp_path / "progress.json").write_text('{"stage": ')
    assert read_progress(tmp_path / "progress.json") is None


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """A search at work on a study that has five trials."""
    folder = StudyFolder(tmp_path / "toy")
    study(folder)
    with Record.drive(folder, PLAN) as record:
        yield record


def view(record: Record, *, terminal: bool = False, quiet: bool = False) -> tuple[LiveView, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=120, height=30, force_terminal=terminal)
    return LiveView(record.folder, quiet=quiet, console=console), out


def test_without_a_terminal_lines_are_printed_as_things_happen(record: Record) -> None:
    live, out = view(record)
    record.begin(trial(5))
    live.refresh()
    write(record, 5, JobProgress(name="intent"), scores=scores(chain(), 40.0))
    live.refresh()
    run(record, trial(5), 40.0)
    live.info("a word")
    live.close()
    text = out.getvalue()
    assert "trial 5 starts: intermediate: 100% intent/de" in text
    assert "trial 5: intent\n" in text
    assert "trial 5: first score: intent, en, validation: 40.0" in text
    assert "trial 5: intent: validation " in text
    assert "test 39.0 (en 40.0, ru 38.0)" in text
    assert "trial 5 complete after 5 s, objective 40.00; 0 of 1 trainings reused" in text
    assert "best objective 53.00 (trial 1)" in text
    assert "a word" in text


def test_a_failed_trial_is_shown_with_its_reason(record: Record) -> None:
    live, out = view(record)
    run(record, trial(5), state="failed")
    live.close()
    assert "trial 5 failed after 5 s; 0 of 1 trainings reused: it broke" in out.getvalue()


def test_in_a_terminal_there_is_a_table(record: Record) -> None:
    live, out = view(record, terminal=True)
    record.begin(trial(5))
    jobs = [JobProgress(name="intent", step=7, steps=10), JobProgress(name="retrieval"), JobProgress(name="third")]
    write(record, 5, *jobs, done=2, jobs=6)
    live.close()
    text = out.getvalue()
    assert "2/6 jobs: intent 7/10, retrieval, +1" in text
    assert "it broke" in text  # the failed trial of the made-up study
    assert "52.0" in text  # trial 1: intent, mean of 53, 52, 51
    assert "intent de" in text  # what its stage trains on


def test_a_search_is_shown_by_a_thread_of_its_own(record: Record) -> None:
    live, out = view(record)
    with live:
        record.begin(trial(5))
        deadline = time.monotonic() + 60
        while "trial 5 starts" not in out.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_quiet_shows_nothing_but_warnings(record: Record) -> None:
    live, out = view(record, quiet=True)
    with live:
        record.begin(trial(5))
        live.info("a word")
        run(record, trial(5), 40.0)
        live.warning("a warning")
    assert out.getvalue().strip() == "a warning"


def test_a_look_reads_only_trials_that_are_not_complete(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    table = LiveTable(record.folder)
    looked_at: list[int] = []

    def chain_of(self: TrialFolder) -> Path:
        looked_at.append(self.number)
        return self.path / "chain.yaml"

    monkeypatch.setattr(TrialFolder, "chain", property(chain_of, lambda self, path: None), raising=False)
    assert table.look() == []
    assert looked_at == [2]  # the failed one, which may be begun again
