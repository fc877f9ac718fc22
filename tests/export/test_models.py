"""`tunexfer export --format transformers`: its folders are used without tunexfer, by the code of their own card."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from export import pico_study
from export.pico_study import Made, encoder_of, study
from huggingface_hub import ModelCard
from pico import pico_encoder
from safetensors.torch import load_file
from typer.testing import CliRunner

import tunexfer.export.models as module
from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.errors import StudyError
from tunexfer.export.card import ExportedTarget
from tunexfer.export.heads import FORMATS, make_head, whole_encoder, whole_model
from tunexfer.export.models import export_transformers
from tunexfer.record.record import Record
from tunexfer.store import StageStore
from tunexfer.training.encoder import Weights
from tunexfer.training.model import HEADS

TARGETS = ("match", "tags", "choice", "answer", "pairs")
WITHOUT_TUNEXFER = """
import json, os, re, sys
sys.modules["tunexfer"] = None
inputs, classes = json.load(sys.stdin)
answers, mismatches = {}, {}
for folder, targets in inputs.items():
    os.chdir(folder)
    card = open("README.md", encoding="utf-8").read().split("## Use")[1]
    answers[folder] = {}
    for target, calls in targets.items():
        names = {}
        exec(re.search(f"### {target}\\n.*?```python\\n(.*?)```", card, re.DOTALL)[1], names)
        outputs = [names["predict"](*arguments) for arguments in calls]
        answers[folder][target] = [output.tolist() if hasattr(output, "tolist") else output for output in outputs]
import transformers
for folder, targets in classes.items():
    mismatches[folder] = {}
    for target, name in targets.items():
        _, info = getattr(transformers, name).from_pretrained(f"{folder}/{target}", output_loading_info=True)
        mismatches[folder][target] = sorted([*info["missing_keys"], *info["unexpected_keys"]])
