"""Suites and encoders of installed packages, with a package that is written to a temporary folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from tunexfer.core.chain import Encoder
from tunexfer.data.checkpoint import find_encoder, resolve_encoder
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.suite import load_suite, named_suites

MODULE = """
from pathlib import Path

class Toy:
    file = Path(__file__).with_name("toy_suite.yaml")

    def find(self, cache):
        return cache / "toy" if (cache / "toy").is_dir() else None

    def build(self, cache, on_progress):
        if (Path(__file__).parent / "broken").exists():
            raise RuntimeError("the toy is broken")
        on_progress("toy", 0.5)
        (cache / "toy" / "en").mkdir(parents=True)
        (cache / "toy" / "en" / "train.jsonl").write_text('{"text": "up", "label": "yes"}')
        (cache / "toy" / "config.json").write_text('{"model_type": "bert"}')
        (cache / "toy" / "tokenizer.json").write_text("{}")
        empty = b"{}      "
        (cache / "toy" / "model.safetensors").write_bytes(len(empty).to_bytes(8, "little") + empty)
        return cache / "toy"

TOY = Toy()
"""
SUITE = {
    "name": "toys",
    "root": "installed:toys",
    "tasks": {
        "yes_no": {
            "kind": "classification",
            "files": "{language}/{split}.jsonl",
            "columns": {"text": "text", "label": "label"},
            "labels": ["no", "yes"],
        }
    },
}


def install(folder: Path, distribution: str) -> None:
    information = folder / f"{distribution}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[tunexfer.suites]\ntoys = toy_package:TOY\n[tunexfer.encoders]\ntoy-encoder = toy_package:TOY\n"
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the package is installed."""
    folder = tmp_path / "site"
    install(folder, "toys")
    (folder / "toy_package.py").write_text(MODULE)
    (folder / "toy_suite.yaml").write_text(yaml.safe_dump(SUITE))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "toy_package", raising=False)
    return folder


def toys(cache: Path) -> Rows:
    suite, folder = load_suite("toys")
    return Rows(suite, folder, cache)


def test_a_suite_of_an_installed_package_is_known_by_name_and_built_when_its_rows_are_read(
    site: Path, tmp_path: Path
) -> None:
    assert "toys" in named_suites()
    rows = toys(tmp_path)
    assert not rows.ready
    assert rows.table("yes_no", "en", "train")["label"].to_pylist() == [1]
    assert toys(tmp_path).ready


def test_a_build_reports_its_progress(site: Path, tmp_path: Path) -> None:
    reported: list[tuple[str, float]] = []
    toys(tmp_path).build(lambda name, share: reported.append((name, share)))
    assert reported == [("toy", 0.5)]


def test_an_encoder_of_an_installed_package_is_found_once_it_is_built(site: Path, tmp_path: Path) -> None:
    encoder = Encoder(name="toy-encoder")
    assert find_encoder(encoder, tmp_path) is None
    assert resolve_encoder(encoder, tmp_path) == tmp_path / "toy" == find_encoder(encoder, tmp_path)


def test_a_build_that_fails_is_a_message_for_the_user(site: Path, tmp_path: Path) -> None:
    (site / "broken").touch()
    with pytest.raises(DataError, match="the toy is broken"):
        toys(tmp_path).build(lambda name, share: None)


def test_a_name_that_two_packages_provide_is_refused_with_both(site: Path) -> None:
    install(site, "other-toys")
    with pytest.raises(DataError, match="several installed packages provide 'toys': other-toys, toys"):
        load_suite("toys")


def test_a_suite_file_may_read_the_rows_of_an_installed_package_and_learns_if_it_is_missing(
    site: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(json.dumps(SUITE | {"name": "mine"}))
    suite, folder = load_suite("mine.yaml", beside=tmp_path)
    assert Rows(suite, folder, tmp_path).count("yes_no", "en", "train") == 1
    missing = suite.model_copy(update={"root": "installed:nothing"})
    with pytest.raises(DataError, match=r"'mine': no installed package provides rows of 'nothing'\."):
        Rows(missing, folder, tmp_path).count("yes_no", "en", "train")
