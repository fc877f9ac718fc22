"""Exports a trial as a space with no open dimension: searching it trains that chain again, after its baseline."""

from __future__ import annotations

from dataclasses import asdict
from graphlib import TopologicalSorter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from tunexfer.core.chain import Mixture, Source, Stage, Target
from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.trial import Trial
from tunexfer.core.yaml_text import dump_yaml
from tunexfer.export.folders import absolute_encoder, find_trial, new_folder, suite_of
from tunexfer.record.folder import read_plan
from tunexfer.tasks.suite import named_suites

REPLAY, SUITE = "replay.yaml", "suite.yaml"
HEAD = """\
# Trial {number} of {study} as a space of its own: first the baseline, the chain without its stages, then the chain.
# `tunexfer search {file} --store NEW_FOLDER` trains it again; without `--store`, stages that are still in the default
# store are reused. On the same machine, with the same libraries and rows, the scores are the same.
"""


def export_replay(study: StudyFolder, number: int | None, to: Path) -> Path:
    """Write a trial's replay to a new or empty folder, and return the space file.

    number: of the trial; None for the best one
    """
    trial = find_trial(study, number).trial
    with new_folder(to) as draft:
        write_replay(study, trial, draft)
    return to / REPLAY


def write_replay(study: StudyFolder, trial: Trial, folder: Path) -> None:
    """Write `replay.yaml` and, unless the suite is a shipped one, `suite.yaml`.

    raises: StudyError, if the suite of the study is unknown
    """
    suite_of(study)
    if own := read_plan(study).get("own_suite"):
        write_whole(folder / SUITE, dump_yaml(own))
    head = HEAD.format(number=trial.number, study=study.name, file=REPLAY)
    write_whole(folder / REPLAY, head + dump_yaml(replay_space(study, trial)))


def replay_space(study: StudyFolder, trial: Trial) -> dict[str, Any]:
    """Build the space file's content.

    Targets are evaluated in the study's languages, and the objective reads the same validation rows.
    """
    plan, chain = read_plan(study), trial.chain
    identity = plan["identity"]
    stages = [*chain.stages, *(target.stage for target in chain.targets if target.stage)]
    space = {
        "name": f"{plan['name']}-trial-{trial.number}",
        "suite": identity["suite"] if identity["suite"] in named_suites() else SUITE,
        "encoder": _without_none(asdict(absolute_encoder(study, chain.encoder))),
        "stages": [_stage(stage) for stage in chain.stages],
        "targets": [
            _target(target) | ({"languages": block["languages"]} if "languages" in block else {})
            for target, block in zip(chain.targets, identity["targets"], strict=True)
        ],
        "training": dict(stages[0].training) if stages else {},  # the same for all of them
        "objective": identity["objective"],
        "search": {"algorithm": "grid", "trials": 2 if chain.stages else 1, "seed": trial.seed},
        "noise": {"seeds": 1},
        "resources": {name: plan["resources"][name] for name in ("cpus", "gpus")}
        | {"precision": identity["precision"]},
    }
    return {key: value for key, value in space.items() if value not in ([], {})}


def _stage(stage: Stage) -> dict[str, Any]:
    tasks, languages = list(stage.mixture.tasks), _languages(stage.mixture)
    shares = dict(zip(map(str, stage.mixture.sources), stage.mixture.shares, strict=True))
    pairs = (str(Source(task=task, language=language)) for task, language in product(tasks, languages))
    return {
        "name": stage.name,
        "tasks": tasks,
        "languages": languages,
        "mixing": {"fixed": {pair: shares.get(pair, 0.0) for pair in pairs}},
        **_fine_tuning(stage),
    }


def _languages(mixture: Mixture) -> list[str]:
    """Order the languages such that each task's keep theirs: then sources are drawn in the same order again."""
    order: TopologicalSorter[str] = TopologicalSorter()
    for task in mixture.tasks:
        languages = [source.language for source in mixture.sources if source.task == task]
        order.add(languages[0])
        for before, after in pairwise(languages):
            order.add(after, before)
    return list(order.static_order())


def _target(target: Target) -> dict[str, Any]:
    name = target.name if target.name != target.task else None
    block = {"task": target.task, "name": name, "after": target.after, "layer": target.layer}
    if target.stage:
        block |= {"train_language": target.train_language, **_fine_tuning(target.stage)}
    return _without_none(block)


def _fine_tuning(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in ("learning_rate", "steps", "batch_size")}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
