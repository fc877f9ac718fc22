"""Masked language modelling: what is hidden, and the checkpoint's own head in the vocabulary of a stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pico import pico_suite, pico_tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from training.conftest import Pico, stage, target
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from tunexfer.core.chain import Encoder, Mixture, Source, Stage
from tunexfer.data.prepare import Prepared
from tunexfer.errors import DataError, TrialFailed
from tunexfer.tasks.kinds.base import IGNORE_INDEX
from tunexfer.training.collate import collate
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.masking import hide_pieces, language_head
from tunexfer.training.model import Model
from tunexfer.training.train import train_stage

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 130, "pad_token_id": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
KINDS_OF_ENCODER = {"bert": (BertConfig, BertForMaskedLM), "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM)}


class Texts(Pico):
    """The pico suite with the contexts of `answer` as a task of their own, and an encoder with a head for them."""

    def __init__(self, folder: Path, kind: str = "bert", *, bare: bool = False) -> None:
        self.folder = folder
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=pico_tokenizer(), unk_token="<unk>", mask_token="<mask>", model_max_length=128, **SPECIAL
        )
        config, model = KINDS_OF_ENCODER[kind]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            whole = model(config(vocab_size=len(tokenizer), **SIZES))
            for value in whole.parameters():  # biases and norms as if they had been trained
                value.data += 0.05 * torch.randn_like(value)
            (whole.base_model if bare else whole).save_pretrained(folder / "encoder")
        tokenizer.save_pretrained(folder / "encoder")
        self.encoder = Encoder(name=str(folder / "encoder"))
        self.suite = pico_suite(folder / "suite")
        plain = yaml.safe_load(self.suite.read_text(encoding="utf-8"))
        files = "data/answer/{language}/{split}.jsonl"
        plain["tasks"]["texts"] = {"kind": "masked_lm", "files": files, "columns": {"id": "id", "text": "context"}}
        self.suite.write_text(yaml.safe_dump(plain), encoding="utf-8")


@pytest.fixture(scope="module", params=KINDS_OF_ENCODER)
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    return Texts(tmp_path_factory.mktemp("texts"), request.param)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    return Texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def prepared(texts: Texts) -> Prepared:
    return texts.prepared({"texts": ("en", "ru"), "match": ("en",)}, {"match": ("en",)})


@pytest.fixture(scope="module")
def encoder(prepared: Prepared) -> PlanEncoder:
    torch.set_num_threads(1)
    return PlanEncoder(prepared, CPU)


def pieces_of(prepared: Prepared) -> np.ndarray[Any, np.dtype[np.int64]]:
    return prepared.token_ids([("texts", "en", "train"), ("texts", "ru", "train")])


def batch_of(prepared: Prepared, lookup: Any, number: int = 0) -> dict[str, Tensor]:
    """Eight texts with 15 % hidden, in places of the module's embedding."""
    rows = [(prepared.encoded("texts", one, "train"), row) for one in ("en", "ru") for row in range(4)]
    mask = int(lookup(np.array(prepared.mask)))
    batch = collate(rows, "language", lookup, training=True)
    return hide_pieces(batch, number, mask=mask, places=len(lookup), seed=1)


# What is hidden


