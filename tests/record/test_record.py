"""The record on disk: what it keeps, what it rejects, and how it treats damage."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record.made_up import PLAN, chain, run, scores, study, trial

from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Failure, Trial, TrialResult
from tunexfer.errors import StudyError
from tunexfer.record.record import Record


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "toy")


def test_a_trial_is_read_back_as_it_was_written(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        written = run(record, trial(0, phase="baseline", of=chain()))
    record = Record(folder)
    assert record.ended == [replace(written, scores=())]
    assert record.scores(0) == written.scores
    assert len(written.scores) == 8
    assert json.loads(folder.trial(0).status.read_text())["state"] == "complete"


def test_the_command_is_kept_without_the_passwords_in_it(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["tunexfer", "search", "toy", "--tracking-uri=http://me:s3@cret@mlflow.example:8080/x@y", "--seed", "3"]
    monkeypatch.setattr("sys.argv", command)
    with Record.drive(folder, PLAN):
        kept = json.loads(folder.environment.read_text())["command"]
    assert kept == [*command[:3], "--tracking-uri=http://me:***@mlflow.example:8080/x@y", "--seed", "3"]


def test_a_trial_that_was_begun_and_not_finished_is_to_be_run_again_as_the_same_trial(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(2))
    record = Record(folder)
    assert record.unfinished() == [trial(2)]
    assert next(record.free_numbers()) == 1


def test_a_failed_trial_is_run_again(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        run(record, trial(1), state="failed")
    assert Record(folder).unfinished() == [trial(1)]


@pytest.mark.parametrize(("rule", "again"), [(None, [trial(1)]), (Failure(kind="user", message="no good"), [])])
def test_an_interrupted_trial_is_run_again_and_one_that_a_rule_stopped_is_not(
    folder: StudyFolder, rule: Failure | None, again: list[Trial]
) -> None:
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(1))
        record.finish(TrialResult(trial=trial(1), state="stopped", started=0.0, seconds=1.0, failure=rule))
    assert Record(folder).unfinished() == again


@pytest.mark.parametrize("name", ["status.json", "scores.jsonl", "rows.parquet"])
@pytest.mark.parametrize("damage", [b"", b'{"state": "comp', b'{"state": "weird"}', b"[1]", None])
def test_a_complete_trial_with_a_damaged_file_is_run_again(
    folder: StudyFolder, name: str, damage: bytes | None
) -> None:
    with Record.drive(folder, PLAN) as record:
        run(record, trial(1))
    path = folder.trial(1).path / name
    path.unlink() if damage is None else path.write_bytes(damage)
    record = Record(folder)
    assert record.complete == []
    assert record.unfinished() == [trial(1)]
    told = [f"{folder.trial(1).path}: the record of this trial is damaged"]
    assert [sentence.partition(" (")[0] for sentence in record.damaged] == told * (
        damage is not None or name != "status.json"
    )


def test_a_trial_whose_chain_is_lost_leaves_its_number_free(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        run(record, trial(1))
        run(record, trial(2))
    folder.trial(1).chain.write_text("chain: [")
    record = Record(folder)
    assert [ended.trial.number for ended in record.ended] == [2]
    assert next(record.free_numbers()) == 1
    assert len(record.damaged) == 1
    assert "chain.yaml can't be read" in record.damaged[0]


@pytest.mark.parametrize("damage", ["", "identity: {seed: 7}", "name: [", "- 1", "identity: 3\nstudy_id: abc", "\0"])
def test_a_damaged_plan_is_an_error_that_names_it(folder: StudyFolder, damage: str) -> None:
    with Record.drive(folder, PLAN) as record:
        run(record, trial(1))
    folder.plan.write_text(damage)
    with pytest.raises(StudyError, match=r"plan\.yaml can't be read as a plan"), Record.drive(folder, PLAN):
        pass
    assert folder.plan.read_text() == damage


def test_a_complete_trial_without_scores_is_a_failed_one(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(1))
        failed = record.finish(TrialResult(trial=trial(1), state="complete", started=1.0, seconds=2.0))
    assert failed.state == "failed"
    assert failed.failure
    assert "read back" in failed.failure.message


def test_scores_and_rows_given_to_the_record_are_written_as_they_are(folder: StudyFolder) -> None:
    parts = [pa.table({"target": ["intent"] * n, "id": [f"{n}-{at}" for at in range(n)]}) for n in (2, 3)]
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(1))
        result = TrialResult(trial=trial(1), state="complete", started=1.0, seconds=2.0, scores=scores(chain(), 50.0))
        assert record.finish(result, iter(parts)) == result
    assert pq.read_table(folder.trial(1).rows) == pa.concat_tables(parts)
    assert Record(folder).scores(1) == result.scores


def test_rows_that_cannot_be_written_fail_the_trial(folder: StudyFolder) -> None:
    other = [pa.table({"target": ["intent"]}), pa.table({"something": [1.0]})]
    with Record.drive(folder, PLAN) as record:
        record.begin(trial(1))
        result = TrialResult(trial=trial(1), state="complete", started=1.0, seconds=2.0, scores=scores(chain(), 50.0))
        failed = record.finish(result, other)
    assert failed.state == "failed"
    assert failed.failure
    assert failed.failure.kind == "bug"
    assert not folder.trial(1).rows.exists()
    assert Record(folder).unfinished() == [trial(1)]


def test_a_study_of_version_0_1_is_read_but_not_continued(folder: StudyFolder) -> None:
    """Version 0.1 calls a score's target `task`."""
    with Record.drive(folder, {"tunexfer": "0.1.0", **PLAN}) as record:
        run(record, trial(0, phase="baseline", of=chain()))
    old = folder.trial(0).scores.read_text().replace('{"target": ', '{"task": ')
    folder.trial(0).scores.write_text(old)
    assert {score.target for score in Record(folder).scores(0)} == {"intent", "retrieval"}
    assert set(Record(folder).score_table()["target"]) == {"intent", "retrieval"}
    with pytest.raises(StudyError, match=r"tunexfer 0\.1\.0.*another --name"), Record.drive(folder, PLAN):
        pass


