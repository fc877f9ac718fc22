"""A trial's models in the plain format of transformers: a folder per target, which loads without tunexfer.

Taken from the study folder, the stage store and the encoder's checkpoint; the suite's rows are not read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from tunexfer.core.chain import Chain, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.data.checkpoint import TOKENIZER, encoder_content, resolve_encoder
from tunexfer.data.rows import Rows
from tunexfer.errors import StudyError
from tunexfer.export.card import Usage, write_card
from tunexfer.export.heads import HEAD_FILE, MODELS, make_head, save_apart, whole_encoder, with_head
from tunexfer.export.manifest import write_manifest
from tunexfer.export.replay import write_replay
from tunexfer.export.snippets import with_head_apart, with_vectors, with_whole_model
from tunexfer.export.trial import empty_folder, find_trial, found_encoder, suite_of, written_at_once
from tunexfer.store import StageStore
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock
from tunexfer.training.encoder import Weights, no_pooler
from tunexfer.training.executor import MODEL
from tunexfer.training.model import Trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """One target's, below the folder that was exported to."""

    target: str
    """Also the folder's name."""
    task: TaskBlock
    loads_with: str
    """The class of transformers whose `from_pretrained` takes it: `AutoModelForTokenClassification`."""
    head_apart: bool
    """Whether that class loads the encoder alone, since none of transformers computes what the head does."""
    snippet: str
    """Plain code that defines `predict`; run it where the folder lies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    trial: int
    folders: tuple[Folder, ...]
    """In the order of the chain's targets."""


def export_transformers(
    study: StudyFolder, number: int | None, to: Path, store: StageStore, *, cache: Path
) -> Exported:
    """Write `<target>/` for every target of a trial, a model card, a manifest and its replay: whole or not at all.

    number: of the trial; None for the one with the highest objective
    to:     a folder that isn't there yet, or is empty
    cache:  where suites and encoders built from packages lie
    raises: StudyError, if there is no such trial, its models are no longer in the store, or `to` isn't empty
    """
    ended = find_trial(study, number)
    chain = ended.trial.chain
    empty_folder(to, "--to")
    rows = Rows(*suite_of(study), cache)
    names = trained_models(ended)
    missing = [target for target, name in names.items() if name and not store.has(name)]
    if missing:
        raise _not_there(study, ended, missing, store)
    disable_progress_bar()
    with written_at_once(to) as draft, store.using(filter(None, names.values())):
        checkpoint = resolve_encoder(found_encoder(study, chain.encoder), cache)
        folders = []
        for target in chain.targets:
            trained = _trained(names[target.name], store)
            if trained is None:
                raise _not_there(study, ended, [target.name], store)
            folders.append(_write_target(draft / _file_name(target), target, chain, rows, checkpoint, trained))
        write_card(draft, study, ended, rows, [_usage(folder) for folder in folders])
        write_replay(study, ended.trial, draft)
        told = {folder.target: _told(folder, names[folder.target]) for folder in folders}
        write_manifest(draft, study, ended, store, told, encoder_content(checkpoint, cache))
    return Exported(trial=ended.trial.number, folders=tuple(folders))


def trained_models(ended: TrialResult) -> dict[str, str | None]:
    """Per target's name, the stage store's name of its model; None for an encoder that nothing was trained on."""
    chain, runs = ended.trial.chain, iter(ended.trainings)
    last = None
    for _ in chain.stages:
        last = next(runs).key
    return {target.name: next(runs).key if target.stage else last for target in chain.targets}


def _not_there(study: StudyFolder, ended: TrialResult, targets: Sequence[str], store: StageStore) -> StudyError:
    """The replay needs a store of its own: where scores are still known, nothing is trained for them again."""
    number = ended.trial.number
    return StudyError(
        f"the models of trial {number} for {', '.join(targets)} aren't in the stage store at {store.root}, or are "
        "damaged. If they are in another store, name it with --store. If they had to make room, train them again: "
        f"`tunexfer export {study.path} --trial {number} --format replay --to again`, then `tunexfer search "
        "again/replay.yaml --store again/store`, then this command with `--store again/store`. If they aren't there "
        "either, rows or encoder have changed since: export the study that the replay made."
    )


def _trained(name: str | None, store: StageStore) -> Trained | None:
    """None, if the entry is not there or damaged; what nothing was trained for is empty."""
    start = Weights(body={}, pieces=np.zeros(0, dtype=np.int64), words=torch.zeros(0, 0))
    if name is None:
        return Trained(start, {})
    entry = store.get(name)
    return Trained.from_file(entry.files[MODEL], start) if entry else None


def _file_name(target: Target) -> str:
    if not re.fullmatch(r"\w[\w.-]*", target.name):
        raise StudyError(f"target {target.name!r} can't be a folder's name. Give it another one in the suite.")
    return target.name


def _write_target(folder: Path, target: Target, chain: Chain, rows: Rows, checkpoint: Path, trained: Trained) -> Folder:
    task, pooling = rows.task(target.task), chain.encoder.pooling
    kind = KINDS[task.kind].head
    encoder = whole_encoder(checkpoint, trained.weights)
    options = "".join(f", {name}={value}" for name, value in no_pooler(encoder.config).items())
    folder.mkdir()
    _write_tokenizer(folder, checkpoint, task)
    made = partial(Folder, target=target.name, task=task)
    if kind is None:
        encoder.save_pretrained(folder)
        snippet = with_vectors(target.name, target.layer, options)
        return made(loads_with="AutoModel", head_apart=False, snippet=snippet)
    labels = task.labels if kind in ("sequence", "token") else []
    head = make_head(kind, encoder.config.hidden_size, len(labels), trained.heads[target.task])
    model = with_head(encoder, kind, head, pooling, labels)
    if model is None:
        save_apart(encoder, head, labels, folder)
        snippet = with_head_apart(target.name, kind, pooling, options)
        return made(loads_with="AutoModel", head_apart=True, snippet=snippet)
    model.save_pretrained(folder)
    auto = MODELS[kind].__name__
    return made(loads_with=auto, head_apart=False, snippet=with_whole_model(target.name, kind, auto))


def _usage(folder: Folder) -> Usage:
    if not folder.head_apart:
        return Usage(target=folder.target, loads_with=f"`{folder.loads_with}`", snippet=folder.snippet)
    return Usage(
        target=folder.target,
        loads_with=f"`{folder.loads_with}` and `{HEAD_FILE}`",
        snippet=folder.snippet,
        remark="No class of transformers computes what this head does on this encoder, so "
        f"`{folder.loads_with}` loads the encoder alone. The head's tensors are in `{HEAD_FILE}`, "
        "and these lines apply them.",
    )


def _told(folder: Folder, fingerprint: str | None) -> dict[str, Any]:
    return {
        "kind": folder.task.kind,
        "loads_with": folder.loads_with,
        "head_apart": folder.head_apart,
        "fingerprint": fingerprint,
    }


def _write_tokenizer(folder: Path, checkpoint: Path, task: TaskBlock) -> None:
    """The checkpoint's own files; `truncation=True` cuts as the trial did."""
    for file in sorted({file for pattern in TOKENIZER for file in checkpoint.glob(pattern)}):
        shutil.copyfile(file, folder / file.name)
    settings = folder / "tokenizer_config.json"
    own: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    own["model_max_length"] = task.max_length
    if task.kind == "multiple_choice":
        own["truncation_side"] = "left"  # the end of a prompt matters
    settings.write_text(json.dumps(own, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
