import json
from typing import Any

import numpy as np
import pytest
import torch
from pico import LANGUAGES
from training.conftest import ENGLISH, Pico, stage

from tunexfer.data.prepare import Prepared
from tunexfer.errors import TrialFailed
from tunexfer.tasks.kinds import KINDS, ROWS_SCHEMA
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.evaluate import Scorer, _batches
from tunexfer.training.model import Model, new_heads
from tunexfer.training.train import train_stage

CPU = torch.device("cpu")
SCORED = {"match": LANGUAGES, "tags": LANGUAGES, "choice": ("en", "de"), "answer": ("en", "ru"), "pairs": ("de", "ru")}


@pytest.fixture(scope="module")
def prepared(pico: Pico) -> Prepared:
    return pico.prepared(ENGLISH, SCORED)


@pytest.fixture(scope="module")
def encoder(prepared: Prepared) -> PlanEncoder:
    torch.set_num_threads(1)
    return PlanEncoder(prepared, CPU)


def scorer(encoder: PlanEncoder, prepared: Prepared, *tasks: str, seed: int = 0) -> Scorer:
    heads = new_heads({task: prepared.tasks[task] for task in tasks}, encoder.module.config, seed)
    lookup = encoder.load(encoder.start, prepared.all_token_ids, train_words=False)
    return Scorer(Model(encoder.module, heads, "first"), lookup, device=CPU, precision="fp32")


def test_batches_are_sorted_and_hold_so_many_pieces_of_like_length() -> None:
    lengths = np.array([8, 9, 8, 9, 5, 30, 8])
    batches = [batch.tolist() for batch in _batches(lengths, 30)]
    assert batches == [[5], [1, 3, 0], [2, 6], [4]]


def test_a_few_short_features_run_together_though_their_lengths_differ() -> None:
    lengths = np.array([3, 9, 4, 8, 2, 30])
    batches = [batch.tolist() for batch in _batches(lengths, 8 * 12)]
    assert batches == [[5], [1, 3], [2, 0, 4]]


@pytest.mark.parametrize("task", ENGLISH)
def test_how_rows_are_batched_changes_no_output(
    task: str, pico: Pico, encoder: PlanEncoder, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, encoded = scorer(encoder, prepared, task), prepared.encoded(task, "en", "test")
    together = own._outputs(task, prepared.tasks[task], encoded, None)
    monkeypatch.setattr("tunexfer.training.evaluate.PIECES_AT_ONCE", {"cpu": 1})
    alone = own._outputs(task, prepared.tasks[task], encoded, None)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_outputs_have_the_shape_that_each_kind_reads(encoder: PlanEncoder, prepared: Prepared) -> None:
    def shapes(task: str, language: str = "en") -> set[tuple[int, ...]]:
        encoded = prepared.encoded(task, language, "test")
        outputs = scorer(encoder, prepared, *([task] if task != "pairs" else []))._outputs(
            task, prepared.tasks[task], encoded, None
        )
        assert all(output.dtype == np.float32 for output in outputs)
        return {output.shape for output in outputs}

    assert shapes("match") == {(2,)}
    assert shapes("choice") == {(3,)}
    assert shapes("tags") == {(size, 3) for size in prepared.encoded("tags", "en", "test").lengths}
    assert shapes("answer") == {(size, 2) for size in prepared.encoded("answer", "en", "test").lengths}
    assert shapes("pairs", "de") == {(32,)}


def test_sentence_vectors_have_length_one_and_come_from_the_layer_asked_for(
    encoder: PlanEncoder, prepared: Prepared
) -> None:
    own, encoded = scorer(encoder, prepared), prepared.encoded("pairs", "de", "test")

    def vectors(layer: int | None) -> Any:
        return np.array(own._outputs("pairs", prepared.tasks["pairs"], encoded, layer))

    np.testing.assert_allclose(np.linalg.norm(vectors(None), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors(2), vectors(None), atol=1e-6)
    assert not np.allclose(vectors(0), vectors(2), atol=1e-3)
    with pytest.raises(TrialFailed, match=r"no layer 3 .* the encoder has 2"):
        vectors(3)


@pytest.mark.parametrize("task", SCORED)
def test_every_row_is_scored_and_can_be_traced(task: str, encoder: PlanEncoder, prepared: Prepared) -> None:
    language, kind = SCORED[task][-1], KINDS[prepared.tasks[task].kind]
    encoded = prepared.encoded(task, language, "test")
    own = scorer(encoder, prepared, *([task] if kind.head else []))
    rows, metrics = own.score(task, prepared.tasks[task], language, "test", encoded)
    assert rows.schema == ROWS_SCHEMA
    assert rows["id"].to_pylist() == [f"test-{number}" for number in range(10)]
    assert set(rows["task"].to_pylist()) | set(rows["language"].to_pylist()) == {task, language}
    assert all(json.loads(gold) is not None for gold in rows["gold"].to_pylist())
    assert list(metrics) == list(kind.metrics)
    assert all(0 <= value <= 100 for value in metrics.values())


@pytest.mark.parametrize("task", ENGLISH)
def test_a_trained_model_scores_well_in_the_language_it_was_trained_in(
    task: str, pico: Pico, encoder: PlanEncoder, prepared: Prepared
) -> None:
    long = stage(task, steps=80, rate=5e-3)
    trained = train_stage(
        long, encoder=encoder, recipe=pico.encoder, parent=encoder.start, prepared=prepared, seed=3, device=CPU
    ).trained
    heads = new_heads({task: prepared.tasks[task]}, encoder.module.config, 0)
    heads[task].load_state_dict(trained.heads[task])
    lookup = encoder.load(trained.weights, prepared.all_token_ids, train_words=False)
    own = Scorer(Model(encoder.module, heads, "first"), lookup, device=CPU, precision="fp32")
    metrics = own.score(task, prepared.tasks[task], "en", "test", prepared.encoded(task, "en", "test"))[1]
    assert next(iter(metrics.values())) >= 90
