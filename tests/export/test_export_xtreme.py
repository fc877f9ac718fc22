"""`tunexfer export --format xtreme` of a made-up study: the files it writes, and how `score` scores them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from record.made_up import PLAN, chain, run, stage, trial
from typer.testing import CliRunner

from tunexfer.cli.main import app, main
from tunexfer.core.chain import Chain, Target
from tunexfer.core.files import StudyFolder
from tunexfer.export.xtreme_scores import XTREME_TASKS, score_folders
from tunexfer.record.record import Record
from tunexfer.tasks.kinds import ROWS_SCHEMA


def rows(task: str, *made: tuple[Any, Any], **more: Any) -> list[dict[str, Any]]:
    """Test rows (gold, prediction) in every language of the benchmark's task."""
    return [
        {
            "task": task,
            "language": language,
            "split": "test",
            "id": f"{language}-{number}",
            "cluster": str(number),
            "gold": json.dumps(gold),
            "prediction": json.dumps(prediction),
            **{name: values[number] for name, values in more.items()},
        }
        for language in XTREME_TASKS[task].languages
        for number, (gold, prediction) in enumerate(made)
    ]


XNLI = rows("xnli", ("entailment", "entailment"), ("neutral", "contradiction"))
PAWSX = rows("pawsx", ("same", "same"), ("different", "same"), ("same", "same"), ("different", "different"))
UDPOS = rows("udpos", (["DET", "NOUN", "NOUN", "VERB", "PUNCT"], ["DET", "NOUN", "NOUN", "NOUN", "PUNCT"]))
XQUAD = rows("xquad", (["red dog house", "a cat"], "the big red dog"), (["Oslo"], "Oslo"))
TATOEBA = rows("tatoeba", (0, 0), (1, 0), (2, 2), place=[2, 0, 1])
BUCC = rows("bucc2018", ("en-1", "en-1"), ("en-2", None), (None, "en-3"))
ALL = [*XNLI, *PAWSX, *UDPOS, *XQUAD, *TATOEBA, *BUCC]


def study(path: Path, made: list[dict[str, Any]] = ALL, *, best: int = 1, of: Chain | None = None) -> Path:
    """Trials 0 and 1 are complete, with the same rows; 2 failed; 3 was begun."""
    with Record.drive(StudyFolder(path), PLAN) as record:
        for number in (0, 1):
            result = run(record, trial(number, of=of or chain()), 60.0 if number == best else 50.0)
            record.finish(result, [pa.Table.from_pylist(made, schema=ROWS_SCHEMA)])
        run(record, trial(2, of=chain()), state="failed")
        record.begin(trial(3, of=chain()))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("runs") / "toy")


