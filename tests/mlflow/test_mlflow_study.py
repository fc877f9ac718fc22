"""What MLflow shows of a whole study: description, files, and the rows it read."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record.made_up import study

from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.mlflow.client import default_uri, find_uri, remember
from tunexfer.mlflow.mirror import Mirror
from tunexfer.mlflow.runs import NOTE, description
from tunexfer.record.environment import Dataset, write_datasets
from tunexfer.record.findings import Findings
from tunexfer.record.folder import read_plan
from tunexfer.record.record import Record

DIGEST = {"train": "a" * 32, "validation": "b" * 32, "test": "c" * 32}


def datasets() -> list[Dataset]:
    """Of intent in three languages and three splits, and the test rows of retrieval from the hub."""
    facts: dict[str, Any] = {"task": "intent", "rows": 40, "suite": "toy"}
    found = [
        Dataset(language=language, split=split, digest=DIGEST[split], **facts)  # type: ignore[arg-type]
        for language in ("de", "en", "ru")
        for split in ("train", "validation", "test")
    ]
    hub = "someone/retrieval@1234"
    pairs = Dataset(task="retrieval", language="de", split="test", rows=7, digest="d" * 32, suite="toy", hub=hub)
    return [*found, pairs]


def draw(folder: Path) -> None:
    (folder / "report.html").write_text("<h1>toy</h1>")
    (folder / "report_files").mkdir()
    (folder / "report_files" / "gains.csv").write_text("task,gain\nintent,3.0\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study that was sent twice."""
    folder = StudyFolder(tmp_path_factory.mktemp("made") / "runs" / "toy")
    study(folder)
    write_datasets(folder, datasets())
    for _ in range(2):
        said: list[str] = []
        Mirror(Record(folder), default_uri(folder.path.parent), said.append, draw=draw).start().close("finished")
        assert said == []
    return folder


@pytest.fixture(scope="module")
def client(folder: StudyFolder) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=default_uri(folder.path.parent))


@pytest.fixture(scope="module")
def runs(client: Any) -> dict[str, Any]:
    """Trial number (or `parent`) -> run."""
    found = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    return {run.data.tags.get("tunexfer.trial", "parent"): run for run in found}


def findings_of(folder: StudyFolder) -> Findings:
    record = Record(folder)
    return Findings.of(record.ended, record.score_table(), read_plan(folder))


def test_the_description_of_the_parent_run_holds_the_findings(folder: StudyFolder, runs: dict[str, Any]) -> None:
    text = runs["parent"].data.tags[NOTE]
    assert text.startswith("**toy**: finished; trials: 3 wanted, 2 complete, 1 failed, 2 confirm.")
    plain = re.sub(r"\\(.)", r"\1", text)
    findings = findings_of(folder)
    for sentence in (findings.headline, *findings.sentences, *findings.warnings):
        assert sentence in plain


def test_a_description_escapes_what_markdown_would_read(folder: StudyFolder) -> None:
    assert description("a_b*c", "running", findings_of(folder)).startswith(r"**a\_b\*c**: running;")


def test_a_description_is_never_longer_than_mlflow_takes(folder: StudyFolder) -> None:
    findings = findings_of(folder)
    many = {f"target{number}": findings.targets["intent"] for number in range(300)}
    text = description("toy", "running", replace(findings, targets=many, confirmation=[]))
    assert 7000 < len(text) < 8000


def test_the_parent_run_has_plan_scores_and_report_as_files(client: Any, runs: dict[str, Any]) -> None:
    parent = runs["parent"].info.run_id
    found = {file.path for file in client.list_artifacts(parent)}
    assert found == {"plan.yaml", "environment.json", "scores.parquet", "report.html", "report_files"}
    assert [file.path for file in client.list_artifacts(parent, "report_files")] == ["report_files/gains.csv"]


def test_a_report_that_fails_is_said_and_the_study_still_ends(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "runs" / "toy")
    study(folder)
    said: list[str] = []

    def fail(to: Path) -> None:
        raise RuntimeError("no ink")

    uri = default_uri(folder.path.parent)
    Mirror(Record(folder), uri, said.append, draw=fail).start().close("finished")
    assert said == [f"MLflow has no report of toy: no ink. Run `tunexfer report {folder.path}`."]
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    [parent] = client.search_runs([client.get_experiment_by_name("toy").experiment_id], "tags.`mlflow.runName` = 'toy'")
    assert parent.info.status == "FINISHED"


