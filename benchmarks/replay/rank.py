"""Whether sources can be ranked for a target before anything is trained, judged by table.parquet.

    python benchmarks/replay/rank.py

A source is the tasks and languages of a stage option. Its true worth for a target is the best validation score (mean
over languages and seeds) that a chain with it reached, over learning rates and settings of the target. Each ranking
reads hidden states of the untrained encoder, mean-pooled, of 25 rows of the source and target texts without labels:

    nearest   NN-Rank (arXiv 2510.03202): of the k nearest source rows of each of 25 texts of every scored language, how
              many belong to the source
    centroid  cosine of the mean vectors of source and target texts (Poth et al. 2021)
    logme     LogME (You et al. 2021) of the source's labels under the frozen features: it is the same for every target.
              Sources without one label a row (tagging, choices) have none and come last

Printed per target and as a mean: regret@k, the points lost against the best source by taking the best of the first k,
beside the expectation of a random order; and Spearman's correlation with the truth.

Means over the four targets, with the table of one seed: regret@1 is 0.97 (nearest), 0.97 (centroid), 2.95 (logme) and
4.75 (random); regret@3 0.47, 0.69, 1.86 and 2.26, rank correlation -0.04, -0.03, 0.09 and 0. Nearest beats random at
the first place for three targets, two of which have their own task among the sources, and loses for command_intent. Its
order of the other places is no better than chance. That is too little evidence for a command of its own.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from make import NONE, SPACE, TABLE, options_of
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr
from transformers import AutoModel, AutoTokenizer

from tunexfer.cli.launch import prepare_all
from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Source
from tunexfer.data.checkpoint import find_encoder
from tunexfer.plan.plan import Plan

TEXTS, ROWS, NEIGHBOURS = 25, 200, 10
"""Target texts per language, rows per source, and neighbours of each text."""

Vectors = NDArray[np.float64]
"""Shape (rows, width)."""


class Features:
    """Mean-pooled last hidden states of the untrained encoder."""

    def __init__(self, plan: Plan) -> None:
        folder = find_encoder(plan.encoders[0], plan.rows.cache)
        assert folder, "prepare_all builds it"
        self._rows, self._tokenizer = plan.rows, AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def of(self, texts: Sequence[str]) -> Vectors:
        parts = []
        for start in range(0, len(texts), 64):
            batch = list(texts[start : start + 64])
            inputs = self._tokenizer(batch, padding=True, truncation=True, max_length=64, return_tensors="pt")
            hidden = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            parts.append(((hidden * mask).sum(1) / mask.sum(1)).double().numpy())
        return np.concatenate(parts)

    def rows(self, task: str, language: str, split: Any, count: int) -> tuple[Vectors, list[Any]]:
        """Return vectors and labels (None where a row has no single one) of rows spread over the whole split."""
        rows = self._rows.table(task, language, split).to_pylist()
        chosen = [rows[place] for place in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        labels = [row["label"] if "text_pair" in row else None for row in chosen]
        return self.of([text_of(row) for row in chosen]), labels


def text_of(row: Mapping[str, Any]) -> str:
    """Join all that a row says: words, or a text and the one it is paired with."""
    if "tokens" in row:
        return " ".join(row["tokens"])
    parts = [row.get("text"), row.get("text_pair"), row.get("prompt"), *(row.get("options") or [])]
    return " ".join(part for part in parts if part)


def logme(features: Vectors, labels: Sequence[int]) -> float:
    """Compute the log maximum evidence per row of labels under features, mean over one-hot targets.

    Source: You et al. 2021, 'LogME: Practical Assessment of Pre-trained Models for Transfer Learning', algorithm 1: the
    evidence of Bayesian linear regression, p(y|F) = integral of p(w|alpha) p(y|F,w,beta), maximised over alpha and beta
    by fixed-point iteration on the singular values of F.
    """
    rows, width = features.shape
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    squares, evidences = singular**2, []
    for label in sorted(set(labels)):
        target = (np.asarray(labels) == label).astype(float)
        along = (left.T @ target) ** 2  # target's energy along each singular direction
        rest = max(float(target @ target - along.sum()), 0.0)
        alpha = beta = 1.0
        for _ in range(50):
            gamma = float((beta * squares / (alpha + beta * squares)).sum())
            weights = float((beta**2 * squares * along / (alpha + beta * squares) ** 2).sum())
            residual = rest + float((along * (alpha / (alpha + beta * squares)) ** 2).sum())
            new_alpha, new_beta = gamma / max(weights, 1e-9), (rows - gamma) / max(residual, 1e-9)
            settled = abs(new_alpha / new_beta - alpha / beta) <= 1e-3 * alpha / beta
            alpha, beta = new_alpha, new_beta
            if settled:
                break
        determinant = float(np.log(alpha + beta * squares).sum()) + (width - len(squares)) * np.log(alpha)
        evidence = width * np.log(alpha) + rows * np.log(beta) - rows * np.log(2 * np.pi)
        evidences.append((evidence - determinant - beta * residual - alpha * weights) / (2 * rows))
    return statistics.fmean(evidences)


def worth(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the best validation score per source (rows) and target (columns)."""
    main = table[(table.kind == "evaluate") & table.main.astype("boolean") & (table.split == "validation")]
    seeds = main[main.seed == main.seed.min()]
    means = seeds.groupby(["stage", "target", "setting"]).value.mean().reset_index()
    means["source"] = means.stage.str.partition(",")[0]
    return means[means.stage != NONE].pivot_table(index="source", columns="target", values="value", aggfunc="max")