print(json.dumps([answers, mismatches]))
"""


@dataclass(frozen=True)
class Case:
    made: Made
    trial: int
    to: Path
    exported: list[ExportedTarget]
    answers: dict[str, list[Any]]
    """By target, the results of `calls` in a process without tunexfer."""
    mismatches: dict[str, list[str]]
    """By target, the tensors that its class of transformers missed or did not expect."""


@pytest.fixture(scope="module")
def cases(five: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """A study whose sentence heads read the first token, and one where they read the mean and words are frozen."""
    frozen = {"pooling": "mean", "freeze_embeddings": True}
    targets = [pico_study.target("match", 40), pico_study.target("choice")]
    mean = study(tmp_path_factory.mktemp("mean"), encoder=frozen, stages=[], targets=targets)
    trials = {"first": (five, 1), "mean": (mean, 0)}
    folders = {name: tmp_path_factory.mktemp("exported") / name for name in trials}
    exported = {
        name: export_transformers(made.folder, number, folders[name], made.store, cache=made.cache)[1]
        for name, (made, number) in trials.items()
    }
    answers, mismatches = elsewhere(
        {str(folders[name]): calls(made, number) for name, (made, number) in trials.items()},
        {str(folders[name]): {t.target: t.loads_with for t in done} for name, done in exported.items()},
    )
    return {
        name: Case(*trials[name], to, exported[name], answers[str(to)], mismatches[str(to)])
        for name, to in folders.items()
    }


def elsewhere(inputs: dict[str, Any], classes: dict[str, Any]) -> tuple[Any, Any]:
    """Use the folders in a process that can't import tunexfer.

    inputs: folder -> target -> arguments of each call; classes: folder -> target -> what loads it
    """
    command = [sys.executable, "-c", WITHOUT_TUNEXFER]
    done = subprocess.run(command, input=json.dumps([inputs, classes]), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers, mismatches = json.loads(done.stdout.splitlines()[-1])
    return answers, mismatches


def rows(made: Made, number: int, target: str) -> list[dict[str, Any]]:
    """The test rows that the trial recorded, in the order they were scored in."""
    recorded = pq.read_table(made.folder.trial(number).rows, filters=[("split", "==", "test")]).to_pylist()
    return [row for row in recorded if row.get("target", row.get("task")) == target]


def results(made: Made) -> list[TrialResult]:
    """The results of all trials, with their scores."""
    record = Record(made.folder)
    return [replace(result, scores=record.scores(result.trial.number)) for result in record.ended]


def calls(made: Made, number: int) -> dict[str, list[list[Any]]]:
    """By target, the arguments of `predict` for each test row, or for all rows of a language where it takes many."""
    arguments: dict[str, list[list[Any]]] = {}
    for target in Record(made.folder).ended[number].trial.chain.targets:
        data: dict[str, list[dict[str, Any]]] = {}
        for row in rows(made, number, target.name):
            file = made.folder.path.parent / "data" / target.task / row["language"] / "test.jsonl"
            by_id = {line["id"]: line for line in map(json.loads, file.read_text().splitlines())}
            data.setdefault(row["language"], []).append(by_id[row["id"]])
        arguments[target.name] = [call for some in data.values() for call in CALLS[target.task](some)]
    return arguments


CALLS: dict[str, Any] = {
    "match": lambda data: [[[row["text"] for row in data], [row["text_pair"] for row in data]]],
    "tags": lambda data: [[[row["tokens"] for row in data]]],
    "choice": lambda data: [[row["prompt"], row["options"]] for row in data],
    "answer": lambda data: [[row["question"], row["context"]] for row in data],
    "pairs": lambda data: [[[row[side] for row in data]] for side in ("english", "text")],
}


def flat(target: str, answers: list[Any]) -> list[Any]:
    """One prediction per row."""
    if target in ("choice", "answer"):
        return answers
    if target == "pairs":
        sides = [np.array(vectors) for vectors in answers]
        pairs = zip(sides[::2], sides[1::2], strict=True)
        return [int(place) for english, foreign in pairs for place in (english @ foreign.T).argmax(axis=1)]
    return [answer for some in answers for answer in some]


@pytest.mark.parametrize(
    ("pooling", "target"), [*(("first", target) for target in TARGETS), ("mean", "match"), ("mean", "choice")]
)
def test_without_tunexfer_the_cards_code_gives_the_predictions_that_the_trial_recorded(
    cases: dict[str, Case], pooling: str, target: str
) -> None:
    case = cases[pooling]
    recorded = [json.loads(row["prediction"]) for row in rows(case.made, case.trial, target)]
    assert flat(target, case.answers[target]) == recorded
    assert len(set(map(str, recorded))) > 1, "a model that predicts the same for every row would pass"


def test_a_head_that_transformers_has_a_class_for_is_exported_as_one_model(cases: dict[str, Case]) -> None:
    assert {t.target: (t.loads_with, t.head_apart) for t in cases["first"].exported} == {
        "match": ("AutoModelForSequenceClassification", False),
        "tags": ("AutoModelForTokenClassification", False),
        "choice": ("AutoModelForMultipleChoice", False),
        "answer": ("AutoModelForQuestionAnswering", False),
        "pairs": ("AutoModel", False),
    }
    assert not list(cases["first"].to.glob("*/head.safetensors"))
    assert "No class of transformers" not in (cases["first"].to / "README.md").read_text()


def test_any_other_head_is_exported_beside_the_encoder_and_the_card_explains_it(cases: dict[str, Case]) -> None:
    """No class of BERT's reads the mean over tokens."""
    loading = {t.target: (t.loads_with, t.head_apart) for t in cases["mean"].exported}
    assert loading == {"match": ("AutoModel", True), "choice": ("AutoModel", True)}
    head = load_file(cases["mean"].to / "match" / "head.safetensors")
    shapes = {name: list(value.shape) for name, value in head.items()}
    assert shapes == {"dense.weight": [32, 32], "dense.bias": [32], "out_proj.weight": [2, 32], "out_proj.bias": [2]}
    assert (cases["mean"].to / "README.md").read_text().count("No class of transformers computes what this head") == 2


