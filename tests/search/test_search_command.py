"""The search command from end to end: what it leaves, what it repeats, what it refuses."""

from __future__ import annotations

import fcntl
import json

import pyarrow.parquet as pq
import pytest
import yaml
from command import Finished, Home, runs, scores, statuses, trained

from tunexfer.core.files import StudyFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first(home: Home) -> Finished:
    """A search in a process of its own, on as many devices as there are."""
    return Finished.of(home.start(home.space("first"), "--trials", "4", "--json", store="store-first"))


@pytest.fixture
def study(home: Home, first: Finished) -> StudyFolder:
    assert first.code == 0, first.said
    return home.study("first")


@pytest.fixture
def uri(home: Home) -> str:
    return f"sqlite:///{home.path / 'runs' / 'mlflow.db'}"


def test_standard_output_is_the_summary_and_nothing_else(first: Finished) -> None:
    assert first.summary["state"] == "finished"
    assert first.summary["trials"]["complete"] == 4
    assert {"choice", "pairs"} == first.summary["targets"].keys()


def test_the_dashboard_and_its_token_the_first_score_and_every_trial_are_told(first: Finished) -> None:
    assert "Ray dashboard: http://127.0.0.1:" in first.said
    assert "ray get-auth-token" in first.said
    assert first.said.count("first score") == 1
    assert [f"trial {number} complete" in first.said for number in range(4)] == [True] * 4


def test_the_record_has_its_files(study: StudyFolder) -> None:
    assert {path.name for path in study.path.iterdir()} - {".lock"} == {
        "plan.yaml", "environment.json", "datasets.jsonl", "tracking.json", "scores.parquet", "trials",
        "ending.json"
    }  # fmt: skip
    assert json.loads(study.environment.read_text())["libraries"]["torch"]
    assert yaml.safe_load(study.plan.read_text())["identity"]["encoder"]
    for number, status in statuses(study).items():
        assert status["state"] == "complete"
        found = {path.name for path in study.trial(number).path.iterdir()} - {"progress.json"}
        assert found == {"chain.yaml", "status.json", "scores.jsonl", "rows.parquet"}
        rows = pq.read_table(study.trial(number).rows).to_pylist()
        assert len(rows) == 2 * (2 + 2) * 10  # splits x (choice in en de, pairs in de ru) x rows
    table = pq.read_table(study.scores).to_pylist()
    assert {row["trial"] for row in table} == {0, 1, 2, 3}
    assert {row["delta"] for row in table if row["trial"] == 0} == {0.0}


def test_mlflow_has_the_score_of_every_language_in_a_nested_run_per_trial(study: StudyFolder, uri: str) -> None:
    found = runs(uri, "first")
    assert found.keys() == {"parent", "0", "1", "2", "3"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    parent = found.pop("parent")
    for number, run in found.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["tunexfer.phase"] == "search"
        assert run.data.tags["tunexfer.suite"] == "pico.yaml"
        lines = [json.loads(line) for line in study.trial(int(number)).scores.read_text().splitlines()]
        main = {f"{one['split']}/{one['target']}/{one['language']}": one["value"] for one in lines if one["main"]}
        assert len(main) == 2 * (2 + 2)
        assert run.data.metrics.items() >= main.items()


def test_the_same_command_again_trains_and_sends_nothing(
    home: Home, first: Finished, study: StudyFolder, uri: str
) -> None:
    before, sent = statuses(study), {name: run.info.run_id for name, run in runs(uri, "first").items()}
    again = home.search(home.space("first"), "--trials", "4", "--json", store="store-first")
    same = {key: value for key, value in first.summary.items() if key != "seconds"}
    assert {key: value for key, value in again.summary.items() if key != "seconds"} == same
    assert statuses(study) == before
    assert {name: run.info.run_id for name, run in runs(uri, "first").items()} == sent
    assert "Ray dashboard" not in again.said


def test_a_changed_space_is_refused_with_what_differs(home: Home, study: StudyFolder) -> None:
    targets = [{"task": "choice", "train_language": "en", "learning_rate": 5.0e-3, "steps": 4}, {"task": "pairs"}]
    done = home.search(home.space("other", targets=targets), "--name", "first")
    assert (done.code, done.out) == (2, "")
    assert "made by a different plan" in done.said
    assert "0.005 now" in done.said
    assert "Traceback" not in done.said


def test_a_second_driver_is_refused(home: Home, study: StudyFolder) -> None:
    with study.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = home.search(home.space("first"))
    assert (done.code, done.out) == (2, "")
    assert "another search is running on this study" in done.said
    assert "Traceback" not in done.said


def test_two_studies_at_once_train_no_stage_twice_and_score_to_the_bit_what_one_alone_does(
    home: Home, study: StudyFolder, head: str
) -> None:
    names, options = ("left", "right"), ("--address", head, "--concurrent", "1", "--json")
    both = [home.start(home.space(name), *options, store="store-both") for name in names]
    assert [Finished.of(process).summary["trials"]["complete"] for process in both] == [4, 4]
    left, right = (home.study(name) for name in names)
    assert scores(left) == scores(right) == scores(study)
    at_once = [*trained(left), *trained(right)]
    assert sorted(at_once) == sorted(set(at_once))
    assert set(at_once) == set(trained(study))


def test_more_trials_extend_the_study(home: Home, study: StudyFolder, uri: str, head: str) -> None:
    before = statuses(study)
    options = ("--address", head, "--concurrent", "1", "--json")
    done = home.search(home.space("first"), "--trials", "6", *options, store="store-first")
    assert done.summary["trials"]["complete"] == 6
    assert statuses(study).items() > before.items()
    assert runs(uri, "first").keys() == {"parent", *map(str, range(6))}
    assert len(set(trained(study))) == len(trained(study))
