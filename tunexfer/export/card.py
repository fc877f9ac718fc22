"""The model card and the manifest of exported models."""

from __future__ import annotations

import json
import math
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder, sha256, write_whole
from tunexfer.core.objective import Objective
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.trial import TrialResult
from tunexfer.core.winners import fresh_objectives, searched
from tunexfer.data.rows import Rows
from tunexfer.record.findings import gain_in_words
from tunexfer.record.folder import read_plan
from tunexfer.record.gains import reported
from tunexfer.record.record import Record
from tunexfer.report.study import Study
from tunexfer.store import StageStore
from tunexfer.tasks.installed import encoder_provider
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.extractive_qa import MAX_ANSWER, N_BEST
from tunexfer.tasks.suite import TaskBlock

CARD, MANIFEST = "README.md", "manifest.json"
METRICS = {"mean": "mean of f1 and exact_match"}
"""Metrics whose names need an explanation."""
LIBRARIES = ("tunexfer", "torch", "transformers", "tokenizers", "safetensors", "numpy")
CIRCUMSTANCES = ("device", "threads", "torch", "transformers", "loss")
"""Facts about the training of a stage, in its entry in the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedTarget:
    """One target's folder, and how it is loaded."""

    target: str
    """Also the folder's name."""
    task: TaskBlock
    loads_with: str
    """The class of transformers whose `from_pretrained` takes the folder: `AutoModelForTokenClassification`."""
    options: Mapping[str, Any]
    """Further arguments of `from_pretrained`."""
    head_apart: bool
    """Whether that class loads the encoder alone, as no class of transformers computes what the head does."""
    fingerprint: str | None
    """The model's name in the stage store; None for an encoder that nothing was trained on."""
    spaced_words: bool = False
    """Whether words are given to the tokenizer with a space before them, as `frame.word_encodings` does."""


def write_card(
    folder: Path,
    study: StudyFolder,
    result: TrialResult,
    rows: Rows,
    folders: Sequence[ExportedTarget],
    checkpoint: Path,
    won: str | None = None,
) -> None:
    """Write `README.md`: metadata as the Hugging Face hub reads it, then the card.

    checkpoint: the encoder's folder; a model card in it gives the encoder's licence and base model
    won:        the target that the trial was chosen for, if it is not the best trial of all
    """
    chain, record, identity = result.trial.chain, Record(study), read_plan(study)["identity"]
    trained: dict[str, list[str]] = {}
    for source in sorted(chain.trained):
        trained.setdefault(source.task, []).append(source.language)
    names = dict.fromkeys([*trained, *(target.task for target in chain.targets)])
    tasks, scores = {name: rows.suite.task(name) for name in names}, _scores(record, result)
    encoder = _encoder(chain.encoder.name, checkpoint)
    kinds = {target.name: KINDS[tasks[target.task].kind] for target in chain.targets}
    text = _environment().get_template("card.md.j2").render(
        study=study.name, result=result, chain=chain, recipe=chain_in_words(chain), scores=scores, folders=folders,
        encoder=encoder, trained=trained, tasks=tasks, heads={name: kind.head for name, kind in kinds.items()},
        limits=sorted({kind.export_limits for kind in kinds.values() if kind.export_limits}),
        lengths=sorted({tasks[target.task].max_length for target in chain.targets}),
        licences=sorted({tasks[name].licence for name in trained}), about=rows.suite.about,
        objective=Objective.model_validate(identity["objective"]), precision=identity["precision"],
        n_best=N_BEST, max_answer=MAX_ANSWER, won=won, gains=_gains(study, result), **_selection(record, result),
    )  # fmt: skip
    data = _metadata(f"{study.name} trial {result.trial.number}", chain, tasks, trained, scores)
    data.base_model = encoder["base_model"]
    write_whole(folder / CARD, str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    environment.filters["points"] = lambda value, form="%.1f": "" if math.isnan(value) else form % value
    environment.filters["mean"] = statistics.fmean
    return environment


def _encoder(name: str, checkpoint: Path) -> dict[str, Any]:
    """Describe the encoder: its name, base model and licence, the latter two None if they are unknown."""
    card = checkpoint / CARD
    data = ModelCard.load(card, ignore_metadata_errors=True).data if card.is_file() else ModelCardData()
    on_hub = not (encoder_provider(name) or Path(name).is_dir()) and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name)
    if on_hub:
        return {"name": name, "base_model": name, "based_on": None, "licence": data.license}
    based_on = [data.base_model] if isinstance(data.base_model, str) else data.base_model
    return {"name": Path(name).name, "base_model": data.base_model, "based_on": based_on, "licence": data.license}


