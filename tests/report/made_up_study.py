"""Studies that never ran, with effects that are known: for tests of what is made of a study folder.

The first intermediate task helps, the second does nothing and the last hurts, each by its share of the mixture; a
second source language helps a little; nothing changes in a target's own train language. See `gain`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.graph import fingerprint
from tunexfer.core.scores import Score, Split
from tunexfer.core.trial import Failure, JobRun, Phase, State, Trial, TrialResult
from tunexfer.record.record import Record
from tunexfer.tasks.kinds import ROWS_SCHEMA

TRAIN = "en"
KIND_OF = ("label", "chunks", "retrieval", "answers")
"""What the targets are, in turn: accuracy; chunk F1; retrieval, which nothing is trained for; F1 and exact match."""
_SCHEMA = ROWS_SCHEMA.set(0, pa.field("target", pa.string()))


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """What is made up. `write` puts it into a folder by the project's own record."""

    name: str = "made_up"
    suite: str = "toy"
    encoder: str = "pico"
    trials: int = 12
    """Of the search, the baseline included."""
    intermediate: tuple[str, ...] = ("nli", "paraphrase", "questions")
    sources: tuple[str, ...] = ("en", "zh")
    targets: tuple[str, ...] = ("intent", "slots", "retrieval")
    languages: tuple[str, ...] = ("en", "de", "ru", "zh", "sw")
    train_languages: tuple[str, ...] = (TRAIN,)
    """Of several, each target draws its own; the first is the baseline's."""
    objective: Literal["train", "all"] = "all"
    stage_rates: tuple[str, ...] = ("1e-05", "3e-05")
    target_rates: tuple[str, ...] = ("0.0003", "0.0005")
    noise: float = 0.3
    """Standard deviation of a score, in points, between trials and seeds."""
    rows: int = 0
    """Scored rows per target, language and split; 0 leaves an empty table of rows."""
    rows_per_cluster: int = 2
    top: int = 1
    """Chains that are confirmed, where there are `seeds`."""
    seeds: int = 0
    """Fresh seeds of the confirmation."""
    states: tuple[tuple[int, State | Literal["unfinished"]], ...] = ()
    """Trial and how it ended, where it isn't complete."""
    seed: int = 7

    def write(self, runs: Path) -> Path:
        """returns: the study's folder, `runs/name`"""
        folder = StudyFolder(runs / self.name)
        seen: set[str] = set()
        with Record.drive(folder, self.plan()) as record:
            found = []
            for number, point in enumerate(itertools.islice(self.points(), self.trials)):
                phase: Phase = "search" if number else "baseline"
                trial = Trial(number=number, phase=phase, seed=self.seed, point=point, chain=self.chain(point))
                found.append(self._run(record, trial, seen))
            ranked = sorted(found[1:], key=lambda ended: -(ended.objective or 0.0))
            confirmed = [found[0].trial, *(ended.trial for ended in ranked[: self.top])] if self.seeds else []
            numbers = itertools.count(self.trials)
            for seed, trial in itertools.product(range(1000, 1000 + self.seeds), confirmed):
                again = Trial(number=next(numbers), phase="confirm", seed=seed, point=trial.point, chain=trial.chain)
                self._run(record, again, seen)
        return folder.path

    def points(self) -> Iterator[dict[str, Any]]:
        """The baseline's, then random ones, each another chain; like a search, it gives up when it finds no new one."""
        tried: set[Chain] = set()
        repeated = 0
        for point in self._draws():
            chain = self.chain(point)
            repeated = repeated + 1 if chain in tried else 0
            if repeated > 100:
                return
            if not repeated:
                tried.add(chain)
                yield point

    def _draws(self) -> Iterator[dict[str, Any]]:
        rng = random.Random(self.seed)
        yield {f"targets[{at}].learning_rate": self.target_rates[0] for at in self._trained}
        subsets = self._subsets()
        while True:
            tasks = rng.choice(subsets)
            point: dict[str, Any] = {"stages[0].tasks": "+".join(tasks) or "none"}
            if tasks:
                point["stages[0].languages"] = rng.choice(self._source_options())
                point["stages[0].learning_rate"] = rng.choice(self.stage_rates)
            if len(tasks) == 2:
                point[f"stages[0].mixing[{'+'.join(tasks)}]"] = rng.choice(["3/1", "2/2", "1/3"])
            point |= {f"targets[{at}].learning_rate": rng.choice(self.target_rates) for at in self._trained}
            if len(self.train_languages) > 1:
                point |= {f"targets[{at}].train_language": rng.choice(self.train_languages) for at in self._trained}
            yield point

    def chain(self, point: dict[str, Any]) -> Chain:
        stages: tuple[Stage, ...] = ()
        tasks = point.get("stages[0].tasks", "none").split("+")
        if tasks != ["none"]:
            parts = [int(n) for n in point.get(f"stages[0].mixing[{'+'.join(tasks)}]", "4").split("/")]
            languages = point["stages[0].languages"].split("+")
            sources = [Source(task=task, language=language) for task in tasks for language in languages]
            shares = [part / 4 / len(languages) for part in parts for _ in languages]
            mixture = Mixture(sources=tuple(sources), shares=tuple(shares))
            rate = float(point["stages[0].learning_rate"])
            stages = (Stage(name="intermediate", mixture=mixture, learning_rate=rate, steps=100),)
        targets = []
        for at, name in enumerate(self.targets):
            stage = None
            if at in self._trained:
                language = point.get(f"targets[{at}].train_language", self.train_languages[0])
                own = Mixture(sources=(Source(task=name, language=language),), shares=(1.0,))
                rate = float(point[f"targets[{at}].learning_rate"])
                stage = Stage(name=name, mixture=own, learning_rate=rate, steps=80)
            targets.append(Target(task=name, stage=stage))
        return Chain(suite=self.suite, encoder=Encoder(name=self.encoder), stages=stages, targets=tuple(targets))

    def gain(self, chain: Chain, target: str, language: str) -> float:
        """Points over the baseline that a chain truly has in a language of a target."""
        if language == TRAIN or not chain.stages:
            return 0.0
        effect = dict.fromkeys(self.intermediate, 0.0) | {self.intermediate[0]: 4.0, self.intermediate[-1]: -6.0}
        found = 0.0
        for stage in chain.stages:
            mixture = stage.mixture
            found += sum(
                share * effect[source.task] for source, share in zip(mixture.sources, mixture.shares, strict=True)
            )
            found += 1.0 if len({source.language for source in mixture.sources}) > 1 else 0.0
        return found

    def plan(self) -> dict[str, Any]:
        """What `plan.yaml` holds."""
        coordinates = {
            "stages[0].tasks": " | ".join("+".join(tasks) or "none" for tasks in self._subsets()),
            "stages[0].languages": " | ".join(self._source_options()),
            "stages[0].learning_rate": " | ".join(self.stage_rates),
        }
        pairs = [tasks for tasks in self._subsets() if len(tasks) == 2]
        coordinates |= {f"stages[0].mixing[{'+'.join(tasks)}]": "3/1 | 2/2 | 1/3" for tasks in pairs}
        coordinates |= {f"targets[{at}].learning_rate": " | ".join(self.target_rates) for at in self._trained}
        point = next(self.points())
        return {
            "tunexfer": "0.2.0",
            "name": self.name,
            "identity": {
                "suite": self.suite,
                "encoder": {"name": self.encoder},
                "stages": [{"name": "intermediate", "tasks": {"subset": {"of": [*self.intermediate], "size": [0, 2]}}}],
                "targets": [{"task": target} for target in self.targets],
                "objective": {"maximize": "mean", "split": "validation", "languages": self.objective},
                "seed": self.seed,
                "precision": "fp32",
            },
            "search": {"algorithm": "random", "trials": self.trials, "seed": self.seed},
            "confirm": {"top": self.top, "seeds": self.seeds} if self.seeds else None,
            "coordinates": coordinates,
            "baseline": {"point": point, "chain": self.chain(point).as_dict()},
            "warnings": [],
        }

    @property
    def _trained(self) -> list[int]:
        return [at for at in range(len(self.targets)) if _kind(at) != "retrieval"]

    def _subsets(self) -> list[tuple[str, ...]]:
        sizes = range(min(2, len(self.intermediate)) + 1)
        return [tasks for size in sizes for tasks in itertools.combinations(self.intermediate, size)]

    def _source_options(self) -> list[str]:
        return [*self.sources, "+".join(self.sources)] if len(self.sources) > 1 else list(self.sources)

    def _run(self, record: Record, trial: Trial, seen: set[str]) -> TrialResult:
        record.begin(trial)
        state = dict(self.states).get(trial.number, "complete")
        stages = _stage_runs(trial, seen)
        begun = TrialResult(trial=trial, state="stopped", started=1.7e9 + 60 * trial.number, seconds=0.0)
        if state == "unfinished":
            return begun
        seconds = 2.0 + sum(run.seconds for run in stages)
        if state != "complete":
            ended = TrialResult(
                trial=trial,
                state=state,
                started=begun.started,
                seconds=seconds,
                failure=Failure(kind="user", message="it broke"),
            )
            return record.finish(ended)
        scores, rows = self._scored(trial)
        chosen = [score.value for score in scores if score.split == "validation" and score.main]
        return record.finish(
            TrialResult(
                trial=trial,
                state="complete",
                started=begun.started,
                seconds=seconds,
                objective=sum(chosen) / len(chosen),
                jobs=stages,
                scores=scores,
            ),
            [rows],
        )

    def _scored(self, trial: Trial) -> tuple[tuple[Score, ...], pa.Table]:
        noise = np.random.default_rng([self.seed, trial.seed, trial.number])
        scores: list[Score] = []
        rows: list[dict[str, Any]] = []
        for at, target in enumerate(self.targets):
            for place, language in enumerate(self.languages):
                if _kind(at) == "retrieval" and language == TRAIN:
                    continue
                true = 70.0 - 20.0 * place / len(self.languages) + self.gain(trial.chain, target, language)
                unseen = trial.chain.unseen(target, language)
                splits: tuple[Split, ...] = ("validation", "test")
                for split in splits if self.objective == "all" or language == TRAIN else splits[1:]:
                    value = min(100.0, max(0.0, true + noise.normal(0.0, self.noise)))
                    metrics = _metrics(_kind(at), value)
                    if self.rows:
                        columns, metrics = self._rows(at, place, split, value)
                        rows.append({"target": target, "language": language, "split": split} | columns)
                    main = next(iter(metrics))
                    words: dict[str, Any] = {"target": target, "language": language, "split": split, "unseen": unseen}
                    scores += [
                        Score(metric=name, value=number, main=name == main, **words) for name, number in metrics.items()
                    ]
        return tuple(scores), self._table(rows)

    def _rows(self, at: int, place: int, split: Split, value: float) -> tuple[dict[str, Any], dict[str, float]]:
        """The statistics of rows that are as hard in every trial, and the metrics they give."""
        right = _hardness((self.seed, at, place, int(split == "test")), self.rows) < value / 100
        one, three = right[:, 0].astype(np.float32), right.sum(axis=1)
        shares = 100 * float(one.mean(dtype=np.float64)), 100 * float(three.mean() / 3)
        kind = _kind(at)
        if kind == "chunks":
            size = np.full(self.rows, 3)
            return {"tp": three, "predicted": size, "gold_count": size}, _metrics(kind, shares[1])
        if kind == "answers":
            metrics = {"mean": sum(shares) / 2, "f1": shares[1], "exact_match": shares[0]}
            return {"em": one, "f1": three / 3}, metrics
        return {"correct": one}, _metrics(kind, shares[0])

    def _table(self, parts: Sequence[dict[str, Any]]) -> pa.Table:
        """Rows of many targets, languages and splits, as the driver writes them to `rows.parquet`."""
        numbers = range(self.rows)
        same = {
            "id": [f"row{n}" for n in numbers],
            "cluster": [f"template{n // self.rows_per_cluster}" for n in numbers],
            "gold": ["[]"] * self.rows,
            "prediction": ["[]"] * self.rows,
        }
        nothing = np.full(self.rows, np.nan)
        columns: list[Any] = []
        for field in _SCHEMA:
            if field.name in same:
                values = same[field.name] * len(parts)
            elif field.name in ("target", "language", "split"):
                values = [word for part in parts for word in [part[field.name]] * self.rows]
            else:
                values = np.concatenate([np.empty(0), *(part.get(field.name, nothing) for part in parts)])
            columns.append(pa.array(values, field.type, from_pandas=True))
        return pa.Table.from_arrays(columns, schema=_SCHEMA)


