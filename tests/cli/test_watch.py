"""Watching a study that another process runs."""

from __future__ import annotations

import errno
import functools
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record.made_up import PLAN, chain, run, study, trial
from rich.console import Console
from typer.testing import CliRunner

from tunexfer import Study
from tunexfer.cli.live import watch
from tunexfer.cli.live_table import LiveTable
from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Failure
from tunexfer.errors import StudyError
from tunexfer.record.folder import How, is_driven
from tunexfer.record.record import Record

DRIVER = """
import sys
from pathlib import Path
from record.made_up import PLAN, run, trial
from tunexfer.core.files import StudyFolder
from tunexfer.record.record import Record

with Record.drive(StudyFolder(Path(sys.argv[1])), PLAN) as record:
    record.begin(trial(5))
    print("begun", flush=True)
    sys.stdin.readline()
    run(record, trial(5), 60.0)
"""
"""A search elsewhere: trial 5 begins; once it is watched, it ends and so does the search."""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "toy")
    study(folder)
    return folder


@pytest.fixture
def elsewhere(folder: StudyFolder) -> Iterator[Callable[[], None]]:
    """Start a search in another process; what is yielded lets it end."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # the tests' own modules too
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(folder.path)], **pipes) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "begun\n"
        yield driver.stdin.close  # type: ignore[union-attr]
    assert driver.returncode == 0


class Screen(io.StringIO):
    """A terminal's other end; once something was written, the search elsewhere may end."""

    def __init__(self, end: Callable[[], None]) -> None:
        super().__init__()
        self.end = end

    def write(self, text: str) -> int:
        if "trial 5 is running" in text or "starts" in text:
            self.end()
        return super().write(text)


def test_a_study_is_watched_until_its_search_ends(folder: StudyFolder, elsewhere: Callable[[], None]) -> None:
    assert is_driven(folder)
    out = Screen(elsewhere)
    stands = watch(folder, Console(file=out, width=120))
    assert "trial 5 is running: intermediate: 100% intent/de" in out.getvalue()
    assert "trial 5 complete after 5 s, objective 60.00; 0 of 1 trainings reused" in out.getvalue()
    assert "trial 1" not in out.getvalue().replace("(trial 1)", "")  # it had ended before
    assert stands.state == "finished"
    assert stands.best is not None
    assert stands.best.trial.number == 5
    assert stands.ending == "toy has finished."


def test_in_a_terminal_the_live_table_is_shown(folder: StudyFolder, elsewhere: Callable[[], None]) -> None:
    out = Screen(elsewhere)
    watch(folder, Console(file=out, width=120, height=30, force_terminal=True))
    assert "intent de" in out.getvalue()
    assert "5 of 5 trials" in out.getvalue()  # two of them confirm, which the plan of 3 does not count


def test_a_study_that_is_not_running_is_shown_as_it_stands(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN | {"search": {"trials": 9}}) as record:
        record.begin(trial(5))
    out = io.StringIO()
    stands = watch(folder, Console(file=out, width=120, height=30))
    assert not is_driven(folder)
    assert "unfinished" in out.getvalue()
    assert "it broke" in out.getvalue()
    assert "4 of 11 trials" in out.getvalue()  # 2 of the 9 and 2 that confirm are complete
    assert stands.state == "stopped"
    assert stands.ending == "toy is not running; trials missing: 7. Rerun the same command to resume."


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("finished", "toy has finished; trials missing: 7. Rerun the same command to retry failed trials."),
        ("exhausted", "toy has finished: every chain of the space has been run; trials missing: 7."),
        ("out of time", "toy reached its time limit; trials missing: 7. Rerun the same command to resume."),
        ("interrupted", "toy was interrupted; trials missing: 7. Rerun the same command to resume."),
    ],
)
def test_a_study_says_how_the_last_search_ended(folder: StudyFolder, how: How, words: str) -> None:
    with Record.drive(folder, PLAN | {"search": {"trials": 9}}) as record:
        assert LiveTable.read(folder.path).state == "running"
        record.end(how)
        assert LiveTable.read(folder.path).state == how  # it still tidies up
    stands = watch(folder, Console(file=io.StringIO()))
    assert (stands.state, stands.ending) == (how, words)
    with Record.drive(folder, PLAN | {"search": {"trials": 2}}):
        assert LiveTable.read(folder.path).state == "running"
    assert LiveTable.read(folder.path).state == "finished"  # this driver left no word, and nothing is missing


def test_a_search_that_breaks_leaves_the_reason(folder: StudyFolder) -> None:
    plan = PLAN | {"search": {"trials": 9}}
    with pytest.raises(StudyError), Record.drive(folder, plan):
        raise StudyError("too many trials failed, 4 of 5:\n  no memory")
    stands = LiveTable.read(folder.path)
    assert stands.state == "failed"
    assert stands.ending.startswith("toy failed (too many trials failed, 4 of 5:); trials missing: 7.")
    with pytest.raises(KeyboardInterrupt), Record.drive(folder, plan):
        raise KeyboardInterrupt
    assert LiveTable.read(folder.path).state == "interrupted"


@pytest.mark.parametrize("damage", ["", "[1]", '{"how": "weird", "reason": ""}', '{"how": ["finished"]}', '{"how'])
def test_a_damaged_word_of_the_last_search_is_none(folder: StudyFolder, damage: str) -> None:
    with Record.drive(folder, PLAN | {"search": {"trials": 9}}) as record:
        record.end("finished")
    folder.ending.write_text(damage)
    assert LiveTable.read(folder.path).state == "stopped"


READ_ONLY: set[str] = set()
"""Folders that this process can't write to, whoever runs it."""
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


