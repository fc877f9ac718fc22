"""The model card of a made-up trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml
from record.made_up import PLAN, chain, run, trial

from tunexfer.core.chain import Encoder
from tunexfer.core.files import StudyFolder
from tunexfer.data.rows import Rows
from tunexfer.export.card import write_card
from tunexfer.record.record import Record
from tunexfer.tasks.suite import load_suite

INTENT = {
    "kind": "classification",
    "licence": "CC0-1.0",
    "files": "intent/{language}/{split}.jsonl",
    "columns": {"text": "text", "label": "label"},
    "labels": ["on", "off"],
}
RETRIEVAL = {
    "kind": "retrieval",
    "licence": "CC0-1.0",
    "files": "retrieval/{language}/{split}.jsonl",
    "columns": {"text": "text", "english": "english"},
}


PUBLISHED = "---\nlicense: mit\nbase_model: someone/base\n---\n# Four layers of it\n"


def card_of(tmp_path: Path, encoder: Encoder | None = None) -> str:
    """The card of a trial that starts in German, beside a baseline that trains the target in English."""
    suite = {"name": "toy", "root": "data", "tasks": {"intent": INTENT, "retrieval": RETRIEVAL}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(suite))
    objective = {"maximize": "mean", "split": "validation", "languages": "train"}
    plan = PLAN | {"identity": PLAN["identity"] | {"objective": objective, "precision": "fp32"}}
    folder = StudyFolder(tmp_path / "runs" / "toy")
    german = chain(train="de")
    with Record.drive(folder, plan) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        ended = run(record, trial(1, of=replace(german, encoder=encoder or german.encoder)), 53.0)
    loaded, place = load_suite("toy.yaml", beside=tmp_path)
    write_card(tmp_path, folder, ended, Rows(loaded, place, tmp_path), [])
    return (tmp_path / "README.md").read_text()


def test_english_is_not_called_unseen_for_a_chain_from_german_as_the_baseline_trained_it(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    assert "| en | 50.0 | 53.0 | +3.0 | no |" in card
    assert "| ru | 48.0 | 51.0 | +3.0 | yes |" in card
    assert "| mean of 1 unseen language | 48.0 | 51.0 | +3.0 |" in card


def test_base_model_and_licence_of_the_encoder_are_those_of_the_card_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "README.md").write_text(PUBLISHED)
    card = card_of(tmp_path, Encoder(name=str(tmp_path / "small")))
    assert "base_model: someone/base\n" in card
    assert "The encoder `small`, based on someone/base, fine-tuned by tunexfer" in card
    assert "The encoder is under: mit." in card
