"""The model card of made-up trials, and the formats of heads that it relies on."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from record.made_up import PLAN, chain, run, trial

from tunexfer.core.chain import Chain, Encoder, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.scores import Score
from tunexfer.core.trial import TrialResult
from tunexfer.data.rows import Rows
from tunexfer.errors import StudyError
from tunexfer.export.card import ExportedTarget, write_card
from tunexfer.export.heads import FORMATS, auto_class
from tunexfer.record.record import Record
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, load_suite

TARGET_KINDS = sorted(name for name, kind in KINDS.items() if kind.scored)
"""Kinds that are scored, and so can be targets."""


def task(kind: str, *columns: str, **more: Any) -> dict[str, Any]:
    fields = {column: column for column in columns}
    return {"kind": kind, "licence": "CC0-1.0", "files": "{language}/{split}.jsonl", "columns": fields, **more}


TASKS = {
    "intent": task("classification", "text", "label", labels=["on|off", "off"]),
    "retrieval": task("retrieval", "text", "english"),
    "tags": task("tagging", "tokens", "tags", labels=["O", "X"]),
    "choice": task("multiple_choice", "prompt", "options", "label"),
    "answer": task("extractive_qa", "question", "context", "answers"),
    "answer_or_none": task("extractive_qa", "question", "context", "answers", unanswerable=True),
    "mining": task("mining", "id", "text", "english_id", "english"),
}


def card(
    path: Path, record: Record, result: TrialResult, folders: Sequence[ExportedTarget] = (), won: str | None = None
) -> str:
    (path / "toy.yaml").write_text(yaml.safe_dump({"name": "toy", "tasks": TASKS}))
    suite, root = load_suite("toy.yaml", beside=path)
    write_card(path, record.folder, result, Rows(suite, root, path), folders, path / "encoder", won)
    return (path / "README.md").read_text()


def plan(**objective: Any) -> dict[str, Any]:
    identity = {"objective": {"maximize": "mean", "split": "validation", "languages": "train"} | objective}
    return PLAN | {"identity": PLAN["identity"] | identity | {"precision": "fp32"}}


def test_english_is_not_unseen_for_a_chain_from_german_as_the_baseline_trained_it(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), plan()) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        german = run(record, trial(1, of=chain(train="de")), 53.0)
        text = card(tmp_path, record, german)
    assert "| en | 50.0 | 53.0 | +3.0 | no |" in text
    assert "| ru | 48.0 | 51.0 | +3.0 | yes |" in text
    assert "| mean of 1 unseen language | 48.0 | 51.0 | +3.0 | |" in text


def test_the_winner_of_one_target_is_described_as_such(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), plan(maximize="per_target")) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        text = card(tmp_path, record, run(record, trial(1), 53.0), won="intent")
    assert (
        "It was chosen as the winner of intent, by the validation scores of this target alone. Its objective is 53.00."
        in text
    )
    assert "The objective is the mean validation score, averaged over the targets." in text


def test_a_chain_confirmed_with_fresh_seeds_is_described_by_their_mean(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), plan()) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        best = run(record, trial(1), 53.0)
        for number, (of, objective) in enumerate([(chain(), 51.0), (None, 55.0), (chain(), 50.0), (None, 58.0)], 2):
            run(record, trial(number, phase="confirm", seed=8 + number // 4, of=of), objective)
        text = card(tmp_path, record, best)
    assert "Of the 2 chains that were rerun with up to 2 fresh seeds, it has the highest mean objective, 56.50" in text


def test_gains_have_their_intervals_over_fresh_seeds_or_are_a_candidates(tmp_path: Path) -> None:
    """Gains of 4, 5 and 6 points: their mean is 5 +- 4.303 / sqrt(3), with Student's 97.5 % point for two degrees."""
    with Record.drive(StudyFolder(tmp_path / "toy"), plan()) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        best = run(record, trial(1), 53.0)
        assert "candidate, one seed +3.0 (no interval)." in card(tmp_path, record, best)
        for seed, gain in ((8, 4.0), (9, 5.0), (10, 6.0)):
            run(record, trial(2 * seed, phase="confirm", seed=seed, of=chain()), 50.0)
            run(record, trial(2 * seed + 1, phase="confirm", seed=seed), 50.0 + gain)
        text = card(tmp_path, record, best)
    assert "languages: clear, over fresh seeds +5.0 (95 % interval +2.5 to +7.5, 3 of 3 seeds with this sign)." in text


