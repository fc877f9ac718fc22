"""The paper's alternatives in a space: masked language modelling beside a task, and translated rows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pico import pico_encoder
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.core.chain import Chain, Source
from tunexfer.errors import SpaceError
from tunexfer.plan.plan import Plan

NAME = "mlm_and_translated"
OWN: dict[str, Any] = {
    "name": "own",
    "suite": "xtreme",
    "encoder": "some/encoder",
    "stages": [{"tasks": ["qqp", "wikipedia"], "languages": ["sw"], "learning_rate": 1.0e-5, "steps": 10}],
    "targets": [{"task": "pawsx", "train_language": "en"}],
}


@pytest.fixture(autouse=True)
def _no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def own(folder: Path, **changes: Any) -> Plan:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(OWN | changes))
    return Plan.load(path, cache=folder / "cache")


def every_chain(plan: Plan) -> list[Chain]:
    return [plan.space.chain(point) for point in plan.space.grid()]


def shares(chain: Chain) -> dict[str, float]:
    mixture = chain.stages[0].mixture
    return dict(zip(map(str, mixture.sources), mixture.shares, strict=True))


def test_the_shipped_space_crosses_english_and_translated_with_and_without_text(tmp_path: Path) -> None:
    plan = Plan.load(NAME, cache=tmp_path)
    mixtures = [shares(chain) for chain in every_chain(plan)]
    assert len(mixtures) == 8 == plan.trials - 1
    english, translated, with_text, both = mixtures[::2]
    assert english == {"xnli/en": 1}
    assert translated == pytest.approx({f"xnli/{one}": 1 / 3 for one in ("de", "ru", "sw")})
    text = {f"wikipedia/{one}": 0.05 for one in ("en", "de", "ru", "sw")}
    assert with_text == pytest.approx({"xnli/en": 0.8} | text)
    assert both == pytest.approx({f"xnli/{one}": 0.8 / 3 for one in ("de", "ru", "sw")} | text)


def test_the_plan_can_be_shown_without_any_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEXFER_CACHE", str(tmp_path))
    done = CliRunner().invoke(app, ["plan", NAME], catch_exceptions=False)
    assert done.exit_code == 0
    assert "suite xtreme, encoder FacebookAI/xlm-roberta-large" in done.stdout


def test_a_task_with_translated_files_is_chosen_per_language(tmp_path: Path) -> None:
    for task, row in (
        ("qqp", {"question1": "Nini?", "question2": "Nini hiki?", "label": 1, "idx": 0}),
        ("hellaswag", {"ctx_a": "a", "ctx_b": "b", "endings": ["c", "d"], "label": "0", "ind": 0}),
    ):
        file = tmp_path / "data" / "translated" / task / "sw" / "train.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(row) + "\n")
    stage = OWN["stages"][0] | {"tasks": {"choice": ["qqp", "hellaswag"]}, "languages": {"choice": ["en", "sw"]}}
    plan = own(tmp_path, stages=[stage])
    assert [chain.stages[0].mixture.sources for chain in every_chain(plan)] == [
        (Source(task=task, language=one),) for task in ("qqp", "hellaswag") for one in ("en", "sw")
    ]


def test_a_language_without_translations_is_left_out_and_listed(tmp_path: Path) -> None:
    plan = own(tmp_path)
    assert shares(plan.variants[0]) == {"wikipedia/sw": 1}
    assert list(map(str, plan.without_rows)) == ["qqp/sw"]


def test_text_is_no_target(tmp_path: Path) -> None:
    targets = [*OWN["targets"], {"task": "wikipedia", "train_language": "en", "learning_rate": 1.0e-5, "steps": 5}]
    with pytest.raises(SpaceError) as caught:
        own(tmp_path, targets=targets)
    assert caught.value.problems == [
        "own.yaml, targets[1].task: wikipedia is masked_lm, which has no score: use it in a stage, not as a target"
    ]


def test_the_plan_says_where_an_encoder_comes_without_the_head(tmp_path: Path) -> None:
    folder = pico_encoder(tmp_path / "encoder")
    (folder / "tokenizer_config.json").unlink()  # it limits rows to 128 pieces
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 512}
    said = f"{folder} has no masked-language-model head, so a new one is trained, tied to the word embeddings"
    for kind, fresh in (("XLMRobertaForMaskedLM", False), ("XLMRobertaModel", True)):
        (folder / "config.json").write_text(json.dumps(config | {"architectures": [kind]}))
        assert (said in own(tmp_path, encoder=str(folder)).warnings) is fresh
    stage = OWN["stages"][0] | {"tasks": ["qqp"], "languages": ["en"]}
    assert said not in own(tmp_path, encoder=str(folder), stages=[stage]).warnings
