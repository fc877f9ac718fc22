"""Encoders are read whole, or refused in one sentence before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import SIZES, family_encoder
from pico import pico_encoder, pico_suite
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
)

from tunexfer.core.chain import Encoder, Source
from tunexfer.data.checkpoint import check_files, longest_input
from tunexfer.data.prepare import Prepared, prepare
from tunexfer.data.weights import new_encoder, read_encoder
from tunexfer.errors import DataError
from tunexfer.plan.plan import Plan
from tunexfer.tasks.suite import load_suite
from tunexfer.training.encoder import PlanEncoder

Read = Callable[..., Prepared]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pico_encoder(tmp_path / "encoder")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Prepares a plan of one task over an encoder."""
    suite, root = load_suite(str(pico_suite(tmp_path / "suite")))

    def make(folder: Path, task: str = "match", **encoder: Any) -> Prepared:
        return prepare(
            suite=suite, folder=root, encoder=Encoder(name=str(folder), **encoder),
            sources=[Source(task=task, language="en")], evaluated=[(task, "ru", "test")], precision="fp32",
            cache=tmp_path / "cache",
        )  # fmt: skip

    return make


def change(file: Path, **values: Any) -> None:
    """Set keys of a JSON file, or remove those that are None."""
    content = json.loads(file.read_text(encoding="utf-8")) | values
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def renamed(folder: Path, name: Callable[[str], str]) -> None:
    file = folder / "model.safetensors"
    save_file({name(key): value for key, value in load_file(file).items()}, file, {"format": "pt"})


def model_in(folder: Path, model: PreTrainedModel) -> Path:
    """Put another model beside the tokenizer."""
    model.save_pretrained(folder)
    return folder


# Weights


def test_an_encoder_whose_weights_have_other_names_is_refused_with_the_names(folder: Path, read: Read) -> None:
    renamed(folder, "0.auto_model.{}".format)
    with pytest.raises(
        DataError, match=r"37 of the encoder's 37 weights are not in its files: embeddings\.LayerNorm"
    ) as e:
        read(folder)
    assert "0.auto_model.embeddings.LayerNorm.bias" in str(e.value)


def test_one_missing_weight_is_enough(folder: Path, read: Read) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        DataError, match=r"1 of the encoder's 37 .*: encoder\.layer\.1\.output\.dense\.bias\. .* none\."
    ):
        read(folder)


def test_the_prefix_of_a_model_with_a_head_is_read(folder: Path) -> None:
    before = read_encoder(folder).state_dict()
    renamed(folder, "bert.{}".format)
    after = read_encoder(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_missing_pooler_does_not_matter(folder: Path, read: Read) -> None:
    assert not [name for name in load_file(folder / "model.safetensors") if name.startswith("pooler")]
    assert read(folder)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_part_of_a_file_of_weights_is_refused(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"model\.safetensors (is no safetensors file|has [\d,]+ of [\d,]+ bytes)"):
        check_files(folder)


def test_a_shard_that_is_not_there_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json names model-00002-of-00002\.safetensors, which isn't there"):
        check_files(folder)


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_config_that_is_not_json_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"config\.json (is not JSON|has to hold a JSON object)"):
        check_files(folder)


def test_weights_of_another_size_are_refused(folder: Path, read: Read) -> None:
    change(folder / "config.json", intermediate_size=48)
    with pytest.raises(DataError, match="transformers can't load the encoder's weights"):
        read(folder)


# Models of other kinds