def _inputs(run: Any) -> set[tuple[str, str, str]]:
    """Name, digest and what for; fails where one is there twice."""
    found = [
        (one.dataset.name, one.dataset.digest, {tag.key: tag.value for tag in one.tags}["mlflow.data.context"])
        for one in run.inputs.dataset_inputs
    ]
    assert len(set(found)) == len(found)
    return set(found)


def test_a_trial_names_the_rows_it_trained_on_and_its_study_all_rows(client: Any, runs: dict[str, Any]) -> None:
    trained = {("intent/de", DIGEST["train"], "training"), ("intent/en", DIGEST["train"], "training")}
    assert _inputs(client.get_run(runs["1"].info.run_id)) == trained
    assert _inputs(client.get_run(runs["0"].info.run_id)) == {("intent/en", DIGEST["train"], "training")}
    words = {"train": "training", "validation": "validation", "test": "test"}
    parent = client.get_run(runs["parent"].info.run_id)
    assert _inputs(parent) == {(f"{one.task}/{one.language}", one.digest, words[one.split]) for one in datasets()}


def test_rows_from_the_hub_say_where_and_how_many(client: Any, runs: dict[str, Any]) -> None:
    inputs = client.get_run(runs["parent"].info.run_id).inputs.dataset_inputs
    [pairs] = [one.dataset for one in inputs if one.dataset.name == "retrieval/de"]
    assert pairs.source_type == "hugging_face"
    assert json.loads(pairs.source) == {"path": "someone/retrieval", "revision": "1234"}
    assert json.loads(pairs.profile) == {"num_rows": 7}


def test_a_study_remembers_where_it_is_mirrored_and_no_password(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "toy")
    remember(folder, "http://mlflow.example:8080")
    assert find_uri(folder, None) == "http://mlflow.example:8080"
    assert find_uri(folder, "http://other.example") == "http://other.example"
    remember(folder, "postgresql://me:secret@db.example/mlflow")
    assert "secret" not in folder.tracking.read_text()
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@db.example/mlflow. Give the URI with its password"):
        find_uri(folder, None)


@pytest.mark.parametrize("damage", ["", "{", "[1]", "{}", '{"uri": 3}', "\0"])
def test_a_damaged_note_of_the_mirror_is_an_error_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    folder = StudyFolder(tmp_path / "toy")
    remember(folder, "http://mlflow.example:8080")
    folder.tracking.write_text(damage)
    with pytest.raises(StudyError, match=r"tracking\.json can't be read .*--tracking-uri, or delete that file"):
        find_uri(folder, None)
    assert find_uri(folder, "http://other.example") == "http://other.example"


def test_a_runs_folder_may_be_moved_with_its_database(tmp_path: Path) -> None:
    there = StudyFolder(tmp_path / "there" / "toy")
    there.path.mkdir(parents=True)
    (there.path.parent / "mlflow.db").touch()
    remember(there, default_uri(there.path.parent))
    assert find_uri(there, None) == f"sqlite:///{tmp_path / 'there' / 'mlflow.db'}"
    shutil.move(tmp_path / "there", tmp_path / "here")
    here = StudyFolder(tmp_path / "here" / "toy")
    assert find_uri(here, None) == f"sqlite:///{tmp_path / 'here' / 'mlflow.db'}"
    (tmp_path / "here" / "mlflow.db").unlink()
    with pytest.raises(StudyError, match=r"no MLflow database of this study \(it was in sqlite:.*there/mlflow.db\)"):
        find_uri(here, None)


def test_a_relative_database_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path / "runs" / "toy")
    (tmp_path / "own.db").touch()
    monkeypatch.chdir(tmp_path)
    remember(folder, "sqlite:///own.db")
    monkeypatch.chdir("/")
    assert find_uri(folder, None) == f"sqlite:///{tmp_path / 'own.db'}"