def test_numbers_are_given_in_order_whatever_was_taken(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        run(record, trial(2))
        assert list(itertools.islice(record.free_numbers(), 3)) == [1, 3, 4]
        record.begin(trial(1))
        assert next(record.free_numbers()) == 3


def test_a_folder_made_by_a_different_plan_is_refused_with_what_differs(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN):
        pass
    other = {**PLAN, "identity": {**PLAN["identity"], "stages": [{"learning_rate": 0.002}]}}
    message = r"stages\[0\].learning_rate: 0.001 there, 0.002 now"
    with pytest.raises(StudyError, match=message), Record.drive(folder, other):
        pass


def test_more_trials_extend_a_study_and_keep_its_id(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        study_id = record.study_id
    with Record.drive(folder, {**PLAN, "search": {"trials": 9}}) as record:
        assert record.study_id == study_id
    assert "trials: 9" in folder.plan.read_text()


def test_a_second_driver_is_refused(folder: StudyFolder) -> None:
    with (
        Record.drive(folder, PLAN),
        pytest.raises(StudyError, match="another search is running"),
        Record.drive(folder, PLAN),
    ):
        pass


def test_trials_without_a_plan_are_nobodys(folder: StudyFolder) -> None:
    folder.trial(0).path.mkdir(parents=True)
    with pytest.raises(StudyError, match=r"no plan\.yaml"), Record.drive(folder, PLAN):
        pass


def test_deltas_are_against_the_baseline_of_the_same_seed(folder: StudyFolder) -> None:
    study(folder)
    table = pq.read_table(folder.scores).to_pylist()
    deltas = {
        (row["trial"], row["target"], row["language"], row["split"], row["metric"]): row["delta"] for row in table
    }
    assert deltas[1, "intent", "ru", "test", "accuracy"] == 53 - 50
    assert deltas[4, "intent", "ru", "test", "accuracy"] == 56 - 51
    assert deltas[1, "intent", "ru", "test", "macro_f1"] == 0
    assert {row["trial"] for row in table} == {0, 1, 3, 4}
    assert {row["study"] for row in table} == {"toy"}


def test_the_delta_against_ones_own_target_values_is_given_where_they_were_trained_alone(folder: StudyFolder) -> None:
    with Record.drive(folder, PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1, of=chain(target_rate=2e-3)), 52.0)
        run(record, trial(2, of=chain(stages=1, target_rate=2e-3)), 55.0)
        run(record, trial(3, of=chain(stages=1, target_rate=3e-3)), 55.0)
    rows = [row for row in pq.read_table(folder.scores).to_pylist() if row["split"] == "test" and row["main"]]
    own = {(row["trial"], row["target"]): row["delta_own"] for row in rows if row["language"] == "de"}
    assert own[2, "intent"] == 55 - 52
    assert own[3, "intent"] is None
    assert own[3, "retrieval"] is not None  # nothing is trained for it, so any chain without a stage will do


def test_the_best_trial_has_the_highest_objective_of_the_search_itself(folder: StudyFolder) -> None:
    study(folder)
    best = Record(folder).best()
    assert best is not None
    assert best.trial.number == 1


def test_of_confirmed_chains_the_mean_over_fresh_seeds_decides_and_the_others_are_out(folder: StudyFolder) -> None:
    lucky, steady, unconfirmed = (chain(stages=1, target_rate=rate) for rate in (1e-3, 2e-3, 3e-3))
    with Record.drive(folder, PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        for number, (of, objective) in enumerate([(lucky, 58.0), (steady, 57.0), (unconfirmed, 60.0)], start=1):
            run(record, trial(number, of=of), objective)
        run(record, trial(4, phase="confirm", seed=8, of=chain()), 51.0)
        best = record.best()
        assert best is not None
        assert best.trial.number == 3  # the baseline alone is confirmed so far
        for number, (of, objective) in enumerate([(lucky, 52.0), (steady, 55.0)], start=5):
            run(record, trial(number, phase="confirm", seed=8, of=of), objective)
        run(record, trial(7, phase="confirm", seed=9, of=chain()), 51.0)
        for number, (of, objective) in enumerate([(lucky, 59.0), (steady, 57.0)], start=8):
            run(record, trial(number, phase="confirm", seed=9, of=of), objective)
    best = Record(folder).best()
    assert best is not None
    assert best.trial.number == 2  # (55 + 57) / 2 against (52 + 59) / 2
