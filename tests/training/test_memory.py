"""Where memory doesn't hold a batch, it is taken in parts, with the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.conftest import ENGLISH, Pico, stage, target

import tunexfer.training.memory as module
from tunexfer.core.chain import Stage
from tunexfer.data.prepare import Prepared
from tunexfer.errors import TrialFailed
from tunexfer.store import StageStore
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.memory import in_fitting_parts
from tunexfer.training.model import Model
from tunexfer.training.train import train_stage

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> dict[Any, int]:
    """Nothing is remembered from other tests."""
    fitted: dict[Any, int] = {}
    monkeypatch.setattr(module, "_FITTED", fitted)
    return fitted


@pytest.fixture(scope="module")
def prepared(pico: Pico) -> Prepared:
    return pico.prepared(ENGLISH, {"match": ("ru",)})


@pytest.fixture
def encoder(prepared: Prepared) -> PlanEncoder:
    torch.set_num_threads(1)
    encoder = PlanEncoder(prepared, CPU)
    for inner in encoder.module.modules():  # dropout would be drawn for other shapes
        if isinstance(inner, torch.nn.Dropout):
            inner.p = 0.0
    encoder.module.config.hidden_dropout_prob = 0.0
    return encoder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device that holds three sequences at a time; the list gets how many each forward pass had."""
    seen: list[int] = []
    forward = Model.forward

    def limited(self: Model, task: str, **batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch["input_ids"]))
        if seen[-1] > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(self, task, **batch)

    monkeypatch.setattr(Model, "forward", limited)
    return seen


def train(stage: Stage, pico: Pico, encoder: PlanEncoder, prepared: Prepared) -> Any:
    return train_stage(
        stage, encoder=encoder, recipe=pico.encoder, parent=encoder.start, prepared=prepared, seed=1, device=CPU
    )


def test_parts_are_halved_until_they_fit_and_the_next_batch_begins_there() -> None:
    tried: list[int] = []

    def attempt(rows: int) -> int:
        tried.append(rows)
        if rows > 5:
            raise torch.cuda.OutOfMemoryError
        return rows

    assert in_fitting_parts("a use", 33, attempt) == 5
    assert in_fitting_parts("a use", 33, attempt) == 5
    assert in_fitting_parts("another use", 4, attempt) == 4
    assert tried == [33, 17, 9, 5, 5, 4]


def test_other_errors_and_a_row_that_does_not_fit_are_raised() -> None:
    tried: list[int] = []

    def attempt(rows: int) -> None:
        tried.append(rows)
        raise (torch.cuda.OutOfMemoryError if rows > 2 else ValueError)("2 rows")

    with pytest.raises(ValueError, match="2 rows"):
        in_fitting_parts("a use", 8, attempt)
    with pytest.raises(MemoryError):
        in_fitting_parts("another", 2, lambda rows: (_ for _ in ()).throw(MemoryError(rows)))
    assert tried == [8, 4, 2]


@pytest.mark.parametrize("task", ["match", "tags", "answer", "choice"])
def test_a_batch_in_parts_trains_as_the_whole_batch_does(
    task: str, pico: Pico, encoder: PlanEncoder, prepared: Prepared, small: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows have different numbers of labels and pieces; Adam's first steps are large, whatever the gradients."""
    parts = train(stage(task, steps=3, training={"adam_epsilon": 1.0}, rate=1e-1), pico, encoder, prepared)
    assert max(small) > 3
    assert {length for length in small if length <= 3}
    monkeypatch.undo()
    whole = train(stage(task, steps=3, training={"adam_epsilon": 1.0}, rate=1e-1), pico, encoder, prepared)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    torch.testing.assert_close(parts.trained.weights.words, whole.trained.weights.words)
    for name, value in whole.trained.weights.body.items():
        torch.testing.assert_close(parts.trained.weights.body[name], value, msg=name)
    assert any(not torch.equal(value, encoder.start.body[name]) for name, value in whole.trained.weights.body.items())


def test_memory_that_ran_out_once_is_not_tried_again(
    pico: Pico, encoder: PlanEncoder, prepared: Prepared, small: list[int], forgetful: dict[Any, int]
) -> None:
    train(stage("match", steps=6), pico, encoder, prepared)
    assert [length for length in small if length > 3] == [8, 4] * len(forgetful)
    small.clear()
    train(stage("match", steps=6), pico, encoder, prepared)
    assert set(small) == {2}


def test_a_step_that_is_begun_again_draws_the_dropout_it_would_have_drawn(
    pico: Pico, prepared: Prepared, small: list[int], forgetful: dict[Any, int]
) -> None:
    encoder = PlanEncoder(prepared, CPU)
    first = train(stage("match", steps=4), pico, encoder, prepared)
    assert 8 in small
    small.clear()
    again = train(stage("match", steps=4), pico, encoder, prepared)
    assert 8 not in small
    assert again.loss == first.loss
    assert torch.equal(again.trained.weights.words, first.trained.weights.words)


def test_scores_in_parts_are_the_scores(
    pico: Pico, prepared: Prepared, small: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = pico.chain((), (target("match", steps=2, training={"gradient_accumulation_steps": 4}),))
    parts = pico.runner(tmp_path / "parts", prepared).run(chain, seed=1)
    assert max(small) > 3  # of the scoring: the training's parts have two rows
    monkeypatch.undo()
    whole = pico.runner(tmp_path / "whole", prepared).run(chain, seed=1)
    assert parts.rows.equals(whole.rows)
    assert len(parts.rows) == 20


def test_a_row_that_does_not_fit_alone_fails_the_trial_with_what_to_do(
    pico: Pico, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(self: Model, task: str, **batch: torch.Tensor) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Model, "forward", full)
    with pytest.raises(TrialFailed, match=r"train match: .* out of memory .* down to single rows: give the job more"):
        pico.runner(StageStore(tmp_path), prepared).run(pico.chain((), (target("match"),)), seed=1)