def test_selection_by_target_languages_is_not_called_zero_shot(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), plan(languages=["de", "ru"])) as record:
        text = card(tmp_path, record, run(record, trial(0, phase="baseline", of=chain()), 50.0))
    assert "Validation data in de, ru was used for selection" in text
    assert "this is not the zero-shot protocol" in text


def test_base_model_and_licence_of_an_encoder_in_a_folder_are_those_of_its_own_card(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "README.md").write_text("---\nlicense: mit\nbase_model: someone/base\n---\n# Four layers of it\n")
    local = replace(chain(), encoder=Encoder(name=str(encoder)))
    with Record.drive(StudyFolder(tmp_path / "toy"), plan()) as record:
        text = card(tmp_path, record, run(record, trial(0, phase="baseline", of=local), 50.0))
    assert "base_model: someone/base\n" in text
    assert "The encoder `encoder`, based on someone/base, fine-tuned by tunexfer" in text
    assert "The encoder is under: mit." in text


def test_the_base_model_of_an_encoder_from_the_hub_is_its_id(tmp_path: Path) -> None:
    hub = replace(chain(), encoder=Encoder(name="someone/encoder", revision="abc"))
    with Record.drive(StudyFolder(tmp_path / "toy"), plan()) as record:
        text = card(tmp_path, record, run(record, trial(0, phase="baseline", of=hub), 50.0))
    assert "base_model: someone/encoder\n" in text
    assert "The encoder `someone/encoder` (revision abc), fine-tuned by tunexfer" in text
    assert "this card does not know" in text


def test_a_label_with_a_bar_does_not_break_the_table(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), plan()) as record:
        result = run(record, trial(0, phase="baseline", of=chain()), 50.0)
        text = card(tmp_path, record, result, [exported("intent", TASKS["intent"]["kind"])])
    assert r"| `intent` | classification: on\|off, off |" in text


# Every kind of task


def exported(name: str, kind: str, *, head_apart: bool = False) -> ExportedTarget:
    block = Suite.model_validate({"name": "toy", "tasks": TASKS}).task(name)
    loads_with = "AutoModel" if head_apart else auto_class(kind).__name__
    return ExportedTarget(
        target=name, task=block, loads_with=loads_with, options={}, head_apart=head_apart, fingerprint=None
    )


@pytest.mark.parametrize("kind", TARGET_KINDS)
@pytest.mark.parametrize("head_apart", [False, True])
def test_the_card_has_code_that_predicts_for_every_kind_that_can_be_a_target(
    kind: str, head_apart: bool, tmp_path: Path
) -> None:
    names = [name for name, block in TASKS.items() if block["kind"] == kind]
    assert names, f"add a task of kind {kind!r} to TASKS"
    targets = replace(chain(), targets=tuple(Target(task=name) for name in names))
    with Record.drive(StudyFolder(tmp_path / "toy"), plan(languages="all")) as record:
        result = scored(record, targets)
        apart = head_apart and KINDS[kind].head is not None
        text = card(tmp_path, record, result, [exported(name, kind, head_apart=apart) for name in names])
    for name in names:
        code = re.search(rf"### {name}\n.*?```python\n(.*?)```", text, re.DOTALL)
        assert code is not None
        functions = [part.name for part in ast.parse(code[1]).body if isinstance(part, ast.FunctionDef)]
        assert functions == (["logits", "predict"] if KINDS[kind].head else ["predict"])
        assert ('return ""' in code[1]) == bool(TASKS[name].get("unanswerable"))


def scored(record: Record, of: Chain) -> TrialResult:
    """A trial of that chain with a test score of each target."""
    began = trial(0, phase="baseline", of=of)
    record.begin(began)
    scores = tuple(
        Score(target=target.name, language="de", split="test", metric="m", value=50.0, main=True, unseen=True)
        for target in of.targets
    )
    result = TrialResult(trial=began, state="complete", started=0.0, seconds=1.0, objective=50.0, scores=scores)
    return record.finish(result)


@pytest.mark.parametrize("kind", TARGET_KINDS)
def test_every_kind_that_can_be_a_target_has_a_format(kind: str) -> None:
    assert auto_class(kind) is FORMATS[KINDS[kind].head][0]


def test_a_kind_whose_head_has_no_format_is_named() -> None:
    with pytest.raises(StudyError, match="tasks of kind 'masked_lm' can't be exported: their head, 'language', has no"):
        auto_class("masked_lm")
