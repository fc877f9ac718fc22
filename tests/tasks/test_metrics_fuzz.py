"""Generated cases, and what other implementations make of them: see `fuzz/make.py`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.metrics.answers import answer_scores, normaliser
from tunexfer.tasks.suite import TaskBlock

CASES = {
    file.name.partition(".")[0]: [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    for file in (Path(__file__).parent / "fuzz").glob("*.jsonl.gz")
}
COLUMNS = {
    "tagging": {"tokens": "tokens", "tags": "tags"},
    "classification": {"text": "text", "label": "label"},
    "mining": {"text": "text", "english": "english", "english_id": "english_id"},
}


def scores(kind: str, rows: list[Any], features: list[Any], outputs: list[Any], **fields: Any) -> dict[str, float]:
    """Score the rows as a search does."""
    task = TaskBlock(kind=kind, files="x", columns=COLUMNS[kind], **fields)  # type: ignore[arg-type]
    predictions = [row for row in KINDS[kind].predict(rows, features, outputs, task, "en") if row is not None]
    names = predictions[0] if predictions else ("tp", "predicted", "gold_count")
    return KINDS[kind].summarise({name: [row[name] for row in predictions] for name in names})


def tagging(case: dict[str, Any]) -> dict[str, float]:
    rows = [{"tokens": ["x"] * len(tags), "tags": tags} for tags in case["gold"]]
    features = [{"row": row, "words": [*range(len(tags))]} for row, tags in enumerate(case["gold"])]
    outputs = [np.eye(len(case["labels"]), dtype=np.float32)[tags] for tags in case["predicted"]]
    return scores("tagging", rows, features, outputs, labels=case["labels"], scheme=case["scheme"])


def classification(case: dict[str, Any]) -> dict[str, float]:
    rows = [{"label": label} for label in case["gold"]]
    outputs = [np.eye(len(case["labels"]), dtype=np.float32)[label] for label in case["predicted"]]
    features = [{"row": row} for row in range(len(rows))]
    return scores("classification", rows, features, outputs, labels=case["labels"])


def answers(case: dict[str, Any]) -> dict[str, float]:
    exact, f1 = answer_scores(case["predicted"], case["gold"], normaliser(case["rules"], case["language"]))
    return {"exact_match": 100 * exact, "f1": 100 * f1}


def mining(case: dict[str, Any]) -> dict[str, float]:
    """The first `pairs` sentences of both sides translate each other; the others are alone."""
    pairs, rows, features, outputs = case["pairs"], [], [], []
    for place in range(max(len(case["foreign"]), len(case["english"]))):
        for sides in ((0, 1),) if place < pairs else ((0,), (1,)):
            there = [side for side in sides if place < len(case[("foreign", "english")[side]])]
            if not there:
                continue
            texts = {
                name: f"{name} {place}" if side in there else None for side, name in enumerate(("text", "english"))
            }
            ids = {"id": f"f{place}" if 0 in there else f"e{place}", "english_id": f"e{place}" if 1 in there else None}
            for side in there:
                vector = np.array(case[("foreign", "english")[side]][place], dtype=np.float32)
                features.append({"row": len(rows), "side": side})
                outputs.append(vector / np.linalg.norm(vector))
            rows.append({**texts, **ids, "tuning": False})
    return scores("mining", rows, features, outputs)


@pytest.mark.parametrize("score", [tagging, classification, answers, mining])
def test_scores_are_those_of_independent_implementations(score: Any) -> None:
    cases = CASES[score.__name__]
    assert len(cases) == 300
    for case in cases:
        assert score(case) == pytest.approx(case["expected"], rel=1e-6), case
