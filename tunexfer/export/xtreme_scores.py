"""Scores folders of predictions exactly as the XTREME benchmark does.

Source: google-research/xtreme, evaluate.py; Hu et al. 2020. A folder holds `<task>/test-<language>.tsv`, one line per
sentence, word or pair, or `.json` for questions, answers by question id; labels are in a folder of the same shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunexfer.errors import DataError
from tunexfer.tasks.metrics.answers import Rules, answer_scores, normaliser
from tunexfer.tasks.metrics.chunks import chunk_scores
from tunexfer.tasks.metrics.labels import accuracy, precision_recall_f1
from tunexfer.tasks.suite import nearest

Metrics = dict[str, float]
"""Percentages by the metric's name."""


class _XtremeTask(NamedTuple):
    """One of the benchmark's tasks."""

    group: str
    languages: list[str]
    """Each has a file; the task's score is the plain mean over all of them, English included."""
    score: Callable[[Path, Path, str], Metrics]
    """Scores a file of predictions against one of labels, in a language."""
    suffix: str = "tsv"


def score_folders(predictions: Path, labels: Path) -> dict[str, Any]:
    """Score every task that both folders have.

    returns: {"overall": x, "groups": {name: x}, "tasks": {name: {"mean": x, "metrics": {metric: x},
        "languages": {language: {metric: x}}}}}, in percent; a group is there only with all of its tasks, and
        `overall` is None without all nine
    raises: DataError, if a language's file is missing or doesn't fit its labels
    """
    names = [name for name in XTREME_TASKS if (predictions / name).is_dir() and (labels / name).is_dir()]
    if not names:
        raise DataError(
            f"{predictions} and {labels} have no task in common: each has to hold folders named as the benchmark's "
            f"tasks, {', '.join(XTREME_TASKS)}."
        )
    tasks = {name: _score_task(name, predictions / name, labels / name) for name in names}
    groups: dict[str, list[str]] = {}
    for name, task in XTREME_TASKS.items():
        groups.setdefault(task.group, []).append(name)
    means = {
        group: _mean([tasks[name]["mean"] for name in members])
        for group, members in groups.items()
        if tasks.keys() >= set(members)
    }
    overall = _mean([task["mean"] for task in tasks.values()]) if len(tasks) == len(XTREME_TASKS) else None
    return {"overall": overall, "groups": means, "tasks": tasks}


def remarks(predictions: Path, labels: Path) -> list[str]:
    """Name each task that isn't scored, with the folder that lacks it, and each folder that is no task's."""
    lines = []
    for name in XTREME_TASKS:
        lacking = [str(folder) for folder in (predictions, labels) if not (folder / name).is_dir()]
        if lacking:
            lines.append(f"not scored: {name}: no such folder in {' and '.join(lacking)}")
    paths = (path for folder in (predictions, labels) for path in sorted(folder.iterdir()) if path.is_dir())
    return lines + [
        f"passed over: {path}: the benchmark has no such task.{nearest(path.name, XTREME_TASKS)}"
        for path in paths
        if path.name not in XTREME_TASKS
    ]


