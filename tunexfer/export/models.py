"""Exports a trial's models for transformers: a folder per target, which loads without tunexfer.

Reads the study folder, the stage store and the encoder's checkpoint; the suite's rows are not read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from tunexfer.core.chain import Pooling, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.data.checkpoint import TOKENIZER, encoder_content, resolve_encoder
from tunexfer.data.rows import Rows
from tunexfer.data.weights import no_pooler
from tunexfer.errors import StudyError
from tunexfer.export.card import ExportedTarget, write_card, write_manifest
from tunexfer.export.folders import absolute_encoder, find_trial, new_folder, suite_of
from tunexfer.export.heads import auto_class, make_head, save_separately, whole_encoder, whole_model
from tunexfer.export.replay import write_replay
from tunexfer.store import MODEL, StageStore
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.frame import spaces_needed
from tunexfer.tasks.suite import TaskBlock
from tunexfer.training.encoder import Weights
from tunexfer.training.model import Trained

UNTRAINED = Weights(body={}, pieces=np.zeros(0, dtype=np.int64), words=torch.zeros(0, 0))


def export_transformers(
    study: StudyFolder, number: int | None, to: Path, store: StageStore, *, cache: Path, only: str | None = None
) -> tuple[int, list[ExportedTarget]]:
    """Write `<target>/` for every target of a trial, a model card, a manifest and its replay: all of it or nothing.

    number: of the trial; None for the best one
    to:     a folder that isn't there yet, or is empty
    cache:  the user's cache folder
    only:   the target that the trial won, which is then the only one written; every one if not given
    returns: the trial's number and the folders, in the order of the chain's targets
    raises: StudyError, if there is no such trial, its models are no longer in the store, or `to` isn't empty
    """
    result = find_trial(study, number)
    chain = result.trial.chain
    rows = Rows(*suite_of(study), cache)
    targets = [target for target in chain.targets if only in (None, target.name)]
    trained_models = _trained_models(result)
    names = {target.name: trained_models[target.name] for target in targets}
    if missing := [target for target, name in names.items() if name and not store.has(name)]:
        raise _not_stored(study, result, missing, store)
    disable_progress_bar()
    with new_folder(to) as draft, store.lease([name for name in names.values() if name]):
        checkpoint = resolve_encoder(absolute_encoder(study, chain.encoder), cache)
        folders = []
        for target in targets:
            trained = _trained(names[target.name], store)
            if trained is None:
                raise _not_stored(study, result, [target.name], store)
            task = rows.task(target.task)
            folders.append(
                _write_target(draft, target, task, chain.encoder.pooling, checkpoint, trained, names[target.name])
            )
        write_card(draft, study, result, rows, folders, checkpoint, only)
        write_replay(study, result.trial, draft)
        write_manifest(draft, study, result, store, folders, encoder_content(checkpoint, cache))
    return result.trial.number, folders


def _trained_models(result: TrialResult) -> dict[str, str | None]:
    """Map each target to its model's name in the store; None stands for an encoder that nothing was trained on."""
    chain, runs = result.trial.chain, iter(result.trainings)
    last = None
    for _ in chain.stages:
        last = next(runs).key
    return {target.name: next(runs).key if target.stage else last for target in chain.targets}


def _not_stored(study: StudyFolder, result: TrialResult, targets: Sequence[str], store: StageStore) -> StudyError:
    """Explain how to get the models back; the replay needs a new store, as nothing is retrained where scores remain."""
    number = result.trial.number
    return StudyError(
        f"the models of trial {number} for {', '.join(targets)} are missing from the stage store at {store.root}, or "
        "damaged. If they are in another store, give it with --store. If they were removed to make room, train them "
        f"again: `tunexfer export {study.path} --trial {number} --format replay --to again`, then `tunexfer search "
        "again/replay.yaml --store again/store`, then this command with `--store again/store`. If they are still "
        "missing, rows or encoder have changed since: export the study that the replay made."
    )


def _trained(name: str | None, store: StageStore) -> Trained | None:
    """Read a model from the store; None if the entry is missing or damaged."""
    if name is None:
        return Trained(UNTRAINED, {})
    entry = store.get(name)
    return Trained.from_file(entry.files[MODEL], UNTRAINED) if entry else None


def _write_target(
    to: Path,
    target: Target,
    task: TaskBlock,
    pooling: Pooling,
    checkpoint: Path,
    trained: Trained,
    fingerprint: str | None,
) -> ExportedTarget:
    if not re.fullmatch(r"\w[\w.-]*", target.name):
        raise StudyError(f"target {target.name!r} can't be a folder's name. Rename it in the space.")
    folder, head = to / target.name, KINDS[task.kind].head
    module = whole_encoder(checkpoint, trained.weights)
    loads_with, options = auto_class(task.kind).__name__, no_pooler(module.config)
    folder.mkdir()
    _write_tokenizer(folder, checkpoint, task)
    separate = False
    if head is None:
        module.save_pretrained(folder)
    else:
        labels = task.labels if head in ("sequence", "token") else []
        layers = make_head(head, module.config.hidden_size, len(labels), trained.heads[target.task])
        if model := whole_model(module, head, layers, pooling, labels):
            model.save_pretrained(folder)
            options = {}
        else:
            save_separately(module, layers, labels, folder)
            loads_with, separate = "AutoModel", True
    spaced = head == "token" and spaces_needed(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    return ExportedTarget(
        target=target.name, task=task, loads_with=loads_with, options=options, head_apart=separate,
        fingerprint=fingerprint, spaced_words=spaced,
    )  # fmt: skip


def _write_tokenizer(folder: Path, checkpoint: Path, task: TaskBlock) -> None:
    """Copy the checkpoint's files, and set the lengths so that `truncation=True` cuts as the trial did."""
    for file in sorted({file for pattern in TOKENIZER for file in checkpoint.glob(pattern)}):
        shutil.copyfile(file, folder / file.name)
    file = folder / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    settings["model_max_length"] = task.max_length
    if KINDS[task.kind].truncation_side != "right":
        settings["truncation_side"] = KINDS[task.kind].truncation_side
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
