"""The build gives the same bytes everywhere, is atomic, and refuses other versions of its packages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from starter.conftest import Starter
from tunexfer_starter import E5_SMALL_4L, SUITE, encoder, packages, suite
from tunexfer_starter.packages import ENCODER_PINS, SUITE_PINS, Progress, StarterError, build_once, check_pins

from tunexfer.tasks.suite import SPLITS


def test_every_file_has_the_rows_that_the_suite_declares(starter: Starter) -> None:
    for task, block in starter.suite.tasks.items():
        for language, counts in block.rows.items():
            found = tuple(len(starter.rows(task, language, split)) for split in SPLITS)
            assert found == counts, f"{task} in {language}"


def test_nothing_is_built_that_the_suite_does_not_declare(starter: Starter) -> None:
    declared = {
        f"{task}/{language}/{split}.jsonl"
        for task, block in starter.suite.tasks.items()
        for language, counts in block.rows.items()
        for split, count in zip(SPLITS, counts, strict=True)
        if count
    }
    assert {path.relative_to(starter.folder).as_posix() for path in starter.folder.glob("*/*/*")} == declared


def test_ids_are_unique_and_every_row_has_a_cluster(starter: Starter) -> None:
    for task in starter.suite.tasks:
        for language in starter.languages(task):
            rows = [row for split in SPLITS for row in starter.rows(task, language, split)]
            assert len({row["id"] for row in rows}) == len(rows), f"{task} in {language}"
            assert all(row["cluster"] for row in rows)


def test_every_label_is_declared_and_can_be_learnt_from_the_first_train_language(starter: Starter) -> None:
    for task in ("command_intent", "same_command", "ui_match", "name_type"):
        labels = set(starter.suite.task(task).labels)
        first = starter.languages(task, "train")[0]
        assert {row["label"] for row in starter.rows(task, first, "train")} == labels
        for language in starter.languages(task, "test"):
            assert {row["label"] for row in starter.rows(task, language, "test")} <= labels


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_pythons_hash_seed(starter: Starter, tmp_path: Path) -> None:
    """The starter of all tests was built in a process whose seed is another."""
    code = "import sys; from pathlib import Path; from tunexfer_starter.suite import *; write_rows(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONHASHSEED": "1"}, check=True)
    paths = sorted(starter.folder.glob("*/*/*.jsonl"))
    assert len(paths) == len(list(tmp_path.glob("*/*/*.jsonl")))
    for path in paths:
        assert (tmp_path / path.relative_to(starter.folder)).read_bytes() == path.read_bytes()


def test_a_second_call_builds_nothing(starter: Starter, starter_cache: Path) -> None:
    reported: list[str] = []
    begin = time.perf_counter()
    assert SUITE.build(starter_cache, lambda name, share: reported.append(name)) == starter.folder
    assert reported == []
    assert time.perf_counter() - begin < 0.1


@pytest.mark.parametrize("package", SUITE_PINS)
def test_a_package_of_another_version_is_named_with_the_version_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    real = packages._version
    monkeypatch.setattr(packages, "_version", lambda name: "0.0.1" if name == package else real(name))
    with pytest.raises(StarterError, match=rf"{package} 0\.0\.1, needed {SUITE_PINS[package]}.*pip install"):
        SUITE.build(tmp_path)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(StarterError, match="no-such-package is missing, needed 1"):
        check_pins({"no-such-package": "1"})


def test_rows_that_come_out_different_are_refused_though_the_versions_are_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starter: Starter
) -> None:
    def one_row(folder: Path, on_progress: Progress) -> None:
        path = folder / "name_type" / "en" / "test.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("{}\n")

    monkeypatch.setattr(suite, "write_rows", one_row)
    with pytest.raises(StarterError, match=f"right versions, but its rows came out different.*{suite.CONTENT}"):
        SUITE.build(tmp_path)
    assert not list(tmp_path.glob("*/complete"))


def test_weights_of_another_content_are_refused_though_the_version_is_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starter_cache: Path
) -> None:
    monkeypatch.setattr(encoder, "CONTENT", "0" * 64)
    with pytest.raises(StarterError, match=r"right version, but its e5-small-q4\.bin has another content"):
        E5_SMALL_4L.build(tmp_path)


def finished(draft: Path) -> None:
    (draft / "whole").write_text("x")


def test_an_interrupted_build_counts_for_nothing_and_the_next_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "built"

    def interrupted(draft: Path) -> None:
        (draft / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(folder, interrupted)
    assert not folder.exists()
    build_once(folder, finished)
    assert {path.name for path in folder.iterdir()} == {"whole", packages.MARK}


def test_a_folder_without_the_mark_is_built_again(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "leftover").write_text("x")
    build_once(folder, finished)
    assert {path.name for path in folder.iterdir()} == {"whole", packages.MARK}


def test_the_package_requires_the_versions_that_the_build_checks() -> None:
    required = {requirement.lower() for requirement in metadata.requires("tunexfer-starter") or []}
    assert {f"{name.lower()}=={pin}" for name, pin in (SUITE_PINS | ENCODER_PINS).items()} <= required


def test_nothing_in_the_package_imports_tunexfer() -> None:
    modules = [path.stem for path in Path(packages.__file__).parent.glob("[!_]*.py")]
    assert "suite" in modules
    imports = "".join(f"import tunexfer_starter.{module}\n" for module in modules)
    code = f"import sys\n{imports}print([name for name in sys.modules if name.split('.')[0] == 'tunexfer'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