def many(pieces: int = 400, rows: int = 500) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids before, whether they are special, ids after, labels."""
    draw = np.random.default_rng(0)
    before = torch.from_numpy(draw.integers(10, pieces, size=(rows, 100)))
    special = torch.zeros_like(before)
    special[:, 0] = special[:, 90:] = 1
    hidden = hide_pieces({"input_ids": before, "special": special}, 0, mask=9, places=pieces, seed=3)
    return before, special.bool(), hidden["input_ids"], hidden["labels"]


def is_near(count: int, share: float, of: int) -> bool:
    """Within four standard deviations of a binomial draw: 1 in 16,000 lies outside."""
    return bool(abs(count - share * of) < 4 * (of * share * (1 - share)) ** 0.5)


def test_fifteen_percent_are_hidden_by_80_10_10() -> None:
    before, special, after, labels = many()
    hidden = labels != IGNORE_INDEX
    count = int(hidden.sum())
    assert is_near(count, 0.15, int((~special).sum()))
    assert is_near(int((after[hidden] == 9).sum()), 0.8, count)
    changed = hidden & (after != 9) & (after != before)
    assert is_near(int(changed.sum()), 0.1 * (1 - 2 / 400), count)  # a random piece may be the mask, or the same
    assert is_near(int((after[hidden] == before[hidden]).sum()), 0.1 * (1 + 1 / 400), count)
    assert after[changed].unique().numel() > 290  # of 400, drawn some 670 times


def test_only_what_is_hidden_changes_and_is_asked_for() -> None:
    before, special, after, labels = many()
    hidden = labels != IGNORE_INDEX
    assert not (hidden & special).any()
    assert torch.equal(labels[hidden], before[hidden])
    assert torch.equal(after[~hidden], before[~hidden])


def test_each_batch_hides_others_and_the_same_batch_the_same() -> None:
    ids = torch.arange(10, 210).reshape(2, 100)
    batch = {"input_ids": ids, "special": torch.zeros_like(ids)}
    draws = [(0, 3), (0, 3), (1, 3), (0, 4)]
    first, again, next_one, other_seed = (
        hide_pieces(batch, number, mask=9, places=300, seed=seed)["labels"] for number, seed in draws
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, next_one)
    assert not torch.equal(first, other_seed)
    assert batch["input_ids"].tolist() == torch.arange(10, 210).reshape(2, 100).tolist()


def test_neither_the_frame_nor_padding_is_hidden(prepared: Prepared, encoder: PlanEncoder) -> None:
    lookup = encoder.load(encoder.start, pieces_of(prepared), train_words=False)
    rows = [(prepared.encoded("texts", "en", "train"), row) for row in range(8)]
    whole = collate(rows, "language", lookup, training=True)
    assert (whole["input_ids"] == prepared.padding).any()
    for number in range(50):
        hidden = batch_of(prepared, lookup, number)
        assert not (hidden["labels"] == 0).any()  # <s>
        assert not (hidden["labels"] == prepared.padding).any()
        assert not (hidden["labels"] == 2).any()  # </s>


# The checkpoint's head


def test_over_the_whole_vocabulary_the_loss_is_that_of_transformers(each: Texts) -> None:
    prepared = each.prepared({"texts": ("en", "ru")}, {})
    encoder = PlanEncoder(prepared, CPU)
    every = np.arange(encoder.vocabulary)
    lookup = encoder.load(encoder.start, every, train_words=True)
    model = Model(encoder.module, {"texts": language_head(encoder, prepared, every)}, "first").eval()
    whole = AutoModelForMaskedLM.from_pretrained(each.encoder.name).eval()
    for number in range(3):
        batch = batch_of(prepared, lookup, number)
        logits = model("texts", **batch)
        assert logits.shape == (int((batch["labels"] != IGNORE_INDEX).sum()), encoder.vocabulary)
        expected = whole(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
        torch.testing.assert_close(model.head("texts").loss(logits, batch, 0.0), expected, atol=1e-5, rtol=0)


def test_in_a_stages_pieces_it_is_the_whole_softmax_restricted_to_them(each: Texts) -> None:
    """Loss and every gradient: of the encoder, the head, and the word embeddings from both sides."""
    prepared = each.prepared({"texts": ("en", "ru")}, {})
    encoder = PlanEncoder(prepared, CPU)
    pieces = pieces_of(prepared)
    lookup = encoder.load(encoder.start, pieces, train_words=True)
    assert prepared.mask in pieces
    assert len(pieces) < encoder.vocabulary / 2
    model = Model(encoder.module, {"texts": language_head(encoder, prepared, pieces)}, "first").eval()
    batch = batch_of(prepared, lookup)
    loss = model.head("texts").loss(model("texts", **batch), batch, 0.0)
    loss.backward()

    whole = AutoModelForMaskedLM.from_pretrained(each.encoder.name).eval()
    ids = torch.from_numpy(pieces)[batch["input_ids"]]
    hidden = batch["labels"] != IGNORE_INDEX
    logits = whole(input_ids=ids, attention_mask=batch["attention_mask"]).logits[hidden][:, pieces]
    expected = cross_entropy(logits, batch["labels"][hidden])
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    theirs = dict(whole.base_model.named_parameters())
    for name, value in encoder.module.named_parameters():
        wanted = theirs[name].grad
        assert wanted is not None
        if value is encoder.module.get_input_embeddings().weight:
            wanted = wanted[pieces]
        torch.testing.assert_close(value.grad, wanted, atol=1e-6, rtol=1e-4)
    ours, full = _gradients(model.head("texts")), _gradients(whole, beside=whole.base_model_prefix)
    assert len(ours) == 5  # weight and bias of the dense layer and of the norm, and a bias per piece
    assert sorted(ours) == pytest.approx(sorted(full), rel=1e-3)


def _gradients(module: torch.nn.Module, beside: str = "encoder") -> list[float]:
    """Sizes of the gradients of a head's own parameters."""
    shared = {id(value) for name, value in module.named_parameters() if "word_embeddings" in name}
    return [
        float(value.grad.norm())
        for name, value in module.named_parameters()
        if value.grad is not None and not name.startswith(f"{beside}.") and "decoder.weight" not in name
        and id(value) not in shared
    ]  # fmt: skip


