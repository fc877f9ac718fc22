"""The command line as a user meets it, each command a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pico import pico_suite
from record.made_up import study

from tunexfer.cli.main import main
from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.record.findings import summarise
from tunexfer.record.record import Record

SPACE = {
    "name": "toy",
    "suite": "pico.yaml",
    "encoder": "pico",
    "stages": [{"tasks": {"choice": ["match", "choice"]}, "languages": ["en"], "learning_rate": 1.0e-3, "steps": 6}],
    "targets": [{"task": "tags", "train_language": "en", "learning_rate": 1.0e-3, "steps": 4}],
}
MAIN = "import sys; from tunexfer.cli.main import main; sys.argv[0] = 'tunexfer'; main()"


def tunexfer(*arguments: str, cwd: Path, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TUNEXFER_CACHE": str(cwd / "cache"), "COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pico_suite(tmp_path)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "teaches"),
    [
        ([], ["search", "plan", "tasks"]),
        (["search"], ["--trials", "--name", "--runs", "--store", "--tracking-uri", "--concurrent", "--address",
                      "--seed", "--set", "--notify", "--quiet", "--json", "Ctrl-C", "stages[0].steps=20"]),
        (["plan"], ["SPACE", "without training"]),
        (["tasks"], ["--suite"]),
        (["export"], ["STUDY", "--to", "--format", "transformers", "xtreme", "replay", "--trial", "--store",
                      "--labels"]),
        (["watch"], ["STUDY", "--notify", "TUNEXFER_STATE", "Ctrl-C", "isn't"]),
    ],
)  # fmt: skip
def test_help_teaches(folder: Path, command: list[str], teaches: list[str]) -> None:
    shown = tunexfer(*command, "--help", cwd=folder)
    assert shown.returncode == 0
    assert [word for word in teaches if word not in shown.stdout] == []


def test_plan_shows_the_whole_search_before_it_starts(folder: Path) -> None:
    shown = tunexfer("plan", "toy.yaml", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    for part in ("match | choice", "baseline (trial 0)", "every point of the space", "stage store", "100% tags/en"):
        assert part in shown.stdout


def test_set_changes_any_value_of_the_space(folder: Path) -> None:
    shown = tunexfer("plan", "toy.yaml", "--set", "targets[0].steps=7", "--set", "stages[0].tasks=match", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "nothing is left open" in shown.stdout
    assert f"{7 * 32:,}" in shown.stdout  # rows: steps x batch size


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "nowhere.yaml"], ["nowhere.yaml", "no such file", "multitask"]),
        (["plan", "multitsk"], ["Did you mean 'multitask'?"]),
        (["plan", "toy.yaml", "--set", "stages[0].tasks=mtch"], ["stages[0].tasks", "mtch", "match"]),
        (["plan", "toy.yaml", "--set", "stages"], ["--set stages", "path=value"]),
        (["plan", "toy.yaml", "--set", "targets[3].steps=1"], ["targets[3].steps"]),
        (["plan", "toy.yaml", "--set", "targets[0].learning_rate=5e-6"], ["YAML needs the point", "5.0e-6"]),
        (["plan", "toy.yaml", "--set", "objective.split=test"], ["'test' can't choose a winner"]),
        (["plan", "toy.yaml", "--set", "objective.maximize=[mean]"], ["one objective at a time"]),
        (["plan", "toy.yaml", "--set", "resources.gpus=2"], ["one GPU at most"]),
        (["tasks", "--suite", "strater"], ["Did you mean 'starter'?"]),
    ],
)
def test_a_users_mistake_is_one_clear_message_and_exit_code_2(
    folder: Path, arguments: list[str], says: list[str]
) -> None:
    shown = tunexfer(*arguments, cwd=folder)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr
    assert [words for words in says if words not in shown.stderr] == []


@pytest.mark.slow
def test_a_search_that_cannot_start_is_notified_and_keeps_its_exit_code(folder: Path) -> None:
    (folder / "runs" / "toy" / "trials" / "0000").mkdir(parents=True)
    tell = 'echo "$TUNEXFER_STUDY $TUNEXFER_STATE: $TUNEXFER_REASON" > told; exit 5'
    shown = tunexfer("search", "toy.yaml", "--notify", tell, cwd=folder)
    assert shown.returncode == 2
    assert f"--notify: `{tell}` ended with exit code 5." in shown.stderr
    assert "holds trials but no plan.yaml" in shown.stderr
    assert (folder / "told").read_text().startswith("toy failed: ")


def test_the_tracking_uri_is_the_options_or_that_of_mlflows_own_variable_or_a_file_in_the_runs_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def launched(plan: Any, places: Any, *_: Any, **__: Any) -> dict[str, Any]:
        seen.append(places.tracking_uri)
        raise StudyError("far enough")

    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNEXFER_CACHE", str(folder / "cache"))
    monkeypatch.setattr("tunexfer.cli.launch.launch", launched)
    for variable, options in (
        (None, []),
        ("http://there:1", []),
        ("http://there:1", ["--tracking-uri", "http://here:2"]),
    ):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if variable:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
        monkeypatch.setattr("sys.argv", ["tunexfer", "search", "toy.yaml", *options])
        with pytest.raises(SystemExit):
            main()
    assert seen == [f"sqlite:///{folder / 'runs' / 'mlflow.db'}", "http://there:1", "http://here:2"]


def test_a_registration_that_fails_comes_after_the_summary_and_gives_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The study's own MLflow has never heard of it."""

    def launched(*_: Any, name: str, **__: Any) -> dict[str, Any]:
        done = StudyFolder(folder / "runs" / name)
        study(done)
        return summarise(Record(done), state="finished", objective={}, wanted=3, seconds=1.0)

    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNEXFER_CACHE", str(folder / "cache"))
    monkeypatch.setattr("tunexfer.cli.launch.launch", launched)
    monkeypatch.setattr("sys.argv", ["tunexfer", "search", "toy.yaml", "--json", "--register", "mine"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, said = capsys.readouterr()
    assert ended.value.code == 2
    assert json.loads(out)["best"]["trial"] == 1
    assert "The search has ended, but its models aren't registered: MLflow at sqlite:" in said
    assert f"`tunexfer register {folder / 'runs' / 'toy'} mine` tries that again." in said


def test_watching_a_folder_that_is_not_there_is_an_error(folder: Path) -> None:
    shown = tunexfer("watch", "runs/nothing", cwd=folder)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "there is no such folder" in shown.stderr


def test_a_shipped_space_is_found_from_any_folder_and_said_so(folder: Path) -> None:
    shown = tunexfer("plan", "spaces/multitask.yaml", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "using the shipped space" in shown.stderr
    assert "multitask: suite starter" in shown.stdout


def test_tasks_shows_kinds_languages_rows_and_licences(folder: Path) -> None:
    shown = tunexfer("tasks", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    for part in ("extractive_qa", "multiple_choice", "retrieval", "tagging", "BSD-3-Clause", "16: ar de"):
        assert part in shown.stdout


def test_planning_imports_none_of_the_heavy_libraries(folder: Path) -> None:
    code = f"{MAIN[:-6]}\ntry:\n    main()\nexcept SystemExit: pass\n" + (
        "heavy = {'torch', 'transformers', 'ray', 'pandas', 'datasets', 'mlflow', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    shown = tunexfer("plan", "multitask", cwd=folder, code=code)
    assert shown.returncode == 0, shown.stderr
