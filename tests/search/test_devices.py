"""Jobs on real Ray devices: rules that stop trials, processes that die, devices that are kept warm."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import drive
import pytest

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.plan.plan import Plan
from tunexfer.record.listener import Listener
from tunexfer.record.record import Record
from tunexfer.search import jobs
from tunexfer.search.loop import SearchLoop, run_here
from tunexfer.search.ray_tune import run_search
from tunexfer.search.stopping import Standing
from tunexfer.store import StageStore

pytestmark = pytest.mark.slow

STAGE = drive.SPACE["stages"][0] | {"tasks": ["match"], "languages": ["en"]}
STAGE["learning_rate"] = {"choice": [1.0e-3, 2.0e-3, 3.0e-3]}
TARGETS = [drive.SPACE["targets"][0] | {"learning_rate": 1.0e-3}]


@pytest.fixture(autouse=True)
def devices_import_what_tests_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


class Killer(Listener):
    """Kills the device that has begun a training last, once."""

    def __init__(self, store: Path) -> None:
        self.store, self.killed = store, 0

    def finished(self, result: TrialResult) -> None:
        if result.trial.number == 0:
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        while not self.killed:
            lines = (self.store / "runs.log").read_text().splitlines()
            process, _, kind, _ = lines[-1].split()
            if kind == "train":
                self.killed = int(process)
                os.kill(self.killed, signal.SIGKILL)
            time.sleep(0.02)


def search(root: Path, head: str | None, *listeners: Listener, step_s: float = 0.0, **options: Any) -> Record:
    """Run a search on the cluster at an address, or on a local Ray."""
    plan = plan_in(root)
    contents, make = drive.fake(plan, root, step_s)
    with Record.drive(StudyFolder(root / "runs" / "fake"), plan.as_dict()) as record:
        run_search(plan, record, StageStore(root / "store"), contents, make, listeners, address=head, **options)
    return record


def search_here(root: Path) -> Record:
    """Run the same search in this process, without Ray."""
    plan = plan_in(root)
    contents, make = drive.fake(plan, root)
    with Record.drive(StudyFolder(root / "runs" / "fake"), plan.as_dict()) as record:
        run_here(SearchLoop(plan, record, StageStore(root / "store"), contents), make())
    return record


def plan_in(root: Path) -> Plan:
    search = {"trials": 4, "seed": 3, "algorithm": "grid"}
    return drive.plan_in(root, stages=[STAGE], targets=TARGETS, search=search)


def test_a_rule_stops_trials_on_devices_and_what_they_trained_stays(tmp_path: Path, head: str) -> None:
    asked: Counter[Chain] = Counter()

    def after_the_first_job(standing: Standing) -> str | None:
        asked[standing.chain] += 1  # a rule is asked when a trial begins, then after each job
        return "no good" if asked[standing.chain] == 2 else None

    record = search(tmp_path, head, rule=after_the_first_job)
    assert [result.state for result in record.ended] == ["complete", "stopped", "stopped", "stopped"]
    stages = [job.key for result in record.ended for job in result.jobs if job.name == "intermediate"]
    assert len(stages) == 3
    assert all(StageStore(tmp_path / "store").has(key) for key in stages)


def test_a_device_that_dies_costs_the_job_it_was_on_and_nothing_else(tmp_path: Path, head: str) -> None:
    (tmp_path / "store").mkdir()
    killer = Killer(tmp_path / "store")
    record = search(tmp_path, head, killer, step_s=0.2)
    assert killer.killed
    assert [result.state for result in record.ended] == ["complete"] * 4
    job_count = 2 + 3 * 3
    assert len((tmp_path / "store" / "runs.log").read_text().splitlines()) == job_count + 1
    undisturbed = search_here(tmp_path / "alone")
    tables = [study.score_table().drop(columns="study") for study in (record, undisturbed)]
    assert tables[0].equals(tables[1])


def test_a_device_that_is_given_back_while_asked_for_progress_holds_nothing_up(
    tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    signal.alarm(900)
    try:
        record = search(tmp_path, head, step_s=0.05, concurrent=2)
    finally:
        signal.alarm(0)
    assert [result.state for result in record.ended] == ["complete"] * 4


@pytest.mark.parametrize("where", ["a local Ray", "a cluster"])
def test_one_process_a_device_runs_all_of_its_jobs_on_as_many_threads_as_it_has_cpus(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    search(tmp_path, request.getfixturevalue("head") if where == "a cluster" else None, concurrent=1)
    lines = [line.split() for line in (tmp_path / "store" / "runs.log").read_text().splitlines()]
    assert len(lines) == 2 + 3 * 3
    assert len({process for process, *_ in lines}) == 1
    assert {threads for _, threads, *_ in lines} == {"1"}
