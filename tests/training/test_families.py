"""Encoders of nine families and every kind of task: they train, score and, where transformers has the class, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from families import FAMILIES, family_encoder
from pico import pico_suite
from safetensors.torch import load_file
from training.conftest import Pico, stage
from transformers import AutoModel, AutoModelForTokenClassification

from tunexfer.core.chain import Encoder
from tunexfer.data.prepare import Prepared
from tunexfer.export.heads import HEAD_FILE, make_head, save_separately, whole_encoder, whole_model
from tunexfer.tasks.kinds import KINDS
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.evaluate import Scorer
from tunexfer.training.model import Model
from tunexfer.training.train import train_stage

TRAINED = {"match": "en", "tags": "en", "choice": "en", "answer": "en", "texts": "en"}
SCORED = {"match": "ru", "tags": "ru", "choice": "de", "answer": "ru", "pairs": "ru", "mined": "ru"}
CPU = torch.device("cpu")


class Family(Pico):
    """An encoder of a family, and the pico suite with texts to mask and translations to mine."""

    def __init__(self, folder: Path, family: str) -> None:
        self.folder = folder
        self.encoder = Encoder(name=str(family_encoder(family, folder / "encoder")), pooling="mean")
        self.suite = pico_suite(folder / "suite")
        plain = yaml.safe_load(self.suite.read_text(encoding="utf-8"))
        files = "data/{}/{{language}}/{{split}}.jsonl"
        plain["tasks"]["texts"] = {
            "kind": "masked_lm", "files": files.format("answer"), "columns": {"id": "id", "text": "context"}
        }  # fmt: skip
        columns = {"id": "id", "text": "text", "english_id": "id", "english": "english"}
        plain["tasks"]["mined"] = {"kind": "mining", "files": files.format("pairs"), "columns": columns}
        self.suite.write_text(yaml.safe_dump(plain), encoding="utf-8")

    def rows(self) -> Prepared:
        return self.prepared(
            {task: (language,) for task, language in TRAINED.items()},
            {task: (language,) for task, language in SCORED.items()},
        )


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    torch.set_num_threads(1)
    return Family(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def prepared(family: Family) -> Prepared:
    return family.rows()


@pytest.fixture(scope="module")
def encoder(prepared: Prepared) -> PlanEncoder:
    return PlanEncoder(prepared, CPU)


@pytest.fixture(scope="module")
def finished(family: Family, prepared: Prepared, encoder: PlanEncoder) -> Any:
    return train_stage(
        stage(*TRAINED, steps=2 * len(TRAINED)), encoder=encoder, recipe=family.encoder, parent=encoder.start,
        prepared=prepared, seed=1, device=CPU,
    )  # fmt: skip


def test_two_steps_of_every_kind_move_the_weights(finished: Any, encoder: PlanEncoder) -> None:
    before, after = encoder.start.body, finished.trained.weights.body
    moved = {name for name in before if before[name].is_floating_point() and not torch.equal(before[name], after[name])}
    layers = {name for name in before if ".0." in name or ".1." in name}
    assert len(moved & layers) > 0.8 * len(layers)
    assert not torch.equal(
        torch.from_numpy(encoder._table[finished.trained.weights.pieces]), finished.trained.weights.words
    )
    assert all(value.isfinite().all() for value in after.values())
    assert finished.trained.heads.keys() == TRAINED.keys() - {"texts"}


def test_every_kind_is_scored(finished: Any, prepared: Prepared, encoder: PlanEncoder) -> None:
    for task, language in SCORED.items():
        block = prepared.tasks[task]
        head = KINDS[block.kind].head
        states = finished.trained.heads
        heads = {task: make_head(head, 32, len(block.labels), states[task])} if head else {}
        lookup = encoder.load(finished.trained.weights, prepared.all_token_ids, train_words=False)
        scorer = Scorer(Model(encoder.module, heads, "mean"), lookup, device=CPU, precision="fp32")
        table, metrics = scorer.score(task, block, language, "test", prepared.encoded(task, language, "test"))
        assert len(table) >= 10, task
        assert 0 <= metrics[KINDS[block.kind].main_metric] <= 100


def test_trained_weights_are_exported_whole(
    family: Family, prepared: Prepared, encoder: PlanEncoder, finished: Any, tmp_path: Path
) -> None:
    """The exported tagger gives the logits that the trial's model gives, over the whole vocabulary again.

    Where no class of transformers computes what the head does, as for ModernBERT, the head is in a file of its own.
    """
    block, weights = prepared.tasks["tags"], finished.trained.weights
    head = make_head("token", 32, len(block.labels), finished.trained.heads["tags"])
    whole = whole_model(whole_encoder(prepared.encoder, weights), "token", head, "mean", block.labels)
    if whole:
        whole.save_pretrained(tmp_path)
    else:
        save_separately(whole_encoder(prepared.encoder, weights), head, block.labels, tmp_path)
    assert (whole is None) == ("mmbert" in family.encoder.name)
    lookup = encoder.load(weights, prepared.all_token_ids, train_words=False)
    ids = prepared.encoded("tags", "ru", "test").value("input_ids", 0)
    with torch.inference_mode():
        ours = Model(encoder.module, {"tags": head}, "mean").eval()(
            "tags", input_ids=torch.from_numpy(lookup(ids))[None]
        )
        theirs = _exported_logits(tmp_path, torch.tensor([ids.tolist()]))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def _exported_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    if not (folder / HEAD_FILE).is_file():
        logits: torch.Tensor = AutoModelForTokenClassification.from_pretrained(folder).eval()(input_ids=ids).logits
        return logits
    head = load_file(folder / HEAD_FILE)
    hidden = AutoModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state
    return torch.nn.functional.linear(hidden, head["linear.weight"], head["linear.bias"])
