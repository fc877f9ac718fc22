"""The mirror: what MLflow gets, and what survives a crash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow_runs import client_of, mirror, runs_of
from record.made_up import PLAN, chain, run, scores, trial

from tunexfer.core.files import StudyFolder, TrialFolder
from tunexfer.core.trial import Failure, TrialResult
from tunexfer.mlflow.client import DATABASE, alone, default_uri
from tunexfer.mlflow.mirror import Mirror
from tunexfer.mlflow.runs import metrics, params
from tunexfer.record.folder import How
from tunexfer.record.record import Record


def rows(record: Record, number: int) -> Any:
    """A trial's rows of the score table."""
    table = record.score_table()
    return table[table["trial"] == number]


def test_every_score_mean_worst_and_delta_has_its_name(folder: StudyFolder) -> None:
    record = Record(folder)
    found = metrics(record.ended[1], rows(record, 1))
    assert found["objective"] == 53.0
    assert found["test/intent/ru"] == 51.0
    assert found["validation/intent/ru"] == 51.0
    assert found["test/intent/ru/macro_f1"] == 11.0
    assert found["mean/intent"] == 52.0
    assert found["worst/intent"] == 51.0
    assert found["delta/intent/ru"] == 3.0
    assert found["delta/retrieval/de"] == 3.0
    assert found["unseen/intent"] == 51.0  # ru: the stage trained intent in de, the target in en
    assert found["gain/intent"] == 51.0 - 48.0  # of ru alone
    assert len(found) == 1 + 6 + 1 + 1 + 4 * 2 + 4


def test_a_gain_is_over_languages_that_the_baseline_has_not_been_trained_in_either(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        record.begin(trial(1, of=chain(train="de")))
        own = [replace(s, value=9.0) if s.language == "en" else s for s in scores(chain(train="de"), 53.0)]
        german = TrialResult(
            trial=trial(1, of=chain(train="de")), state="complete", started=1.0, seconds=1.0, scores=tuple(own)
        )
        found = metrics(record.finish(german), rows(record, 1))
    assert found["delta/intent/en"] == -41.0
    assert found["gain/intent"] == 3.0  # of ru alone
    assert found["unseen/intent"] == (9.0 + 51.0) / 2  # a score, compared with nothing


def test_parameters_are_flat_and_readable(folder: StudyFolder) -> None:
    found = params(Record(folder).ended[1])
    assert found["stages"] == "intermediate"
    assert found["intermediate.mixture"] == "100% intent/de"
    assert found["intermediate.learning_rate"] == "0.001"
    assert found["intent.train_language"] == "en"


def test_a_study_is_one_parent_with_a_nested_run_per_trial_however_often_it_is_sent(folder: StudyFolder) -> None:
    assert mirror(folder) == []
    assert mirror(folder) == []
    client = client_of(folder)
    runs = runs_of(client)
    assert set(runs) == {"parent", "0", "1", "2", "3", "4"}
    parent = runs["parent"]
    assert {run.data.tags["mlflow.parentRunId"] for name, run in runs.items() if name != "parent"} == {
        parent.info.run_id
    }
    assert {name: run.info.status for name, run in runs.items() if name != "2"}.keys() == {"parent", "0", "1", "3", "4"}
    assert {run.info.status for name, run in runs.items() if name != "2"} == {"FINISHED"}
    assert runs["2"].info.status == "FAILED"
    assert runs["2"].data.tags["tunexfer.reason"] == "it broke"
    assert runs["2"].data.tags["tunexfer.failure"] == "user"
    assert [run.info.run_name for name, run in sorted(runs.items())][:2] == ["0000 baseline", "0001 intent de"]
    assert runs["4"].data.tags["tunexfer.phase"] == "confirm"
    assert runs["1"].data.tags["tunexfer.fingerprint"] == Record(folder).ended[1].trial.fingerprint
    assert runs["1"].data.metrics["delta/intent/ru"] == 3.0
    assert parent.data.metrics["best/objective"] == 53.0
    run_id = runs["1"].info.run_id
    assert len(client.get_metric_history(run_id, "objective")) == 1
    assert {file.path for file in client.list_artifacts(run_id)} == {"chain.yaml", "scores.csv"}
    assert (folder.path.parent / "mlartifacts" / "toy" / run_id).is_dir()


def test_what_a_killed_driver_left_half_sent_is_completed(folder: StudyFolder) -> None:
    mirror(folder)
    client = client_of(folder)
    before = runs_of(client)
    for name in ("parent", "1"):  # as they stand between creating a run and ending it
        client.update_run(before[name].info.run_id, status="RUNNING")
    copy = client.create_run(before["1"].info.experiment_id, tags=dict(before["1"].data.tags))  # its answer was lost
    assert mirror(folder) == []
    after = runs_of(client)
    assert copy.info.run_id not in {run.info.run_id for run in after.values()}
    assert {run.info.status for run in after.values()} == {"FINISHED", "FAILED"}
    assert len(client.get_metric_history(after["1"].info.run_id, "objective")) == 1


def test_a_driver_killed_while_mlflow_makes_its_database_leaves_none_that_cannot_be_opened(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = folder.path.parent
    (runs / DATABASE).unlink()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt), alone(default_uri(runs), runs):
            pass
    [draft] = runs.glob(".mlflow.db*")
    draft.write_bytes(draft.read_bytes()[:5000])
    assert not (runs / DATABASE).exists()
    assert mirror(folder) == []
    assert runs_of(client_of(folder)).keys() == {"parent", "0", "1", "2", "3", "4"}


def test_a_failed_trial_that_succeeds_later_keeps_its_run(folder: StudyFolder) -> None:
    mirror(folder, state="interrupted")
    assert runs_of(client_of(folder))["parent"].info.status == "KILLED"
    with Record.drive(folder, PLAN) as record:
        run(record, trial(2, of=chain(stages=2)), 54.0)
    mirror(folder)
    runs = runs_of(client_of(folder))
    assert runs["2"].info.status == "FINISHED"
    assert runs["2"].data.metrics["objective"] == 54.0


def test_a_trial_that_a_rule_stopped_has_a_run_with_the_reason_and_what_it_saved(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(5))
        reason = Failure(kind="user", message="stopped after 1 of 3 jobs")
        stopped = TrialResult(trial=trial(5), state="stopped", started=0.0, seconds=1.0, failure=reason, saved=41.5)
        record.finish(stopped)
        record.begin(trial(6))
        record.finish(replace(stopped, trial=trial(6), failure=None))  # interrupted: the next search runs it again
    for _ in range(2):
        assert mirror(folder) == []
    runs = runs_of(client_of(folder))
    assert "6" not in runs
    assert runs["5"].info.status == "KILLED"
    assert runs["5"].data.tags["tunexfer.reason"] == "stopped after 1 of 3 jobs"
    assert runs["5"].data.metrics == {"saved_seconds": 41.5}


def test_the_parent_run_has_the_winner_of_each_target_and_the_front(folder: StudyFolder) -> None:
    objective = {"maximize": "mean", "minimize": "device_seconds", "split": "validation", "languages": "all"}
    plan = PLAN | {"identity": {**PLAN["identity"], "objective": objective}}
    other = StudyFolder(folder.path.parent / "front")
    with Record.drive(other, plan) as record:
        for number, seconds in ((0, 10.0), (1, 20.0)):
            of = trial(number, phase="search" if number else "baseline", of=chain(stages=number))
            record.begin(of)
            own = TrialResult(trial=of, state="complete", started=0.0, seconds=1.0, objective=50.0 + number)
            goals = {"mean": 50.0 + number, "device_seconds": seconds}
            record.finish(replace(own, goals=goals, scores=scores(of.chain, 50.0 + number)))
    assert mirror(other) == []
    runs = runs_of(client_of(other), "front")
    parent = runs["parent"].data
    assert parent.tags["tunexfer.front"] == "1, 0"
    assert (parent.metrics["winner/intent/trial"], parent.metrics["winner/intent/gain"]) == (1.0, 1.0)
    assert runs["1"].data.metrics["goal/device_seconds"] == 20.0


def test_the_details_of_a_failure_are_a_file(runs: Path) -> None:
    folder = StudyFolder(runs / "toy")
    failure = Failure(kind="bug", message="KeyError: 'x'", detail="Traceback (most recent call last): ...")
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(1))
        record.finish(TrialResult(trial=trial(1), state="failed", started=1.0, seconds=1.0, failure=failure))
        mirror(folder)
    client = client_of(folder)
    run_id = runs_of(client)["1"].info.run_id
    assert {file.path for file in client.list_artifacts(run_id)} == {"chain.yaml", "failure.txt"}


