"""Trials that never ran, for tests of what is kept about them."""

from __future__ import annotations

from typing import Any

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.scores import Score
from tunexfer.core.trial import Failure, JobRun, Phase, State, Trial, TrialResult
from tunexfer.record.record import Record

PLAN: dict[str, Any] = {
    "name": "toy",
    "identity": {"suite": "toy", "encoder": "pico", "seed": 7, "stages": [{"learning_rate": 0.001}]},
    "search": {"trials": 3},
}


def stage(name: str, task: str, language: str, learning_rate: float = 1e-3) -> Stage:
    mixture = Mixture(sources=(Source(task=task, language=language),), shares=(1.0,))
    return Stage(name=name, mixture=mixture, learning_rate=learning_rate, steps=10)


def chain(*, stages: int = 0, target_rate: float = 1e-3, train: str = "en") -> Chain:
    return Chain(
        suite="toy",
        encoder=Encoder(name="pico"),
        stages=(stage("intermediate", "intent", "de"),) * stages,
        targets=(Target(task="intent", stage=stage("intent", "intent", train, target_rate)), Target(task="retrieval")),
    )


def trial(number: int, *, phase: Phase = "search", seed: int = 7, of: Chain | None = None) -> Trial:
    return Trial(number=number, phase=phase, seed=seed, point={"rate": str(number)}, chain=of or chain(stages=1))


def scores(of: Chain, start: float) -> tuple[Score, ...]:
    """intent: start in en, 1 less in de, 2 less in ru, test and validation; a second metric; retrieval: start in de."""
    made = [
        _score(of, "intent", language, split, start - place)
        for split in ("validation", "test")
        for place, language in enumerate(("en", "de", "ru"))
    ]
    second = _score(of, "intent", "ru", "test", 11.0, metric="macro_f1", main=False)
    both = len(of.targets) > 1
    return (*made, second, *([_score(of, "retrieval", "de", "test", start)] if both else []))


def _score(of: Chain, task: str, language: str, split: Any, value: float, **more: Any) -> Score:
    facts = {"metric": "accuracy", "main": True, **more}
    return Score(target=task, language=language, split=split, value=value, unseen=of.unseen(task, language), **facts)


def run(record: Record, of: Trial, start: float = 50.0, state: State = "complete") -> TrialResult:
    """Record a trial whose objective is `start`."""
    record.begin(of)
    complete = state == "complete"
    return record.finish(
        TrialResult(
            trial=of,
            state=state,
            started=1000.0 + of.number,
            seconds=5.0,
            objective=start if complete else None,
            failure=None if complete else Failure(kind="user", message="it broke"),
            jobs=(JobRun(name="intent", kind="train", key="f", reused=False, steps=10, seconds=1.0),),
            scores=scores(of.chain, start) if complete else (),
        )
    )


def study(folder: StudyFolder) -> None:
    """Baseline 50, a chain with one stage at 53, a failed one, and the first two again with a fresh seed: 51 and 56."""
    with Record.drive(folder, PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        run(record, trial(2, of=chain(stages=2)), state="failed")
        run(record, trial(3, phase="confirm", seed=8, of=chain()), 51.0)
        run(record, trial(4, phase="confirm", seed=8), 56.0)