def export(folder: Path, to: Path, *options: object) -> str:
    """Run the command and return what it prints."""
    arguments = ["export", folder, "--format", "xtreme", "--to", to, *options]
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command, which fails with exit code 2, and return its message."""
    monkeypatch.setattr(sys, "argv", ["tunexfer", "export", "--format", "xtreme", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert not output.out
    return output.err


# Files


def test_a_label_a_line_as_the_benchmark_calls_it(made: Path, tmp_path: Path) -> None:
    export(made, tmp_path / "to")
    assert (tmp_path / "to/xnli/test-sw.tsv").read_text() == "entailment\ncontradiction\n"
    assert (tmp_path / "to/pawsx/test-ko.tsv").read_text() == "1\n1\n1\n0\n"


def test_a_tag_a_line_and_an_empty_line_after_each_sentence(tmp_path: Path) -> None:
    export(study(tmp_path / "study", rows("panx", (["O"], ["O"]), (["B-PER"] * 2, ["B-PER", "O"]))), tmp_path / "to")
    assert (tmp_path / "to/panx/test-yo.tsv").read_text() == "O\n\nB-PER\nO\n\n"


def test_answers_by_the_id_of_their_question(made: Path, tmp_path: Path) -> None:
    export(made, tmp_path / "to")
    assert json.loads((tmp_path / "to/xquad/test-th.json").read_text()) == {"th-0": "the big red dog", "th-1": "Oslo"}


def test_tatoebas_lines_follow_the_english_sentences_in_the_order_of_the_alphabet(made: Path, tmp_path: Path) -> None:
    export(made, tmp_path / "to", "--labels", tmp_path / "labels")
    assert (tmp_path / "to/tatoeba/test-af.tsv").read_text() == "0\n2\n0\n"
    assert (tmp_path / "labels/tatoeba/test-af.tsv").read_text() == "1\n2\n0\n"


def test_a_pair_of_ids_a_line(made: Path, tmp_path: Path) -> None:
    export(made, tmp_path / "to", "--labels", tmp_path / "labels")
    assert (tmp_path / "to/bucc2018/test-ru.tsv").read_text() == "ru-0\ten-1\nru-2\ten-3\n"
    assert (tmp_path / "labels/bucc2018/test-ru.tsv").read_text() == "ru-0\ten-1\nru-1\ten-2\n"


def test_score_reads_it_back_to_the_numbers_that_the_rows_give(made: Path, tmp_path: Path) -> None:
    export(made, tmp_path / "to", "--labels", tmp_path / "labels")
    scores = score_folders(tmp_path / "to", tmp_path / "labels")["tasks"]
    assert {name: task["mean"] for name, task in scores.items()} == {
        "xnli": pytest.approx(50.0),
        "pawsx": pytest.approx(75.0),
        "udpos": pytest.approx(400 / 7),  # 2 of 3 chunks found are right, 2 of 4 to be found
        # exact match 1 of 2; F1 1 and 2/3, as 2 of 3 words are common either way
        "xquad": pytest.approx((50 + 250 / 3) / 2),
        "bucc2018": pytest.approx(50.0),
        "tatoeba": pytest.approx(200 / 3),
    }


def test_the_best_trial_is_exported_unless_one_is_named(made: Path, tmp_path: Path) -> None:
    assert "trial 1 of toy: xnli, pawsx, udpos, xquad, bucc2018, tatoeba" in export(made, tmp_path / "best")
    assert "trial 0 of toy" in export(made, tmp_path / "named", "--trial", "0")


def test_parts_of_speech_from_the_treebanks_are_preferred_to_the_hubs(tmp_path: Path) -> None:
    treebanks = [row | {"task": "udpos_treebanks", "prediction": '["X"]'} for row in UDPOS]
    for name, made, expected in (("one", treebanks, "X\n\n"), ("both", [*UDPOS, *treebanks], "X\n\n")):
        export(study(tmp_path / name / "study", made), tmp_path / name / "to")
        assert (tmp_path / name / "to/udpos/test-fr.tsv").read_text() == expected


def test_treebanks_that_lack_languages_are_replaced_by_the_hubs(tmp_path: Path) -> None:
    some = [row | {"task": "udpos_treebanks", "prediction": '["X"]'} for row in UDPOS if row["language"] != "kk"]
    export(study(tmp_path / "study", [*some, *UDPOS]), tmp_path / "to")
    assert (tmp_path / "to/udpos/test-fr.tsv").read_text().startswith("DET\n")
    printed = export(study(tmp_path / "alone", [*some, *XNLI]), tmp_path / "none")
    assert "left out: udpos: no test rows in kk" in printed


def test_rows_that_are_not_the_benchmarks_own_get_a_note(tmp_path: Path) -> None:
    mlqa = [row | {"task": "mlqa"} for row in rows("mlqa", (["Oslo"], "Oslo"))]
    shipped = replace(chain(), suite="xtreme")
    printed = export(study(tmp_path / "study", [*UDPOS, *mlqa], of=shipped), tmp_path / "to")
    assert "note: udpos: the hub's rows are other sentences and tokens than the leaderboard's" in printed
    assert "note: mlqa: the hub's Spanish rows are 5,253 of the leaderboard's 5,254." in printed
    treebanks = [row | {"task": "udpos_treebanks"} for row in UDPOS]
    for name, made, of in (("own", UDPOS, chain()), ("release", treebanks, shipped)):
        assert "note:" not in export(study(tmp_path / name, made, of=of), tmp_path / f"to {name}")


def test_a_target_by_another_name_is_still_its_task(tmp_path: Path) -> None:
    other = [row | {"task": "english"} for row in XNLI]
    export(study(tmp_path / "study", other, of=renamed("english")), tmp_path / "to")
    assert (tmp_path / "to/xnli/test-sw.tsv").read_text() == "entailment\ncontradiction\n"


# What is left out


def test_of_several_targets_of_a_task_the_one_with_its_name_is_taken_or_none(tmp_path: Path) -> None:
    rows = [row | {"task": name} for name in ("english", "xnli", "german") for row in XNLI]
    export(study(tmp_path / "named", rows, of=renamed("english", "xnli")), tmp_path / "to")
    assert (tmp_path / "to/xnli/test-sw.tsv").exists()
    printed = export(study(tmp_path / "other", [*rows, *PAWSX], of=renamed("english", "german")), tmp_path / "none")
    assert "left out: xnli: several targets are of this task, english, german, and none has its name" in printed


def renamed(*names: str) -> Chain:
    """The made-up chain with a target of the task xnli for each name."""
    more = (Target(task="xnli", stage=stage(name, "xnli", "en")) for name in names)
    return replace(chain(), targets=(*chain().targets, *more))


def test_tasks_that_the_study_lacks_are_left_out_with_a_remark(made: Path, tmp_path: Path) -> None:
    printed = export(made, tmp_path / "to")
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == [
        "bucc2018", "pawsx", "tatoeba", "udpos", "xnli", "xquad",
    ]  # fmt: skip
    for task in ("panx", "mlqa", "tydiqa"):
        assert re.search(rf"left out: .*\b{task}\b.*: the study has no test rows of a task of this name", printed)


def test_a_task_without_all_of_its_languages_is_left_out_whole(tmp_path: Path) -> None:
    some = [row for row in PAWSX if row["language"] not in ("ko", "ja")]
    printed = export(study(tmp_path / "study", [*XNLI, *some]), tmp_path / "to")
    assert "left out: pawsx: no test rows in ja ko, and the benchmark needs every language" in printed
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["xnli"]


def test_validation_rows_and_further_languages_are_not_exported(tmp_path: Path) -> None:
    more = [row | {"split": "validation"} for row in PAWSX] + [row | {"language": "eu"} for row in PAWSX[:4]]
    printed = export(study(tmp_path / "study", [*more, *PAWSX]), tmp_path / "to")
    assert (tmp_path / "to/pawsx/test-de.tsv").read_text() == "1\n1\n1\n0\n"
    assert len(list((tmp_path / "to/pawsx").iterdir())) == 7
    assert "note: pawsx: the benchmark doesn't have it in eu." in printed


def test_labels_that_the_benchmark_does_not_know_are_named(tmp_path: Path) -> None:
    strange = rows("xnli", ("entailed", "neutral"))
    printed = export(study(tmp_path / "study", [*strange, *PAWSX]), tmp_path / "to")
    assert "left out: xnli: its labels are entailed, where the benchmark knows entailment, neutral" in printed


def test_questions_that_share_an_id_are_left_out(tmp_path: Path) -> None:
    same = [row | {"id": "q"} for row in XQUAD]
    assert "left out: xquad: several questions have the same id" in export(
        study(tmp_path / "study", [*same, *PAWSX]), tmp_path / "to"
    )


def test_rows_recorded_without_their_place_are_left_out(tmp_path: Path) -> None:
    made = [{name: value for name, value in row.items() if name != "place"} for row in TATOEBA]
    printed = export(study(tmp_path / "study", [*made, *PAWSX]), tmp_path / "to")
    assert "left out: tatoeba: its rows were recorded without their place" in printed


# Mistakes


def test_a_folder_that_is_not_empty_is_left_alone(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for option in ("--to", "--labels"):
        both = {"--to": tmp_path / "new", "--labels": tmp_path / "gold"} | {option: tmp_path}
        arguments = [part for pair in both.items() for part in pair]
        message = failure(monkeypatch, capsys, made, *arguments)
        assert f"{option} {tmp_path}: the folder is not empty" in message
    assert failure(monkeypatch, capsys, made, "--to", tmp_path / "notes.txt").endswith("Give a new folder.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trial", "7"], "trial 7 does not exist. Complete trials: 0, 1."),
        (["--trial", "2"], "trial 2 failed (it broke). Complete trials: 0, 1."),
        (["--trial", "3"], "trial 3 is not finished. Complete trials: 0, 1."),
        (["--labels", "there"], "choose another folder than that of the predictions"),
    ],
)
def test_a_trial_that_cannot_be_exported_is_named_with_those_that_can(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in failure(monkeypatch, capsys, made, "--to", "there", *options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_study_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(monkeypatch, capsys, tmp_path / "nowhere", "--to", tmp_path / "to")
    assert "nowhere: there is no such folder. Give the folder of a study" in message
    assert "holds no study: there is no plan.yaml in it" in failure(
        monkeypatch, capsys, tmp_path, "--to", tmp_path / "to"
    )


def test_a_study_without_a_complete_trial_has_nothing_to_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Record.drive(StudyFolder(tmp_path / "study"), PLAN) as record:
        record.begin(trial(0, of=chain()))
    message = failure(monkeypatch, capsys, tmp_path / "study", "--to", tmp_path / "to")
    assert "has no complete trial to export yet" in message


def test_a_study_of_other_tasks_is_rejected_with_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [row | {"task": "nli"} for row in XNLI]
    message = failure(monkeypatch, capsys, study(tmp_path / "study", other), "--to", tmp_path / "to")
    assert "has no predictions for any task of the benchmark" in message
    assert "tatoeba: the study has no test rows of a task of this name" in message
    assert not (tmp_path / "to").exists()


def test_it_imports_neither_torch_nor_ray_nor_mlflow(made: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from tunexfer.cli.main import app
app(["export", {str(made)!r}, "--format", "xtreme", "--to", {str(tmp_path / "to")!r}], standalone_mode=False)
print([name for name in ("torch", "transformers", "ray", "mlflow", "optuna", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