def test_nothing_hidden_is_a_loss_of_nothing(prepared: Prepared, encoder: PlanEncoder) -> None:
    pieces = pieces_of(prepared)
    lookup = encoder.load(encoder.start, pieces, train_words=True)
    model = Model(encoder.module, {"texts": language_head(encoder, prepared, pieces)}, "first")
    batch = batch_of(prepared, lookup)
    batch["labels"] = torch.full_like(batch["labels"], IGNORE_INDEX)
    loss = model.head("texts").loss(model("texts", **batch), batch, 0.0)
    loss.backward()
    assert loss.item() == 0
    assert all(value.grad is None or not value.grad.any() for value in model.parameters())


def test_a_checkpoint_without_a_head_gets_a_fresh_one_on_its_word_embeddings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = Texts(tmp_path, bare=True)
    prepared = texts.prepared({"texts": ("en", "ru")}, {})
    encoder = PlanEncoder(prepared, CPU)
    pieces = pieces_of(prepared)
    encoder.load(encoder.start, pieces, train_words=True)
    head = language_head(encoder, prepared, pieces)
    assert "has no masked-language-model head: a fresh one is trained" in caplog.text
    inside: Any = head.model
    assert inside.get_output_embeddings().weight is encoder.module.get_input_embeddings().weight
    assert not inside.get_output_embeddings().bias.any()
    transform = inside.cls.predictions.transform
    assert transform.dense.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert transform.LayerNorm.weight.tolist() == [1.0] * 32
    for file in (prepared.cache / "encoders").glob("*-language.safetensors"):
        file.unlink()
    again: Any = language_head(encoder, prepared, pieces).model
    assert torch.equal(again.cls.predictions.transform.dense.weight, transform.dense.weight)


def test_an_encoder_that_hides_nothing_is_refused(tmp_path: Path, pico: Pico) -> None:
    texts = Texts(tmp_path)
    texts.encoder = pico.encoder
    with pytest.raises(DataError, match="its tokenizer has no mask piece"):
        texts.prepared({"texts": ("en",)}, {})


def test_an_encoder_of_which_there_is_no_masked_language_model_fails_the_trial(
    prepared: Prepared, encoder: PlanEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "module", GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10)))
    with pytest.raises(TrialFailed, match="no masked language model for encoders of the kind 'gpt2'"):
        language_head(encoder, prepared, pieces_of(prepared))


