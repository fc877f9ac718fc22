"""The model card of an exported trial: what it is, how good in which language, of what data, how it was chosen."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.objective import Objective
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.scores import Score, Split, unseen_by_both
from tunexfer.core.trial import TrialResult, fresh_objectives
from tunexfer.data.checkpoint import find_encoder
from tunexfer.data.rows import Rows
from tunexfer.export.trial import found_encoder
from tunexfer.record.deltas import Deltas
from tunexfer.record.record import Record, read_plan
from tunexfer.tasks.installed import encoder_provider
from tunexfer.tasks.suite import TaskBlock

CARD = "README.md"
HUB_TASKS = {
    "classification": "text-classification",
    "tagging": "token-classification",
    "extractive_qa": "question-answering",
    "multiple_choice": "multiple-choice",
    "retrieval": "sentence-similarity",
    "mining": "sentence-similarity",
}
"""The hub's names for our kinds of task."""
METRICS = {"mean": "mean of f1 and exact_match"}
"""What isn't plain from a metric's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """How one target's folder is used."""

    target: str
    loads_with: str
    """In words, for the table."""
    snippet: str
    remark: str = ""


def write_card(folder: Path, study: StudyFolder, ended: TrialResult, rows: Rows, usages: Sequence[Usage]) -> None:
    """Write `README.md`: a block of metadata as the Hugging Face hub reads it, then the card."""
    facts = _Facts(study, ended, rows)
    card = ModelCard(f"---\n{_metadata(facts).to_yaml()}\n---\n\n{_body(facts, usages)}")
    write_whole(folder / CARD, str(card))


class _Facts:
    """What the study knows of one trial."""

    def __init__(self, study: StudyFolder, ended: TrialResult, rows: Rows) -> None:
        self.study, self.rows = study, rows
        self.plan, self.record = read_plan(study), Record(study)
        self.ended = replace(ended, scores=self.record.scores(ended.trial.number))
        self.chain: Chain = ended.trial.chain
        complete = self.record.complete
        self.deltas = Deltas(replace(other, scores=self.record.scores(other.trial.number)) for other in complete)
        self.trained: dict[str, list[str]] = {}
        """Task -> languages that some stage or target trained it in."""
        for source in sorted(self.chain.trained):
            self.trained.setdefault(source.task, []).append(source.language)

    @property
    def tasks(self) -> dict[str, TaskBlock]:
        """All that the chain trains or is scored on."""
        names = dict.fromkeys([*self.trained, *(target.task for target in self.chain.targets)])
        return {name: self.rows.suite.task(name) for name in names}

    def scores(self, target: str) -> dict[str, Score]:
        """Language -> main test score; validation, where there are no test rows."""
        return self.ended.main(target, "test") or self.ended.main(target, "validation")

    def split(self, target: str) -> Split:
        return next(iter(self.scores(target).values())).split

    def baseline(self, score: Score) -> float | None:
        found = self.deltas.baseline(score, self.ended.trial.seed)
        return None if found is None else found.value

    def unseen(self, score: Score) -> bool:
        return unseen_by_both(score, self.deltas.baseline(score, self.ended.trial.seed))

    @cached_property
    def encoder_card(self) -> ModelCardData | None:
        """Metadata of the `README.md` beside an encoder from a folder or an installed package; None without one."""
        encoder = found_encoder(self.study, self.chain.encoder)
        if not encoder_provider(encoder.name) and not Path(encoder.name).is_dir():
            return None
        folder = find_encoder(encoder, self.rows.cache)
        if not folder or not (folder / CARD).is_file():
            return None
        metadata: ModelCardData = ModelCard.load(folder / CARD, ignore_metadata_errors=True).data
        return metadata

    @property
    def base_model(self) -> str | list[str] | None:
        """The encoder's id on the hub, or the base model that its own card names; None for other encoders."""
        if self.encoder_card:
            return self.encoder_card.base_model
        name = self.chain.encoder.name
        return name if re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) and not Path(name).is_dir() else None


