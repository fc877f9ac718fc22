"""Published XTREME scores beside the study's own, for the same tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict

from tunexfer.core.chain import Target
from tunexfer.export.xtreme_scores import TARGETS
from tunexfer.report.section import Section
from tunexfer.report.study import Study
from tunexfer.tasks.suite import load_suite

SUITE = "xtreme"
AVERAGE = "average"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Known(_Strict):
    value: float | tuple[float, float]
    """Percent; of answers F1 and exact match."""
    known: Literal["quoted", "remembered"]

    @property
    def score(self) -> float:
        """As it enters the benchmark's average."""
        return self.value if isinstance(self.value, float) else sum(self.value) / 2


class System(_Strict):
    name: str
    about: str
    encoder: str
    scores: dict[str, Known]
    """By the benchmark's tasks, and `average`."""
    epochs: dict[str, int]
    """Of the fine-tuning on the target."""


class Ours(_Strict):
    task: str
    unlike: str = ""
    """Why its score isn't quite the benchmark's."""


class Published(_Strict):
    known: dict[str, str]
    systems: tuple[System, ...]
    """The one without an intermediate task, then the one with."""
    tasks: dict[str, tuple[Ours, ...]]


@cache
def published() -> Published:
    text = resources.files("tunexfer.report").joinpath("xtreme_published.yaml").read_text(encoding="utf-8")
    return Published.model_validate(yaml.safe_load(text))


def section(studies: Sequence[Study]) -> Section | None:
    """None where no study with a complete baseline is of the suite `xtreme`."""
    own = [study for study in studies if study.suite == SUITE and study.baseline() is not None]
    if not own:
        return None
    known = published()
    return Section(
        key="reference",
        title="Published XTREME scores",
        words=(*_words(known), *(line for study in own for line in _unlike(known, study))),
        tables={
            "Published": published_table(known),
            **{f"{study.name} beside what is published": own_table(known, study) for study in own},
        },
    )


def published_table(known: Published) -> pd.DataFrame:
    """A row a task: score and how it is known of each system, and by how much the second is ahead, in points."""
    before, after = known.systems
    rows = []
    for task in [*known.tasks, AVERAGE]:
        row: dict[str, object] = {"task": task}
        for system in known.systems:
            row |= {system.name: system.scores[task].score, f"{system.name} is": system.scores[task].known}
        rows.append(row | {"gain": after.scores[task].score - before.scores[task].score})
    return pd.DataFrame(rows).round(2)


def own_table(known: Published, study: Study) -> pd.DataFrame:
    """A row a task that the study has: its baseline, its best trial and the published two, all as the benchmark counts.

    languages:         of the benchmark's, those that the study scored; means are over them
    gain:              best - baseline, points; published_gain likewise of the published two
    epochs, ..._epochs: how often the target's fine-tuning saw its rows; NaN where it has none
    unlike:            why the scores aren't quite comparable; empty where only encoder and epochs may differ
    """
    rows = [_own_row(known, study, name, *found) for name, found in _targets(known, study).items()]
    table = pd.DataFrame(rows)
    if len(table) == len(known.tasks) and not table["unlike"].any():
        before, after = known.systems
        means = {column: table[column].mean() for column in ("baseline", "best", "gain")}
        there = {system.name: system.scores[AVERAGE].score for system in known.systems}
        row = {
            "task": AVERAGE,
            **means,
            **there,
            "published_gain": there[after.name] - there[before.name],
            "unlike": "",
        }
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    return table


def _targets(known: Published, study: Study) -> dict[str, tuple[Target, Ours]]:
    """The benchmark's task -> the target that is it, the best where several are."""
    targets = study.chain(study.baseline() or 0).targets
    found = {}
    for name, choices in known.tasks.items():
        fitting = [(target, ours) for ours in choices for target in targets if target.task == ours.task]
        if fitting:
            found[name] = fitting[0]
    return found


def _own_row(known: Published, study: Study, task: str, target: Target, ours: Ours) -> dict[str, object]:
    languages = TARGETS[task].languages.split()
    scores = study.scores()
    mine = scores[scores["main"] & (scores["split"] == "test") & (scores["target"] == target.name)]
    sides = {}
    for name, trial in (("baseline", study.baseline()), ("best", study.best())):
        of_trial = mine[mine["trial"] == trial].astype({"language": str}).set_index("language")["value"]
        sides[name] = of_trial.reindex(languages).dropna()
    both = sides["baseline"].index.intersection(sides["best"].index)
    baseline, best = (float(side[both].mean()) for side in sides.values())
    unlike = [ours.unlike] if ours.unlike else []
    if len(both) < len(languages):
        unlike.append(f"{len(both)} of {len(languages)} languages")
    if target.train_language not in (None, "en"):
        unlike.append(f"fine-tuned in {target.train_language}")
    systems: dict[str, float] = {}
    for system in known.systems:
        systems |= {system.name: system.scores[task].score, f"{system.name} epochs": system.epochs.get(task, np.nan)}
    before, after = known.systems
    return {
        "task": task,
        "languages": len(both),
        "baseline": baseline,
        "best": best,
        "gain": best - baseline,
        **systems,
        "published_gain": after.scores[task].score - before.scores[task].score,
        "epochs": _epochs(target),
        "unlike": "; ".join(unlike),
    }


def _epochs(target: Target) -> float:
    """How often the fine-tuning sees the rows that the suite declares; NaN where it doesn't say or there is none."""
    if target.stage is None:
        return np.nan
    counts = _rows(target.task).get(target.train_language or "", (0, 0, 0))
    return target.stage.steps * target.stage.batch_size / counts[0] if counts[0] else np.nan


@cache
def _rows(task: str) -> Mapping[str, tuple[int, int, int]]:
    return load_suite(SUITE)[0].tasks[task].rows


def _words(known: Published) -> Iterator[str]:
    systems = "; ".join(f"{system.name}: {system.about}" for system in known.systems)
    marks = "; ".join(f"{mark}: {meaning}" for mark, meaning in known.known.items())
    yield (
        f"Test scores in percent, means over all languages of a task, English included. {systems}. None of the numbers "
        f"was read in the papers' own tables; how each is known: {marks}. Gains compare better than scores."
    )


def _unlike(known: Published, study: Study) -> Iterator[str]:
    """Where the study's setting isn't the published one."""
    encoder = study.chain(study.baseline() or 0).encoder.name
    table = own_table(known, study)
    there = known.systems[0].encoder
    if encoder.removeprefix("FacebookAI/") != there.removeprefix("FacebookAI/"):
        yield f"{study.name}: the encoder is {encoder}, the published ones are {there}."
    differ = []
    for row in table[table["epochs"].notna()].to_dict("records"):
        published_epochs = [row[f"{system.name} epochs"] for system in known.systems]
        if not np.isclose(row["epochs"], published_epochs).any():
            differ.append(f"{row['task']} {row['epochs']:.2g} ({' and '.join(f'{n:.0f}' for n in published_epochs)})")
    if differ:
        names = " and ".join(system.name for system in known.systems)
        yield f"{study.name}: epochs of fine-tuning on the targets, in brackets those of {names}: {'; '.join(differ)}."
    if missing := [task for task in known.tasks if task not in set(table["task"])]:
        yield f"{study.name}: not among its targets: {', '.join(missing)}; so there is no average."