def random_regret(values: Sequence[float], k: int) -> float:
    """Compute the expected regret of the best of k sources drawn without repetition, over all draws."""
    best = max(values)
    return statistics.fmean(best - max(drawn) for drawn in itertools.combinations(values, k))


def ranked(plan: Plan, sources: Mapping[str, Sequence[Source]]) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield target, name of the ranking, and the worth that it expects of each source."""
    features = Features(plan)
    own: dict[str, tuple[Vectors, list[Any]]] = {}
    for name, members in sources.items():
        parts = [features.rows(s.task, s.language, "train", ROWS // len(members)) for s in members]
        own[name] = np.concatenate([part[0] for part in parts]), [label for part in parts for label in part[1]]
    evidence = {
        name: -np.inf if None in labels or len({s.task for s in sources[name]}) > 1 else logme(vectors, labels)
        for name, (vectors, labels) in own.items()
    }
    pool, owner = np.concatenate([v for v, _ in own.values()]), [n for n, (v, _) in own.items() for _ in v]
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    for target in plan.baseline[1].targets:
        languages = sorted({lang for task, lang, split in plan.evaluated if task == target.task and split == "test"})
        texts = np.concatenate([features.rows(target.task, lang, "validation", TEXTS)[0] for lang in languages])
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        near = [owner[place] for place in np.argsort(-texts @ pool.T, axis=1)[:, :NEIGHBOURS].ravel()]
        yield target.name, "nearest", {name: near.count(name) for name in own}
        middle = texts.mean(0) / np.linalg.norm(texts.mean(0))
        centres = {name: vectors.mean(0) for name, (vectors, _) in own.items()}
        yield target.name, "centroid", {n: float(c @ middle / np.linalg.norm(c)) for n, c in centres.items()}
        yield target.name, "logme", evidence


def judged(truth: pd.Series, expected: Mapping[str, float]) -> dict[str, float]:
    """Compute regret@1 and @3, and the rank correlation, of what a ranking expects."""
    order = sorted(truth.index, key=lambda source: -expected[source])
    regret: Callable[[int], float] = lambda k: truth.max() - truth[order[:k]].max()  # noqa: E731
    # A rank instead of the value: LogME has no value for some sources
    correlation = spearmanr(truth[order], range(len(order), 0, -1)).statistic
    return {"regret@1": regret(1), "regret@3": regret(3), "rank correlation": float(correlation)}


def main() -> None:
    plan = Plan.load(SPACE, cache=cache_folder())
    prepare_all(plan, cache_folder(), Console(stderr=True))
    truth = worth(pd.read_parquet(Path(TABLE)))
    sources: dict[str, Sequence[Source]] = {
        text.partition(",")[0]: chains[0].stages[0].mixture.sources
        for text, chains in options_of(plan).items()
        if text != NONE
    }
    lines = [
        {"target": target, "ranking": ranking, **judged(truth[target], expected)}
        for target, ranking, expected in ranked(plan, {name: sources[name] for name in truth.index})
    ]
    for target, values in truth.items():
        random = {f"regret@{k}": random_regret(list(values), k) for k in (1, 3)}
        lines.append({"target": str(target), "ranking": "random", **random, "rank correlation": 0.0})
    table = pd.DataFrame(lines).sort_values(["target", "ranking"])
    mean = table.groupby("ranking").mean(numeric_only=True).reset_index().assign(target="mean")
    print(pd.concat([table, mean]).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
