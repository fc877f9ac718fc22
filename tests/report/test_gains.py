"""The heat map: which trials a cell is the mean of, and that it can be read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_study import MadeUp
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tunexfer import Study
from tunexfer.core.chain import Chain
from tunexfer.errors import StudyError
from tunexfer.report.gains import ANY, average, heat_map, section, transfer

SECTION = "Gain by intermediate task"


def test_a_cell_is_the_mean_over_the_trials_that_trained_on_the_task() -> None:
    trained = pd.DataFrame({("nli", ANY): [True, True, False], ("qa", ANY): [False, True, True]})
    deltas = pd.DataFrame({"intent": [1.0, 3.0, -5.0], "slots": [2.0, np.nan, 4.0]})
    found = average(trained, deltas)
    assert found.mean.to_numpy().tolist() == [[2.0, 2.0], [-1.0, 4.0]]
    assert found.trials.to_numpy().tolist() == [[2, 1], [2, 1]]
    assert found.sd["intent"].tolist() == pytest.approx([np.std([1, 3], ddof=1), np.std([3, -5], ddof=1)])
    assert found.sd["slots"].isna().all()


def test_a_trial_counts_for_each_of_its_tasks_and_source_languages(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=12, seeds=2).write(tmp_path))
    found = transfer([study])
    points = study.coordinates().loc[:11]
    staged = points.index[~points["stages[0].tasks"].isin(["none"]) & points["stages[0].tasks"].notna()]
    assert [trial for _, trial in found.trained.index] == staged.tolist()  # neither the baseline nor confirmations
    for trial in staged:
        tasks, languages = (points.loc[trial, f"stages[0].{key}"].split("+") for key in ("tasks", "languages"))
        expected = {(task, language) for task in tasks for language in (ANY, *languages)}
        row = found.trained.loc[(0, trial)]
        assert set(row.index[row]) == expected


def test_a_trials_gain_in_a_target_is_its_mean_delta_over_unseen_test_languages(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=6).write(tmp_path))
    found = transfer([study])
    scores = study.scores()
    trial = found.targets.index[0][1]
    mine = scores[(scores["trial"] == trial) & scores["main"] & scores["unseen"] & (scores["split"] == "test")]
    expected = mine["delta_own"].fillna(mine["delta"]).groupby(mine["target"], observed=True).mean()
    assert found.targets.loc[(0, trial)].to_dict() == pytest.approx(expected.to_dict())


def test_the_known_effects_are_seen_and_negative_transfer_is_told(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=60, noise=0.1).write(tmp_path))
    made = section([study])
    assert made is not None
    table = made.tables[SECTION]
    whole = table[table["source language"] == ANY].set_index(["task", "target"])["delta"]
    for target in ("intent", "slots", "retrieval"):
        assert whole["nli", target] > whole["paraphrase", target] > whole["questions", target]
        assert whole["questions", target] < 0
    assert any("the lowest is questions before" in words for words in made.words)


class RateMatters(MadeUp):
    def gain(self, chain: Chain, target: str, language: str) -> float:
        """The higher rate of a target alone is worth 3 points."""
        stage = chain.target(target).stage
        return super().gain(chain, target, language) + (3.0 if stage and stage.learning_rate == 0.0005 else 0.0)


def test_the_targets_own_learning_rate_does_not_count_as_the_stages_work(tmp_path: Path) -> None:
    made_up = RateMatters(trials=40, noise=0.0, targets=("intent",), sources=("zh",))
    study = Study.load(made_up.write(tmp_path))
    found = transfer([study])
    plain = [number for number in range(1, 40) if not study.chain(number).stages]
    assert plain  # the higher rate was tried without a stage
    for _, trial in found.targets.index:
        chain = study.chain(trial)
        effect = MadeUp.gain(made_up, chain, "intent", "de")
        assert found.targets.loc[(0, trial), "intent"] == pytest.approx(effect)
    assert found.own.all(axis=None)


def test_trials_without_a_chain_of_their_own_target_values_are_counted(tmp_path: Path) -> None:
    study = Study.load(RateMatters(trials=4, noise=0.0, targets=("intent",), seed=2).write(tmp_path))
    rates = [study.chain(number).targets[0].stage for number in range(1, 4)]
    own = sum(stage is not None and stage.learning_rate == 0.0003 for stage in rates)  # the baseline's
    assert 0 < own < 3
    assert all(study.chain(number).stages for number in range(1, 4))
    made = section([study])
    assert made is not None
    assert any(f"Of 3 pairs of trial and target {own} are beside the chain without" in words for words in made.words)
    table = made.tables[SECTION]
    chains = [study.chain(number) for number in range(1, 4)]
    for task, part in table[table["source language"] == ANY].groupby("task"):
        mine = [chain for chain in chains if task in chain.stages[0].mixture.tasks]
        assert part["trials"].tolist() == [len(mine)]
        assert part["own_baseline"].tolist() == [
            sum(chain.targets[0].stage == study.chain(0).targets[0].stage for chain in mine)
        ]


def test_english_counts_against_a_chain_from_german_only_beside_one_that_has_not_trained_it(tmp_path: Path) -> None:
    made_up = MadeUp(trials=12, noise=0.0, targets=("intent",), train_languages=("en", "de"), target_rates=("0.0003",))
    study = Study.load(made_up.write(tmp_path))
    found = transfer([study])
    scores = study.scores().query("main and split == 'test'").astype({"language": str})
    for _, trial in found.targets.index:
        mine = scores[scores["trial"] == trial].set_index("language")
        own = mine["delta_own"].notna().all()
        unseen = (
            ["en", "ru", "zh", "sw"]
            if study.chain(trial).targets[0].train_language == "de"
            else ["de", "ru", "zh", "sw"]
        )
        languages = unseen if own else [one for one in unseen if one != "en"]
        delta = mine["delta_own"] if own else mine["delta"]
        assert found.targets.loc[(0, trial), "intent"] == pytest.approx(delta[languages].mean())


class FromGerman(MadeUp):
    def gain(self, chain: Chain, target: str, language: str) -> float:
        """German carries 2 points further than English, and loses 9 in English itself."""
        german = chain.target(target).train_language == "de"
        return (-9.0 if language == "en" else 2.0) if german else 0.0


def test_without_stages_there_is_a_map_of_train_languages(tmp_path: Path) -> None:
    made_up = FromGerman(
        intermediate=(), train_languages=("en", "de"), target_rates=("0.0003",), targets=("intent", "slots"), noise=0.0
    )
    study = Study.load(made_up.write(tmp_path))
    made = section([study])
    assert made is not None
    table = made.tables["Gain by train language"].set_index(["train language", "target"])
    assert table["delta"].to_dict() == pytest.approx({("de", "intent"): 2.0, ("de", "slots"): 2.0})
    assert table["fine_tunings"].tolist() == [1, 1]  # of three trials that are not the baseline
    assert len(study.trials()) == 4
    assert list(made.figures) == ["Mean gain by train language and target"]
    assert [one.get_text() for one in study.plot_heatmap().axes[0].get_yticklabels()] == ["de"]
    assert len(study.plot_heatmap("slots").axes[0].get_yticklabels()) == 5


def test_every_cell_of_a_targets_languages_has_its_count_in_a_table(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=12).write(tmp_path))
    made = section([study])
    assert made is not None
    table = made.tables["Gain by intermediate task in each language, with counts"]
    chains = [study.chain(number) for number in range(1, 12)]
    for row in table.itertuples():
        assert row.trials == sum(row.task in {t for stage in one.stages for t in stage.mixture.tasks} for one in chains)
    assert len(table) == 3 * (5 + 5 + 4)  # retrieval has no English


def test_rows_that_the_figure_has_no_room_for_are_told(tmp_path: Path) -> None:
    tasks = tuple(f"task{number}" for number in range(15))
    some, many = (
        section([Study.load(MadeUp(name=name, trials=60, intermediate=of, targets=("intent",)).write(tmp_path))])
        for name, of in (("some", tasks[:4]), ("many", tasks))
    )
    assert some is not None
    assert many is not None
    assert not any("The figure has a row a task" in words for words in some.words)
    rows = len(many.tables[SECTION][["task", "source language"]].drop_duplicates())
    assert any(f"by source language there would be {rows}, which" in words for words in many.words)


def test_several_studies_are_pooled_each_beside_its_own_baseline(tmp_path: Path) -> None:
    studies = [
        Study.load(MadeUp(name=name, trials=8, seed=seed).write(tmp_path)) for name, seed in (("one", 1), ("two", 2))
    ]
    counts = [len(transfer([study]).targets) for study in studies]
    assert len(transfer(studies).targets) == sum(counts)


def test_without_a_baseline_there_is_nothing_to_draw(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=4, states=((0, "failed"),)).write(tmp_path))
    assert section([study]) is None
    with pytest.raises(StudyError, match="nothing to draw"):
        study.plot_heatmap()


def test_a_target_is_drawn_language_by_language_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=6).write(tmp_path))
    axes = study.plot_heatmap("slots").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["en", "de", "ru", "zh", "sw"]
    with pytest.raises(StudyError, match="Targets: intent, slots, retrieval"):
        study.plot_heatmap("slot")


def test_no_labels_overlap_with_forty_languages_and_nine_tasks() -> None:
    rows, columns = [f"l{number:02}" for number in range(40)], [f"a_rather_long_task_{number}" for number in range(9)]
    mean = pd.DataFrame(np.random.default_rng(0).normal(0, 4, size=(40, 9)), rows, columns)
    figure = heat_map(mean, pd.DataFrame(1000, rows, columns))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for labels, side in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
        ends = np.array([label.get_window_extent(renderer).get_points()[1, side] for label in labels])
        # turned labels lean over their neighbours, so what counts is how far they are apart
        assert np.abs(np.diff(ends)).min() > labels[0].get_fontsize() * figure.dpi / 72
    numbers = [text.get_window_extent(renderer) for text in axes.texts[:36]]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(numbers, 2))
    assert min(label.get_window_extent(renderer).x0 for label in axes.get_yticklabels()) >= 0  # none is cut off