def test_every_class_finds_all_of_its_tensors_and_no_others(cases: dict[str, Case]) -> None:
    for case in cases.values():
        for exported in case.exported:
            pooler = ["pooler.dense.bias", "pooler.dense.weight"]  # BERT makes one that nothing here reads
            assert case.mismatches[exported.target] == (pooler if exported.loads_with == "AutoModel" else [])


def test_configs_name_the_labels_and_tokenizers_cut_where_the_task_does(cases: dict[str, Case]) -> None:
    labels = {"match": ["different", "same"], "tags": ["O", "B-COLOUR", "B-THING"]}
    for case in cases.values():
        for target in labels.keys() & case.answers.keys():
            config = json.loads((case.to / target / "config.json").read_text())
            assert config["id2label"] == {str(place): label for place, label in enumerate(labels[target])}
            assert config["label2id"] == {label: place for place, label in enumerate(labels[target])}
            assert json.loads((case.to / target / "tokenizer_config.json").read_text())["model_max_length"] == 128


@pytest.mark.parametrize(("pooling", "place", "prefix"), [("first", 1, "bert."), ("mean", 0, "")])
def test_the_vocabulary_is_the_checkpoints_with_trained_embeddings_at_their_ids(
    cases: dict[str, Case], pooling: str, place: int, prefix: str
) -> None:
    case, name = cases[pooling], "embeddings.word_embeddings.weight"
    start = load_file(case.made.folder.path.parent / "encoder" / "model.safetensors")[name]
    exported = load_file(case.to / "match" / "model.safetensors")[f"{prefix}{name}"]
    assert exported.shape == start.shape
    moved = {int(token) for token in (exported != start).any(dim=1).nonzero()}
    entry = case.made.store.get(Record(case.made.folder).ended[case.trial].trainings[place].key)
    assert entry is not None
    trained = load_file(entry.files["model.safetensors"]).get("word_embeddings.pieces")
    if pooling == "mean":  # frozen
        assert trained is None
        assert not moved
    else:
        assert trained is not None
        assert moved
        assert moved <= set(trained.tolist())


# Card, manifest


def test_the_cards_metadata_holds_the_scores_as_the_hub_reads_them(cases: dict[str, Case]) -> None:
    data = ModelCard.load(cases["first"].to / "README.md").data
    assert data.language == ["de", "en", "ru"]
    assert {"tunexfer", "text-classification", "sentence-similarity"} <= set(data.tags)
    assert (data.license, data.license_link) == ("other", "README.md#licences")
    assert data.base_model is None  # a folder isn't on the hub
    assert data.metrics == ["accuracy", "f1", "mean of f1 and exact_match"]
    means = {(result.dataset_name, result.metric_name): result.metric_value for result in data.eval_results}
    scores = results(cases["first"].made)[1].main("choice", "test")
    assert means["choice", "mean of 1 unseen language"] == scores["de"].value
    assert means["choice", "mean of 2 languages"] == (scores["de"].value + scores["en"].value) / 2


def test_the_card_shows_every_score_beside_the_baselines(cases: dict[str, Case]) -> None:
    case = cases["first"]
    card = (case.to / "README.md").read_text()
    baseline, trial = results(case.made)
    for target in TARGETS:
        table = card.split(f"**{target}** (")[1].split("\n\n")[1]
        before = baseline.main(target, "test")
        for language, score in trial.main(target, "test").items():
            old, unseen = before[language].value, "yes" if score.unseen else "no"
            line = f"| {language} | {old:.1f} | {score.value:.1f} | {score.value - old:+.1f} | {unseen} |"
            assert line in table


def test_the_card_names_training_data_licences_and_the_data_used_for_selection(cases: dict[str, Case]) -> None:
    card = (cases["first"].to / "README.md").read_text()
    assert "before: 25% tags/ru + 25% tags/de + 25% match/ru + 25% match/de, 6 steps" in card
    assert "| `match` | trained in de, en, ru; evaluated in 3 languages | CC0-1.0 |" in card
    assert "| `pairs` | evaluated in 2 languages | CC0-1.0 |" in card
    assert "The training data is under: CC0-1.0." in card
    assert "Only validation data in the languages that the targets were trained in was used for selection" in card
    assert "of 2 trials" in card


