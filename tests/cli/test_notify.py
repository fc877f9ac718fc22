"""`--notify`: what the user's command is told, and what it can't break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunexfer.cli.notify import notify, notifying

TELL = "env | grep ^TUNEXFER_ | sort > told"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("TUNEXFER_CACHE", "TUNEXFER_DATA", "TUNEXFER_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def told(here: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (here / "told").read_text().splitlines())


def test_the_command_finds_the_study_and_its_state_in_its_environment(here: Path) -> None:
    with notifying(TELL, Path("/runs/toy")) as about:
        about |= {"state": "finished", "best": "39.10"}
    assert told(here) == {
        "TUNEXFER_STUDY": "toy",
        "TUNEXFER_FOLDER": "/runs/toy",
        "TUNEXFER_STATE": "finished",
        "TUNEXFER_BEST": "39.10",
    }


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("the baseline failed"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_it_runs_when_a_search_fails_or_is_interrupted_and_the_error_goes_on(
    here: Path, error: BaseException, state: str
) -> None:
    with pytest.raises(type(error)), notifying(TELL, Path("/runs/toy")):
        raise error
    assert told(here)["TUNEXFER_STATE"] == state
    assert told(here)["TUNEXFER_REASON"] == str(error) or type(error).__name__


def test_what_comes_from_a_file_is_never_run(here: Path) -> None:
    notify(
        f'echo "$TUNEXFER_REASON" > said; {TELL}', Path("/runs/$(touch a)"), state="failed", reason="`touch b`; touch c"
    )
    assert (here / "said").read_text() == "`touch b`; touch c\n"
    assert sorted(path.name for path in here.iterdir()) == ["said", "told"]


def test_a_command_that_fails_is_told_and_changes_nothing(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    notify("echo out; exit 3", Path("/runs/toy"), state="finished")
    said = capfd.readouterr()
    assert said.out == ""  # standard output is the summary's
    assert said.err == "out\n--notify: `echo out; exit 3` ended with exit code 3.\n"


def test_a_command_that_hangs_is_given_up(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunexfer.cli.notify.PATIENCE_S", 0.2)
    notify("sleep 5", Path("/runs/toy"), state="finished")
    assert "took longer than 0.2 s and was given up" in capfd.readouterr().err


def test_no_command_is_no_notification(here: Path) -> None:
    with notifying(None, Path("/runs/toy")) as about:
        about["state"] = "finished"
    assert list(here.iterdir()) == []