def test_a_finished_trial_is_sent_at_a_cost_that_does_not_depend_on_the_others(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the trial's own scores and its baseline's are read."""
    read: list[int] = []

    def scores_of(self: TrialFolder) -> Path:
        read.append(self.number)
        return self.path / "scores.jsonl"

    record = Record(folder)
    sender = Mirror(record, default_uri(folder.path.parent), print)
    for result in record.ended:
        sender.finished(result)
    monkeypatch.setattr(TrialFolder, "scores", property(scores_of, lambda self, path: None), raising=False)
    table = sender._scores(record.complete[3])
    assert table is not None
    assert set(read) == {3, 4}  # the baseline with that fresh seed, and the trial
    whole = rows(record, 4)
    assert table["delta"].tolist() == whole["delta"].tolist()
    assert table["unseen_by_both"].tolist() == whole["unseen_by_both"].tolist()


@pytest.mark.parametrize(
    ("state", "status", "files"),
    [
        ("out of time", "FINISHED", {"plan.yaml", "environment.json", "scores.parquet", "report.html"}),
        ("failed", "FAILED", {"plan.yaml", "environment.json", "scores.parquet", "report.html"}),
        ("interrupted", "KILLED", {"plan.yaml", "environment.json", "scores.parquet"}),
    ],
)
def test_the_parent_run_says_how_the_search_ended_and_has_what_there_is(
    folder: StudyFolder, state: How, status: str, files: set[str]
) -> None:
    def draw(to: Path) -> None:
        (to / "report.html").write_text("<h1>toy</h1>")

    Mirror(Record(folder), default_uri(folder.path.parent), print, draw=draw).start().close(state)
    client = client_of(folder)
    parent = runs_of(client)["parent"]
    assert parent.info.status == status
    assert parent.data.tags["mlflow.note.content"].startswith(f"**toy**: {state}; trials: ")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == files


def test_trials_wait_for_the_baseline_they_are_compared_with(runs: Path) -> None:
    folder = StudyFolder(runs / "toy")
    with Record.drive(folder, PLAN) as record:
        run(record, trial(1))
        mirror(folder)
        assert set(runs_of(client_of(folder))) == {"parent"}
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
    mirror(folder)
    assert runs_of(client_of(folder))["1"].data.metrics["delta/intent/ru"] == 0.0
