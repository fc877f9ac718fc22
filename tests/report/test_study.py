"""A study read from its folder: what its tables hold, whatever state the folder is in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_up_study import MadeUp

from tunexfer import Study
from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.record.record import Record
from tunexfer.report.study import with_distinct_names

VERSION_0_1 = Path(__file__).parent / "study_0_1"
"""A made-up study that tunexfer 0.1.0 wrote: a baseline, a chain, and a trial that failed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight trials, one failed, one unfinished, and two chains with two fresh seeds."""
    runs = tmp_path_factory.mktemp("runs")
    return MadeUp(trials=8, seeds=2, rows=4, states=((3, "failed"), (5, "unfinished"))).write(runs)


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return Study.load(folder)


def test_its_scores_are_those_of_the_table_that_the_search_wrote(study: Study, folder: Path) -> None:
    written = pq.read_table(StudyFolder(folder).scores).to_pandas()
    mine = study.scores()[list(written.columns)]
    pd.testing.assert_frame_equal(mine, written, check_dtype=False, check_categorical=False, check_exact=True)


def test_every_trial_has_its_row(study: Study) -> None:
    trials = study.trials()
    assert list(trials.index) == [*range(8), *range(8, 12)]
    assert trials["state"].value_counts().to_dict() == {"complete": 10, "failed": 1, "unfinished": 1}
    assert trials.loc[0, "phase"] == "baseline"
    assert trials.loc[3, "reason"] == "it broke"
    assert trials.loc[5, ["objective", "seconds", "steps_trained"]].isna().all()
    assert trials.loc[0, "stages"] == "no intermediate stage"


def test_the_best_trial_is_the_one_the_record_names(study: Study, folder: Path) -> None:
    best = Record(StudyFolder(folder)).best()
    assert best is not None
    assert study.best() == best.trial.number
    assert study.baseline() == 0
    assert [study.chain(number) for number in study.repeats(best.trial.number)] == [best.trial.chain] * 2


def test_a_coordinate_that_does_not_exist_in_a_trial_is_missing_there(study: Study) -> None:
    drawn = study.coordinates()
    without = drawn["stages[0].tasks"].isin(["none"]) | drawn["stages[0].tasks"].isna()
    assert list(drawn.columns) == list(study.plan["coordinates"])
    assert drawn.loc[without, "stages[0].languages"].isna().all()
    assert drawn.loc[~without, "stages[0].languages"].notna().all()


def test_what_the_baseline_was_trained_in_is_not_unseen_by_both(tmp_path: Path) -> None:
    made_up = MadeUp(intermediate=(), train_languages=("en", "de"), targets=("intent",), trials=4)
    study = Study.load(made_up.write(tmp_path))
    scores = study.scores().query("main and split == 'test'").astype({"language": str})
    german = next(number for number in range(1, 4) if study.chain(number).targets[0].train_language == "de")
    flags = scores[scores["trial"] == german].set_index("language")[["unseen", "unseen_by_both"]]
    assert flags.loc[["en", "de", "ru"]].to_numpy().tolist() == [[True, False], [False, False], [True, True]]


def test_a_killed_study_has_the_same_scores_without_the_table_of_the_search(folder: Path, study: Study) -> None:
    table = StudyFolder(folder).scores
    before = table.read_bytes()
    table.unlink()
    try:
        pd.testing.assert_frame_equal(Study.load(folder).scores(), study.scores())
    finally:
        table.write_bytes(before)


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("chain.yaml", b"chain: [", "its chain can't be read from chain.yaml"),
        ("status.json", b'{"state": "comp', "how it ended can't be read from status.json"),
        ("scores.jsonl", b'{"target": "intent", "lan', "its scores.jsonl can't be read"),
        ("scores.jsonl", b'{"target": "intent"}\n', "its scores.jsonl can't be read (a score is missing or cut off)"),
        ("scores.jsonl", b"", "its scores.jsonl can't be read"),
        ("scores.jsonl", None, "its scores.jsonl can't be read"),
        ("rows.parquet", None, "rows.parquet is missing, so its scores have no intervals"),
        ("rows.parquet", b"PAR1", "rows.parquet can't be read ("),
    ],
)
def test_a_damaged_file_is_reported_and_the_rest_is_read(
    tmp_path: Path, file: str, damage: bytes | None, sentence: str
) -> None:
    folder = MadeUp(trials=4).write(tmp_path)
    path = StudyFolder(folder).trial(2).path / file
    path.unlink() if damage is None else path.write_bytes(damage)
    study = Study.load(folder)
    assert [sentence in problem for problem in study.problems] == [True]
    assert {0, 1, 3} <= set(study.scores()["trial"])
    assert (2 in set(study.scores()["trial"])) == (file == "rows.parquet")


def test_what_is_no_trial_among_the_trials_is_passed_over(folder: Path, study: Study, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    trials = StudyFolder(tmp_path / "copy").trials
    for stray in ("0003_old", "3", "0004 (copy)"):
        shutil.copytree(trials / "0002", trials / stray)
    (trials / "0099").touch()
    copied = Study.load(tmp_path / "copy")
    assert copied.problems == study.problems
    pd.testing.assert_frame_equal(copied.trials(), study.trials())
    assert [result.trial.number for result in Record(copied.folder).ended] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def test_studies_of_the_same_name_are_told_apart_by_as_much_of_their_paths_as_it_takes(tmp_path: Path) -> None:
    runs = [tmp_path / "x" / "runs", tmp_path / "y" / "runs", tmp_path / "x" / "old"]
    studies = [Study.load(MadeUp(trials=1).write(folder)) for folder in runs]
    other = Study.load(MadeUp(name="other", trials=1).write(tmp_path))
    names = [study.name for study in with_distinct_names([*studies, other])]
    assert names == ["x/runs/made_up", "y/runs/made_up", "x/old/made_up", "other"]
    assert [study.name for study in with_distinct_names([studies[0], studies[2]])] == ["runs/made_up", "old/made_up"]
    assert with_distinct_names([studies[0], other]) == [studies[0], other]
    assert studies[0].name == "made_up"


def test_a_study_that_is_given_twice_is_an_error(tmp_path: Path) -> None:
    folder = MadeUp(trials=1).write(tmp_path)
    (tmp_path / "again").symlink_to(folder)
    with pytest.raises(StudyError, match="made_up is given twice"):
        with_distinct_names([Study.load(folder), Study.load(tmp_path / "again")])


def test_a_lost_plan_or_baseline_is_told(tmp_path: Path) -> None:
    folder = MadeUp(trials=3, states=((0, "failed"),)).write(tmp_path)
    StudyFolder(folder).plan.unlink()
    study = Study.load(folder)
    assert [problem.split(":")[0] for problem in study.problems] == [
        "plan.yaml can't be read",
        "There is no complete baseline (trial 0), so there is nothing to compare with.",
    ]
    assert study.scores()["delta"].isna().all()
    assert study.baseline() is None


def test_a_study_without_any_trial_yet_has_empty_tables(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=0).write(tmp_path))
    assert study.best() is None
    assert [len(table) for table in (study.trials(), study.scores(), study.coordinates())] == [0] * 3


def test_a_folder_that_is_no_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        Study.load(tmp_path)
    with pytest.raises(StudyError, match="there is no such folder"):
        Study.load(tmp_path / "nowhere")


def test_a_study_of_version_0_1_has_the_scores_that_its_own_version_wrote() -> None:
    study = Study.load(VERSION_0_1)
    written = pq.read_table(study.folder.scores).to_pandas().rename(columns={"task": "target"})
    assert study.problems == []
    pd.testing.assert_frame_equal(study.scores()[[*written]], written, check_dtype=False, check_categorical=False)


def test_trials_rows_and_comparisons_of_version_0_1_are_read() -> None:
    study = Study.load(VERSION_0_1)
    assert study.trials()["state"].tolist() == ["complete", "complete", "failed"]
    assert study.trials()["steps_trained"].tolist() == [160, 260, 0]  # two targets of 80 steps, a stage of 100
    assert study.trials().loc[2, "reason"] == "ValueError: the label 7 is out of range"
    assert study.rows(1)["target"].unique().tolist() == ["intent", "slots"]
    means = study.compare(1, 0).set_index(["target", "language"])
    german = study.scores().query("trial == 1 and main and split == 'test' and language == 'de'").set_index("target")
    assert means.loc[("intent", "mean of unseen languages"), "delta"] == german["delta"]["intent"]
    assert means["rows_low"].notna().all()
    assert means["low"].isna().all()  # no chain was run twice


def test_rows_come_with_the_columns_that_are_asked_for(folder: Path, study: Study) -> None:
    assert study.rows(1, ["target", "id"]).columns.tolist() == ["target", "id"]
    with pytest.raises(StudyError, match="it has no column colour"):
        study.rows(1, ["colour"])
    with pytest.raises(StudyError, match="there is no trial 99"):
        study.rows(99)
