"""Stand-ins small enough for a test: a real encoder of 2 layers and a suite of five tasks in a handful of words.

Everything in the suite can be learnt from single words or marks that languages share, so that a few dozen steps move
the scores, and nothing needs a download.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

TRAIN, VALIDATION, TEST = 40, 10, 10
LANGUAGES = ("en", "de", "ru")
THINGS = {
    "en": "house tree dog cat bread water stone book",
    "de": "Haus Baum Hund Katze Brot Wasser Stein Buch",
    "ru": "дом дерево собака кошка хлеб вода камень книга",
}
COLOURS = {"en": "red green blue white", "de": "rot grün blau weiß", "ru": "красный зелёный синий белый"}
PLACES = {"en": "Paris Cairo Lima Oslo", "de": "Berlin Wien Bonn Trier", "ru": "Москва Казань Омск Тверь"}
FILLERS = {"en": "the a near with", "de": "das ein bei mit", "ru": "это тот около с"}
MARKS = "+ - = ! ? . , : @ #"
ALPHABETS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ абвгдежзийклмнопрстуфхцчшщъыьэюя 0123456789 家水火"


def pico_encoder(folder: Path, *, layers: int = 2, width: int = 32) -> Path:
    """Write a BertModel with random weights and a Unigram tokenizer (bytes as the last resort) to `folder`."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pico_tokenizer(), bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", model_input_names=["input_ids", "attention_mask"], model_max_length=128,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=2 * width, max_position_embeddings=130, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pico_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = [word for table in (THINGS, COLOURS, PLACES, FILLERS) for text in table.values() for word in text.split()]
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    vocabulary += [(f"▁{word}", -4.0) for word in dict.fromkeys(words)]
    vocabulary += [(character, -6.0) for character in dict.fromkeys((ALPHABETS + MARKS).replace(" ", ""))]
    vocabulary += [(f"<0x{byte:02X}>", -12.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def pico_suite(folder: Path) -> Path:
    """Write JSONL data and the suite's YAML to `folder`; returns the YAML's path.

    match    sentence pairs, 2 labels, en de ru          pairs   retrieval, de ru, nothing to train
    tags     word classes, en de ru                      choice  which of three options, en de
    answer   extractive question, en ru                  (40 train, 10 validation, 10 test rows a language)
    """
    for task, languages, make in (
        ("match", LANGUAGES, _match),
        ("tags", LANGUAGES, _tags),
        ("pairs", ("de", "ru"), _pair),
        ("choice", ("en", "de"), _choice),
        ("answer", ("en", "ru"), _answer),
    ):
        for language in languages:
            draw = random.Random(f"{task}/{language}")
            for split, count in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
                if task == "pairs" and split == "train":
                    continue
                rows = [{"id": f"{split}-{n}"} | make(draw, language, n) for n in range(count)]
                path = folder / "data" / task / language / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    path = folder / "pico.yaml"
    path.write_text(yaml.safe_dump(_suite(), sort_keys=False), encoding="utf-8")
    return path


def _suite() -> dict[str, Any]:
    def block(task: str, kind: str, columns: list[str], **more: Any) -> dict[str, Any]:
        fields = {column: column for column in ["id", *columns]}
        return {"kind": kind, "licence": "CC0-1.0", "files": f"data/{task}/{{language}}/{{split}}.jsonl"} | {
            "columns": fields, **more,
        }  # fmt: skip

    return {
        "name": "pico",
        "tasks": {
            "match": block("match", "classification", ["text", "text_pair", "label"], labels=["different", "same"]),
            "tags": block("tags", "tagging", ["tokens", "tags"], labels=["O", "B-COLOUR", "B-THING"]),
            "pairs": block("pairs", "retrieval", ["text", "english"]),
            "choice": block("choice", "multiple_choice", ["prompt", "options", "label"]),
            "answer": block("answer", "extractive_qa", ["question", "context", "answers"]),
        },
    }


def _phrase(draw: random.Random, language: str) -> list[str]:
    return [draw.choice(table[language].split()) for table in (FILLERS, COLOURS, THINGS)]


def _match(draw: random.Random, language: str, number: int) -> dict[str, Any]:
    """The second sentence ends with `+` where they match and with `-` where they don't."""
    phrase = " ".join(_phrase(draw, language))
    other = phrase if number % 2 else " ".join(_phrase(draw, language))
    return {
        "text": phrase,
        "text_pair": f"{other} {'+' if number % 2 else '-'}",
        "label": ["different", "same"][number % 2],
    }


def _tags(draw: random.Random, language: str, number: int) -> dict[str, Any]:
    tokens = _phrase(draw, language) + _phrase(draw, language)[: 1 + number % 3]
    classes = ["O", "B-COLOUR", "B-THING"]
    return {"tokens": tokens, "tags": [classes[place % 3] for place in range(len(tokens))]}


def _pair(draw: random.Random, language: str, number: int) -> dict[str, Any]:
    """Foreign and English say the same, and share a number that no other row has."""
    colour, thing = draw.randrange(4), draw.randrange(8)
    foreign, english = (f"{COLOURS[x].split()[colour]} {THINGS[x].split()[thing]} {number}" for x in (language, "en"))
    return {"text": foreign, "english": english}


def _choice(draw: random.Random, language: str, number: int) -> dict[str, Any]:
    """The right option ends with `!`, the others with a full stop."""
    options = [" ".join(_phrase(draw, language)) + (" !" if place == number % 3 else " .") for place in range(3)]
    return {"prompt": " ".join(_phrase(draw, language)), "options": options, "label": number % 3}


def _answer(draw: random.Random, language: str, number: int) -> dict[str, Any]:
    """The answer is the place after the `@`."""
    place = draw.choice(PLACES[language].split())
    before = " ".join(_phrase(draw, language) * (1 + number % 2))
    context = f"{before} @ {place} . {' '.join(_phrase(draw, language))}"
    return {
        "question": f"{THINGS[language].split()[0]} ?",
        "context": context,
        "answers": {"text": [place], "answer_start": [context.index(place)]},
    }
