"""Make the generated cases of `test_metrics_fuzz.py`, with the values that other implementations give them.

    pip install --no-deps --target old seqeval==0.0.12
    pip install --no-deps --target new seqeval==1.2.2
    pip install --no-deps --target other lm-eval==0.4.13 torchmetrics==1.9.0 lightning-utilities==0.15.3
    python tests/tasks/fuzz/make.py old new other

The implementations are seqeval 0.0.12 (the one that XTREME pins) and 1.2.2 (classes with hyphens, suffixes),
scikit-learn, torchmetrics' SQuAD, lm-eval's copy of MLQA's official script, and for mining a plain search over
all pairs, written here from XTREME's rules. Cases have what people's data have: classes with hyphens or that begin with
a letter of a scheme, chunks that begin with I-, labels that are never gold or never predicted, empty sentences,
punctuation, articles and characters of other scripts, sentences without a partner.
"""

from __future__ import annotations

import gzip
import importlib
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

HERE = Path(__file__).parent
CASES = 300
Case = dict[str, Any]

CLASSES = ["PER", "LOC", "person-other", "ORGANIZACAO", "ELEMENT", "B", "人名", "SCONJ", "event-B"]
UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()
BILOU = {"B": "B", "I": "I", "E": "L", "S": "U"}


def load(folder: str, name: str) -> ModuleType:
    """Import a module of a package that lies in a folder, whatever version of it was imported before."""
    for loaded in [*sys.modules]:
        if loaded.partition(".")[0] == name.partition(".")[0]:
            del sys.modules[loaded]
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def changed(tags: list[str], pool: list[str], draw: random.Random) -> list[str]:
    """Predict a sentence's tags: most as they are, some drawn anew."""
    share = draw.choice([0.0, 0.2, 0.5])
    return [draw.choice(pool) if draw.random() < share else tag for tag in tags]


def sentences(pool: list[str], draw: random.Random) -> tuple[list[list[str]], list[list[str]]]:
    gold = [draw.choices(pool, k=draw.choice([1, 2, 3, 5, 8, 12])) for _ in range(draw.randint(1, 4))]
    if draw.random() < 0.3:  # runs of equal tags, as in real text
        gold = [[tag for tag in tags for _ in range(draw.choice([1, 1, 2]))] for tags in gold]
    return gold, [changed(tags, pool, draw) for tags in gold]


def three(hits: int, predicted: int, gold: int) -> dict[str, float]:
    """Percentages; 0 where nothing is predicted, gold or right."""
    precision, recall = hits / predicted if predicted else 0.0, hits / gold if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}


def tagging(old: str, new: str) -> Iterator[Case]:
    draw = random.Random(1)
    first, second = (load(folder, "seqeval.metrics.sequence_labeling") for folder in (old, new))

    def count(gold: Any, predicted: Any, entities: Callable[[list[list[str]]], Any]) -> dict[str, float]:
        expected, guessed = set(entities(gold)), set(entities(predicted))
        return three(len(expected & guessed), len(guessed), len(expected))

    def runs(tagged: list[list[str]]) -> Iterator[Any]:
        """Bare classes: a chunk is a run of equal tags."""
        for number, tags in enumerate(tagged):
            for tag, run in itertools.groupby(enumerate(tags), key=lambda pair: pair[1]):
                if tag != "O":
                    yield number, tag, tuple(place for place, _ in run)

    for number in range(CASES):
        scheme = ("prefix", "bilou", "suffix", "bare", "xtreme", "xtreme")[number % 6]
        classes = draw.sample(CLASSES, draw.randint(1, 4))
        letters = draw.choice(["BI", "I", "BIES"])
        if scheme == "bare":
            pool = [*classes, "O"]
        elif scheme == "xtreme":
            pool = draw.choice([UPOS, ["O", *(f"{letter}-{kind}" for letter in letters for kind in classes)]])
        else:
            order = "{1}-{0}" if scheme == "suffix" else "{0}-{1}"
            pool = ["O", "O", *(order.format(letter, kind) for letter in letters for kind in classes)]
        gold, predicted = sentences(pool, draw)
        if scheme == "bare":
            values = count(gold, predicted, runs)
        elif scheme == "xtreme":
            values = count(gold, predicted, first.get_entities)
        else:
            values = count(gold, predicted, partial(second.get_entities, suffix=scheme == "suffix"))
        if scheme == "bilou":  # the same chunks in other letters
            gold, predicted = (
                [[BILOU.get(tag[0], tag[0]) + tag[1:] for tag in tags] for tags in tagged]
                for tagged in (gold, predicted)
            )
        flat = [*itertools.chain(*gold)], [*itertools.chain(*predicted)]
        values["token_accuracy"] = 100 * accuracy_score(*flat)
        labels = sorted({*flat[0], *flat[1]})
        yield {
            "scheme": "prefix" if scheme == "bilou" else scheme,
            "labels": labels,
            "gold": [[labels.index(tag) for tag in tags] for tags in gold],
            "predicted": [[labels.index(tag) for tag in tags] for tags in predicted],
            "expected": values,
        }


