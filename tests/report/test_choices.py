"""Effects of choices: against hand calculations, scipy and Optuna, and on studies whose effects are known."""

from __future__ import annotations

import gc

import numpy as np
import optuna
import pandas as pd
import pytest
import scipy.stats
from made_up_study import MadeUp
from optuna.distributions import CategoricalDistribution, FloatDistribution
from report.frames import Frames, chain, stage

from tunexfer import Study
from tunexfer.core.trial import TrialResult
from tunexfer.report.choices import (
    EFFECTS,
    IMPORTANCES,
    LARGE,
    NO_STAGE,
    design,
    effects,
    importances,
    optuna_study,
    section,
)
from tunexfer.report.section import Section


def coded(**columns: list[float]) -> pd.DataFrame:
    names = pd.MultiIndex.from_tuples(
        [(name, "b", "a") for name in columns], names=["choice", "option", "compared_with"]
    )
    return pd.DataFrame(np.column_stack(list(columns.values())), columns=names)


def test_tasks_and_languages_have_their_shares_and_numbers_go_from_lowest_to_highest() -> None:
    chains = {
        0: chain(rate=1e-4),
        1: chain(stage("mid", 1e-5, nli_en=0.5, qa_de=0.5), rate=1e-4),
        2: chain(stage("mid", 1e-3, nli_en=1.0), rate=4e-4),
        3: chain(stage("mid", 1e-4, qa_de=0.25, qa_en=0.75), rate=2e-4, train="de"),
    }
    table = design(chains)
    assert {name: values.tolist() for name, values in table.items()} == {
        ("task of mid", "nli", NO_STAGE): [0.0, 0.5, 1.0, 0.0],
        ("task of mid", "qa", NO_STAGE): [0.0, 0.5, 0.0, 1.0],
        ("language of mid", "de", "en"): [0.0, 0.5, 0.0, 0.25],
        ("learning rate of mid", "0.001", "1e-05"): pytest.approx([0.5, 0.0, 1.0, 0.5]),
        ("train language of intent", "de", "en"): [0.0, 0.0, 0.0, 1.0],
        ("learning rate of intent", "0.0004", "0.0001"): pytest.approx([0.0, 0.0, 1.0, 0.5]),
    }


def test_a_stage_that_is_always_there_is_compared_with_its_commonest_task() -> None:
    chains = {n: chain(stage("mid", **{f"{task}_en": 1.0})) for n, task in enumerate(["nli", "qa", "nli"])}
    assert list(design(chains)) == [("task of mid", "qa", "nli")]


def test_an_effect_between_two_options_is_the_difference_of_means_with_the_interval_of_a_t_test() -> None:
    values = [1.0, 2.0, 4.0, 7.0, 6.0, 9.0]
    found = effects(coded(x=[0, 0, 0, 1, 1, 1]), pd.Series(values), pd.Series(range(6))).iloc[0]
    theirs = scipy.stats.ttest_ind(values[3:], values[:3])
    interval = theirs.confidence_interval()
    assert found[["effect", "low", "high", "p", "p_holm"]].tolist() == pytest.approx(
        [5.0, interval.low, interval.high, theirs.pvalue, theirs.pvalue]
    )


def test_trials_that_share_their_stages_count_once() -> None:
    """Twice the trials of the same stages are no more evidence: the result is that of their means."""
    once = effects(coded(x=[0, 0, 0, 1, 1]), pd.Series([1.0, 2.0, 4.0, 7.0, 6.0]), pd.Series(range(5)))
    choices, objective = coded(x=[0, 0, 0, 1, 1] * 2), pd.Series([0.5, 1.5, 3.5, 6.5, 5.5, 1.5, 2.5, 4.5, 7.5, 6.5])
    twice = effects(choices, objective, pd.Series([0, 1, 2, 3, 4] * 2))
    columns = ["effect", "low", "high", "units"]
    assert twice[columns].iloc[0].tolist() == pytest.approx(once[columns].iloc[0].tolist())


def test_what_varies_among_trials_with_the_same_stages_is_compared_within_them() -> None:
    """Pairs that differ by 1, 2, 3 and 4: a paired t-test, however far apart the stages are."""
    base, gains = [0.0, 50.0, -20.0, 9.0], [1.0, 2.0, 3.0, 4.0]
    objective = pd.Series([*base, *np.add(base, gains)])
    choices = coded(task=[0, 1, 0, 1] * 2, rate=[0] * 4 + [1] * 4)
    found = effects(choices, objective, pd.Series([0, 1, 2, 3] * 2)).set_index("choice")
    interval = scipy.stats.ttest_1samp(gains, 0.0).confidence_interval()
    assert found.loc["rate", ["effect", "low", "high"]].tolist() == pytest.approx([2.5, interval.low, interval.high])
    assert found["units"].to_dict() == {"task": 4, "rate": 8}
    # The mean of each stage without its rate's part: 0.25 (x0.5 of 2.5 is taken off) and so on; tasks differ by
    # (50.0 + 1.0 + 9.0 + 2.0) / 2 - (0.0 + 0.5 - 20.0 + 1.5) / 2
    assert found.loc["task", "effect"] == pytest.approx(40.0)


def test_options_that_occur_together_are_inseparable_and_say_from_what() -> None:
    choices = coded(de=[0, 1, 0, 1, 0, 1, 0], ru=[0, 1, 0, 1, 0, 1, 0], nli=[0, 0, 1, 1, 0, 1, 1])
    objective = pd.Series([1.0, 2.0, 4.0, 5.0, 1.5, 5.5, 3.5])
    found = effects(choices, objective, pd.Series(range(7))).set_index("choice")
    assert found["inseparable_from"].to_dict() == {"de": "b (ru)", "ru": "b (de)", "nli": ""}
    assert found.loc[["de", "ru"], ["effect", "low", "p"]].isna().all(axis=None)
    expected = np.linalg.lstsq(np.column_stack([np.ones(7), choices.iloc[:, [0, 2]]]), objective)[0][2]
    assert found.loc["nli", "effect"] == pytest.approx(expected)


