"""The mini suite: every kind of task, 26 sets of real rows in hub columns, and stand-ins where there are none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from mini.collected import folder_of
from mini.stand_ins import write_stand_ins
from tasks.oracles import ORACLES, characters, shortest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tunexfer.core.languages import canonical
from tunexfer.core.scores import Split
from tunexfer.data.readers import jsonl_rows
from tunexfer.data.rows import Rows
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.extractive_qa import MAX_ANSWER
from tunexfer.tasks.suite import SPLITS, Suite

SUITE = Suite.model_validate(yaml.safe_load((Path(__file__).parent / "suite.yaml").read_text(encoding="utf-8")))
LOOKED_AT = 40
"""Rows of each file that are encoded and scored."""


STAND_INS = [name for name in SUITE.tasks if name.endswith("_stand_in")]
REAL = [name for name in SUITE.tasks if name not in STAND_INS]


@pytest.fixture(scope="module")
def rows(collection: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The suite over a folder with the collection, if it is there, and the stand-ins."""
    root = tmp_path_factory.mktemp("root")
    for folder in collection.iterdir() if collection else ():
        (root / folder.name).symlink_to(folder)
    write_stand_ins(root / "stand_ins")
    return Rows(SUITE.model_copy(update={"root": str(root)}), Path(), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def task(request: pytest.FixtureRequest) -> str:
    """A task, if its rows are there."""
    name: str = request.param
    if name in REAL:
        request.getfixturevalue("real_data")
    return name


def test_every_kind_of_task_is_there() -> None:
    assert {block.kind for block in SUITE.tasks.values()} == set(KINDS)


@pytest.mark.parametrize("task", STAND_INS)
def test_stand_ins_say_that_they_are(task: str, rows: Rows) -> None:
    for split in SPLITS:
        for language in rows.languages(task, split):
            for row in rows.table(task, language, split).to_pylist():
                written = re.search(r"stand in for (\w+)", str(row))
                assert written
                assert canonical(written[1]) == language
    assert rows.languages(task, "train") or SUITE.task(task).kind == "mining"


@pytest.fixture(scope="module")
def manifest(real_data: Path) -> Any:
    """What the collection says of itself."""
    return json.loads((real_data / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One piece a character, whatever the script, and white space none."""
    tokenizer = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("task", REAL)
def test_every_row_of_the_collection_is_read(task: str, rows: Rows, manifest: Any) -> None:
    expected = {(canonical(f["language"]), f["split"]): f["rows"] for f in manifest["files"] if f["task"] == task}
    found: dict[tuple[str, Split], int] = {}
    for split in SPLITS:
        for language in rows.languages(task, split):
            found[language, split] = rows.table(task, language, split).num_rows
            assert rows.count(task, language, split) == found[language, split]
    held_out = SUITE.task(task).validation_from_train
    for language, split in [key for key in found if held_out and key[1] == "validation"]:
        found[language, "train"] += found.pop((language, split))
    assert found == expected


@pytest.mark.parametrize("task", [name for name in REAL if SUITE.task(name).labels])
def test_labels_keep_the_names_that_the_collection_gives_them(
    task: str, rows: Rows, manifest: Any, real_data: Path
) -> None:
    """OCNLI counts its labels in another order than the other sets do."""
    block, facts = SUITE.task(task), manifest["tasks"][task]
    field = "tags" if block.kind == "tagging" else "label"
    for language in rows.languages(task, "test")[:3] or rows.languages(task, "train"):
        split: Split = "test" if rows.count(task, language, "test") else "train"
        file = folder_of(real_data / task, language) / f"{split}.jsonl"
        source = [row[facts["label_column"]] for row in jsonl_rows(file)]
        named = rows.table(task, language, split)[field].to_pylist()
        assert _names(named, block.labels) == _names(source, facts["label_names"])


def _names(labels: Any, names: list[str]) -> Any:
    return [_names(one, names) for one in labels] if isinstance(labels, list) else names[labels]


@pytest.mark.parametrize("task", SUITE.tasks, indirect=True)
def test_every_language_is_encoded_within_its_length_and_a_perfect_model_scores_100(
    task: str, rows: Rows, tokenizer: Any
) -> None:
    block = SUITE.task(task)
    kind = KINDS[block.kind]
    for language in {language for split in SPLITS for language in rows.languages(task, split)}:
        split: Split = "test" if rows.count(task, language, "test") else "train"
        table = rows.table(task, language, split).slice(0, LOOKED_AT).to_pylist()
        features = kind.encode(table, tokenizer, block, training=False)
        assert max(_length(feature) for feature in features) <= block.max_length
        assert {feature["row"] for feature in features} == set(range(len(table)))
        if not kind.scored:
            continue
        outputs = [ORACLES[block.kind](table[feature["row"]], feature, block) for feature in features]
        predictions = kind.predict(table, features, outputs, block, language)
        scored = [p for row, p in zip(table, predictions, strict=True) if p and _in_reach(row)]
        columns = {name: [prediction[name] for prediction in scored] for name in scored[0]}
        assert kind.summarise(columns)[kind.main_metric] == pytest.approx(100)


def _length(feature: dict[str, Any]) -> int:
    ids = feature["input_ids"]
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def _in_reach(row: dict[str, Any]) -> bool:
    """Whether some answer is short enough to be predicted."""
    return not row.get("answers") or characters(shortest(row["answers"])["text"]) <= MAX_ANSWER
