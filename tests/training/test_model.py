from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from training.conftest import Pico
from transformers import AutoModel, BertConfig

from tunexfer.tasks.suite import TaskBlock
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.model import HEADS, Model, Trained, mean_vector, new_heads

CPU = torch.device("cpu")
CONFIG = BertConfig(hidden_size=8)


def task(kind: str, labels: int = 3) -> TaskBlock:
    return TaskBlock(kind=kind, files="x", columns={}, labels=[str(n) for n in range(labels)])  # type: ignore[arg-type]


def test_a_mean_vector_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 52.0]]])
    assert mean_vector(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]
    assert mean_vector(hidden, None).tolist() == [[18.0, 20.0]]


def test_a_new_head_depends_on_its_seed_and_name_and_not_on_the_others() -> None:
    alone = new_heads({"a": task("classification")}, CONFIG, seed=1)["a"].state_dict()
    beside = new_heads({"b": task("tagging"), "a": task("classification")}, CONFIG, seed=1)["a"].state_dict()
    other = new_heads({"a": task("classification")}, CONFIG, seed=2)["a"].state_dict()
    assert all(torch.equal(alone[name], beside[name]) for name in alone)
    assert not torch.equal(alone["stack.1.weight"], other["stack.1.weight"])


def test_options_of_one_row_are_scored_against_each_other() -> None:
    head = HEADS["choice"](8, 0, 0.0)
    pooled = torch.randn(5, 8)
    batch = {"options": torch.tensor([[True, True, True], [True, True, False]]), "labels": torch.tensor([2, 0])}
    logits = head.logits(pooled[:, None], pooled, batch)
    single = head.stack(pooled).squeeze(-1)
    assert logits[0].tolist() == single[:3].tolist()
    assert logits[1].tolist() == [*single[3:].tolist(), -torch.inf]
    expected = (
        cross_entropy(single[None, :3], torch.tensor([2])) + cross_entropy(single[None, 3:], torch.tensor([0]))
    ) / 2
    torch.testing.assert_close(head.loss(logits, batch, 0.0), expected)


def test_pieces_without_a_tag_count_for_nothing() -> None:
    head = HEADS["token"](8, 3, 0.0)
    hidden = torch.randn(1, 3, 8)
    logits = head.logits(hidden, hidden[:, 0], {})
    loss = head.loss(logits, {"labels": torch.tensor([[-100, 2, -100]])}, 0.0)
    torch.testing.assert_close(loss, cross_entropy(logits[:, 1], torch.tensor([2])))


def test_an_answer_is_not_looked_for_in_padding() -> None:
    logits = torch.zeros(1, 4, 2)
    mask = torch.tensor([[1, 1, 0, 0]])
    batch = {"start": torch.tensor([0]), "end": torch.tensor([1]), "attention_mask": mask}
    # one of two equal places, twice: ln 2; with the padding it would be ln 4
    assert HEADS["span"](8, 0, 0.0).loss(logits, batch, 0.0).item() == pytest.approx(0.693147, abs=1e-6)


def test_what_a_stage_leaves_is_read_back_as_it_was(pico: Pico, tmp_path: Path) -> None:
    prepared = pico.prepared({"match": ("en",)}, {})
    encoder = PlanEncoder(prepared, CPU)
    encoder.load(encoder.start, prepared.all_token_ids, train_words=True)
    head = new_heads({"a.b": task("classification")}, encoder.module.config, 0)["a.b"].state_dict()
    trained = Trained(encoder.take(encoder.start, prepared.all_token_ids), {"a.b": head})
    (tmp_path / "model").write_bytes(trained.to_bytes())
    read = Trained.from_file(tmp_path / "model", encoder.start)
    assert read.weights.pieces.tolist() == prepared.all_token_ids.tolist()
    assert torch.equal(read.weights.words, trained.weights.words)
    assert read.heads.keys() == {"a.b"}
    assert all(torch.equal(read.heads["a.b"][name], value) for name, value in head.items())
    assert all(torch.equal(read.weights.body[name], value) for name, value in encoder.start.body.items())


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_cutting_the_vocabulary_changes_no_output(pico: Pico, layer: int) -> None:
    prepared = pico.prepared({"match": ("en", "ru")}, {"pairs": ("de",)})
    encoder = PlanEncoder(prepared, CPU)
    lookup = encoder.load(encoder.start, prepared.all_token_ids, train_words=False)
    whole = AutoModel.from_pretrained(pico.encoder.name, add_pooling_layer=False).eval()
    cut = Model(encoder.module, {}, "first").eval().encoder
    assert len(prepared.all_token_ids) < 200 < whole.config.vocab_size
    for place in range(40):
        ids = prepared.encoded("match", "ru", "train").value("input_ids", place)
        with torch.inference_mode():
            expected = whole(torch.tensor([ids.tolist()]), output_hidden_states=True).hidden_states[layer]
            found = cut(torch.from_numpy(lookup(ids))[None], output_hidden_states=True).hidden_states[layer]
        assert torch.equal(found, expected)