@functools.cache
def guard_folders() -> None:
    """Make `READ_ONLY` hold. Python keeps an audit hook for as long as the process lives."""

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if READ_ONLY and changes and str(arguments[0]).startswith(tuple(READ_ONLY)):
            raise PermissionError(errno.EACCES, "Permission denied", str(arguments[0]))

    sys.addaudithook(guard)


@pytest.fixture
def read_only(folder: StudyFolder) -> Iterator[StudyFolder]:
    """A study's folder that is as read-only as another user's is."""
    guard_folders()
    READ_ONLY.add(str(folder.path))
    yield folder
    READ_ONLY.remove(str(folder.path))


@pytest.mark.parametrize("at_work", [False, True])
def test_looking_at_a_study_needs_no_right_to_write(
    folder: StudyFolder, tmp_path: Path, request: pytest.FixtureRequest, at_work: bool
) -> None:
    if at_work:
        request.getfixturevalue("elsewhere")
    request.getfixturevalue("read_only")
    with pytest.raises(PermissionError):
        folder.plan.open("a")
    assert LiveTable.read(folder.path).state == ("running" if at_work else "stopped")  # its failed trial is missing
    done = CliRunner().invoke(app, ["report", str(folder.path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"complete. It {'is running.' if at_work else 'is not running; trials missing: 1.'}" in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_report_into_a_folder_that_takes_none_is_an_error_that_says_where_else(read_only: StudyFolder) -> None:
    done = CliRunner().invoke(app, ["report", str(read_only.path)])
    message = str(done.exception)
    assert isinstance(done.exception, StudyError)
    assert message.startswith(f"{read_only.path}: the report can't be written there (Permission denied). ")
    assert "--out" in message


def test_a_lock_that_cannot_be_asked_is_not_taken_for_a_free_one(folder: StudyFolder) -> None:
    folder.lock.unlink()
    folder.lock.mkdir()
    assert is_driven(folder) is None
    stands = LiveTable.read(folder.path)
    assert stands.state == "unknown"
    assert stands.ending.startswith("toy may be running: its .lock can't be checked")


def test_what_an_earlier_search_left_half_done_does_not_run_before_its_turn(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(5))
    time.sleep(0.01)  # the clock of the file system
    with Record.drive(folder, PLAN) as record:
        news = LiveTable(folder)
        assert list(LiveTable.read(folder.path).running) == []
        record.begin(trial(5))
        assert list(LiveTable.read(folder.path).running) == [5]
        assert list(news.look()) == [trial(5)]
        assert list(news.look()) == []


def test_each_change_is_news_once_and_a_trial_that_runs_again_is_news(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        news = LiveTable(folder)
        assert list(news.look()) == []
        again = trial(2, of=chain(stages=2))  # the failed one
        record.begin(again)
        ended = run(record, trial(5), 60.0)
        assert list(news.look()) == [again, replace(ended, scores=())]
        ended = run(record, again, 61.0)
        assert list(news.look()) == [replace(ended, scores=())]
        assert sorted(news.results) == [0, 1, 2, 3, 4, 5]


def test_asking_whether_a_search_is_at_work_never_makes_one_fail(folder: StudyFolder) -> None:
    """The driver waits for the moment in which somebody else holds the lock to see whether it is free."""
    code = "import sys, pathlib; from tunexfer.core.files import StudyFolder; from tunexfer.record.folder import *\n"
    code += "while True: is_driven(StudyFolder(pathlib.Path(sys.argv[1])))"
    asking = subprocess.Popen([sys.executable, "-c", code, str(folder.path)])
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            with Record.drive(folder, PLAN):
                assert asking.poll() is None
    finally:
        asking.kill()
        asking.wait()


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds no study: there is no plan\.yaml in it"):
        watch(StudyFolder(tmp_path), Console(file=io.StringIO()))


def test_a_notebook_shows_the_table_as_html(folder: StudyFolder) -> None:
    table = LiveTable.read(folder.path)
    shown = table._repr_html_()
    assert "intent de, intent de: it broke" in shown
    assert "<td>52.0</td>" in shown  # trial 1: intent, mean of 53, 52, 51
    assert "4 of 5 trials · best objective 53.00 (trial 1)" in shown
    assert shown.count("<tr") == 1 + 5


def test_text_of_a_file_is_no_markup_in_html_nor_in_a_terminal(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "toy")
    with Record.drive(folder, PLAN) as record:
        failed = run(record, trial(0, phase="baseline", of=chain()), state="failed")
        record.finish(replace(failed, failure=Failure(kind="user", message="[/b]<b>")))
    table, out = LiveTable.read(folder.path), io.StringIO()
    assert "none: [/b]&lt;b&gt;" in table._repr_html_()
    Console(file=out, width=120).print(table.rich(30))
    assert "none: [/b]<b>" in out.getvalue()


def test_watching_needs_neither_torch_nor_ray(folder: StudyFolder) -> None:
    code = (
        "import sys; from tunexfer.cli.main import app; app(['watch', sys.argv[1]], standalone_mode=False)\n"
        "print({'torch', 'ray', 'transformers', 'mlflow', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "set()\n")
    assert done.stdout.endswith("toy is not running; trials missing: 1. Rerun the same command to resume.\n")


def test_a_study_that_ends_by_itself_misses_the_trials_that_were_begun(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN | {"search": {"trials": "auto"}}) as record:
        record.begin(trial(5))
    table = LiveTable.read(folder.path)
    assert (table.state, table.missing) == ("stopped", 1)
    assert table.headline.startswith("toy: 4 trials · best objective")
    assert (
        Study.load(folder.path).status().startswith("toy: 4 trials are complete. It is not running; trials missing: 1.")
    )