def test_the_manifest_has_the_checksum_of_every_file_and_the_conditions_of_training(cases: dict[str, Case]) -> None:
    case = cases["first"]
    manifest = json.loads((case.to / "manifest.json").read_text())
    files = {path.relative_to(case.to).as_posix(): path for path in case.to.rglob("*") if path.is_file()}
    del files["manifest.json"]
    assert manifest["files"] == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert {"README.md", "replay.yaml", "suite.yaml", "match/config.json", "match/model.safetensors"} <= set(files)
    assert manifest["trained"].keys() == {"before", "match", "tags", "choice", "answer"}
    assert {(job["threads"], job["torch"]) for job in manifest["trained"].values()} == {(1, torch.__version__)}
    assert all(job["device"] for job in manifest["trained"].values())
    assert manifest["written_with"]["libraries"]["torch"] == torch.__version__
    assert manifest["trial"]["number"] == 1


def test_nothing_but_safetensors_and_text_is_written(cases: dict[str, Case]) -> None:
    for case in cases.values():
        suffixes = {path.suffix for path in case.to.rglob("*") if path.is_file()}
        assert suffixes == {".json", ".safetensors", ".md", ".yaml"}


# The command


def test_the_command_prints_the_class_that_loads_each_folder(cases: dict[str, Case], tmp_path: Path) -> None:
    made = cases["mean"].made
    printed = run(made, tmp_path / "to", "--store", made.store.root)
    assert printed.splitlines() == [
        f"trial 0 of pico, described in {tmp_path / 'to/README.md'}",
        f"{tmp_path / 'to/match'}: AutoModel, head in a separate file",
        f"{tmp_path / 'to/choice'}: AutoModel, head in a separate file",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def run(made: Made, to: Path, *options: object) -> str:
    """What the command prints."""
    arguments = ["export", made.folder.path, "--format", "transformers", "--to", to, *options]
    done = CliRunner(env={"TUNEXFER_CACHE": str(made.cache)}).invoke(
        app, list(map(str, arguments)), catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.stdout


def test_a_target_without_training_exports_the_encoder_after_the_last_stage(tmp_path: Path) -> None:
    made = study(tmp_path, targets=[{"task": "pairs"}], objective={"languages": "all"})
    start = load_file(tmp_path / "encoder" / "model.safetensors")
    for number, same in ((0, True), (1, False)):
        export_transformers(made.folder, number, tmp_path / str(number), made.store, cache=made.cache)
        exported = load_file(tmp_path / str(number) / "pairs" / "model.safetensors")
        assert exported.keys() == start.keys()
        assert all(torch.equal(exported[name], start[name]) for name in start) == same
    assert "No training data of this study was used." in (tmp_path / "0" / "README.md").read_text()


@pytest.mark.slow
def test_a_target_after_another_exports_its_own_head(tmp_path: Path) -> None:
    first = {"task": "match", "train_language": "en", "learning_rate": 3.0e-3, "steps": 4, "name": "english"}
    targets = [first, first | {"name": "russian", "train_language": "ru", "after": "english"}]
    made = study(tmp_path, stages=[], targets=targets, encoder={"pooling": "mean"})
    export_transformers(made.folder, 0, tmp_path / "to", made.store, cache=made.cache)
    heads = [load_file(tmp_path / "to" / name / "head.safetensors") for name in ("english", "russian")]
    assert not torch.equal(heads[0]["out_proj.weight"], heads[1]["out_proj.weight"])
    replay = yaml.safe_load((tmp_path / "to" / "replay.yaml").read_text())
    assert [target.get("after") for target in replay["targets"]] == [None, "english"]


# Mistakes


def test_models_missing_from_the_store_are_named_with_the_commands_that_train_them_again(
    five: Made, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as refused:
        export_transformers(five.folder, 1, tmp_path / "to", StageStore(tmp_path / "other"), cache=five.cache)
    message = str(refused.value)
    assert "the models of trial 1 for match, tags, choice, answer, pairs are missing from the stage store" in message
    assert f"`tunexfer export {five.folder.path} --trial 1 --format replay --to again`" in message
    assert "`tunexfer search again/replay.yaml --store again/store`" in message
    assert not list(tmp_path.iterdir())


def test_a_damaged_entry_is_refused_and_leaves_no_folder(five: Made, tmp_path: Path) -> None:
    shutil.copytree(five.store.root, tmp_path / "store")
    name = Record(five.folder).ended[1].trainings[-1].key
    (tmp_path / "store" / "entries" / name[:2] / name / "model.safetensors").write_bytes(b"half")
    with pytest.raises(StudyError, match=r"for answer are missing from the stage store .* or damaged"):
        export_transformers(five.folder, 1, tmp_path / "to", StageStore(tmp_path / "store"), cache=five.cache)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_export_that_breaks_off_leaves_nothing(five: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "write_manifest", broken)
    with pytest.raises(OSError, match="No space left"):
        export_transformers(five.folder, 1, tmp_path / "to", five.store, cache=five.cache)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_left_alone(five: Made, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="the folder is not empty"):
        export_transformers(five.folder, 1, tmp_path, five.store, cache=five.cache)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_encoder_in_the_place_of_the_trained_one_is_refused(five: Made, tmp_path: Path) -> None:
    entry = five.store.get(Record(five.folder).ended[1].trainings[0].key)
    assert entry is not None
    trained = module.Trained.from_file(entry.files["model.safetensors"], NOTHING)
    with pytest.raises(StudyError, match="holds another encoder than the one that was trained"):
        whole_encoder(pico_encoder(tmp_path, layers=1), trained.weights)


def test_a_target_cannot_lead_out_of_the_folder(five: Made, tmp_path: Path) -> None:
    copy = StudyFolder(tmp_path / "study")
    shutil.copytree(five.folder.path, copy.path)
    for number in (0, 1):
        chain = copy.trial(number).chain
        chain.write_text(re.sub(r"name: answer\b", "name: ../answer", chain.read_text()))
    with pytest.raises(StudyError, match=r"target '../answer' can't be a folder's name"):
        export_transformers(copy, 1, tmp_path / "to", five.store, cache=five.cache)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "transformers", "--labels", "gold"], "--labels: only for --format xtreme"),
        (["--format", "xtreme", "--store", "there"], "--store: only for --format transformers"),
    ],
)
def test_an_option_of_another_format_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path), "--to", str(tmp_path / "to"), *options])
    assert isinstance(done.exception, StudyError)
    assert message in str(done.exception)


