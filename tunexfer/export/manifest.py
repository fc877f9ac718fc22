"""What exported models came from, and a checksum of every file."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from tunexfer.core.files import StudyFolder, write_whole
from tunexfer.core.trial import TrialResult
from tunexfer.record.record import read_plan
from tunexfer.store import StageStore

MANIFEST = "manifest.json"
LIBRARIES = ("tunexfer", "torch", "transformers", "tokenizers", "safetensors", "numpy")
CIRCUMSTANCES = ("device", "threads", "torch", "transformers", "loss")
"""What a stage's entry in the store tells of its training."""


def write_manifest(
    folder: Path, study: StudyFolder, ended: TrialResult, store: StageStore, targets: dict[str, Any], encoder: str
) -> None:
    """Write `manifest.json`, last of all: every other file of the folder is in it with its SHA-256.

    targets: what is said of each target; encoder: hash of the checkpoint's weights and tokenizer
    """
    plan, trial = read_plan(study), ended.trial
    environment = json.loads(study.environment.read_text(encoding="utf-8")) if study.environment.is_file() else {}
    facts = {stage.name: store.facts(stage.key) or {} for stage in ended.trainings}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "study": {"name": study.name, "id": plan["study_id"], "libraries": environment.get("libraries")},
        "trial": {"number": trial.number, "phase": trial.phase, "seed": trial.seed, "objective": ended.objective},
        "chain": trial.chain.as_dict(),
        "precision": plan["identity"]["precision"],
        "encoder": encoder,
        "trained": {name: {key: one.get(key) for key in CIRCUMSTANCES} for name, one in facts.items()},
        "targets": targets,
        "written_with": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
        },
        "files": {path.relative_to(folder).as_posix(): _sum(path) for path in files},
    }
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _sum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
