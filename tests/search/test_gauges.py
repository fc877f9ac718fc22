"""What Ray's dashboard and Prometheus are told of a study: the endpoints of a real local Ray are read."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator

import drive
import psutil
import pytest
from command import Finished, process, statuses, wait_until
from prometheus_client.parser import text_string_to_metric_families
from servers import TOKEN

from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import JobRun, TrialResult
from tunexfer.record.record import Record
from tunexfer.record.savings import seconds_saved
from tunexfer.search.gauges import METRICS

STEP_S = 0.5
DRIVE = """
import sys, pathlib, drive
from tunexfer.search import gauges as metrics
metrics.AGAIN_S = 0.5  # Ray exports more often here than it does of itself
sys.exit(drive.main(pathlib.Path(sys.argv[1]), "ray", sys.argv[2]))
"""
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StudyFolder, subprocess.Popen[str], str]]:
    """A study with its driver and the dashboard's address. Four trials of some ten seconds, one after the other: the
    baseline, one that trains a stage, and two that reuse it."""
    root = tmp_path_factory.mktemp("metrics")
    stages = [{"name": "intermediate", "tasks": ["match"], "languages": ["en"], "learning_rate": 1e-3, "steps": 10}]
    rates = {"choice": [1e-3, 2e-3, 3e-3]}
    targets = [{"task": "choice", "train_language": "en", "learning_rate": rates, "steps": 20}]
    search = {"trials": 4, "seed": 3, "algorithm": "grid", "concurrent": 1}
    drive.plan_in(root, stages=stages, targets=targets, search=search)
    driver = process(
        [sys.executable, "-c", DRIVE, str(root), str(STEP_S)], root, **TOKEN, RAY_metrics_report_interval_ms="2000"
    )
    try:
        assert driver.stderr is not None
        told: list[str] = []
        while not told or "Ray dashboard: " not in told[-1]:
            told.append(driver.stderr.readline())
            assert told[-1], "".join(told)
        yield StudyFolder(root / "runs" / "fake"), driver, told[-1].split()[2]
    finally:
        driver.kill()
        driver.communicate()


def ask(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def scrape(dashboard: str) -> Series:
    """Our metrics, as Prometheus would find and read them: name and tags (our own) -> value."""
    found: Series = {}
    for group in json.loads(ask(f"{dashboard}/api/prometheus/sd")):
        for target in group["targets"]:
            try:
                text = ask(f"http://{target}/metrics")
            except urllib.error.URLError:
                continue  # down: Ray's autoscaler has a fixed port, which another cluster may hold
            for family in text_string_to_metric_families(text):
                for name, labels, value, *_ in family.samples:
                    own = METRICS.get(name.removeprefix("ray_"))
                    if own:
                        found[name, frozenset((tag, labels[tag]) for tag in own[1])] = value
    return found


def series(name: str, **tags: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"ray_tunexfer_{name}", frozenset({"study": "fake", **tags}.items())


def told_by_the_record(folder: StudyFolder) -> Series:
    record = Record(folder)
    best = record.best()
    states = Counter(ended.state for ended in record.ended)
    runs = Counter((run.name, run.reused) for ended in record.ended for run in ended.trainings)
    assert best is not None
    assert best.objective is not None
    return {
        series("trials", state="running"): 1,
        **{series("trials", state=state): states[state] for state in ("complete", "failed", "stopped")},
        **{series("stages", stage=name, how="reused" if again else "trained"): n for (name, again), n in runs.items()},
        **{series("seconds_saved", stage=name): value for name, value in seconds_saved(record.ended).items()},
        series("best_objective", trial=str(best.trial.number)): best.objective,
    }


@pytest.mark.slow
def test_the_job_has_the_studys_name(study: tuple[StudyFolder, subprocess.Popen[str], str]) -> None:
    """Ray's page of jobs shows `job_name` of a job's metadata as its name."""
    jobs = json.loads(ask(f"{study[2]}/api/jobs/"))
    assert [job["metadata"]["job_name"] for job in jobs] == ["fake"]


@pytest.mark.slow
def test_nothing_of_a_local_ray_listens_beyond_this_machine(
    study: tuple[StudyFolder, subprocess.Popen[str], str],
) -> None:
    driver = psutil.Process(study[1].pid)
    sockets = [one for process in (driver, *driver.children(recursive=True)) for one in process.net_connections()]
    listening = {ipaddress.ip_address(one.laddr.ip) for one in sockets if one.status == psutil.CONN_LISTEN}
    assert listening
    assert {place for place in listening if not (getattr(place, "ipv4_mapped", None) or place).is_loopback} == set()


@pytest.mark.slow
def test_prometheus_reads_where_the_study_stands_and_nothing_of_trials_that_have_ended(
    study: tuple[StudyFolder, subprocess.Popen[str], str],
) -> None:
    folder, driver, dashboard = study
    seen: Series = {}

    def all_of_three_trials() -> bool:
        seen.update(now := scrape(dashboard))
        complete = [number for number, status in statuses(folder).items() if status["state"] == "complete"]
        return len(complete) == 3 and now.items() >= told_by_the_record(folder).items()

    wait_until(all_of_three_trials, driver)
    rates = {tags: value for (name, tags), value in seen.items() if name == "ray_tunexfer_rows_per_second"}
    assert {name for name, _ in seen} == {f"ray_{name}" for name in METRICS}
    assert {dict(tags)["trial"] for tags in rates} >= {"0", "1", "2"}
    assert {dict(tags)["stage"] for tags in rates} == {"intermediate", "choice"}
    assert all(0 < rate <= 32 / STEP_S for rate in rates.values())  # rows a step, over the least that a step takes
    assert seen[series("seconds_saved", stage="intermediate")] == pytest.approx(10 * STEP_S, rel=0.5)

    def only_the_last_trial() -> bool:
        trials = {dict(tags)["trial"] for name, tags in scrape(dashboard) if name == "ray_tunexfer_rows_per_second"}
        return trials == {"3"}

    wait_until(only_the_last_trial, driver)
    assert Finished.of(driver).summary["trials"]["complete"] == 4


def test_a_reused_stage_saves_what_it_took_to_train_here_or_its_steps_at_the_mean_pace() -> None:
    def ended(*stages: JobRun) -> TrialResult:
        return TrialResult(trial=None, state="complete", started=0.0, seconds=0.0, jobs=stages)  # type: ignore[arg-type]

    def run(name: str, mark: str, seconds: float, *, reused: bool = False) -> JobRun:
        return JobRun(name=name, kind="train", key=mark, reused=reused, steps=10, seconds=seconds)

    first = ended(run("stage", "a", 4.0), run("target", "b", 2.0))
    second = ended(run("stage", "a", 0.0, reused=True), run("target", "elsewhere", 0.0, reused=True))
    assert seconds_saved([first, second]) == {"stage": 4.0, "target": 10 * (4.0 + 2.0) / 20}
    assert seconds_saved([second]) == {"stage": 0.0, "target": 0.0}
    assert seconds_saved([first]) == {}
