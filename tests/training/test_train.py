import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from training.conftest import ENGLISH, Pico, stage
from transformers import TrainingArguments

from tunexfer.core.chain import Stage
from tunexfer.data.prepare import Prepared
from tunexfer.errors import TrialFailed
from tunexfer.plan.training_fields import KNOWN, OURS
from tunexfer.training.encoder import PlanEncoder, Weights
from tunexfer.training.train import _StageTrainer, train_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(pico: Pico) -> Prepared:
    return pico.prepared(ENGLISH | {"match": ("en", "de")}, {"match": ("ru",)})


@pytest.fixture(scope="module")
def encoder(prepared: Prepared) -> PlanEncoder:
    torch.set_num_threads(1)
    return PlanEncoder(prepared, CPU)


def train(stage: Stage, pico: Pico, encoder: PlanEncoder, prepared: Prepared, **changes: Any) -> Any:
    recipe = dataclasses.replace(pico.encoder, freeze_embeddings=changes.pop("freeze", False))
    arguments: dict[str, Any] = {"parent": encoder.start, "seed": 1, "device": CPU} | changes
    return train_stage(stage, encoder=encoder, recipe=recipe, prepared=prepared, **arguments)


def same(one: Weights, other: Weights) -> bool:
    return torch.equal(one.words, other.words) and all(
        torch.equal(one.body[name], other.body[name]) for name in one.body
    )


def test_the_fields_known_are_those_of_training_arguments() -> None:
    assert {field.name for field in dataclasses.fields(TrainingArguments)} <= KNOWN
    assert OURS < KNOWN


def test_a_stage_learns_its_tasks(pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> None:
    losses: list[tuple[int, float]] = []
    mixed = stage("match", "tags", "choice", "answer", steps=125, rate=5e-3)
    train(mixed, pico, encoder, prepared, on_step=lambda step, loss: losses.append((step, loss)))
    assert [step for step, _ in losses] == [*range(10, 121, 10), 125]
    assert losses[-1][1] < 0.2 * losses[0][1]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    pico: Pico, encoder: PlanEncoder, prepared: Prepared
) -> None:
    first, again, other = (
        train(stage("match", "tags"), pico, encoder, prepared, seed=seed).trained for seed in (1, 1, 2)
    )
    assert same(first.weights, again.weights)
    assert torch.equal(first.heads["match"]["stack.1.weight"], again.heads["match"]["stack.1.weight"])
    assert not same(first.weights, other.weights)


def test_only_words_that_a_stage_saw_are_trained(pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> None:
    weights = train(stage("match"), pico, encoder, prepared).trained.weights
    seen = prepared.token_ids([("match", "en", "train")])
    assert weights.pieces.tolist() == seen.tolist()
    padding = prepared.padding
    assert weights.words[padding].tolist() == encoder._table[padding].tolist()


def test_words_trained_by_an_earlier_stage_are_kept(pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> None:
    first = train(stage("match", language="de"), pico, encoder, prepared).trained.weights
    second = train(stage("match"), pico, encoder, prepared, parent=first).trained.weights
    german_only = [
        place for place, piece in enumerate(first.pieces) if piece not in prepared.token_ids([("match", "en", "train")])
    ]
    assert len(german_only) > 5
    there = second.pieces.searchsorted(first.pieces[german_only])
    assert torch.equal(second.words[there], first.words[german_only])


def test_frozen_embeddings_stay_and_take_no_room(pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> None:
    weights = train(stage("match"), pico, encoder, prepared, freeze=True).trained.weights
    assert weights.pieces.tolist() == []
    assert not torch.equal(
        weights.body["encoder.layer.0.output.dense.weight"], encoder.start.body["encoder.layer.0.output.dense.weight"]
    )


def test_weights_decay_but_not_biases_norms_and_embeddings(
    pico: Pico, encoder: PlanEncoder, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    names = _StageTrainer.get_decay_parameter_names

    def recording(self: _StageTrainer, model: Any) -> list[str]:
        seen.append(names(self, model))
        return seen[-1]

    monkeypatch.setattr(_StageTrainer, "get_decay_parameter_names", recording)
    train(stage("match", steps=1), pico, encoder, prepared)
    decayed = {name for name in seen[0] if "encoder.layer" not in name}
    assert decayed == {"heads.0.stack.1.weight", "heads.0.stack.4.weight"}
    assert not [name for name in seen[0] if "bias" in name or "Norm" in name]


def test_a_step_in_parts_is_the_step_as_a_whole(pico: Pico, prepared: Prepared) -> None:
    encoder = PlanEncoder(prepared, CPU)
    for module in encoder.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoder.module.config.attention_probs_dropout_prob = 0.0
    for layer in encoder.module.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    encoder.module.config.hidden_dropout_prob = 0.0
    whole = train(stage("match"), pico, encoder, prepared)
    parts = train(stage("match", training={"gradient_accumulation_steps": 4}), pico, encoder, prepared)
    assert parts.loss == pytest.approx(whole.loss, abs=1e-4)


def test_a_loss_that_is_not_finite_fails_the_trial(pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> None:
    wild = stage("match", rate=1e30, training={"max_grad_norm": 0.0, "warmup_steps": 0})
    with pytest.raises(
        TrialFailed, match=r"stage 'match': the loss is nan at step 8 of 8. Try a learning rate below 1e\+30"
    ):
        train(wild, pico, encoder, prepared)


def test_training_arguments_that_do_not_work_fail_the_trial(
    pico: Pico, encoder: PlanEncoder, prepared: Prepared
) -> None:
    with pytest.raises(TrialFailed, match=r"stage 'match': `training: \{'optim': 'sgdd'\}` doesn't work"):
        train(stage("match", training={"optim": "sgdd"}), pico, encoder, prepared)


def test_checkpointing_of_one_stage_is_not_left_on(pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> None:
    plain = train(stage("match"), pico, encoder, prepared)
    saving = train(stage("match", training={"activation_checkpointing": True}), pico, encoder, prepared)
    assert math.isclose(plain.loss, saving.loss, abs_tol=1e-5)
    assert not encoder.module.is_activation_checkpointing


def test_a_stage_leaves_no_files_behind(
    pico: Pico, encoder: PlanEncoder, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    train(stage("match", steps=1), pico, encoder, prepared)
    assert list(tmp_path.iterdir()) == []


def test_it_trains_in_bfloat16(pico: Pico) -> None:
    prepared = pico.prepared({"match": ("en",)}, {}, precision="bf16")
    encoder = PlanEncoder(prepared, CPU)
    weights = train(stage("match", steps=2), pico, encoder, prepared).trained.weights
    assert {value.dtype for value in weights.body.values()} == {torch.float32}
    full = train(stage("match", steps=2), pico, encoder, pico.prepared({"match": ("en",)}, {})).trained.weights
    assert not same(weights, full)
