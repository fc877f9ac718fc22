"""The model card of a made-up trial."""

from __future__ import annotations

from pathlib import Path

import yaml
from record.made_up import PLAN, chain, run, trial

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


def test_english_is_not_called_unseen_for_a_chain_from_german_as_the_baseline_trained_it(tmp_path: Path) -> None:
    suite = {"name": "toy", "root": "data", "tasks": {"intent": INTENT, "retrieval": RETRIEVAL}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(suite))
    objective = {"maximize": "mean", "split": "validation", "languages": "train"}
    plan = PLAN | {"identity": PLAN["identity"] | {"objective": objective, "precision": "fp32"}}
    folder = StudyFolder(tmp_path / "runs" / "toy")
    with Record.drive(folder, plan) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        german = run(record, trial(1, of=chain(train="de")), 53.0)
    loaded, place = load_suite("toy.yaml", beside=tmp_path)
    write_card(tmp_path, folder, german, Rows(loaded, place, tmp_path), [])
    card = (tmp_path / "README.md").read_text()
    assert "| en | 50.0 | 53.0 | +3.0 | no |" in card
    assert "| ru | 48.0 | 51.0 | +3.0 | yes |" in card
    assert "| mean of 1 unseen language | 48.0 | 51.0 | +3.0 |" in card
