"""Models of a trial in MLflow: they contain no pickle, load as trained, and are registered once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from export.pico_study import Made, study, target
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.errors import StudyError
from tunexfer.export.models import export_transformers
from tunexfer.export.registry import register_models
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
    models: dict[str, str]

    def again(self) -> dict[str, str]:
        return register_models(self.made.folder, None, "pico", self.uri, self.made.store, cache=self.made.cache)

    def artifacts(self, uri: str, to: Path) -> Path:
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(to)))


def registered(made: Made) -> Case:
    uri, warnings = default_uri(made.folder.path.parent), list[str]()
    Mirror(Record(made.folder), uri, warnings.append).start().close("finished")
    assert warnings == []
    return Case(made, uri, register_models(made.folder, None, "pico", uri, made.store, cache=made.cache))


@pytest.fixture(scope="module")
def several(five: Made) -> Case:
    return registered(five)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A single target, whose head reads the mean: none of transformers does."""
    path = tmp_path_factory.mktemp("single")
    return registered(study(path, targets=[target("match")], encoder={"pooling": "mean"}))


def test_each_target_has_a_model_and_a_single_target_has_the_plain_name(several: Case, single: Case) -> None:
    assert several.models == {target: f"models:/pico-{target}/1" for target in TARGETS}
    assert list(single.models.values()) == ["models:/pico/1"]


def test_registering_again_gives_the_same_versions_of_the_same_models(several: Case) -> None:
    from mlflow import MlflowClient

    assert several.again() == several.models
    client = MlflowClient(tracking_uri=several.uri, registry_uri=several.uri)
    assert len(client.search_model_versions("name = 'pico-tags'")) == 1
    experiment = client.get_experiment_by_name("pico").experiment_id
    models = client.search_logged_models([experiment])
    assert sorted(model.name for model in models) == sorted(TARGETS)
    best = Record(several.made.folder).best()
    assert best is not None
    [run] = client.search_runs([experiment], f"tags.`tunexfer.trial` = '{best.trial.number}'")
    assert {model.source_run_id for model in models} == {run.info.run_id}
    assert {output.model_id for output in run.outputs.model_outputs} == {model.model_id for model in models}


def test_logged_files_run_nothing_when_they_are_read(several: Case, tmp_path: Path) -> None:
    for name, uri in several.models.items():
        files = [path for path in several.artifacts(uri, tmp_path / name).rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= HARMLESS
        assert "model.safetensors" in {path.name for path in files}
        assert "pico" in next(path for path in files if path.name == "model_card.md").read_text()


def test_every_model_loads_with_the_weights_that_were_trained(several: Case, tmp_path: Path) -> None:
    import mlflow
    import transformers
    from safetensors.torch import load_file

    mlflow.set_tracking_uri(several.uri)
    made = several.made
    _, exported = export_transformers(made.folder, None, tmp_path / "plain", made.store, cache=made.cache)
    for folder, uri in zip(exported, several.models.values(), strict=True):
        plain = tmp_path / "plain" / folder.target
        parts = mlflow.transformers.load_model(uri, return_type="components")
        assert type(parts["model"]) is type(getattr(transformers, folder.loads_with).from_pretrained(plain))
        state, wanted = parts["model"].state_dict(), load_file(plain / "model.safetensors")
        assert all(torch.equal(state[name], value) for name, value in wanted.items())
        assert load_file(several.artifacts(uri, tmp_path / folder.target) / "model" / "model.safetensors").keys() == (
            wanted.keys()
        )


def test_a_tagging_model_loads_as_a_pipeline(several: Case) -> None:
    import mlflow

    mlflow.set_tracking_uri(several.uri)
    pipeline = mlflow.transformers.load_model("models:/pico-tags/1")
    assert pipeline.task == "token-classification"
    assert {token["entity"] for token in pipeline("a b c")} <= set(pipeline.model.config.id2label.values())


def test_a_head_that_transformers_has_no_class_for_is_logged_beside_the_encoder(single: Case, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    [uri] = single.models.values()
    head = load_file(single.artifacts(uri, tmp_path) / "model" / "head.safetensors")
    assert {name.partition(".")[0] for name in head} == {"dense", "out_proj"}


def test_the_command_prints_the_registered_models(several: Case) -> None:
    store = ["--store", str(several.made.store.root), "--trial", "0"]
    done = CliRunner().invoke(app, ["register", str(several.made.folder.path), "other", *store])
    assert done.exit_code == 0, done.exception
    assert done.stdout.splitlines() == [
        f"{target}: registered in MLflow as models:/other-{target}/1" for target in TARGETS
    ]


def test_a_trial_without_a_run_in_mlflow_is_rejected(several: Case, tmp_path: Path) -> None:
    made = several.made
    with pytest.raises(StudyError, match=r"has no run of trial 0 of .*Rerun the search"):
        register_models(made.folder, 0, "pico", default_uri(tmp_path), made.store, cache=made.cache)


def test_models_missing_from_the_store_are_an_error(single: Case, tmp_path: Path) -> None:
    made = single.made
    best = Record(made.folder).best()
    assert best is not None
    other = 1 - best.trial.number  # what is logged already needs no store
    with pytest.raises(StudyError, match="are missing from the stage store"):
        register_models(made.folder, other, "x", single.uri, StageStore(tmp_path / "empty"), cache=made.cache)