def _scores(record: Record, result: TrialResult) -> dict[str, dict[str, Any]]:
    """Map each target to its main scores per language and their means, beside the baseline's.

    Test scores, or validation scores where a target has no test rows. A missing baseline is NaN.
    """
    table = record.score_table()
    table = reported(table[(table["trial"] == result.trial.number) & table["main"]]).astype({"language": str})
    scores = {}
    for target in result.trial.chain.targets:
        mine = table[table["target"] == target.name].sort_values("language")
        groups = {"unseen language": mine[mine["unseen_by_both"]], "language": mine}
        means = [
            {"language": f"mean of {len(group)} {noun}{'s' * (len(group) > 1)}"}
            | group[["baseline", "value"]].mean(skipna=False).to_dict()
            for noun, group in groups.items()
            if len(group)
        ]
        metric = METRICS.get(mine["metric"].iloc[0], mine["metric"].iloc[0])
        scores[target.name] = {
            "metric": metric,
            "split": mine["split"].iloc[0],
            "means": means,
            "languages": mine.to_dict("records"),
        }
    return scores


def _selection(record: Record, result: TrialResult) -> dict[str, Any]:
    """Collect how the trial compares with the others of its study."""
    own, fresh = searched(record.complete), fresh_objectives(record.complete)
    objectives = {other.trial.number: other.objective for other in own}
    return {
        "best": record.best(),
        "searched": len(objectives),
        "baseline": objectives.get(0),
        "confirmed": sum(other.trial.chain in fresh for other in own),
        "fresh": fresh.get(result.trial.chain, []),
    }


def _gains(study: StudyFolder, result: TrialResult) -> dict[str, str]:
    """Word what the trial's chain gains in each target, with its interval, where the study knows one."""
    findings = Study.load(study.path).findings
    shown = findings.next_best or findings.best
    confirmed = next((row for row in findings.confirmation if row["trial"] == result.trial.number), None)
    if confirmed:
        known = {name: {**gain, "seeds": confirmed["seeds"]} for name, gain in confirmed["gains"].items() if gain}
    else:
        known = findings.candidate if shown and shown["trial"] == result.trial.number else {}
    return {name: gain_in_words(gain) for name, gain in known.items()}


def _metadata(
    name: str,
    chain: Chain,
    tasks: Mapping[str, TaskBlock],
    trained: Mapping[str, Sequence[str]],
    scores: Mapping[str, Mapping[str, Any]],
) -> ModelCardData:
    hub_tasks = {target.name: KINDS[tasks[target.task].kind].hub_task for target in chain.targets}
    languages = {row["language"] for target in scores.values() for row in target["languages"]}
    datasets = {place.hub.path for task in trained for place in tasks[task].places if place.hub}
    return ModelCardData(
        language=sorted(languages.union(*trained.values())),
        license="other",
        license_name="those-of-encoder-and-data",
        license_link=f"{CARD}#licences",
        library_name="transformers",
        model_name=name,
        pipeline_tag=next(iter(hub_tasks.values())) if len(set(hub_tasks.values())) == 1 else None,
        datasets=sorted(path for path in datasets if "/" in path) or None,
        metrics=sorted({target["metric"] for target in scores.values()}),
        tags=["tunexfer", "cross-lingual-transfer", "multilingual", *hub_tasks.values()],
        eval_results=[
            EvalResult(
                task_type=hub_tasks[target.name],
                dataset_type=target.task,
                dataset_name=target.name,
                dataset_split=scores[target.name]["split"],
                metric_type=scores[target.name]["metric"],
                metric_name=mean["language"],
                metric_value=round(mean["value"], 2),
            )
            for target in chain.targets
            for mean in scores[target.name]["means"]
        ],
    )


def write_manifest(
    folder: Path,
    study: StudyFolder,
    result: TrialResult,
    store: StageStore,
    folders: Sequence[ExportedTarget],
    encoder: str,
) -> None:
    """Write `manifest.json`, last of all: it lists every other file of the folder with its SHA-256.

    encoder: hash of the checkpoint's weights and tokenizer
    """
    plan, trial = read_plan(study), result.trial
    environment = json.loads(study.environment.read_text(encoding="utf-8")) if study.environment.is_file() else {}
    facts = {job.name: store.metadata(job.key) or {} for job in result.trainings}
    attributes = ("loads_with", "head_apart", "fingerprint")
    manifest = {
        "study": {"name": study.name, "id": plan["study_id"], "libraries": environment.get("libraries")},
        "trial": {"number": trial.number, "phase": trial.phase, "seed": trial.seed, "objective": result.objective},
        "chain": trial.chain.as_dict(),
        "precision": plan["identity"]["precision"],
        "encoder": encoder,
        "trained": {name: {key: stage.get(key) for key in CIRCUMSTANCES} for name, stage in facts.items()},
        "targets": {
            exported.target: {"kind": exported.task.kind} | {name: getattr(exported, name) for name in attributes}
            for exported in folders
        },
        "written_with": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
        },
        "files": {
            path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
        },
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