@lru_cache(maxsize=2000)
def _hardness(seed: tuple[int, ...], rows: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).uniform(size=(rows, 3))


def _kind(at: int) -> str:
    return KIND_OF[at % len(KIND_OF)]


def _metrics(kind: str, value: float) -> dict[str, float]:
    """The kind's metrics, the main one first."""
    names = {
        "label": ("accuracy", "macro_f1"),
        "chunks": ("f1", "precision", "recall"),
        "retrieval": ("accuracy",),
        "answers": ("mean", "f1", "exact_match"),
    }
    return dict.fromkeys(names[kind], float(value))


def _stage_runs(trial: Trial, seen: set[str]) -> tuple[JobRun, ...]:
    """Every fine-tuning of the trial; taken from the store where an earlier trial has trained it."""
    runs: list[JobRun] = []
    parent = fingerprint([trial.chain.encoder.name, trial.seed])
    ways: Sequence[Stage] = trial.chain.stages
    for stage in ways:
        parent = _run_of(stage, parent, seen, runs)
    for target in trial.chain.targets:
        if target.stage:
            _run_of(target.stage, parent, seen, runs)
    return tuple(runs)


def _run_of(stage: Stage, parent: str, seen: set[str], runs: list[JobRun]) -> str:
    own = fingerprint([parent, str(stage)])
    reused = own in seen
    seen.add(own)
    seconds = 0.1 if reused else stage.steps * 0.05
    runs.append(JobRun(name=stage.name, kind="train", key=own, reused=reused, steps=stage.steps, seconds=seconds))
    return own