# Beside other tasks of a stage


def mixed(steps: int = 10, **more: Any) -> Stage:
    """Four fifths `match`, one fifth texts of two languages."""
    sources = {Source(task="match", language="en"): 0.8}
    sources |= {Source(task="texts", language=one): 0.1 for one in ("en", "ru")}
    mixture = Mixture(sources=tuple(sources), shares=tuple(sources.values()))
    return dataclasses.replace(stage("match", steps=steps, **more), name="mixed", mixture=mixture)


def train(stage: Stage, texts: Texts, encoder: PlanEncoder, prepared: Prepared, **changes: Any) -> Any:
    recipe = dataclasses.replace(texts.encoder, freeze_embeddings=changes.pop("freeze", False))
    arguments: dict[str, Any] = {"parent": encoder.start, "seed": 1, "device": CPU} | changes
    return train_stage(stage, encoder=encoder, recipe=recipe, prepared=prepared, **arguments)


def test_a_fifth_of_the_batches_is_text(
    texts: Texts, encoder: PlanEncoder, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def recording(batch: Any, number: int, **settings: int) -> dict[str, Tensor]:
        seen.append(len(batch["input_ids"]))
        return hide_pieces(batch, number, **settings)

    monkeypatch.setattr("tunexfer.training.train.hide_pieces", recording)
    trained = train(mixed(steps=20), texts, encoder, prepared).trained
    assert seen == [8] * 4
    assert trained.heads.keys() == {"match"}  # the next stage begins with the checkpoint's head again


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    texts: Texts, encoder: PlanEncoder, prepared: Prepared
) -> None:
    first, again, other = (train(mixed(), texts, encoder, prepared, seed=seed).trained.weights for seed in (1, 1, 2))
    assert torch.equal(first.words, again.words)
    assert all(torch.equal(first.body[name], again.body[name]) for name in first.body)
    assert not torch.equal(first.words, other.words)


def test_texts_alone_are_learnt(texts: Texts, encoder: PlanEncoder, prepared: Prepared) -> None:
    losses: list[float] = []
    only = stage("texts", steps=150, rate=5e-3)
    train(only, texts, encoder, prepared, on_step=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.6 * losses[0]


def test_frozen_embeddings_stay_although_the_head_is_tied_to_them(
    texts: Texts, encoder: PlanEncoder, prepared: Prepared
) -> None:
    weights = train(mixed(), texts, encoder, prepared, freeze=True).trained.weights
    assert weights.pieces.tolist() == []
    words = encoder.module.get_input_embeddings().weight
    sources = [(source.task, source.language, "train") for source in mixed().mixture.sources]
    assert torch.equal(words, torch.from_numpy(encoder._table[prepared.token_ids(sources)]))  # type: ignore[arg-type]
    assert any(not torch.equal(weights.body[name], value) for name, value in encoder.start.body.items())


def test_a_stage_without_texts_has_no_mask_among_its_pieces(prepared: Prepared) -> None:
    assert prepared.mask not in prepared.token_ids([("match", "en", "train")])
    assert prepared.mask in prepared.token_ids([("match", "en", "train"), ("texts", "en", "train")])
    assert Prepared.load(prepared.path).mask == prepared.mask


def test_a_chain_trains_it_once_and_scores_its_targets(texts: Texts, prepared: Prepared, tmp_path: Path) -> None:
    chain = texts.chain((mixed(),), (target("match"),))
    first = texts.runner(tmp_path, prepared).run(chain, seed=1)
    again = texts.runner(tmp_path, prepared).run(chain, seed=1)
    assert {(score.target, score.language) for score in first.scores} == {("match", "en")}
    assert [one.reused for one in first.trainings] == [False, False]
    assert [one.reused for one in again.trainings] == [True, True]
    assert again.scores == first.scores