# Encoders of other kinds

NOTHING = Weights(body={}, pieces=np.zeros(0, dtype=np.int64), words=torch.zeros(0, 0))


@pytest.mark.parametrize(
    ("architecture", "pooling", "whole"),
    [
        ("xlm-roberta", "first", ["choice", "sequence", "span", "token"]),
        ("xlm-roberta", "mean", ["span", "token"]),
        ("bert", "mean", ["span", "token"]),
        ("electra", "first", ["span", "token"]),  # same names of layers, but gelu where we have tanh
        ("distilbert", "first", ["span", "token"]),  # relu, under a name of its own
    ],
)
def test_a_class_is_used_only_if_it_gives_the_same_logits(
    tmp_path: Path, architecture: str, pooling: Any, whole: list[str]
) -> None:
    encoder = whole_encoder(encoder_of(architecture, tmp_path), NOTHING)
    width, labels = encoder.config.hidden_size, ["a", "b", "c"]
    joined = []
    for kind in filter(None, FORMATS):
        torch.manual_seed(0)
        state = {name: torch.randn_like(value) for name, value in HEADS[kind](width, 3, 0.0).state_dict().items()}
        if whole_model(encoder, kind, make_head(kind, width, 3, state), pooling, labels if kind != "span" else []):
            joined.append(kind)
    assert sorted(joined) == whole
