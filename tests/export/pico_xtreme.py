"""XTREME's nine tasks in all of their languages, in the pico suite's handful of words: four test rows a language."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from pico import LANGUAGES, _answer, _match, _pair, _tags

from tunexfer.export.xtreme_scores import XTREME_TASKS

TRAIN, VALIDATION, TEST = 16, 4, 4


def xtreme_suite(folder: Path) -> Path:
    """Write the rows and the suite's YAML to `folder`; returns the YAML's path."""
    for name, target in XTREME_TASKS.items():
        for place, language in enumerate(target.languages):
            words = language if language in LANGUAGES else LANGUAGES[place % len(LANGUAGES)]
            draw = random.Random(f"{name}/{language}")
            for split, count in _counts(name, language).items():
                rows = [{"id": f"{split}-{number}"} | _row(name, draw, words, number) for number in range(count)]
                path = folder / "data" / name / language / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    path = folder / "pico_xtreme.yaml"
    path.write_text(yaml.safe_dump({"name": "pico_xtreme", "tasks": _tasks()}, sort_keys=False), encoding="utf-8")
    return path


def _counts(name: str, language: str) -> dict[str, int]:
    if name == "bucc2018":
        return {"validation": 12, "test": 12}
    if name == "tatoeba":
        return {"test": TEST}
    english = {"train": TRAIN, "validation": VALIDATION} if language == "en" else {}
    return {**english, "test": TEST}


def _row(name: str, draw: random.Random, language: str, number: int) -> dict[str, Any]:
    if name == "xnli":
        labels = ["entailment", "neutral", "contradiction"]
        return _match(draw, language, number) | {"label": labels[number % 3]}
    if name == "pawsx":
        return _match(draw, language, number)
    if name in ("udpos", "panx"):
        return _tags(draw, language, number)
    if name in ("xquad", "mlqa", "tydiqa"):
        return _answer(draw, language, number)
    pair = _pair(draw, language, number)
    if name == "tatoeba":
        return pair
    both = pair | {"english_id": f"en-{number}"}  # of three rows one is a pair, the others a sentence of either side
    return both | [{}, {"english": None, "english_id": None}, {"text": None}][number % 3]


def _tasks() -> dict[str, Any]:
    def block(kind: str, *columns: str, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "columns": {column: column for column in ("id", *columns)}, "max_length": 64, **more}

    pair, question = ("text", "text_pair", "label"), ("question", "context", "answers")
    tasks = {
        "xnli": block("classification", *pair, labels=["entailment", "neutral", "contradiction"]),
        "pawsx": block("classification", *pair, labels=["different", "same"]),
        "udpos": block("tagging", "tokens", "tags", labels=["DET", "SYM", "NOUN"], label_values=_TAGS, scheme="xtreme"),
        "panx": block("tagging", "tokens", "tags", labels=["O", "B-PER", "I-PER"], label_values=_TAGS),
        "xquad": block("extractive_qa", *question),
        "mlqa": block("extractive_qa", *question, answer_language_rules="mlqa"),
        "tydiqa": block("extractive_qa", *question),
        "bucc2018": block("mining", "text", "english_id", "english"),
        "tatoeba": block("retrieval", "text", "english"),
    }
    return {name: {"files": f"data/{name}/{{language}}/{{split}}.jsonl", **task} for name, task in tasks.items()}


_TAGS = ["O", "B-COLOUR", "B-THING"]
"""How the pico suite calls them."""
