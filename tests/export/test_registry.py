"""Models of a trial in MLflow: they hold no pickle and load as they were trained; asking twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from export.pico_study import Made, study, target
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.errors import StudyError
from tunexfer.export.models import export_transformers
from tunexfer.export.registry import Registered, register_models
from tunexfer.mlflow.client import default_uri
from tunexfer.mlflow.mirror import Mirror
from tunexfer.record.record import Record
from tunexfer.store import StageStore

pytestmark = pytest.mark.slow
TARGETS = ("match", "tags", "choice", "answer", "pairs")
HARMLESS = {".safetensors", ".json", ".yaml", ".md", ".txt", ""}
"""Ends of files that run nothing when they are read; the one without is `MLmodel`, which is YAML."""


@dataclass(frozen=True)
class Case:
    made: Made
    uri: str
    models: list[Registered]

    def again(self) -> list[Registered]:
        return register_models(self.made.folder, None, "pico", self.uri, self.made.store, cache=self.made.cache)

    def artifacts(self, model: Registered, to: Path) -> Path:
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return Path(mlflow.artifacts.download_artifacts(model.uri, dst_path=str(to)))


def registered(path: Path, **space: Any) -> Case:
    made = study(path, **space)
    uri, said = default_uri(path), list[str]()
    Mirror(Record(made.folder), uri, said.append).start().close("finished")
    assert said == []
    return Case(made, uri, register_models(made.folder, None, "pico", uri, made.store, cache=made.cache))


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Five targets; the sentence heads read the first piece, as those of transformers do."""
    return registered(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A single target, whose head reads the mean: none of transformers does."""
    return registered(tmp_path_factory.mktemp("one"), targets=[target("match")], encoder={"pooling": "mean"})


def test_each_target_has_a_model_and_a_single_one_has_the_name_alone(five: Case, one: Case) -> None:
    assert [(model.target, model.uri) for model in five.models] == [
        (target, f"models:/pico-{target}/1") for target in TARGETS
    ]
    assert [model.uri for model in one.models] == ["models:/pico/1"]


def test_asking_again_gives_the_same_versions_of_the_same_models(five: Case) -> None:
    from mlflow import MlflowClient

    assert five.again() == five.models
    client = MlflowClient(tracking_uri=five.uri, registry_uri=five.uri)
    assert len(client.search_model_versions("name = 'pico-tags'")) == 1
    experiment = client.get_experiment_by_name("pico").experiment_id
    models = client.search_logged_models([experiment])
    assert sorted(model.name for model in models) == sorted(TARGETS)
    best = Record(five.made.folder).best()
    assert best is not None
    [run] = client.search_runs([experiment], f"tags.`tunexfer.trial` = '{best.trial.number}'")
    assert {model.source_run_id for model in models} == {run.info.run_id}
    assert {output.model_id for output in run.outputs.model_outputs} == {model.model_id for model in models}


def test_nothing_that_is_logged_runs_when_it_is_read(five: Case, tmp_path: Path) -> None:
    for model in five.models:
        files = [path for path in five.artifacts(model, tmp_path / model.target).rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= HARMLESS
        assert "model.safetensors" in {path.name for path in files}
        assert "pico" in next(path for path in files if path.name == "model_card.md").read_text()


def test_every_model_loads_with_the_weights_that_were_trained(five: Case, tmp_path: Path) -> None:
    import mlflow
    import transformers
    from safetensors.torch import load_file

    mlflow.set_tracking_uri(five.uri)
    made = five.made
    exported = export_transformers(made.folder, None, tmp_path / "plain", made.store, cache=made.cache)
    for folder, model in zip(exported.folders, five.models, strict=True):
        plain = tmp_path / "plain" / folder.target
        found = mlflow.transformers.load_model(model.uri, return_type="components")
        assert type(found["model"]) is type(getattr(transformers, folder.loads_with).from_pretrained(plain))
        state, wanted = found["model"].state_dict(), load_file(plain / "model.safetensors")
        assert all(torch.equal(state[name], value) for name, value in wanted.items())
        assert load_file(five.artifacts(model, tmp_path / folder.target) / "model" / "model.safetensors").keys() == (
            wanted.keys()
        )


def test_a_tagging_model_answers_as_a_pipeline(five: Case) -> None:
    import mlflow

    mlflow.set_tracking_uri(five.uri)
    pipeline = mlflow.transformers.load_model("models:/pico-tags/1")
    assert pipeline.task == "token-classification"
    assert {one["entity"] for one in pipeline("a b c")} <= set(pipeline.model.config.id2label.values())


def test_a_head_that_transformers_has_no_class_for_lies_beside_the_encoder(one: Case, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    [model] = one.models
    head = load_file(one.artifacts(model, tmp_path) / "model" / "head.safetensors")
    assert {name.partition(".")[0] for name in head} == {"dense", "out_proj"}


def test_the_command_says_what_it_registered(five: Case) -> None:
    store = ["--store", str(five.made.store.root), "--trial", "0"]
    done = CliRunner().invoke(app, ["register", str(five.made.folder.path), "other", *store])
    assert done.exit_code == 0, done.exception
    assert done.stdout.splitlines() == [
        f"{target}: registered in MLflow as models:/other-{target}/1" for target in TARGETS
    ]


def test_a_trial_that_mlflow_does_not_know_is_refused(five: Case, tmp_path: Path) -> None:
    made = five.made
    with pytest.raises(StudyError, match=r"doesn't know trial 0 of .*Start the search again: it sends"):
        register_models(made.folder, 0, "pico", default_uri(tmp_path), made.store, cache=made.cache)


def test_models_that_are_gone_from_the_store_are_an_error_that_says_how_to_make_them_again(
    one: Case, tmp_path: Path
) -> None:
    made = one.made
    best = Record(made.folder).best()
    assert best is not None
    other = 1 - best.trial.number  # what is logged already needs no store
    with pytest.raises(StudyError, match="aren't in the stage store"):
        register_models(made.folder, other, "x", one.uri, StageStore(tmp_path / "empty"), cache=made.cache)