def test_code_of_a_checkpoint_is_never_run(folder: Path, read: Read, tmp_path: Path) -> None:
    change(folder / "config.json", model_type="new", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match=r"no model of the type 'new' and its `auto_map` asks for code .* doesn't run"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_transformers_knows_needs_no_code_of_its_own(folder: Path, read: Read) -> None:
    change(folder / "config.json", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    assert read(folder)


def test_of_mt5_the_encoder_is_taken(folder: Path, read: Read) -> None:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    vocabulary = BertConfig.from_pretrained(folder).vocab_size
    whole = MT5ForConditionalGeneration(MT5Config(vocab_size=vocabulary, pad_token_id=1, **sizes)).eval()
    prepared = read(model_in(folder, whole))
    encoder = PlanEncoder(prepared, torch.device("cpu"))
    lookup = encoder.load(encoder.start, prepared.all_token_ids, train_words=False)
    ids = prepared.encoded("match", "en", "train").value("input_ids", 0)
    with torch.inference_mode():
        ours = encoder.module.eval()(input_ids=torch.from_numpy(lookup(ids))[None]).last_hidden_state
        theirs = whole.get_encoder()(input_ids=torch.tensor([ids.tolist()])).last_hidden_state
    assert not [name for name in encoder.start.body if "decoder" in name]
    torch.testing.assert_close(ours, theirs)


def test_other_encoder_decoders_are_refused(folder: Path, read: Read) -> None:
    change(folder / "config.json", model_type="mbart", is_encoder_decoder=True)
    with pytest.raises(DataError, match="'mbart' models are encoder-decoders"):
        read(folder)


def test_the_first_piece_of_a_causal_model_is_refused_where_heads_read_it(folder: Path, read: Read) -> None:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 130}
    model_in(folder, GPT2Model(GPT2Config(vocab_size=BertConfig.from_pretrained(folder).vocab_size, **sizes)))
    with pytest.raises(DataError, match=r"is a causal model: its first piece sees nothing .*`pooling: mean`"):
        read(folder)
    assert read(folder, pooling="mean")
    assert read(folder, task="tags")


# Tokenizers


def test_a_tokenizer_without_padding_takes_the_configs(folder: Path, read: Read) -> None:
    change(folder / "tokenizer_config.json", pad_token=None)
    assert read(folder).padding == 1
    change(folder / "config.json", pad_token_id=None)
    with pytest.raises(DataError, match=r"neither the tokenizer nor config\.json names a padding piece"):
        read(folder)


def test_a_tokenizer_with_more_pieces_than_embeddings_is_refused(folder: Path, read: Read) -> None:
    vocabulary = BertConfig.from_pretrained(folder).vocab_size
    model = BertModel(BertConfig(vocab_size=vocabulary - 2, pad_token_id=1, **SIZES), add_pooling_layer=False)
    model_in(folder, model)
    with pytest.raises(
        DataError, match=f"the tokenizer has {vocabulary} pieces, but the model has embeddings for {vocabulary - 2}"
    ):
        read(folder)


def test_a_broken_tokenizer_is_named(folder: Path, read: Read) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="encoder: transformers can't load the tokenizer"):
        read(folder)


# Lengths


@pytest.mark.parametrize(("family", "pieces"), [("xlm-r", 128), ("mbert", 130), ("mdeberta", 130)])
def test_positions_that_begin_after_the_padding_are_fewer(family: str, pieces: int, tmp_path: Path) -> None:
    """Of XLM-R's 514 positions 512 can be used: the first is `pad_token_id + 1`. Here the padding is piece 1."""
    folder = family_encoder(family, tmp_path)
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    assert longest_input(folder) == pieces
    module = read_encoder(folder)
    ids = torch.full((1, pieces), 7)
    assert module(input_ids=ids).last_hidden_state.shape == (1, pieces, 32)
    if family == "xlm-r":
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            module(input_ids=torch.full((1, pieces + 1), 7))


def test_a_plan_checks_an_encoder_in_a_folder(folder: Path, tmp_path: Path) -> None:
    pico_suite(tmp_path / "suite")
    space = {
        "name": "toy", "suite": str(tmp_path / "suite" / "pico.yaml"), "encoder": str(folder),
        "targets": [{"task": "match", "train_language": "en", "learning_rate": 1e-3, "steps": 2, "batch_size": 4}],
    }  # fmt: skip
    (tmp_path / "toy.yaml").write_text(json.dumps(space))
    assert Plan.load(tmp_path / "toy.yaml", cache=tmp_path / "cache")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="it isn't whole"):
        Plan.load(tmp_path / "toy.yaml", cache=tmp_path / "cache")


def test_a_new_module_takes_the_place_of_the_one_that_was_read(folder: Path) -> None:
    read = read_encoder(folder)
    assert new_encoder(read.config).state_dict().keys() == read.state_dict().keys()
    assert np.isfinite(read.get_input_embeddings().weight.detach().numpy()).all()
