"""Searches that are killed, stopped, or unlucky, and what the same command makes of it."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drive
import pytest
from command import PATIENCE_S, Finished, Home, process, runs, statuses, trained, wait_until
from pico import pico_encoder

from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.record.progress import JobProgress, read_progress

pytestmark = pytest.mark.slow


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["drive", "tunexfer.cli.launch", "tunexfer.training.executor", "mlflow"])


def killed_here(root: Path, moment: str, complete: int) -> None:
    """Run a search, jobs and all, in a process that kills itself: see `drive.Mortal`."""
    driver = FORKS.Process(target=drive.main, args=(root, "here", "real", moment, complete))
    driver.start()
    driver.join(PATIENCE_S)
    assert driver.exitcode == -signal.SIGKILL


def killed_on_ray(root: Path, when: Callable[[], bool]) -> None:
    """Run a search on a local Ray, and kill its driver at a moment."""
    driver = process([sys.executable, drive.__file__, str(root), "ray", "real"], root)
    wait_until(when, driver)
    driver.kill()
    killed = Finished.of(driver)
    assert killed.code == -signal.SIGKILL, killed.said


def running_jobs(study: StudyFolder, since: float) -> list[JobProgress]:
    """The jobs that run for trials which were begun after a time and haven't ended."""
    begun = [trial for trial in study.all_trials() if trial.chain.exists() and trial.chain.stat().st_mtime > since]
    open_ones = [trial for trial in begun if not trial.status.exists()]
    return [job for trial in open_ones if (at := read_progress(trial.progress)) for job in at.running]


def written(store: Path) -> dict[str, float]:
    """Entry of a stage store -> when it was written."""
    return {mark.parent.name: json.loads(mark.read_text())["written"] for mark in store.glob("entries/*/*/mark.json")}