def score_table(scores: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Arrange what `score_folders` returns in rows of text, the first of which holds the headings."""
    rows = [("task", "score", "metrics", "languages", "worst")]
    for name, task in scores["tasks"].items():
        main = {language: _main(metrics) for language, metrics in task["languages"].items()}
        worst = min(main, key=lambda language: main[language])
        metrics = ", ".join(f"{metric} {value:.2f}" for metric, value in task["metrics"].items())
        rows.append((name, f"{task['mean']:.2f}", metrics, str(len(main)), f"{worst} {main[worst]:.2f}"))
    rows += [(group, f"{value:.2f}", "", "", "") for group, value in scores["groups"].items()]
    overall = scores["overall"]
    return [*rows, ("overall", "needs all nine tasks" if overall is None else f"{overall:.2f}", "", "", "")]


def _score_task(name: str, predictions: Path, labels: Path) -> dict[str, Any]:
    task = XTREME_TASKS[name]
    files = {language: f"test-{language}.{task.suffix}" for language in task.languages}
    missing = [
        folder / file for folder in (predictions, labels) for file in files.values() if not (folder / file).is_file()
    ]
    if missing:
        raise DataError(
            f"{name} is scored over all of its {len(files)} languages, and {len(missing)} files are missing: "
            f"{', '.join(map(str, missing[:5]))}{' ...' if len(missing) > 5 else ''}."
        )
    languages = {language: task.score(predictions / file, labels / file, language) for language, file in files.items()}
    metrics = {
        metric: _mean([scores[metric] for scores in languages.values()]) for metric in next(iter(languages.values()))
    }
    return {"mean": _main(metrics), "metrics": metrics, "languages": languages}


def _main(metrics: Metrics) -> float:
    """The main score of a task: its accuracy, its F1, or for questions the mean of exact match and F1."""
    if "exact_match" in metrics:
        return (metrics["exact_match"] + metrics["f1"]) / 2
    return metrics["f1"] if "f1" in metrics else metrics["accuracy"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# The scores of one language's files


def _accuracy(predictions: Path, labels: Path, language: str) -> Metrics:
    gold, predicted = _lines(labels), _lines(predictions)
    _same_length(predictions, len(predicted), labels, len(gold), "lines")
    if not gold:
        raise DataError(f"{labels} is empty: there is nothing to score.")
    return {"accuracy": accuracy(gold, predicted) * 100}


def _chunk_f1(predictions: Path, labels: Path, language: str) -> Metrics:
    gold, predicted = _sentences(labels), _sentences(predictions)
    _same_length(predictions, len(predicted), labels, len(gold), "sentences")
    for number, (tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True), start=1):
        _same_length(predictions, len(predicted_tags), labels, len(tags), f"tags in sentence {number}")
    return _f1_metrics(chunk_scores(gold, predicted))


def _pair_f1(predictions: Path, labels: Path, language: str) -> Metrics:
    """F1 of sets of pairs: a pair that occurs twice counts once."""
    gold, predicted = set(_lines(labels)), set(_lines(predictions))
    return _f1_metrics(precision_recall_f1(len(gold & predicted), len(predicted), len(gold)))


def _answers(rules: Rules) -> Callable[[Path, Path, str], Metrics]:
    def score(predictions: Path, labels: Path, language: str) -> Metrics:
        """A question without a prediction scores 0; a prediction for an unknown question is ignored."""
        gold, predicted = _gold_answers(labels), _json(predictions)
        if not (gold and isinstance(predicted, dict) and all(isinstance(text, str) for text in predicted.values())):
            raise DataError(f"{predictions} has to map question ids to answers, and {labels} has to hold questions.")
        normalise = normaliser(rules, language)
        scores = [
            answer_scores(predicted[question], answers, normalise) if question in predicted else (0.0, 0.0)
            for question, answers in gold
        ]
        exact, f1 = zip(*scores, strict=True)
        return {"exact_match": 100 * _mean(exact), "f1": 100 * _mean(f1)}

    return score


def _f1_metrics(scores: tuple[float, float, float]) -> Metrics:
    precision, recall, f1 = scores
    return {"f1": f1 * 100, "precision": precision * 100, "recall": recall * 100}


def _same_length(predictions: Path, predicted: int, labels: Path, gold: int, unit: str) -> None:
    if predicted != gold:
        raise DataError(f"{predictions} has {predicted} {unit}, but {labels} has {gold}: they have to correspond.")


def _lines(file: Path) -> list[str]:
    lines = _text(file).split("\n")
    return [line.strip() for line in (lines if lines[-1] else lines[:-1])]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}. Save it as UTF-8.") from error


def _sentences(file: Path) -> list[list[str]]:
    """Read a tag a line, with an empty line after each sentence."""
    sentences: list[list[str]] = [[]]
    for line in _lines(file):
        if line:
            sentences[-1].append(line)
        else:
            sentences.append([])
    return sentences if sentences[-1] else sentences[:-1]


def _gold_answers(file: Path) -> list[tuple[str, list[str]]]:
    """Read every question's id and accepted answers from a file in SQuAD's form."""
    content = _json(file)
    try:
        return [
            (question["id"], [answer["text"] for answer in question["answers"]])
            for article in (content["data"] if isinstance(content, dict) else content)
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{file} isn't in SQuAD's form of articles, paragraphs and questions.") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: not JSON: {error}") from error


_PANX = "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw yo my zh kk tr"
_UDPOS = "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
_TATOEBA = "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et fi hu"

XTREME_TASKS = {
    "xnli": _XtremeTask("classification", "ar bg de el en es fr hi ru sw th tr ur vi zh".split(), _accuracy),
    "pawsx": _XtremeTask("classification", "de en es fr ja ko zh".split(), _accuracy),
    "udpos": _XtremeTask("tagging", _UDPOS.split(), _chunk_f1),
    "panx": _XtremeTask("tagging", f"{_PANX} et fi hu".split(), _chunk_f1),
    "xquad": _XtremeTask("qa", "en es de el ru tr ar vi th zh hi".split(), _answers("squad"), "json"),
    "mlqa": _XtremeTask("qa", "en es de ar hi vi zh".split(), _answers("mlqa"), "json"),
    "tydiqa": _XtremeTask("qa", "en ar bn fi id ko ru sw te".split(), _answers("squad"), "json"),
    "bucc2018": _XtremeTask("retrieval", "de fr ru zh".split(), _pair_f1),
    "tatoeba": _XtremeTask("retrieval", _TATOEBA.split(), _accuracy),
}
"""The nine tasks, in the benchmark's order."""
