"""From the space file to the scores: a target that goes on from another, on the pico suite and without Ray."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import yaml
from pico import pico_encoder, pico_suite
from rich.console import Console

from tunexfer.cli.launch import contents_of, make_executor, prepare_all
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import TrialResult
from tunexfer.plan.plan import Plan
from tunexfer.record.record import Record
from tunexfer.search.loop import SearchLoop, run_here

SPACE = """
name: toy
suite: pico.yaml
encoder: encoder
stages:
  - {tasks: {subset: {of: [choice], size: [0, 1]}}, languages: en, learning_rate: 1.0e-3, steps: 4}
targets:
  - {name: english, task: match, train_language: en, learning_rate: 3.0e-3, steps: 16}
  - {name: german, task: match, train_language: de, after: english, learning_rate: 3.0e-3, steps: {choice: [8, 12]}}
objective: {languages: train}
search: {algorithm: grid, trials: 4, seed: 3}
noise: {seeds: 1}
resources: {precision: fp32}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("toy")
    pico_suite(folder)
    space = yaml.safe_load(SPACE) | {"encoder": str(pico_encoder(folder / "encoder"))}
    (folder / "toy.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return Plan.load(folder / "toy.yaml", cache=folder / "cache")


@pytest.fixture(scope="module")
def record(plan: Plan) -> Record:
    """Every chain of the space, run one after the other."""
    cache = plan.rows.cache
    prepared, folder = prepare_all(plan, cache, Console(quiet=True)), StudyFolder(cache.parent / "runs" / "toy")
    executor = make_executor(prepared, str(cache / "store"), store_bytes=10**9, device="cpu", threads=1)
    with Record.drive(folder, plan.as_dict()) as record:
        run_here(SearchLoop(plan, record, executor.store, contents_of(prepared)), executor)
    return Record(folder)


def test_the_target_that_is_gone_on_from_is_paid_for_once(plan: Plan, record: Record) -> None:
    cost = plan.full_cost()
    assert cost is not None
    # no stage or one; the first target after each; the second after each, with two numbers of steps
    assert (cost.chains, cost.stages) == (4, 1 + 2 + 4)
    assert cost.steps == 4 + 2 * 16 + 2 * (8 + 12)
    stages = [stage for ended in record.complete for stage in ended.trainings]
    assert sum(stage.steps for stage in stages if not stage.reused) == cost.steps
    assert sum(stage.steps for stage in stages) == cost.steps_unshared


def test_every_trial_has_both_targets_in_every_language_and_what_the_first_forgot(record: Record) -> None:
    rows = [row for row in pq.read_table(record.folder.scores).to_pylist() if row["split"] == "test"]
    languages = {"en", "de", "ru"}
    for trial in range(4):
        main = {(row["target"], row["language"]): row["value"] for row in rows if row["trial"] == trial and row["main"]}
        assert main.keys() == {(name, language) for name in ("english", "german") for language in languages}
        lost = {row["language"]: row for row in rows if row["trial"] == trial and row["metric"] == "forgetting"}
        for language, row in lost.items():
            before, after = main["english", language], main["german", language]
            assert row["value"] == pytest.approx(100 * (before - after) / before)
            assert row["target"] == "english"
        assert languages - lost.keys() <= {language for language in languages if main["english", language] == 0}


def with_scores(record: Record) -> list[TrialResult]:
    return [replace(result, scores=record.scores(result.trial.number)) for result in record.complete]


def test_each_target_is_chosen_by_its_own_train_language(record: Record) -> None:
    for ended in with_scores(record):
        english, german = ended.main("english", "validation"), ended.main("german", "validation")
        assert ended.objective == pytest.approx((english["en"].value + german["de"].value) / 2)


def test_what_only_the_second_trained_is_zero_shot_for_the_first(record: Record) -> None:
    for ended in with_scores(record):
        assert [one for one, score in sorted(ended.main("english", "test").items()) if score.unseen] == ["de", "ru"]
        assert [one for one, score in sorted(ended.main("german", "test").items()) if score.unseen] == ["ru"]