def test_with_as_many_effects_as_units_there_is_no_interval() -> None:
    found = effects(coded(x=[0, 1]), pd.Series([1.0, 3.0]), pd.Series([0, 1])).iloc[0]
    assert found["effect"] == pytest.approx(2.0)
    assert found[["low", "high", "p", "p_holm"]].isna().all()


def test_of_choices_without_an_effect_hardly_any_study_calls_one_significant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stages of unlike quality, shared by two trials each: at most one study in twenty may be wrong."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels' correction calls it, which takes most of the time
    called = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        prefixes = pd.Series([*range(15), *range(15)])
        stages = {f"task{n}": [*(draw.random(15) < 0.4)] * 2 for n in range(4)}
        choices = coded(**stages, rate=draw.integers(0, 2, 30).tolist()).astype(float)
        objective = pd.Series(draw.normal(0, 2, 15)[prefixes] + draw.normal(0, 0.5, 30))
        called += bool((effects(choices, objective, prefixes)["p_holm"] < 0.05).any())
    assert called <= 3  # more than that has a probability of 1.6 % at one in twenty


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """nli helps by 4 points in unseen languages, questions hurts by 6, paraphrase does nothing."""
    return Study.load(MadeUp(trials=LARGE, targets=("intent",)).write(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def made(large: Study) -> Section:
    from matplotlib import pyplot as plt

    before, figures = dict(plt.rcParams), plt.get_fignums()
    made = section([large])
    assert made is not None
    assert dict(plt.rcParams) == before, "drawing with Optuna changed pyplot's settings"
    assert plt.get_fignums() == figures
    return made


def test_the_known_effects_are_found_and_significant(made: Section) -> None:
    table = made.tables[EFFECTS].set_index("option")
    # Validation covers five languages, of which four are unseen.
    assert table.loc["nli", "low"] < 4.0 * 4 / 5 < table.loc["nli", "high"]
    assert table.loc["questions", "low"] < -6.0 * 4 / 5 < table.loc["questions", "high"]
    assert set(table.index[table["p_holm"] < 0.05]) == {"nli", "questions"}
    assert "Significant after correction: task of intermediate: questions vs no stage -" in made.words[1]
    assert set(made.alts) == set(made.figures) == {EFFECTS, IMPORTANCES}


def test_importances_are_those_of_an_optuna_study_with_the_same_trials(large: Study, made: Section) -> None:
    plain = optuna.create_study(direction="maximize")
    points, objective = large.coordinates().loc[1:], large.trials()["objective"]
    options = {name: CategoricalDistribution(sorted(points[name].dropna().unique())) for name in points}
    for trial, row in points.iterrows():
        params = row.dropna().to_dict()
        distributions = {name: options[name] for name in params}
        plain.add_trial(optuna.create_trial(params=params, distributions=distributions, value=objective[trial]))
    common = [name for name in points if points[name].notna().sum() >= 10]
    found = made.tables[IMPORTANCES].set_index("coordinate")
    with pytest.warns(UserWarning, match="less than 2 trials"):  # one trial alone has no stage
        expected = optuna.importance.get_param_importances(plain, params=common)
    assert found["importance"].dropna().to_dict() == pytest.approx(expected)
    assert found["trials"].to_dict() == points.notna().sum().to_dict()


def drawn(number: int, objective: float, **point: float) -> TrialResult:
    [ended] = Frames([chain()], objectives=[objective], points=[point]).ended
    trial = ended.trial.__class__(number=number, phase="search", seed=7, point=point, chain=ended.trial.chain)  # type: ignore[arg-type]
    return TrialResult(trial=trial, state="complete", started=0.0, seconds=1.0, objective=objective)


def test_numbers_keep_their_scale_in_optuna() -> None:
    draw = np.random.default_rng(0)
    rates, decays = 10 ** draw.uniform(-5, -2, 40), draw.uniform(0, 0.1, 40)
    trials = [drawn(n, float(np.log10(rates[n])), rate=float(rates[n]), decay=float(decays[n])) for n in range(40)]
    study = optuna_study(trials, {"rate": "1e-05 to 0.01, logarithmic", "decay": "0 to 0.1"})
    assert study.trials[0].distributions == {
        "rate": FloatDistribution(rates.min(), rates.max(), log=True),
        "decay": FloatDistribution(decays.min(), decays.max()),
    }
    assert importances(study)["coordinate"].tolist() == ["rate", "decay"]


def test_several_studies_stand_side_by_side() -> None:
    chains = [chain(), *(chain(stage("mid", **{f"{task}_en": 1.0})) for task in ("nli", "qa"))]
    studies = [Frames(chains, objectives=[1.0, 2.0, 3.0], name=name) for name in ("a", "b")]
    made = section(studies)  # type: ignore[arg-type]
    assert made is not None
    assert made.tables[EFFECTS]["study"].tolist() == ["a", "a", "b", "b"]
    assert made.words[0].startswith("a: Least squares of the objective (maximize=mean split=validation")
    assert list(made.figures) == [f"{EFFECTS} (a)", f"{EFFECTS} (b)"]


def test_without_trials_that_differ_there_is_nothing_to_say() -> None:
    assert section([Frames([chain()], objectives=[1.0])]) is None  # type: ignore[list-item]
    assert section([Frames([])]) is None  # type: ignore[list-item]
