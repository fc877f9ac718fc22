"""Each shipped space is what its comments describe."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.core.chain import Chain
from tunexfer.plan.plan import Plan

SPACES = ["xtreme_stilts", "xtreme_multitask", "source_language"]


@pytest.fixture
def stilts(tmp_path: Path) -> Plan:
    return Plan.load("xtreme_stilts", cache=tmp_path)


def every_chain(plan: Plan) -> list[Chain]:
    return [plan.space.chain(point) for point in plan.space.grid()]


def test_stilts_tries_each_of_the_nine_once_beside_the_baseline(stilts: Plan) -> None:
    tasks = [chain.stages[0].mixture.tasks for chain in every_chain(stilts)]
    assert tasks == [
        (task,) for task in "anli_plus mnli qqp squad_v1 squad_v2 hellaswag ccg cosmos_qa commonsense_qa".split()
    ]
    assert stilts.trials == 1 + len(tasks)
    assert stilts.baseline[1].stages == ()
    assert len(stilts.baseline[1].targets) == 9
    cost = stilts.full_cost()
    assert cost is not None
    assert cost.chains == 1 + len(tasks)  # the baseline is no point of this space, but is run


def test_stilts_trains_by_the_published_recipe(stilts: Plan) -> None:
    [first, *_] = every_chain(stilts)
    assert first.encoder.name == "FacebookAI/xlm-roberta-large"
    assert (first.stages[0].learning_rate, first.stages[0].steps) == (1e-5, 3 * 34_554)
    stages = {target.task: target.stage for target in first.targets if target.stage}
    assert {stage.learning_rate for stage in stages.values()} == {1e-5}
    batches = {task: stage.batch_size for task, stage in stages.items()}
    assert batches == dict.fromkeys(("xnli", "pawsx", "udpos", "panx"), 32) | dict.fromkeys(
        ("xquad", "mlqa", "tydiqa"), 16
    )
    assert stages["xnli"].steps == 2 * 12_272
    assert stages["panx"].steps == 10 * 625
    assert stages["mlqa"].steps == 2 * 5_475
    assert stages["tydiqa"].steps == 2 * 208  # 3,326 rows, as 370 of the 3,696 are held out
    assert {target.layer for target in first.targets if not target.stage} == {14}


def test_in_stilts_english_alone_chooses(stilts: Plan) -> None:
    assert {language for _, language, split in stilts.evaluated if split == "validation"} == {"en"}


def test_six_source_languages_of_three_tasks_are_trained_eighteen_times(tmp_path: Path) -> None:
    cost = Plan.load("source_language", cache=tmp_path).full_cost()
    assert cost is not None
    assert (cost.chains, cost.stages) == (6**3, 3 * 6)


def test_languages_that_choose_a_source_are_not_sources(tmp_path: Path) -> None:
    plan = Plan.load("source_language", cache=tmp_path)
    choosing = {language for _, language, split in plan.evaluated if split == "validation"}
    sources = {source.language for source in plan.possible_sources}
    assert choosing == {"hi", "vi", "tr", "te", "bn"}
    assert not choosing & sources
    for target in plan.baseline[1].targets:
        assert any(task == target.task for task, _, split in plan.evaluated if split == "validation")


def test_multitask_mixes_up_to_all_nine(tmp_path: Path) -> None:
    chains = Plan.load("xtreme_multitask", cache=tmp_path).variants
    sizes = {len(chain.stages[0].mixture.tasks) for chain in chains if chain.stages}
    assert sizes == {1, 2, 3, 9}
    whole = [chain.stages[0].mixture for chain in chains if chain.stages and len(chain.stages[0].mixture.tasks) == 9]
    capped = dict(zip(whole[0].tasks, whole[0].shares, strict=True))
    # Sizes above 2**17 count as it: anli_plus, mnli and qqp are drawn alike
    assert capped["anli_plus"] == capped["mnli"] == capped["qqp"]
    assert capped["hellaswag"] / capped["mnli"] == pytest.approx(39_905 / 131_072)


def test_multitask_trains_for_the_sum_of_its_tasks_epochs_up_to_the_cap(tmp_path: Path) -> None:
    chains = Plan.load("xtreme_multitask", cache=tmp_path).variants
    stages = [chain.stages[0] for chain in chains if chain.stages]
    # Three epochs in batches of 32; of anli_plus, mnli and qqp 2**17 rows count, which are 4,096 batches, of the others
    # all: squad_v2 4,073 (130,319 rows), squad_v1 2,738, hellaswag 1,248, ccg 1,188, cosmos_qa 790, commonsense_qa 305
    assert {s.steps for s in stages if len(s.mixture.tasks) == 9} == {3 * (3 * 4_096 + 10_342)} == {67_890}
    assert {s.steps for s in stages if s.mixture.tasks == ("mnli", "squad_v1", "hellaswag")} == {3 * 8_082}
    assert {s.steps for s in stages if s.mixture.tasks == ("mnli",)} == {3 * 4_096}


@pytest.mark.parametrize("name", ["xtreme_stilts", "xtreme_multitask", "mlm_and_translated"])
def test_a_step_of_the_large_encoder_is_32_rows_in_as_many_parts_as_memory_needs(name: str, tmp_path: Path) -> None:
    chain = next(chain for chain in Plan.load(name, cache=tmp_path).variants if chain.stages)
    stages = [*chain.stages, *(target.stage for target in chain.targets if target.stage and target.task == "udpos")]
    assert [(stage.batch_size, dict(stage.training)) for stage in stages] == [(32, {})] * 2


@pytest.mark.parametrize("name", SPACES)
def test_the_plan_can_be_shown_without_any_of_the_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEXFER_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["plan", name], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{name}\nsuite xtreme, encoder FacebookAI/xlm-roberta-")
    assert "stage store, disk and time: unknown" in done.stdout


def test_african_trains_kinyarwanda_once_per_stage_and_kirundi_on_top_of_it(tmp_path: Path) -> None:
    plan = Plan.load("african", cache=tmp_path)
    kinnews, kirnews = plan.baseline[1].targets
    assert (kinnews.task, kirnews.task, kirnews.after) == ("news", "news", "kinnews")
    assert kinnews.stage is not None
    assert kinnews.stage.steps == 8 * 523  # 17,014 rows without 300 for validation, in batches of 32, eight times
    assert {(language, split) for _, language, split in plan.evaluated} == {
        (language, split) for language in ("rw", "rn") for split in ("validation", "test")
    }
    cost = plan.full_cost()
    assert cost is not None
    # no stage, or one of two tasks in one of two choices of languages; two rates of the second target
    assert (cost.chains, cost.stages) == (10, 4 + 5 + 10)


def test_a_plan_shows_which_target_continues_from_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEXFER_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["plan", "african"], catch_exceptions=False).stdout
    assert "kirnews after kinnews" in shown
    assert "forgetting: kinnews is evaluated again after kirnews" in shown


@pytest.fixture
def default(tmp_path: Path) -> Plan:
    return Plan.load("multitask", cache=tmp_path)


def test_in_the_default_space_retrieval_is_zero_shot_only_where_no_messages_were_matched(default: Plan) -> None:
    same = {name: task.same_as for name, task in default.suite.tasks.items() if task.same_as}
    found = set()
    for chain in every_chain(default):
        tasks = {source.task for stage in chain.stages for source in stage.mixture.sources}
        languages = {source.language for stage in chain.stages for source in stage.mixture.sources}
        if tasks == {"ui_match"} and "ru" in languages:
            assert not chain.unseen("ui_retrieval", "ru", same)
            assert chain.unseen("ui_retrieval", "fi", same)
        if tasks == {"same_command"}:
            assert chain.unseen("ui_retrieval", "ru", same)
        found.add(frozenset(tasks))
    assert {frozenset({"ui_match"}), frozenset({"same_command"})} <= found


def test_each_target_of_the_default_space_chooses_its_own_chain_and_confirms_it(default: Plan) -> None:
    assert default.objective.per_target
    assert default.confirm is not None
    assert default.confirm.count >= 5
