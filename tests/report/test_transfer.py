"""Gains by intermediate task: which trials a cell is the mean of, and that the heat map can be read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_study import MadeUp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report.frames import Frames, chain, stage

from tunexfer import Study
from tunexfer.errors import StudyError
from tunexfer.report.transfer import (
    ANY,
    MOST_ROWS,
    NO_STAGE,
    by_language,
    by_target,
    draw_gains,
    heat_map,
    section,
    transfer,
)

NLI, QA = stage("first", nli_en=1.0), stage("first", qa_en=0.5, qa_de=0.5)
BOTH = stage("first", nli_en=0.5, qa_de=0.5)


def test_a_cell_is_the_mean_over_the_stages_that_trained_on_the_task() -> None:
    gains = {(1, "intent", "ru"): 1.0, (2, "intent", "ru"): -3.0, (3, "intent", "ru"): 4.0}
    table = by_target(*transfer([Frames([chain(), chain(NLI), chain(QA), chain(BOTH)], gains)]))
    cells = table.set_index(["task", "source_language"])
    assert cells["delta"].to_dict() == {
        ("nli", ANY): 2.5,
        ("nli", "en"): 2.5,
        ("qa", ANY): 0.5,
        ("qa", "de"): 0.5,
        ("qa", "en"): -3.0,
    }
    assert cells["prefixes"].tolist() == [2, 2, 2, 2, 1]
    assert cells.loc[("nli", ANY), "sd"] == pytest.approx(np.std([1.0, 4.0], ddof=1))
    assert np.isnan(cells.loc[("qa", "en"), "sd"])


def test_trials_that_share_their_stages_count_once() -> None:
    gains = {(1, "intent", "ru"): 1.0, (2, "intent", "ru"): 3.0, (3, "intent", "ru"): 8.0}
    chains = [chain(), chain(NLI), chain(NLI, rate=3e-4), chain(BOTH)]
    [cell] = (
        by_target(*transfer([Frames(chains, gains)])).query("task == 'nli' and source_language == 'any'").itertuples()
    )
    assert (cell.delta, cell.prefixes) == (5.0, 2)  # the mean of 2 and 8


def test_a_gain_is_over_the_chain_with_the_same_target_values_where_there_is_one() -> None:
    gains = {(1, "intent", "ru"): 5.0, (2, "intent", "ru"): 2.0}
    study = Frames([chain(), chain(NLI, rate=3e-4), chain(BOTH, rate=1e-4)], gains, own={1: 4.0})
    table = by_target(*transfer([study])).query("source_language == 'any'").set_index("task")
    assert table["delta"].to_dict() == {"nli": 1.5, "qa": 2.0}  # (5 - 4 + 2) / 2, and 2 over the baseline
    assert table["own_baseline"].to_dict() == {"nli": 1, "qa": 0}
    made = section([study])
    assert made is not None
    assert any("1 of 2 pairs of stages and target are compared with the chain without a stage" in w for w in made.words)


def test_seen_languages_are_in_the_table_of_languages_alone() -> None:
    gains = {(1, "intent", "en"): 9.0, (1, "intent", "ru"): 1.0, (1, "intent", "sw"): 2.0}
    found = transfer([Frames([chain(), chain(NLI)], gains)])
    assert by_target(*found)["delta"].tolist() == [1.5, 1.5]
    languages = by_language(*found).query("source_language == 'any'").set_index("language")
    assert languages["delta"].to_dict() == {"en": 9.0, "ru": 1.0, "sw": 2.0}
    assert languages["unseen"].to_dict() == {"en": False, "ru": True, "sw": True}


def test_english_counts_for_a_target_from_german_only_beside_a_chain_without_it() -> None:
    chains = [chain(), chain(NLI, train="de"), chain(QA, train="de")]
    gains = {(trial, "intent", language): 1.0 for trial in (1, 2) for language in ("en", "ru")}
    found = transfer([Frames(chains, gains, own={2: 0.0})])[0].set_index(["prefix", "language"])["unseen"]
    assert found.to_dict() == {(0, "en"): False, (0, "ru"): True, (1, "en"): True, (1, "ru"): True}


def test_without_stages_there_is_a_row_a_train_language() -> None:
    chains = [chain(), chain(train="de"), chain(train="de"), chain(train="sw")]
    gains = {(0, "intent", "ru"): 0.0, (1, "intent", "ru"): 2.0, (2, "intent", "ru"): 2.0, (3, "intent", "ru"): -1.0}
    study = Frames(chains, gains)
    table = by_target(*transfer([study]))
    assert table[["task", "source_language", "delta", "prefixes"]].to_numpy().tolist() == [
        [NO_STAGE, "de", 2.0, 1],
        [NO_STAGE, "en", 0.0, 1],
        [NO_STAGE, "sw", -1.0, 1],
    ]
    made = section([study])
    assert made is not None
    assert any(
        "Highest: intent trained in de, +2.0 points. Lowest: intent trained in sw, -1.0" in w for w in made.words
    )
    rows = draw_gains([study]).axes[0].get_yticklabels()  # type: ignore[list-item]
    assert [label.get_text() for label in rows] == ["no stage, in de", "no stage, in en", "no stage, in sw"]


def test_several_studies_are_pooled() -> None:
    studies = [Frames([chain(), chain(NLI)], {(1, "intent", "ru"): gain}, name=str(gain)) for gain in (1.0, 3.0)]
    assert by_target(*transfer(studies)).iloc[0][["delta", "prefixes"]].tolist() == [2.0, 2]


def test_targets_without_an_unseen_language_are_named() -> None:
    gains = {(1, "intent", "ru"): 1.0, (1, "slots", "en"): 1.0}
    two = {"targets": ("intent", "slots")}
    made = section([Frames([chain(**two), chain(NLI, **two)], gains)])  # type: ignore[arg-type]
    assert made is not None
    assert made.words[-1] == "Left out, as no language is unseen in both chains: slots."


def test_every_gain_and_count_of_the_figure_is_in_its_table(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=8).write(tmp_path))
    made = section([study])
    assert made is not None
    table = made.tables["Gain by intermediate task"]
    [figure] = made.figures.values()
    drawn = [text.get_text() for text in figure.axes[0].texts]
    expected = [(f"{round(row.delta, 1) + 0.0:+.1f}", str(row.prefixes)) for row in table.itertuples()]
    assert sorted(zip(drawn[::2], drawn[1::2], strict=True)) == sorted(expected)
    assert set(made.alts) == set(made.figures)


def test_a_heat_map_of_many_rows_shows_tasks_alone() -> None:
    stages = [stage("first", **{f"task{n}_{language}": 1.0}) for n in range(15) for language in ("en", "de")]
    study = Frames([chain(), *map(chain, stages)], {(n, "intent", "ru"): 1.0 for n in range(1, 31)})
    assert len(by_target(*transfer([study]))) == 45 > MOST_ROWS
    assert len(draw_gains([study]).axes[0].get_yticklabels()) == 15  # type: ignore[list-item]


def test_without_a_baseline_there_is_nothing_to_draw(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=4, states=((0, "failed"),)).write(tmp_path))
    assert section([study]) is None
    with pytest.raises(StudyError, match="nothing to draw"):
        study.plot_heatmap()


def test_a_target_is_drawn_language_by_language_and_an_unknown_one_is_rejected(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=6).write(tmp_path))
    labels = study.plot_heatmap("slots").axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["en", "de", "ru", "zh", "sw"]
    with pytest.raises(StudyError, match="Targets: intent, slots, retrieval"):
        study.plot_heatmap("slot")


def test_no_labels_overlap_with_forty_languages_and_nine_tasks() -> None:
    cells = [(f"l{row:02}", f"a_rather_long_task_{column}") for row in range(40) for column in range(9)]
    table = pd.DataFrame(cells, columns=["language", "task"]).assign(prefixes=1000, delta=-4.44)
    figure = heat_map(table, ["language"], ["task"])
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


def test_a_language_that_only_some_of_the_chains_trained_on_is_one_cell() -> None:
    stages = [stage("first", intent_ru=1.0), stage("first", intent_de=1.0)]
    study = Frames([chain(), *map(chain, stages)], {(1, "intent", "ru"): 5.0, (2, "intent", "ru"): 1.0})
    texts = draw_gains([study], "intent").axes[0].texts  # type: ignore[list-item]
    assert [text.get_text() for text in texts] == ["+3.0", "2"]
