"""Plans over the pico suite: what is resolved, costed and refused before anything is trained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pico import pico_suite

from tunexfer.core.objective import Objective
from tunexfer.core.scores import Score
from tunexfer.errors import SpaceError
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import find_space, shipped_spaces

SPACE: dict[str, Any] = {
    "name": "toy",
    "suite": "pico.yaml",
    "encoder": "pico",
    "stages": [
        {
            "tasks": {"subset": {"of": ["match", "choice"], "size": [0, 1]}},
            "languages": {"choice": [["en"], ["de", "ru"]]},
            "learning_rate": 1.0e-3,
            "steps": 6,
        }
    ],
    "targets": [
        {"task": "tags", "train_language": "en", "learning_rate": {"choice": [1.0e-3, 2.0e-3]}, "steps": 4},
        {"task": "pairs"},
    ],
    "objective": {"maximize": "mean", "languages": "all"},
    "search": {"trials": 4, "seed": 3},
    "noise": {"seeds": 1},
}


def write(folder: Path, **changes: Any) -> Path:
    pico_suite(folder)
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(SPACE | changes, sort_keys=False))
    return path


def load(folder: Path, overrides: dict[str, str] | None = None, **changes: Any) -> Plan:
    return Plan.load(write(folder, **changes), overrides, cache=folder / "cache")


def test_a_full_enumeration_shares_the_stages_that_chains_have_in_common(tmp_path: Path) -> None:
    cost = load(tmp_path).full_cost()
    # (no stage, match en, match de+ru, choice en, choice de) x 2 target rates
    assert cost is not None
    assert (cost.chains, cost.stages_unshared, cost.stages) == (10, 8 + 10, 4 + 10)
    assert (cost.steps_unshared, cost.steps) == (8 * 6 + 10 * 4, 4 * 6 + 10 * 4)


def test_expected_trials_are_no_more_than_the_space_has(tmp_path: Path) -> None:
    assert load(tmp_path, {"search.trials": "50"}).expected_cost.chains == 10


def test_pairs_without_rows_are_listed(tmp_path: Path) -> None:
    assert [str(source) for source in load(tmp_path).without_rows] == ["choice/ru"]


def test_a_typo_in_a_later_option_is_found_without_drawing_it(tmp_path: Path) -> None:
    stages = [SPACE["stages"][0] | {"tasks": {"choice": ["match", "choice", "mach"]}}]
    with pytest.raises(
        SpaceError, match=r"toy.yaml, stages\[0\].tasks\[0\]: there is no task 'mach'. Did you mean 'match'"
    ):
        load(tmp_path, stages=stages)


def test_an_option_pair_without_any_rows_is_an_error(tmp_path: Path) -> None:
    stages = [SPACE["stages"][0] | {"languages": {"choice": [["en"], ["ru"]]}}]
    with pytest.raises(SpaceError, match="choice has no training rows in ru"):
        load(tmp_path, stages=stages)


def test_every_problem_comes_in_one_answer(tmp_path: Path) -> None:
    with pytest.raises(SpaceError) as caught:
        load(tmp_path, objective={"split": "test", "maximize": "median"}, serach={}, search={"trials": 0})
    told = "\n".join(caught.value.problems)
    assert "objective.split" in told
    assert "'test' can't choose a winner" in told
    assert "objective.maximize" in told
    assert "serach: there is no such key. Did you mean 'search'?" in told
    assert "search.trials" in told


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ([{"maximize": "mean"}], r"write the goals as `objective: \{maximize: \[mean, worst_language\]\}`"),
        ({"maximize": []}, "a list holds one or more of mean, worst_language, each once"),
        ({"maximize": ["mean", "mean"]}, "each once"),
        ({"maximize": ["mean", "device_seconds"]}, "`device_seconds` goes under `minimize`"),
        ({"maximize": ["mean", "per_target"]}, "`per_target` stands alone"),
        ({"minimize": "mean"}, r"objective.minimize.*'device_seconds'"),
        ({"no_target_below_baseline": -1}, r"objective.no_target_below_baseline"),
    ],
)
def test_a_wrong_objective_is_refused_with_what_would_do(tmp_path: Path, objective: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        load(tmp_path, objective=objective)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("off", {"rule": "off"}),
        ("top_k", {"rule": "top_k"}),
        ("{top: 2, after: 3}", {"rule": "top_k", "top": 2, "after": 3}),
    ],
)
def test_a_stopping_rule_is_a_name_or_its_own_keys(tmp_path: Path, text: str, rule: dict[str, Any]) -> None:
    stop = load(tmp_path, {"search.stop": text}).file.search.stop
    assert stop.model_dump(exclude_unset=True) == rule


@pytest.mark.parametrize(
    ("stop", "objective", "message"),
    [
        ("median", {}, "expected off, chance, top_k, {chance: 0.05}, or {top: 5, after: 1}"),
        ({"chance": 2.0}, {}, "search.stop.chance: input should be less than 1"),
        ("off", {"minimize": "device_seconds", "no_target_below_baseline": 1.0}, "set `algorithm: tpe`"),
        ("top_k", {"maximize": "per_target", "languages": "all"}, "may be ahead in another"),
        ("top_k", {"minimize": "device_seconds", "languages": "all"}, "may be ahead in another"),
    ],
)
def test_a_stopping_rule_that_cannot_work_is_refused(tmp_path: Path, stop: Any, objective: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=re.escape(message)):
        load(tmp_path, search={"trials": 4, "stop": stop}, **({"objective": objective} if objective else {}))


def test_the_rule_that_asks_a_model_needs_the_sampler_that_has_one(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="`algorithm: chain`, and random has none"):
        load(tmp_path, search={"trials": 4, "stop": "chance", "algorithm": "random"})


def test_more_than_one_gpu_a_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="one GPU at most"):
        load(tmp_path, resources={"gpus": 2})


def test_under_the_zero_shot_protocol_only_the_train_language_chooses(tmp_path: Path) -> None:
    plan = load(tmp_path, objective={"languages": "train"})
    assert [row for row in sorted(plan.evaluated) if row[2] == "validation"] == [("tags", "en", "validation")]
    assert any("pairs has no validation rows" in warning for warning in plan.warnings)


def test_a_plan_without_a_row_to_choose_by_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="no target has validation rows"):
        load(tmp_path, objective={"languages": ["sw"]})


def test_possible_sources_are_all_that_some_point_trains_on(tmp_path: Path) -> None:
    found = {str(source) for source in load(tmp_path).possible_sources}
    assert found == {"match/en", "match/de", "match/ru", "choice/en", "choice/de", "tags/en"}


def test_single_values_can_be_set(tmp_path: Path) -> None:
    plan = load(tmp_path, {"stages[0].steps": "2", "encoder.pooling": "mean", "search.trials": "9"})
    assert plan.trials == 9
    assert plan.encoders[0].name == "pico"
    assert plan.encoders[0].pooling == "mean"
    with pytest.raises(SpaceError, match=r"nothing at 'stages\[4\].steps' to set"):
        load(tmp_path, {"stages[4].steps": "2"})


def test_budget_and_place_are_no_part_of_a_studys_identity(tmp_path: Path) -> None:
    same = load(tmp_path, search={"trials": 99, "seed": 3}, resources={"cpus": 2}, confirm={"top": 1, "seeds": 2})
    assert same.identity() == load(tmp_path).identity()
    assert load(tmp_path, search={"trials": 4, "seed": 4}).identity() != load(tmp_path).identity()


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "\nname: again\n")
    with pytest.raises(SpaceError, match="'name' is there twice"):
        Plan.load(path, cache=tmp_path)


def test_a_missing_file_that_names_a_shipped_space_is_that_space() -> None:
    assert find_space("spaces/multitask.yaml") == shipped_spaces()["multitask"]
    with pytest.raises(SpaceError, match="Did you mean 'multitask'"):
        find_space("spaces/multitsk.yaml")


def score(target: str, language: str, value: float, split: Any = "validation", main: bool = True) -> Score:
    return Score(target=target, language=language, split=split, metric="f1", value=value, main=main, unseen=True)


def test_the_objective_reads_main_validation_scores_of_its_languages_only(tmp_path: Path) -> None:
    chain = load(tmp_path).baseline[1]
    scores = [
        score("tags", "en", 80),
        score("tags", "de", 40),
        score("pairs", "ru", 30),
        score("tags", "de", 99, split="test"),
        score("tags", "de", 99, main=False),
    ]
    assert Objective(languages="all").value(scores, chain) == (60 + 30) / 2
    assert Objective(languages="all", maximize="worst_language").value(scores, chain) == (40 + 30) / 2
    assert Objective(languages="train").value(scores, chain) == 80
    assert Objective(languages=["de"]).value(scores, chain) == 40


def test_planning_imports_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "ray", "pandas", "datasets", "mlflow", "optuna"]
    code = (
        f"import sys, tunexfer.plan.plan, tunexfer.cli.tables; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", shipped_spaces().values(), ids=lambda path: path.stem)
def test_every_space_we_ship_can_be_planned(path: Path, tmp_path: Path) -> None:
    plan = Plan.load(path, cache=tmp_path)
    assert plan.expected_cost.chains == plan.trials
