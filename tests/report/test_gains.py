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
    expected = mine.groupby("task", observed=True)["delta"].mean()
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
    assert "the lowest is questions before" in made.words[1]


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
