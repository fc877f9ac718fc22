"""The replay of a trial: a space of its chain alone, which trains to the same scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from export.pico_study import Made, run, study
from record import made_up
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Trial
from tunexfer.errors import StudyError
from tunexfer.export.folders import find_trial
from tunexfer.export.replay import export_replay, replay_space
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.store import StageStore


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three sources with uneven shares, two targets with names of their own, two of them in few languages."""
    target = {"train_language": "en", "learning_rate": 3.0e-3, "steps": 6, "batch_size": 8}
    return study(
        tmp_path_factory.mktemp("replayed"),
        stages=[
            {
                "name": "before",
                "tasks": ["tags", "choice"],
                "languages": ["ru", "de"],  # choice has none in ru
                "mixing": {"temperature": {"T": 3.0, "cap": 30}},
                "learning_rate": 3.0e-3,
                "steps": 6,
            }
        ],
        targets=[
            {"task": "match", **target, "name": "first", "languages": ["ru", "en"]},
            {
                "task": "match",
                **target,
                "name": "second",
                "after": "first",
                "train_language": "de",
                "languages": ["de"],
            },
            {"task": "pairs", "layer": 1},
        ],
        training={"weight_decay": 0.1},
        objective={"maximize": "worst_language", "languages": "all"},
    )


def test_the_space_holds_that_chain_alone_and_scores_the_same_rows(made: Made, tmp_path: Path) -> None:
    file = export_replay(made.folder, 1, tmp_path / "again")
    assert sorted(path.name for path in file.parent.iterdir()) == ["replay.yaml", "suite.yaml"]
    plan, before = Plan.load(file, cache=tmp_path / "cache"), yaml.safe_load(made.folder.plan.read_text())
    trials = {ended.trial.number: ended.trial for ended in Record(made.folder).complete}
    assert plan.every_chain() == [trials[1].chain]
    assert plan.baseline[1] == trials[0].chain
    assert (plan.trials, plan.seed, plan.precision) == (2, 3, "fp32")
    assert sorted(map(list, plan.evaluated)) == before["evaluated"]
    assert plan.objective.model_dump() == before["identity"]["objective"]


def test_the_replay_of_a_chain_without_stages_is_the_baseline_alone(made: Made, tmp_path: Path) -> None:
    plan = Plan.load(export_replay(made.folder, 0, tmp_path / "again"), cache=tmp_path / "cache")
    assert plan.trials == 1
    assert plan.baseline[1] == Record(made.folder).ended[0].trial.chain


def test_trained_again_it_gives_the_same_scores_and_models_bit_for_bit(made: Made, tmp_path: Path) -> None:
    plan = Plan.load(export_replay(made.folder, 1, tmp_path / "again"), cache=tmp_path / "cache")
    store = StageStore(tmp_path / "store")
    [result] = run(plan, plan.every_chain() or [], store)
    assert not any(stage.reused for stage in result.trainings)
    assert result.scores == Record(made.folder).scores(1)
    for stage in Record(made.folder).ended[1].trainings:
        before, again = made.store.get(stage.key), store.get(stage.key)
        assert before is not None
        assert again is not None
        name = "model.safetensors"
        assert again.files[name].read_bytes() == before.files[name].read_bytes()


def test_sources_keep_the_order_they_were_drawn_in_if_some_pairs_are_missing() -> None:
    """Order decides what is drawn: b before a for one task, c before b for the other, so c, b, a."""
    pairs = [("one", "b"), ("one", "a"), ("two", "c"), ("two", "b")]
    sources = tuple(Source(task=task, language=language) for task, language in pairs)
    mixture = Mixture(sources=sources, shares=(0.1, 0.2, 0.3, 0.4))
    stage = Stage(name="before", mixture=mixture, learning_rate=1e-3, steps=2)
    chain = Chain(suite="toy", encoder=Encoder(name="pico"), stages=(stage,), targets=(Target(task="retrieval"),))
    block = replay_space_of(chain)["stages"][0]
    assert block["languages"] == ["c", "b", "a"]
    shares = {"one/c": 0.0, "one/b": 0.1, "one/a": 0.2, "two/c": 0.3, "two/b": 0.4, "two/a": 0.0}
    assert block["mixing"] == {"fixed": shares}


def replay_space_of(chain: Chain) -> dict:  # type: ignore[type-arg]
    """The replay of a made-up study in which that chain was run."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        study = StudyFolder(Path(folder) / "toy")
        plan = {
            "name": "toy",
            "identity": {"suite": "starter", "targets": [{"task": "retrieval"}], "objective": {}, "precision": "fp32"},
            "resources": {"cpus": 1, "gpus": 0},
        }
        with Record.drive(study, plan):
            return replay_space(study, Trial(number=1, phase="search", seed=1, point={}, chain=chain))


def test_a_study_recorded_without_its_suite_is_rejected_with_how_to_add_it(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "toy")
    made_up.study(folder)
    with pytest.raises(StudyError, match=r"does not contain the suite 'toy', .* rerun the `tunexfer search`"):
        export_replay(folder, None, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_command_prints_how_to_train_again(made: Made, tmp_path: Path) -> None:
    arguments = ["export", made.folder.path, "--format", "replay", "--trial", "1", "--to", tmp_path / "again"]
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert f"`tunexfer search {tmp_path / 'again/replay.yaml'} --store NEW_FOLDER`" in done.stdout


def test_the_winner_of_a_target_is_exported_by_the_targets_name(tmp_path: Path) -> None:
    """Trial 1 has the best scores of `intent`; the other target has no validation scores to win by."""
    objective = {"maximize": "mean", "split": "validation", "languages": "all"}
    plan = {**made_up.PLAN, "identity": {**made_up.PLAN["identity"], "objective": objective}}
    folder = StudyFolder(tmp_path / "toy")
    with Record.drive(folder, plan) as record:
        made_up.run(record, made_up.trial(0, phase="baseline", of=made_up.chain()), 50.0)
        made_up.run(record, made_up.trial(1), 53.0)
        made_up.run(record, made_up.trial(2, of=made_up.chain(stages=2)), 52.0)
    assert find_trial(folder, None, "intent").trial.number == 1
    with pytest.raises(StudyError, match=r"no trial has won target 'intnt'.*winner: intent\. Did you mean 'intent'\?"):
        find_trial(folder, None, "intnt")
    command = ["export", str(folder.path), "--format", "replay", "--to", str(tmp_path / "again"), "--target", "intent"]
    refused = CliRunner().invoke(app, [*command, "--trial", "2"])
    assert "leave --trial out" in str(refused.exception)