def test_a_driver_killed_at_five_moments_repeats_nothing_that_was_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file of a finished trial, and no model or evaluation in the store, is written again. Two of the
    five drivers die while their devices train on."""
    stages = [drive.SPACE["stages"][0] | {"steps": 100}]
    targets = [drive.SPACE["targets"][0] | {"steps": 100}, {"task": "pairs"}]
    search = {"trials": 6, "seed": 3, "algorithm": "random", "concurrent": 1}
    encoder = str(pico_encoder(tmp_path / "encoder"))
    drive.plan_in(tmp_path, encoder=encoder, stages=stages, targets=targets, search=search)
    study, store = StudyFolder(tmp_path / "runs" / "fake"), tmp_path / "store"
    ended: dict[int, dict[str, Any]] = {}
    kept: dict[str, float] = {}

    def mid_stage() -> bool:
        return any(job.name == "train intermediate" and job.step < job.steps for job in running_jobs(study, started))

    def between_stage_and_scores() -> bool:
        after = any(job.name == "train choice" for job in running_jobs(study, started))
        return after and len(written(store)) > len(kept)

    for kill in (
        lambda: killed_here(tmp_path, "begin", 0),
        lambda: killed_on_ray(tmp_path, mid_stage),
        lambda: killed_on_ray(tmp_path, between_stage_and_scores),
        lambda: killed_here(tmp_path, "finish", 4),
        lambda: killed_here(tmp_path, "finished", 6),
    ):
        started = time.time()
        kill()
        assert statuses(study).items() >= ended.items()
        assert written(store).items() >= kept.items()
        ended, kept = statuses(study), written(store)

    assert drive.main(tmp_path, "here", "real") == 0
    assert json.loads(capsys.readouterr().out)["trials"]["complete"] == 6
    assert written(store).items() >= kept.items()
    after = statuses(study)
    assert after.items() >= ended.items()
    assert len({status["fingerprint"] for status in after.values()}) == 6
    assert len(set(trained(study))) == len(trained(study))
    found = runs(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}", "fake")
    assert found.keys() == {"parent", *map(str, range(6))}
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_a_search_stopped_in_the_middle_of_training_continues_and_trains_no_stage_twice(home: Home, head: str) -> None:
    """The search command, Ctrl-C, and the same command."""
    targets = [drive.SPACE["targets"][0] | {"steps": 300}, {"task": "pairs"}]
    space, study, store = home.space("stopped", targets=targets), home.study("stopped"), home.path / "store-stopped"
    started = time.time()
    driver = home.start(space, "--json", "--concurrent", "1", store=store.name)
    wait_until(lambda: any(job.name == "train choice" for job in running_jobs(study, started)), driver)
    driver.send_signal(signal.SIGINT)
    asked = time.monotonic()
    stopped = Finished.of(driver)
    assert stopped.code == 130, stopped.said
    assert time.monotonic() - asked < 30
    assert "Stopping. Rerun the same command to resume" in stopped.said
    assert "Traceback" not in stopped.said
    before, trained_before = statuses(study), written(store)
    states = [status["state"] for status in before.values()]
    assert "stopped" in states
    assert set(states) <= {"complete", "stopped"}
    uri = f"sqlite:///{home.path / 'runs' / 'mlflow.db'}"
    in_between = runs(uri, "stopped")
    assert in_between.pop("parent").info.status == "KILLED"
    assert {run.info.status for run in in_between.values()} <= {"FINISHED"}

    again = home.search(space, "--json", "--concurrent", "1", "--address", head, store=store.name)
    assert again.summary["trials"]["complete"] == 4
    after = statuses(study)
    assert {number for number, status in before.items() if status["state"] == "complete"} <= {
        number for number, status in after.items() if status == before.get(number)
    }
    assert {status["state"] for status in after.values()} == {"complete"}
    assert len(set(trained(study))) == len(trained(study))
    assert written(store).items() >= trained_before.items()
    assert {run.info.status for run in runs(uri, "stopped").values()} == {"FINISHED"}


def test_failed_trials_are_recorded_with_their_reason_and_the_study_goes_on(
    tmp_path: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates of 0.5, 0.6 and 0.7: a failed trial, a bug, a dead worker. Workers are kept where they live."""
    stages = [{**drive.SPACE["stages"][0], "tasks": ["match"], "languages": ["en"]}]
    stages[0]["learning_rate"] = {"choice": [0.001, 0.5, 0.002, 0.6, 0.003, 0.7, 0.004, 0.005]}
    targets = [{"task": "choice", "train_language": "en", "learning_rate": 0.001, "steps": 10}]
    search = {"trials": 9, "seed": 3, "algorithm": "grid", "concurrent": 1}
    drive.plan_in(tmp_path, stages=stages, targets=targets, search=search)
    assert drive.main(tmp_path, head, "0") == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert (trials["complete"], trials["failed"]) == (6, 3)
    found = statuses(StudyFolder(tmp_path / "runs" / "fake"))
    failures = {status["point"].get("stages[0].learning_rate"): status["failure"] for status in found.values()}
    assert failures["0.5"] == {"kind": "user", "message": "the loss is not finite", "detail": ""}
    assert (failures["0.6"]["kind"], failures["0.6"]["message"]) == ("bug", "ZeroDivisionError: a bug")
    assert "Traceback" in failures["0.6"]["detail"]
    assert failures["0.7"]["kind"] == "lost"
    assert failures["0.7"]["message"].startswith("its worker process died 3 times. Out of memory?")
    mlflow_states = {
        name: run.info.status for name, run in runs(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}", "fake").items()
    }
    assert sorted(mlflow_states.values()) == ["FAILED"] * 3 + ["FINISHED"] * 7
    lines = [line.split() for line in (tmp_path / "store" / "runs.log").read_text().splitlines()]
    assert len({worker for worker, *_ in lines}) == 4  # three were killed
    assert {threads for _, threads, *_ in lines} == {"1"}


def test_a_baseline_that_fails_stops_the_study(tmp_path: Path) -> None:
    targets = [{"task": "choice", "train_language": "en", "learning_rate": 0.5, "steps": 10}]
    drive.plan_in(tmp_path, targets=targets)
    message = "the baseline failed, so no chain can be compared with it: the loss is not finite"
    with pytest.raises(StudyError, match=message):
        drive.main(tmp_path, "here", "0")