def _metadata(facts: _Facts) -> ModelCardData:
    scored = {target.name: facts.scores(target.name) for target in facts.chain.targets}
    languages = {language for found in scored.values() for language in found}
    languages |= {language for found in facts.trained.values() for language in found}
    tasks = [HUB_TASKS[facts.tasks[target.task].kind] for target in facts.chain.targets]
    sets = {place.hub.path for name in facts.trained for place in facts.tasks[name].places if place.hub}
    return ModelCardData(
        language=sorted(languages),
        license="other",
        license_name="those-of-encoder-and-data",
        license_link=f"{CARD}#licences",
        library_name="transformers",
        pipeline_tag=tasks[0] if len(set(tasks)) == 1 else None,
        base_model=facts.base_model,
        datasets=sorted(name for name in sets if "/" in name) or None,
        metrics=sorted({_metric(found) for found in scored.values()}),
        tags=["tunexfer", "cross-lingual-transfer", "multilingual", *tasks],
        model_name=f"{facts.study.name} trial {facts.ended.trial.number}",
        eval_results=[result for target in facts.chain.targets for result in _results(facts, target.name, target.task)],
    )


def _metric(found: Mapping[str, Score]) -> str:
    metric = next(iter(found.values())).metric
    return METRICS.get(metric, metric)


def _results(facts: _Facts, target: str, task: str) -> list[EvalResult]:
    """Of the means over unseen languages and over all."""
    found = facts.scores(target)
    return [
        EvalResult(
            task_type=HUB_TASKS[facts.tasks[task].kind],
            dataset_type=task,
            dataset_name=target,
            dataset_split=facts.split(target),
            metric_type=_metric(found),
            metric_name=words,
            metric_value=round(statistics.fmean(found[language].value for language in languages), 2),
        )
        for words, languages in _groups(facts, found)
    ]


def _groups(facts: _Facts, found: Mapping[str, Score]) -> list[tuple[str, list[str]]]:
    groups = {"unseen language": [one for one, score in found.items() if facts.unseen(score)], "language": [*found]}
    return [
        (f"mean of {len(languages)} {words}{'s' * (len(languages) > 1)}", languages)
        for words, languages in groups.items()
        if languages
    ]


def _body(facts: _Facts, usages: Sequence[Usage]) -> str:
    number = facts.ended.trial.number
    parts = [
        f"# {facts.study.name}, trial {number}",
        f"{_encoder(facts)}, fine-tuned by tunexfer on a chain of tasks and scored in languages it was not trained in.",
        f"The chain: {chain_in_words(facts.chain)}.",
        _table(
            ("folder", "what it does", "loads with"),
            [(f"`{u.target}`", _kind(facts, u.target), u.loads_with) for u in usages],
        ),
        "## Scores",
        "Percentages; delta: points gained over the baseline, the same targets with no stage before them, same seed. A "
        "language is unseen if nothing in the chain, nor in the baseline, trained the task in it.",
        *(_scores(facts, target.name) for target in facts.chain.targets),
        "## How it was chosen",
        _chosen(facts),
        "## Data",
        _table(("task", "part", "licence", "about"), [_data(facts, name) for name in facts.tasks]),
        "## Licences",
        _licences(facts),
        "## Use",
        *(part for usage in usages for part in _use(usage)),
        "## Limits",
        _limits(facts),
        "## Made again",
        "`tunexfer search replay.yaml --store NEW_FOLDER` trains the chain again; on the same machine, with the same "
        "libraries and rows, it gives the same scores. It names the folders that encoder and rows lay in. "
        "`manifest.json` has versions, device, threads and the checksum of every file.",
    ]
    return "\n\n".join(parts) + "\n"


def _encoder(facts: _Facts) -> str:
    encoder = facts.chain.encoder
    base = facts.base_model
    if facts.encoder_card and base:
        return f"The encoder `{Path(encoder.name).name}`, based on {base if isinstance(base, str) else ', '.join(base)}"
    name = base or Path(encoder.name).name
    return f"The encoder `{name}`" + (f" (revision {encoder.revision})" if encoder.revision else "")


def _kind(facts: _Facts, target: str) -> str:
    block = facts.tasks[facts.chain.target(target).task]
    labels = f": {', '.join(block.labels[:4])}{', ...' if len(block.labels) > 4 else ''}" if block.labels else ""
    return block.kind.replace("_", " ") + labels


def _scores(facts: _Facts, target: str) -> str:
    found = facts.scores(target)
    means = [
        _row(
            words,
            statistics.fmean(found[one].value for one in languages),
            _mean([facts.baseline(found[one]) for one in languages]),
            "",
        )
        for words, languages in _groups(facts, found)
    ]
    own = [
        _row(language, one.value, facts.baseline(one), "yes" if facts.unseen(one) else "no")
        for language, one in sorted(found.items())
    ]
    table = _table(("language", "baseline", "score", "delta", "unseen"), [*means, *own])
    return f"**{target}** ({_metric(found)}, {facts.split(target)} rows)\n\n{table}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _row(name: str, value: float, baseline: float | None, unseen: str) -> tuple[str, ...]:
    if baseline is None:
        return name, "", f"{value:.1f}", "", unseen
    return name, f"{baseline:.1f}", f"{value:.1f}", f"{value - baseline:+.1f}", unseen


