"""Targets that go on from other targets, trained and scored on the pico suite."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from chain_runner import ChainRunner
from torch import Tensor
from training.conftest import Pico, stage, target

import tunexfer.training.executor as module
from tunexfer.core.chain import Chain, Target
from tunexfer.core.scores import FORGETTING, Score
from tunexfer.data.prepare import Prepared
from tunexfer.store import MODEL
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.evaluate import Scorer
from tunexfer.training.model import Trained

SCORED = {"match": ("en", "de", "ru")}


@pytest.fixture(scope="module")
def prepared(pico: Pico) -> Prepared:
    return pico.prepared({"match": ("en", "de", "ru"), "choice": ("en",)}, SCORED)


@pytest.fixture
def runner(pico: Pico, prepared: Prepared, tmp_path: Path) -> ChainRunner:
    return pico.runner(tmp_path / "store", prepared)


def german(after: str | None = None) -> Target:
    return Target(task="match", stage=stage("match", name="german", language="de"), after=after)


def english_then_german(pico: Pico) -> Chain:
    english = target("match", name="english", steps=40)
    return pico.chain((), (english, german(after="english")))


def main(scores: tuple[Score, ...], name: str) -> dict[tuple[str, str], float]:
    return {(s.language, s.split): s.value for s in scores if s.main and s.target == name}


def test_both_are_scored_in_every_language_and_what_the_first_lost_is_a_score_of_its_own(
    runner: ChainRunner, pico: Pico
) -> None:
    result = runner.run(english_then_german(pico), seed=1)
    before, after = main(result.scores, "english"), main(result.scores, "german")
    assert set(before) == set(after) == {(one, split) for one in SCORED["match"] for split in ("validation", "test")}
    # both are of the same rows, so what the second scores is what is left of the first
    forgotten = {(s.language, s.split): s.value for s in result.scores if s.metric == FORGETTING}
    assert forgotten == {key: 100 * (before[key] - after[key]) / before[key] for key in before if before[key]}
    assert len(forgotten) > 3
    assert {s.target for s in result.scores if s.metric == FORGETTING} == {"english"}
    assert not any(s.main for s in result.scores if s.metric == FORGETTING)
    assert sorted(set(result.rows["target"].to_pylist())) == ["english", "german"]
    assert len(result.rows) == 2 * 6 * 10


def test_what_the_second_trained_is_unseen_by_the_first_alone(runner: ChainRunner, pico: Pico) -> None:
    scores = runner.run(english_then_german(pico), seed=1).scores
    assert {(s.target, s.language) for s in scores if s.unseen and s.main} == {
        ("english", "de"), ("english", "ru"), ("german", "ru"),
    }  # fmt: skip
    assert {s.language for s in scores if s.unseen and s.metric == FORGETTING} == {"ru"}


def test_the_second_starts_from_the_firsts_encoder_and_head(
    runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: dict[str, Trained] = {}
    train = module.train_stage

    def watched(stage, *, parent, heads, **rest):  # type: ignore[no-untyped-def]
        starts[stage.name] = Trained(parent, heads)
        return train(stage, parent=parent, heads=heads, **rest)

    monkeypatch.setattr(module, "train_stage", watched)
    chain = english_then_german(pico)
    runner.run(chain, seed=1)
    entry = runner.store.get(runner.jobs(chain)[0].key)
    assert entry is not None
    pretrained = PlanEncoder(runner.prepared, torch.device("cpu")).start
    left = Trained.from_file(entry.files[MODEL], pretrained)
    assert starts["english"].heads == {}
    assert starts["german"].heads.keys() == {"match"}
    assert same(starts["german"].heads["match"], left.heads["match"])
    assert same(starts["german"].weights.body, left.weights.body)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in other)


def test_the_head_that_comes_along_is_the_one_that_is_trained_on(runner: ChainRunner, pico: Pico) -> None:
    """With a rate of next to nothing the second scores as the first does, which has learnt its task."""
    still = stage("match", name="german", language="de", rate=1e-12)
    english = target("match", name="english", steps=40)
    chain = pico.chain((), (english, Target(task="match", stage=still, after="english")))
    result = runner.run(chain, seed=1)
    assert min(main(result.scores, "english").values()) > 80.0
    assert main(result.scores, "english") == main(result.scores, "german")
    assert {s.value for s in result.scores if s.metric == FORGETTING} == {0.0}


def test_the_first_is_trained_once_and_shared(runner: ChainRunner, pico: Pico, trained: list[str]) -> None:
    first = runner.run(english_then_german(pico), seed=1)
    runner.run(pico.chain((), (target("match", name="english", steps=40), german())), seed=1)
    assert trained == ["english", "german", "german"]  # the last with a new head, from the encoder as it came
    assert [(s.name, s.reused) for s in first.trainings] == [("english", False), ("german", False)]


def test_a_chain_with_a_follower_is_read_again_as_it_was(
    runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runner.run(english_then_german(pico), seed=1)
    monkeypatch.setattr(module, "PlanEncoder", None)
    again = ChainRunner(runner.prepared, runner.store).run(english_then_german(pico), seed=1)
    assert again.scores == first.scores
    assert again.rows.equals(first.rows)
    assert all(s.reused for s in again.trainings)


def test_trained_models_in_the_store_are_enough_to_say_what_is_forgotten(runner: ChainRunner, pico: Pico) -> None:
    chain = english_then_german(pico)
    first = runner.run(chain, seed=1)
    [again] = [job for job in runner.jobs(chain) if job.by]
    shutil.rmtree(runner.store.root / "entries" / again.key[:2] / again.key)
    read = runner.run(chain, seed=1)
    assert read.scores == first.scores
    assert all(s.reused for s in read.trainings)


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> Pico:
    """Also `mismatch`: the rows of `match` with each label called by the other's name."""
    pico = Pico(tmp_path_factory.mktemp("contrary"))
    suite = yaml.safe_load(pico.suite.read_text())
    suite["tasks"]["mismatch"] = suite["tasks"]["match"] | {"label_values": ["same", "different"]}
    pico.suite.write_text(yaml.safe_dump(suite))
    return pico


