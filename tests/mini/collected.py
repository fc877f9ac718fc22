"""Sets of the shipped suites that the collection of real rows has, or for which it has one of the same columns."""

from __future__ import annotations

from pathlib import Path

from tunexfer.core.languages import canonical

FOLDERS = {
    "xtreme/xnli/0": "xnli",
    "xtreme/pawsx/0": "paws_x",
    "xtreme/udpos/0": "udpos",
    "xtreme/panx/0": "universal_ner",
    "xtreme/xquad/0": "xquad",
    "xtreme/xquad/1": "xquad",
    "xtreme/mlqa/0": "xquad",
    "xtreme/mlqa/1": "mlqa",
    "xtreme/tatoeba/0": "tatoeba",
    "xtreme/anli_plus/1": "mnli",
    "xtreme/mnli/0": "mnli",
    "xtreme/squad_v1/0": "xquad",
    "xtreme/squad_v2/0": "xquad",
    "xtreme/cosmos_qa/0": "cosmos_qa",
    "xtreme/native_nli/0": "mnli",
    "xtreme/native_nli/1": "ocnli",
    "xtreme/native_nli/3": "indonli",
    "xtreme/native_qa/0": "xquad",
    "xtreme/native_qa/1": "cmrc2018",
    "xtreme/native_qa/2": "jsquad",
    "xtreme/native_qa/3": "arcd",
    "xtreme/native_qa/4": "iapp_wiki_qa_squad",
    "xtreme/native_commonsense/1": "jcommonsenseqa",
    "african/masakhaner2/0": "masakhaner2",
    "african/afrisenti/0": "afrisenti",
    "african/afriqa/0": "afriqa",
}
"""Place in a suite -> folder of the collection. Columns that it leaves out, ids for example, are made up."""


def folder_of(task: Path, language: str) -> Path:
    """The folder of a task's language, which the collection may call by another of its codes: `rw` is in `kin`."""
    folders = {canonical(folder.name): folder for folder in task.glob("*") if folder.is_dir()}
    return folders.get(language, task / language)
