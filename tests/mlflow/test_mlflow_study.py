"""What MLflow shows of a whole study: description, files, the rows it read, and the view of its best trials."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from record.made_up import study

from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.mlflow.client import default_uri, find_uri, remember
from tunexfer.mlflow.description import NOTE, description
from tunexfer.mlflow.mirror import Mirror
from tunexfer.mlflow.view import PREFIX, compare_address, trials_address, view_key, view_tag
from tunexfer.record.datasets import Dataset, write_datasets
from tunexfer.record.findings import summarise
from tunexfer.record.record import Record

OBJECTIVE = {"maximize": "mean", "split": "validation", "languages": ["de", "ru"]}
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


def test_the_parent_run_says_what_was_found(runs: dict[str, Any]) -> None:
    text = runs["parent"].data.tags[NOTE]
    assert text.startswith("**toy**: finished; trials: 2 complete, 1 failed of 3, and 2 with fresh seeds. 50 steps")
    # unseen is ru alone: the stage trained intent in de, the target in en
    assert "| intent | accuracy, test | 1 | 48.0 | 51.0 | +3.0 | en de ru |  |" in text
    assert "Best chain (trial 1): intermediate: 100% intent/de, 10 steps, lr 1e-3" in text
    assert "- trial 1: intent +5.00, retrieval +5.00" in text


def test_a_description_says_who_chose_and_escapes_what_markdown_would_read(folder: StudyFolder) -> None:
    found = summarise(Record(folder), state="running", objective=OBJECTIVE, wanted=3, seconds=0.0)
    assert "Chosen by the mean of validation scores (languages: de ru): baseline 50.00, best 53.00." in description(
        found
    )
    assert description({**found, "study": "a_b*c"}).startswith(r"**a\_b\*c**: running;")


def test_a_description_is_never_longer_than_mlflow_takes(folder: StudyFolder) -> None:
    found = summarise(Record(folder), state="running", objective=OBJECTIVE, wanted=3, seconds=0.0)
    many = {f"target{number}": found["targets"]["intent"] for number in range(300)}
    text = description({**found, "targets": many})
    assert len(text) < 8000
    assert text.rstrip().endswith("|")


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
    assert said == [f"MLflow shows no report of toy: no ink. `tunexfer report {folder.path}` makes it."]
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


def _view(client: Any, folder: StudyFolder) -> dict[str, Any]:
    """As MLflow's page reads it: an envelope with a name, and the state compressed."""
    tags = client.get_experiment_by_name("toy").tags
    envelope = json.loads(tags[PREFIX + view_key(Record(folder).study_id)])
    assert envelope["name"] == "toy: best first"
    packed = envelope["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_the_view_has_the_few_columns_that_matter_first(client: Any, folder: StudyFolder) -> None:
    state = _view(client, folder)
    families = [
        f"metrics.`{kind}/{target}`" for kind in ("gain", "mean", "worst") for target in ("intent", "retrieval")
    ]
    assert state["selectedColumns"][:7] == ["metrics.`objective`", *families]
    assert [name for name in state["columnOrder"] if name in state["selectedColumns"]] == state["selectedColumns"]
    assert "params.`intermediate.tasks`" not in state["selectedColumns"]  # every trial with a stage has the same
    sections = [section["name"] for section in state["compareRunSections"]]
    assert sections == ["Gain in unseen languages", "Objective", "Mean of languages", "Worst language"]
    known = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == known


def test_what_the_view_asks_for_is_the_studys_own_trials_and_the_best_comes_first(
    client: Any, folder: StudyFolder
) -> None:
    state = _view(client, folder)
    order = f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"
    number = client.get_experiment_by_name("toy").experiment_id
    found = client.search_runs([number], state["searchFilter"], order_by=[order])
    assert [run.data.tags["tunexfer.trial"] for run in found] == ["1", "0", "2"]


def test_there_is_no_view_before_a_trial_is_complete(tmp_path: Path) -> None:
    assert view_tag(Record(StudyFolder(tmp_path / "none"))) is None


def test_addresses_are_those_of_mlflows_pages() -> None:
    assert (
        trials_address("http://127.0.0.1:5000", "3", "ab", charts=True)
        == "http://127.0.0.1:5000/#/experiments/3/runs?viewStateShareKey=tunexfer-ab&compareRunsMode=CHART"
        "&workflowType=machine_learning"
    )
    assert (
        compare_address("http://127.0.0.1:5000", "3", ["x", "y"])
        == "http://127.0.0.1:5000/#/compare-runs?runs=%5B%22x%22%2C%22y%22%5D&experiments=%5B%223%22%5D"
    )


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