@pytest.mark.parametrize(("rate", "steps", "low", "high"), [(1e-12, 1, 0.0, 0.0), (3e-3, 150, 80.0, 100.0)])
def test_the_firsts_rows_are_scored_again_by_the_second_of_another_task(
    contrary: Pico, tmp_path: Path, rate: float, steps: int, low: float, high: float
) -> None:
    """A second that learns nothing forgets nothing; one that learns the opposite gets nearly every row wrong."""
    scored = {"match": ("en", "ru"), "mismatch": ("de",)}
    runner = contrary.runner(tmp_path, contrary.prepared({"match": ("en",), "mismatch": ("de",)}, scored))
    second = Target(task="mismatch", stage=stage("mismatch", language="de", rate=rate, steps=steps), after="match")
    result = runner.run(contrary.chain((), (target("match", steps=40), second)), seed=1)
    lost = {(s.target, s.language): s.value for s in result.scores if s.metric == FORGETTING and s.split == "test"}
    assert lost.keys() == {("match", "en"), ("match", "ru")}
    assert all(low <= value <= high for value in lost.values())
    assert set(result.rows["target"].to_pylist()) == {"match", "mismatch"}
    assert not any(s.unseen for s in result.scores if (s.target, s.language) == ("mismatch", "de"))


def test_there_is_nothing_to_forget_where_the_first_scored_nothing(
    runner: ChainRunner, pico: Pico, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hopeless(Scorer):
        def score(self, *of: Any, **more: Any) -> Any:
            table, metrics = super().score(*of, **more)
            return table, dict.fromkeys(metrics, 0.0)

    monkeypatch.setattr(module, "Scorer", Hopeless)
    result = runner.run(english_then_german(pico), seed=1)
    assert not any(s.metric == FORGETTING for s in result.scores)