def _chosen(facts: _Facts) -> str:
    objective = Objective.model_validate(facts.plan["identity"]["objective"])
    own = [one for one in facts.record.complete if one.trial.phase != "confirm" and one.objective is not None]
    best, mine = facts.record.best(), facts.ended
    again = fresh_objectives(facts.record.complete)
    own_again = again.get(mine.trial.chain, [])
    what = "mean" if objective.maximize == "mean" else "lowest"
    if objective.languages == "train":
        whose = (
            "Only validation rows in the languages that the targets were trained in had a say: the zero-shot protocol."
        )
    else:
        which = "in all languages" if objective.languages == "all" else f"in {', '.join(objective.languages)}"
        whose = (
            f"Validation rows {which} had a say, so labelled rows of languages that are called unseen here may have "
            "helped to choose: this is not the zero-shot protocol."
        )
    if best and mine.trial.number == best.trial.number and own_again:
        how = (
            f"Of the {len(again)} chains that were run again with {len(own_again)} fresh seeds it has the highest mean "
            f"objective, {_number(statistics.fmean(own_again))}; by the seed of the search it is "
            f"{_number(mine.objective)}"
        )
    elif best and mine.trial.number == best.trial.number == 0:
        how = f"It is the baseline: none of {len(own)} trials has a higher objective"
    elif best and mine.trial.number == best.trial.number:
        how = f"It has the highest objective of {len(own)} trials, {_number(mine.objective)}"
    else:
        how = f"It was named by its number; its objective is {_number(mine.objective)}"
        how += (
            f", that of the best of {len(own)} trials {_number(best.objective)} (trial {best.trial.number})"
            if best
            else ""
        )
    baseline = next((one.objective for one in own if one.trial.number == 0), None)
    return (
        f"{how}; the baseline's is {_number(baseline)}. The objective is the {what} validation score, averaged over "
        f"the targets. {whose} Test rows had none."
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _data(facts: _Facts, name: str) -> tuple[str, ...]:
    block = facts.tasks[name]
    parts = []
    if name in facts.trained:
        parts.append(f"trained in {', '.join(facts.trained[name])}")
    for target in facts.chain.targets:
        if target.task == name:
            parts.append(f"scored in {len(facts.scores(target.name))} languages")
    return f"`{name}`", "; ".join(dict.fromkeys(parts)), block.licence, " ".join(block.about.split())


def _licences(facts: _Facts) -> str:
    found = sorted({facts.tasks[name].licence for name in facts.trained})
    trained = (
        f"What it was trained on is under: {', '.join(found)}." if found else "It was trained on no rows of this study."
    )
    own = facts.encoder_card.license if facts.encoder_card else None
    encoder = (
        f"The encoder is under: {own}."
        if own
        else "The encoder has a licence of its own, which its publisher states and this card doesn't know."
    )
    return (
        f"{trained} {encoder} What "
        "follows from them for these weights is for their user to judge: terms such as non-commercial use or sharing "
        "alike may reach them."
    )


def _use(usage: Usage) -> Iterable[str]:
    yield f"### {usage.target}"
    if usage.remark:
        yield usage.remark
    yield f"```python\n{usage.snippet}```"


def _limits(facts: _Facts) -> str:
    kinds = {facts.tasks[target.task].kind for target in facts.chain.targets}
    lengths = sorted({facts.tasks[target.task].max_length for target in facts.chain.targets})
    points = [
        f"Texts are cut at {' or '.join(map(str, lengths))} pieces, as in training.",
        f"Scores are of one seed ({facts.ended.trial.seed}). A gain of a point or two may be chance.",
        "Nothing is known of languages that are not in the tables.",
    ]
    if facts.plan["identity"]["precision"] == "bf16":
        points.append(
            "It was trained and scored in bf16 (`torch.autocast`). The weights are float32; computed so, a few "
            "predictions differ."
        )
    if "extractive_qa" in kinds:
        points.append("The lines below `Use` read one window of a context; the scores are over all windows of it.")
    if "tagging" in kinds:
        points.append(
            "A word without any piece of its own gets no tag below `Use`; it was scored as the unknown piece."
        )
    if facts.rows.suite.about:
        points.append(f"Of the suite: {' '.join(facts.rows.suite.about.split())}")
    return "\n".join(f"- {point}" for point in points)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
