"""What mattered: importances, options, learning rates, mixtures and source languages of studies with known effects."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from made_up_study import MadeUp
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from record import made_up

from tunexfer import Study
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Point, Trial
from tunexfer.record.record import Record
from tunexfer.report.explored import Explored
from tunexfer.report.importance import section
from tunexfer.report.mixtures import shares
from tunexfer.report.ped_anova import LEAST_TRIALS, importances
from tunexfer.report.section import Section
from tunexfer.report.style import svg


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Sixty trials and two of them again with fresh seeds: nli helps, paraphrase does nothing, questions hurts."""
    return Study.load(MadeUp(trials=60, seeds=1).write(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def found(study: Study) -> Section:
    return said_of(study)


def said_of(*studies: Study) -> Section:
    found = section(studies)
    assert found is not None
    return found


def own(study: Study) -> pd.DataFrame:
    """The search's trials by number: objective and coordinates."""
    trials = study.trials()
    return trials[trials["phase"] != "confirm"].join(study.coordinates())


def test_importances_are_those_of_an_optuna_study_with_the_same_trials(study: Study) -> None:
    table = importances(Explored(study)).set_index("coordinate")["importance"].dropna()
    rows = own(study)
    rows.loc[0, "stages[0].tasks"] = "none"
    options = {name: CategoricalDistribution(sorted(rows[name].dropna().unique())) for name in table.index}
    plain = optuna.create_study(direction="maximize")
    for _, row in rows.iterrows():
        params = {name: row[name] for name in table.index if isinstance(row[name], str)}
        distributions = {name: options[name] for name in params}
        plain.add_trial(optuna.create_trial(params=params, distributions=distributions, value=row["objective"]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
    expected = get_param_importances(plain, evaluator=evaluator, params=list(table.index))
    assert table.to_dict() == pytest.approx(expected)


def test_the_choice_with_an_effect_is_above_chance_and_those_without_one_are_not(study: Study) -> None:
    table = importances(Explored(study)).set_index("coordinate")
    assert table.loc["stages[0].tasks", "matters"]
    assert not table.loc[["targets[0].learning_rate", "targets[1].learning_rate"], "matters"].any()


def test_of_choices_without_an_effect_one_in_twenty_is_above_chance() -> None:
    called = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        points = pd.DataFrame({f"choice_{n}": draw.choice(["a", "b", "c"], 40) for n in range(12)})
        explored = SimpleNamespace(points=points, objective=draw.normal(size=40), domains={})
        called += int(importances(explored)["matters"].sum())  # type: ignore[arg-type]
    assert 3 <= called <= 24  # of 240: a binomial of mean 12 and standard deviation 3.4


def test_no_coordinate_is_dropped_and_each_says_in_how_many_trials_it_is(study: Study) -> None:
    table = importances(Explored(study)).set_index("coordinate")
    rows = own(study)
    drawn = rows[study.coordinates().columns].notna().sum()
    drawn["stages[0].tasks"] += 1  # the baseline is the chain with no stage
    assert table["trials"].to_dict() == drawn.to_dict()
    estimated = table["importance"].notna()
    assert estimated.to_dict() == (drawn >= LEAST_TRIALS).to_dict()
    assert drawn["stages[0].languages"] == (rows["stages[0].tasks"].fillna("none") != "none").sum() < len(rows)
    assert estimated["stages[0].languages"]


def test_coordinates_with_too_few_trials_are_named_and_not_estimated(study: Study, found: Section) -> None:
    counts = own(study).filter(like="mixing").notna().sum()
    for name, count in counts[counts < LEAST_TRIALS].items():
        assert any(f"{name} ({count})" in words for words in found.words)


def test_importances_of_few_trials_are_refused(tmp_path: Path) -> None:
    few = Study.load(MadeUp(trials=LEAST_TRIALS - 1).write(tmp_path))
    found = said_of(few)
    assert importances(Explored(few)).empty
    assert "Importance of each choice" not in found.tables
    assert any("9 trials are too few" in words for words in found.words)


def test_each_option_has_the_mean_objective_of_the_searchs_trials_that_drew_it(study: Study, found: Section) -> None:
    table = found.tables["Objective by option"].set_index(["coordinate", "option"])
    rows = own(study)
    nli = rows.loc[rows["stages[0].tasks"] == "nli", "objective"]
    none = rows.loc[rows["stages[0].tasks"].fillna("none") == "none", "objective"]
    for option, values in (("nli", nli), ("none", none)):
        line = table.loc[("stages[0].tasks", option)]
        assert line["trials"] == len(values)
        assert line["mean"] == pytest.approx(values.mean())
        assert line["sd"] == pytest.approx(values.std())
        assert line["best"] == values.max()
        assert line["delta"] == pytest.approx(values.mean() - rows.loc[0, "objective"])
    assert table.index[0] == ("stages[0].tasks", "nli")


def test_learning_rates_go_by_stage_and_target(study: Study, found: Section) -> None:
    table = found.tables["Objective by learning rate"]
    assert table[["stage", "learning_rate"]].to_numpy().tolist() == [
        *(["intermediate", rate] for rate in (1e-5, 3e-5)),
        *(["intent", rate] for rate in (3e-4, 5e-4)),
        *(["slots", rate] for rate in (3e-4, 5e-4)),
    ]
    staged = sum(bool(study.chain(int(number)).stages) for number in own(study).index)
    assert table.groupby("stage")["trials"].sum().to_dict() == {"intermediate": staged, "intent": 60, "slots": 60}


def test_a_mixture_has_each_tasks_share_over_its_languages(study: Study) -> None:
    found = shares(Explored(study), "intermediate")
    assert found.sum(axis="columns").tolist() == pytest.approx([1.0] * len(found))
    rows = own(study)
    mixed = rows.index[rows["stages[0].mixing[nli+questions]"] == "3/1"]
    assert found.loc[mixed, ["nli", "paraphrase", "questions"]].to_numpy().tolist() == [[0.75, 0.0, 0.25]] * len(mixed)
    assert len(mixed) > 0


def test_mixtures_of_three_tasks_are_drawn_in_a_triangle(found: Section) -> None:
    text = svg(found.figures["Mixture of intermediate"])
    assert all(f"all {task}" in text for task in ("nli", "paraphrase", "questions"))
    trials = found.tables["Mixture of intermediate"]["trials"]
    assert sorted(int(count) for count in re.findall(r"7px[^>]*>(\d+)<", text)) == sorted(trials)


def test_mixtures_of_two_tasks_are_a_line_and_of_four_a_panel_each(tmp_path: Path) -> None:
    two = Study.load(MadeUp(name="two", trials=30, intermediate=("nli", "qa")).write(tmp_path))
    assert len([axes for axes in said_of(two).figures["Mixture of intermediate"].axes if axes.get_visible()]) == 1
    four = Study.load(MadeUp(name="four", trials=30, intermediate=("nli", "qa", "tags", "copa")).write(tmp_path))
    assert {axes.get_title(loc="left") for axes in said_of(four).figures["Mixture of intermediate"].axes} >= {
        "nli",
        "qa",
        "tags",
        "copa",
    }


def test_deltas_by_source_language_are_objectives_minus_the_baselines(study: Study, found: Section) -> None:
    table = found.tables["Delta by source language"].set_index(["stage", "option"])
    rows = own(study)
    both = rows.loc[rows["stages[0].languages"] == "en+zh", "objective"]
    assert table.loc[("intermediate", "en+zh"), "mean"] == pytest.approx(both.mean() - rows.loc[0, "objective"])
    assert set(table.index) == {("intermediate", languages) for languages in ("en", "zh", "en+zh")}


def numeric(folder: Path) -> Study:
    """A stage that is always there, with two numbers from ranges: its rate, the higher the better, and its decay."""
    plan: dict[str, Any] = {
        "name": "numeric",
        "identity": {
            "stages": [{"learning_rate": {"log_uniform": [1e-5, 1e-2]}}],
            "training": {"weight_decay": {"uniform": [0.0, 0.1]}},
        },
    }
    rng = random.Random(3)
    with Record.drive(StudyFolder(folder), plan) as record:
        made_up.run(record, made_up.trial(0, phase="baseline", of=made_up.chain()), 20.0)
        for number in range(1, 20):
            rate = 10 ** rng.uniform(-5, -2)
            stage = made_up.stage("intermediate", "intent", "de", rate)
            chain = made_up.Chain(**{**_fields(made_up.chain()), "stages": (stage,)})
            point: Point = {"stages[0].learning_rate": rate, "training.weight_decay": rng.uniform(0.0, 0.1)}
            trial = Trial(number=number, phase="search", seed=7, point=point, chain=chain)
            made_up.run(record, trial, 60 + 10 * math.log10(rate))
    return Study.load(folder)


def _fields(chain: Any) -> dict[str, Any]:
    return {name: getattr(chain, name) for name in ("suite", "encoder", "stages", "targets")}


def test_the_baseline_is_no_point_of_a_space_in_which_a_stage_is_always_there(tmp_path: Path) -> None:
    explored = Explored(numeric(tmp_path / "numeric"))
    assert explored.baseline == 20.0
    assert list(explored.points.index) == [*range(1, 20)]
    assert explored.objective.min() > 0


def test_numbers_from_ranges_keep_their_range_and_its_scale(tmp_path: Path) -> None:
    study = numeric(tmp_path / "numeric")
    plain = optuna.create_study(direction="maximize")
    distributions = {
        "stages[0].learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "training.weight_decay": FloatDistribution(0.0, 0.1),
    }
    for _, row in own(study).loc[1:].iterrows():
        params = {name: row[name] for name in distributions}
        plain.add_trial(optuna.create_trial(params=params, distributions=distributions, value=row["objective"]))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=5 / 19)
    expected = get_param_importances(plain, evaluator=evaluator)
    found = importances(Explored(study)).set_index("coordinate")
    assert found["importance"].to_dict() == pytest.approx(expected)
    assert found.index[0] == "stages[0].learning_rate"


def test_numbers_from_ranges_are_binned(tmp_path: Path) -> None:
    found = said_of(numeric(tmp_path / "numeric"))
    table = found.tables["Objective by option"].set_index("coordinate").loc["stages[0].learning_rate"]
    assert table["trials"].tolist() == [5, 4, 5, 5]  # quarters of 19 trials, those with the highest rates first
    assert table["mean"].is_monotonic_decreasing


def test_several_studies_stand_side_by_side(study: Study, tmp_path: Path) -> None:
    other = Study.load(MadeUp(name="other", trials=12).write(tmp_path))
    found = said_of(study, other)
    assert set(found.tables["Objective by option"]["study"]) == {study.name, "other"}
    assert "languages: all" in found.words[0]
    assert "which differs" not in found.words[0]
    assert {"Objective by option (other)", f"Objective by option ({study.name})"} <= set(found.figures)


def test_studies_with_objectives_of_their_own_say_so(study: Study, tmp_path: Path) -> None:
    other = Study.load(MadeUp(name="other", trials=4, objective="train").write(tmp_path))
    words = said_of(study, other).words[0]
    assert f"which differs: {study.name}, " in words
    assert "other, the mean over targets of each one's mean in validation scores (languages: train)" in words


def test_a_lost_plan_or_baseline_leaves_the_rest(tmp_path: Path) -> None:
    folder = MadeUp(trials=20, states=((0, "failed"),)).write(tmp_path)
    StudyFolder(folder).plan.unlink()
    found = said_of(Study.load(folder))
    assert found.tables["Importance of each choice"]["trials"].max() == 19
    assert "delta" not in found.tables["Objective by option"]
    assert any("the baseline is missing" in words for words in found.words)


def test_without_two_trials_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert section([Study.load(MadeUp(trials=1).write(tmp_path))]) is None