def classification() -> Iterator[Case]:
    draw = random.Random(2)
    for _ in range(CASES):
        labels = draw.choice([["no", "yes"], ["0", "1", "2"], ["entailment", "neutral", "contradiction"], [*"äbcdef"]])
        weights = draw.choice([[1] * len(labels), [30, *[1] * (len(labels) - 1)]])
        gold = draw.choices(range(len(labels)), weights=weights, k=draw.choice([1, 2, 5, 20, 60]))
        predicted = [draw.randrange(len(labels)) if draw.random() < draw.choice([0.1, 0.9]) else g for g in gold]
        there = sorted(set(gold))
        f1 = {
            name: f1_score(gold, predicted, labels=there, average=name, zero_division=0)
            for name in ("macro", "weighted")
        }
        expected = {"accuracy": accuracy_score(gold, predicted), "macro_f1": f1["macro"], "weighted_f1": f1["weighted"]}
        yield {
            "labels": labels,
            "gold": gold,
            "predicted": predicted,
            "expected": {name: 100 * value for name, value in expected.items()},
        }


WORDS = {
    "en": "the a An of Paris, 1990 (Paris) year's U.S. naïve the-end «quote» 𝒳 e\u0301cole ﬁve $5.00 theatre".split(),
    "de": "der Die das ein eines einer Straße, Größe 1.990 im »Haus« Derby Einfall STRASSE".split(),
    "es": "el La los unas un perro ¿qué? niño. 1990 Elena unión año «sí»".split(),
    "vi": "của những cái là chiếc Hà Nội, năm 1990 làng người".split(),
    "hi": "यह 1990 में दिल्ली है। दिल्ली, का ॐ".split(),
    "ar": "المدينة في العراق، 1990 ال كتاب؟ والعراق سؤال".split(),
    "zh": ["在1990年", "，", "北京", "(Beijing)", "市。", "的 ", "ＡＢＣ", "㐀", "𠀀", "中国"],
}


def answers(other: str) -> Iterator[Case]:
    draw = random.Random(3)
    squad = load(other, "torchmetrics.functional.text.squad")
    mlqa = load(f"{other}/lm_eval/tasks/mlqa", "utils")  # alone: the package wants much that is of no use here
    kept = mlqa.normalize_answer

    def official(text: str, language: str) -> str:
        """Take Arabic articles out wherever they are, as the official script does and lm-eval's copy does not."""
        if language != "ar":
            return str(kept(text, language))
        bare = "".join(char for char in text.lower() if char not in mlqa.PUNCT)
        return " ".join(bare.replace("ال", " ").split())

    mlqa.normalize_answer = official

    def answer(language: str) -> str:
        words = draw.choices(WORDS[language], k=draw.randint(1, 5))
        return draw.choice([" ", " ", "  ", "\u00a0", ", "] if language != "zh" else [""]).join(words)

    cases = 0
    while cases < CASES:
        rules, language = draw.choice(["squad", "mlqa"]), draw.choice([*WORDS])
        gold = [answer(language) for _ in range(draw.choice([1, 1, 2, 3]))]
        base = draw.choice(gold).split()
        predicted = draw.choice([answer(language), " ".join(base), " ".join(base[1:]), " ".join([*base, *base[:1]])])
        if rules == "squad":
            clean = squad._normalize_text
            exact, f1 = squad._compute_exact_match_score, squad._compute_f1_score
        else:
            clean = lambda text, own=language: official(text, own)  # noqa: E731
            exact = lambda guess, text, own=language: mlqa.exact_match_score(guess, text, own)  # noqa: E731
            f1 = lambda guess, text, own=language: mlqa.f1_score(guess, text, own)  # noqa: E731
        if not all(clean(text) for text in (predicted, *gold)):
            continue  # two empty answers share no word in SQuAD 1.1 and all words in 2.0, which torchmetrics follows
        cases += 1
        values = {"exact_match": max(100 * float(exact(predicted, text)) for text in gold)}
        values["f1"] = max(100 * float(f1(predicted, text)) for text in gold)
        yield {"rules": rules, "language": language, "gold": gold, "predicted": predicted, "expected": values}


