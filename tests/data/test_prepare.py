import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pico import pico_encoder, pico_suite
from rich.console import Console

import tunexfer.data.prepare as module
from tunexfer.cli.launch import prepare_all
from tunexfer.core.chain import Encoder, Source
from tunexfer.data.checkpoint import encoder_content, resolve_encoder
from tunexfer.data.prepare import Prepared, prepare
from tunexfer.errors import DataError
from tunexfer.plan.plan import Plan
from tunexfer.tasks.suite import load_suite

Prepare = Callable[..., Prepared]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def prepared(tmp_path: Path, encoder: Path) -> Prepare:
    """Prepares a small plan over a suite of its own."""
    path = pico_suite(tmp_path / "suite")

    def make(**changes: Any) -> Prepared:
        suite, folder = load_suite(str(path))
        arguments: dict[str, Any] = {
            "suite": suite,
            "folder": folder,
            "encoder": Encoder(name=str(encoder)),
            "sources": [Source(task="match", language="en")],
            "evaluated": [("match", "ru", "test"), ("pairs", "de", "validation")],
            "precision": "fp32",
            "cache": tmp_path / "cache",
        }
        return prepare(**arguments | changes)

    return make


def test_a_worker_loads_what_the_driver_prepared(prepared: Prepare) -> None:
    made = prepared()
    loaded = Prepared.load(made.path)
    assert loaded == made
    assert len(loaded.encoded("match", "en", "train")) == 40
    assert len(loaded.encoded("pairs", "de", "validation")) == 20  # two sentences a row
    assert set(loaded.contents.rows) == {
        ("match", "en", "train"), ("match", "ru", "test"), ("pairs", "de", "validation"),
    }  # fmt: skip


def test_what_was_prepared_before_is_neither_tokenized_nor_read_again(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared()
    monkeypatch.setattr(module, "load_tokenizer", None)
    monkeypatch.setattr(module.Rows, "table", None)
    assert prepared() == first


def test_the_pieces_are_those_in_use_after_all_up_to_the_paddings(prepared: Prepare) -> None:
    made = prepared()
    used = [made.encoded(*key).token_ids for key in made.folders]
    assert made.all_token_ids.tolist() == sorted({0, 1, *np.concatenate(used).tolist()})


def test_a_change_of_the_data_changes_its_content_and_no_other(prepared: Prepare, tmp_path: Path) -> None:
    before = prepared().contents
    file = tmp_path / "suite" / "data" / "match" / "en" / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows[0]["text"] = "water"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    after = prepared().contents
    changed = {key for key in after.rows if after.rows[key] != before.rows[key]}
    assert changed == {("match", "en", "train")}
    assert after.encoder == before.encoder


def test_progress_counts_what_is_encoded(prepared: Prepare) -> None:
    seen: list[tuple[int, int]] = []
    prepared(on_progress=lambda done, of: seen.append((done, of)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_more_pieces_than_the_encoder_reads_are_refused(prepared: Prepare, tmp_path: Path) -> None:
    suite, _ = load_suite(str(tmp_path / "suite" / "pico.yaml"))
    block = suite.tasks["match"].model_copy(update={"max_length": 512})
    longer = suite.model_copy(update={"tasks": suite.tasks | {"match": block}})
    with pytest.raises(DataError, match=r"'match': max_length is 512, but .* takes at most 128 pieces"):
        prepared(suite=longer)


def test_a_layer_that_the_encoder_has_not_is_refused_before_anything_is_encoded(
    prepared: Prepare, encoder: Path, tmp_path: Path
) -> None:
    space = {
        "name": "toy",
        "suite": str(tmp_path / "suite" / "pico.yaml"),
        "encoder": str(encoder),
        "targets": [{"task": "pairs", "layer": {"choice": [0, 2, 3]}}],
        "objective": {"languages": "all"},
    }
    (tmp_path / "toy.yaml").write_text(json.dumps(space))
    plan = Plan.load(tmp_path / "toy.yaml", cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"target 'pairs': there is no layer 3 .* has 2\. Write `layer:` from 0"):
        prepare_all(plan, tmp_path / "cache", Console(quiet=True))
    assert not (tmp_path / "cache" / "encoded").exists()
    assert prepared(layers=[("pairs", 2)])


def test_an_encoder_without_safetensors_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_text("")
    with pytest.raises(DataError, match=r"no \*.safetensors in .*save_pretrained"):
        resolve_encoder(Encoder(name=str(tmp_path)), tmp_path)


def test_an_encoder_that_is_nowhere_is_refused_with_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'nobody/no-such-encoder' is neither a folder nor .* Check the id"):
        resolve_encoder(Encoder(name="nobody/no-such-encoder"), tmp_path)


def test_an_encoders_content_is_its_files_not_its_place(encoder: Path, tmp_path: Path) -> None:
    other = pico_encoder(tmp_path / "same")
    assert encoder_content(other, tmp_path) == encoder_content(encoder, tmp_path)
    (other / "config.json").write_text((other / "config.json").read_text().replace("1e-12", "1e-06"))
    assert encoder_content(other, tmp_path) != encoder_content(encoder, tmp_path)


def test_the_driver_needs_no_torch_to_find_what_is_prepared() -> None:
    code = "import sys, tunexfer.data.prepare; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
