"""A trial as a space in which nothing is left open: searching it trains that one chain again, after its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from graphlib import TopologicalSorter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import yaml

from tunexfer.core.chain import Chain, Mixture, Source, Stage, Target
from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.trial import Trial
from tunexfer.export.trial import empty_folder, find_trial, found_encoder, suite_of, written_at_once
from tunexfer.record.record import read_plan
from tunexfer.tasks.suite import named_suites

REPLAY, SUITE = "replay.yaml", "suite.yaml"
HEAD = """\
# Trial {number} of {study}, with nothing left open: the chain without its stages first (trial 0), then the chain.
# `tunexfer search {file} --store NEW_FOLDER` trains it again; without `--store`, stages that are still in the usual
# store are taken from there. On the same machine, with the same libraries and rows, the scores are the same.
"""


def export_replay(study: StudyFolder, number: int | None, to: Path) -> Path:
    """Write a trial's replay to a folder that isn't there yet, or is empty; returns the space file.

    number: None for the trial with the highest objective
    """
    ended = find_trial(study, number)
    with written_at_once(empty_folder(to, "--to")) as draft:
        write_replay(study, ended.trial, draft)
    return to / REPLAY


def write_replay(study: StudyFolder, trial: Trial, folder: Path) -> None:
    """Write `replay.yaml` and, where the suite is none of tunexfer's own, `suite.yaml` beside it.

    raises: StudyError, if the study doesn't know its suite
    """
    suite_of(study)
    own = read_plan(study).get("own_suite")
    if own:
        write_whole(folder / SUITE, _yaml(own))
    head = HEAD.format(number=trial.number, study=study.name, file=REPLAY)
    write_whole(folder / REPLAY, head + _yaml(replay_space(study, trial)))


def replay_space(study: StudyFolder, trial: Trial) -> dict[str, Any]:
    """The space file in plain values.

    Targets are scored in the languages of the study; validation rows are those that its objective reads for this chain.
    """
    plan, chain = read_plan(study), trial.chain
    identity = plan["identity"]
    asked = plan["resources"]
    space = {
        "name": f"{plan['name']}-trial-{trial.number}",
        "suite": identity["suite"] if identity["suite"] in named_suites() else SUITE,
        "encoder": _given(asdict(found_encoder(study, chain.encoder))),
        "stages": [_stage(stage) for stage in chain.stages],
        "targets": [
            _target(target) | {key: block[key] for key in ("languages",) if key in block}
            for target, block in zip(chain.targets, identity["targets"], strict=True)
        ],
        "training": _training(chain),
        "objective": identity["objective"],
        "search": {"algorithm": "grid", "trials": 2 if chain.stages else 1, "seed": trial.seed},
        "resources": {"cpus": asked["cpus"], "gpus": asked["gpus"], "precision": identity["precision"]},
    }
    return {key: value for key, value in space.items() if value not in ([], {})}


def _stage(stage: Stage) -> dict[str, Any]:
    tasks, languages = list(stage.mixture.tasks), _languages(stage.mixture)
    shares = {str(source): share for source, share in zip(stage.mixture.sources, stage.mixture.shares, strict=True)}
    pairs = (str(Source(task=task, language=language)) for task, language in product(tasks, languages))
    return {
        "name": stage.name,
        "tasks": tasks,
        "languages": languages,
        "mixing": {"fixed": {pair: shares.get(pair, 0.0) for pair in pairs}},
        **_fine_tuning(stage),
    }


def _languages(mixture: Mixture) -> list[str]:
    """In an order that keeps each task's own: with it the sources, and so the draws, come in the same order again."""
    order: TopologicalSorter[str] = TopologicalSorter()
    for task in mixture.tasks:
        own = [source.language for source in mixture.sources if source.task == task]
        order.add(own[0])
        for before, after in pairwise(own):
            order.add(after, before)
    return list(order.static_order())


def _target(target: Target) -> dict[str, Any]:
    name = target.name if target.name != target.task else None
    found = {"task": target.task, "name": name, "after": target.after, "layer": target.layer}
    if target.stage:
        found |= {"train_language": target.train_language, **_fine_tuning(target.stage)}
    return _given(found)


def _fine_tuning(stage: Stage) -> dict[str, Any]:
    return {"learning_rate": stage.learning_rate, "steps": stage.steps, "batch_size": stage.batch_size}


def _training(chain: Chain) -> dict[str, Any]:
    """One block for the whole chain, as a space has it."""
    stages: Sequence[Stage] = [*chain.stages, *(target.stage for target in chain.targets if target.stage)]
    return dict(stages[0].training) if stages else {}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