def mining() -> Iterator[Case]:
    """Draw small whole numbers; cases with margins too alike for float32 to tell apart are drawn again."""
    draw = np.random.default_rng(4)
    made = 0
    while made < CASES:
        pairs, alone = int(draw.integers(2, 7)), draw.integers(0, 4, size=2)
        english = draw.integers(-3, 4, size=(pairs + alone[0], 6))
        foreign = np.concatenate([english[:pairs], draw.integers(-3, 4, size=(alone[1], 6))])
        foreign = foreign + draw.integers(-2, 3, size=foreign.shape)
        sides = english + 4, foreign + 4  # cosines well above 0, where the margin means something
        if not all(side.any(axis=1).all() for side in sides):
            continue
        y, x = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
        margins = sorted({*mined_pairs(x @ y.T).values()})
        if min(np.diff(margins), default=1.0) < 1e-4:
            continue
        made += 1
        yield {
            "foreign": sides[1].tolist(),
            "english": sides[0].tolist(),
            "pairs": pairs,
            "expected": cut(mined_pairs(x @ y.T), {(place, place) for place in range(pairs)}),
        }


def mined_pairs(cosines: Any, k: int = 4) -> dict[tuple[int, int], float]:
    """Match XTREME's way, pair by pair: each sentence's best of its k nearest, from the highest margin down."""
    near_x, near_y = (np.argsort(-side, kind="stable", axis=1)[:, :k] for side in (cosines, cosines.T))

    def margin(x: int, y: int) -> float:
        around = np.mean([cosines[x, other] for other in near_x[x]]) + np.mean(
            [cosines[other, y] for other in near_y[y]]
        )
        return float(2 * cosines[x, y] / around)

    candidates = [(x, max(ys, key=lambda y: margin(x, y))) for x, ys in enumerate(near_x.tolist())]
    candidates += [(max(xs, key=lambda x: margin(x, y)), y) for y, xs in enumerate(near_y.tolist())]
    matched: dict[tuple[int, int], float] = {}
    for x, y in sorted(candidates, key=lambda pair: -margin(*pair)):
        if margin(x, y) > 0 and all(x != x2 and y != y2 for x2, y2 in matched):
            matched[x, y] = margin(x, y)
    return matched


def cut(matched: dict[tuple[int, int], float], gold: set[tuple[int, int]]) -> dict[str, float]:
    """Keep the pairs above the threshold that is best for them, half way to the next score, and score them."""
    pairs, scores = [*matched], [*matched.values()]
    best, threshold = 0.0, 0.0
    for count in range(1, len(pairs) + 1):
        f1 = three(sum(pair in gold for pair in pairs[:count]), count, len(gold))["f1"]
        if f1 > best:
            best, threshold = f1, (scores[count - 1] + scores[min(count, len(pairs) - 1)]) / 2
    predicted = {pair for pair, score in matched.items() if score >= threshold}
    return three(len(gold & predicted), len(predicted), len(gold))


def main(old: str, new: str, other: str) -> None:
    made = {
        "tagging": tagging(old, new),
        "classification": classification(),
        "answers": answers(other),
        "mining": mining(),
    }
    for name, cases in made.items():
        lines = "".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n" for case in cases)
        (HERE / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
