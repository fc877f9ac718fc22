"""The command line: what it prints, its errors and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pico import pico_suite

from tunexfer.cli.main import main
from tunexfer.errors import StudyError

SPACE = {
    "name": "toy",
    "suite": "pico.yaml",
    "encoder": "pico",
    "stages": [{"tasks": {"choice": ["match", "choice"]}, "languages": ["en"], "learning_rate": 1.0e-3, "steps": 6}],
    "targets": [{"task": "tags", "train_language": "en", "learning_rate": 1.0e-3, "steps": 4}],
}


class Shown(NamedTuple):
    returncode: object
    stdout: str
    stderr: str


Command = Callable[..., Shown]


@pytest.fixture
def tunexfer(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, run in `folder` by this process."""
    monkeypatch.chdir(folder)
    for name, value in {"TUNEXFER_CACHE": str(folder / "cache"), "COLUMNS": "160", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Shown:
        monkeypatch.setattr("sys.argv", ["tunexfer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Shown(ended.value.code, *capsys.readouterr())

    return run


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
                      "--seed", "--set", "--quiet", "--json", "Ctrl-C", "stages[0].steps=20"]),
        (["plan"], ["SPACE", "Nothing is trained"]),
        (["tasks"], ["--suite"]),
        (["export"], ["STUDY", "--to", "--format", "transformers", "xtreme", "replay", "--trial", "--store",
                      "--labels"]),
        (["watch"], ["STUDY", "Ctrl-C", "the search continues"]),
    ],
)  # fmt: skip
def test_help_teaches(tunexfer: Command, command: list[str], teaches: list[str]) -> None:
    shown = tunexfer(*command, "--help")
    assert shown.returncode == 0
    assert [word for word in teaches if word not in shown.stdout] == []


def test_plan_shows_the_whole_search_before_it_starts(tunexfer: Command) -> None:
    shown = tunexfer("plan", "toy.yaml")
    assert shown.returncode == 0, shown.stderr
    for part in ("match | choice", "baseline (trial 0)", "all chains and baseline", "stage store", "tags/en"):
        assert part in shown.stdout


def test_set_changes_any_value_of_the_space(tunexfer: Command) -> None:
    shown = tunexfer("plan", "toy.yaml", "--set", "targets[0].steps=7", "--set", "stages[0].tasks=match")
    assert shown.returncode == 0, shown.stderr
    assert "no search dimensions" in shown.stdout
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
        (
            ["plan", "toy.yaml", "--set", "objective.maximize=[median]"],
            ["a list holds one or more of mean, worst_language"],
        ),
        (["plan", "toy.yaml", "--set", "resources.gpus=2"], ["one GPU at most"]),
        (["tasks", "--suite", "strater"], ["Did you mean 'starter'?"]),
        *(
            (["search", "toy.yaml", "--name", name], ["--name:", "a study's name is"])
            for name in ("..", "a/b", "n" * 101)
        ),
        (["plan", "toy.yaml", "--seed", "-1"], ["search.seed: input should be greater than or equal to 0, got '-1'"]),
        (["plan", "toy.yaml", "--set", "search.seed=4294967296"], ["less than or equal to 4294967295"]),
        (["plan", "toy.yaml", "--seed", "4294967294"], ["2 fresh seeds come after it, so it is at most 4294967293"]),
        (["search", "toy.yaml", "--name", "mlflow.db"], ["--name: 'mlflow.db' is where MLflow keeps its own files"]),
        (["plan", "toy.yaml", "--set", "name=mlflow.db"], ["name: ", "'mlflow.db' is where MLflow keeps"]),
        (["search", "toy.yaml", "--runs", "toy.yaml"], ["toy.yaml is not a folder", "--runs"]),
    ],
)
def test_a_users_mistake_is_one_clear_message_and_exit_code_2(
    tunexfer: Command, arguments: list[str], says: list[str]
) -> None:
    shown = tunexfer(*arguments)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr
    assert [words for words in says if words not in shown.stderr] == []


@pytest.mark.parametrize("command", [["plan", "toy.yaml"], ["tasks", "--suite", "pico.yaml"], ["search", "toy.yaml"]])
def test_a_cache_that_is_a_file_is_named(
    tunexfer: Command, folder: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEXFER_CACHE", str(folder / "toy.yaml"))
    shown = tunexfer(*command)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"{folder / 'toy.yaml'} is not a folder. ")
    assert "TUNEXFER_CACHE" in shown.stderr


def test_the_tracking_uri_is_the_options_or_that_of_mlflows_own_variable_or_a_file_in_the_runs_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def launched(*_: Any, tracking_uri: str, **__: Any) -> dict[str, Any]:
        seen.append(tracking_uri)
        raise StudyError("far enough")

    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNEXFER_CACHE", str(folder / "cache"))
    monkeypatch.setattr("tunexfer.cli.main.launch", launched)
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


def test_watching_a_folder_that_is_not_there_is_an_error(tunexfer: Command) -> None:
    shown = tunexfer("watch", "runs/nothing")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "there is no such folder" in shown.stderr


def test_a_shipped_space_is_found_from_any_folder_and_said_so(tunexfer: Command) -> None:
    shown = tunexfer("plan", "spaces/multitask.yaml")
    assert shown.returncode == 0, shown.stderr
    assert "using the shipped space" in shown.stderr
    assert "suite starter, encoder starter-e5-small-4l" in shown.stdout


def test_tasks_shows_kinds_languages_rows_and_licences(tunexfer: Command) -> None:
    shown = tunexfer("tasks")
    assert shown.returncode == 0, shown.stderr
    for part in ("extractive_qa", "multiple_choice", "retrieval", "tagging", "BSD-3-Clause", "16: ar de"):
        assert part in shown.stdout


def test_planning_imports_none_of_the_heavy_libraries(folder: Path) -> None:
    code = (
        "import sys\nfrom tunexfer.cli.main import main\nsys.argv = ['tunexfer', 'plan', 'multitask']\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'ray', 'pandas', 'datasets', 'mlflow', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    env = os.environ | {"TUNEXFER_CACHE": str(folder / "cache")}
    shown = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


def test_a_name_is_shown_as_it_is_or_escaped_where_the_terminal_can_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "x"}\n')
    (tmp_path / "s.yaml").write_text(
        'name: s\ntasks: {"задача [/x]": {kind: classification, files: "{split}.jsonl", rows: {en: [1, 0, 0]}, '
        "columns: {text: text, label: label}, labels: [x]}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-c", "from tunexfer.cli.main import main; main()", "tasks", "--suite", "s.yaml"]
    for encoding, name in (("utf-8", "задача [/x]"), ("ascii", r"\u0437\u0430\u0434\u0430\u0447\u0430 [/x]")):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
        assert name in done.stdout.decode()
