"""What a search cost, the tree of shared stages, and how the best score grew."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from made_up_study import MadeUp
from record.made_up import chain, stage

from tunexfer import Study
from tunexfer.core.chain import Chain
from tunexfer.report.cost import section, spent
from tunexfer.report.stage_tree import MOST_BRANCHES, draw_tree, stage_tree, tree_table
from tunexfer.report.style import svg


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Thirty trials, of which one failed, and two chains with a fresh seed; training takes 0.05 s a step."""
    runs = tmp_path_factory.mktemp("runs")
    return Study.load(MadeUp(trials=30, seeds=1, states=((5, "failed"), (9, "unfinished"))).write(runs))


def through(*tasks: str) -> Chain:
    """A chain with a stage on each of the tasks."""
    plain = chain()
    stages = tuple(stage(f"stage{place}", task, "de") for place, task in enumerate(tasks))
    return Chain(suite=plain.suite, encoder=plain.encoder, stages=stages, targets=plain.targets)


def test_what_was_trained_and_reused_adds_up_to_all_that_ran(study: Study) -> None:
    found = section([study])
    assert found
    total = found.tables["Cost"].iloc[0]
    trials = study.trials()
    ran = [study.chain(int(number)) for number in trials.index[trials["state"] == "complete"]]
    steps = sum(one.steps for each in ran for one in [*each.stages, *(t.stage for t in each.targets if t.stage)])
    assert total["steps_trained"] + total["steps_reused"] == steps
    assert total["seconds_trained"] == pytest.approx(0.05 * total["steps_trained"])
    assert total["seconds_saved"] == pytest.approx(0.05 * total["steps_reused"])
    assert total[["complete", "failed", "stopped", "unfinished"]].tolist() == [30, 1, 0, 1]
    by_stage = found.tables["Cost by stage"]
    assert by_stage["steps_trained"].sum() == total["steps_trained"]
    assert by_stage["seconds_saved"].sum() == pytest.approx(total["seconds_saved"])
    assert set(by_stage["stage"]) == {"intermediate", "intent", "slots"}


def test_the_words_say_how_much_was_saved(study: Study) -> None:
    found = section([study])
    assert found
    total = found.tables["Cost"].iloc[0]
    reused = total["steps_reused"]
    share = reused / (reused + total["steps_trained"])
    assert f"{reused:,} steps more ({share:.0%} of all) were taken from the store" in found.words[0]


def test_trials_that_begin_alike_share_a_branch() -> None:
    tree = stage_tree([through(), through("a"), through("a", "b"), through("a", "b"), through("c")])
    table = tree_table(tree).sort_values(["depth", "trials"], ascending=[True, False])
    columns = ["depth", "trials", "ending", "fine_tunings"]
    assert table[columns].to_numpy().tolist() == [[0, 5, 1, 1], [1, 3, 1, 1], [1, 1, 1, 1], [2, 2, 2, 1]]
    assert table["begins"].tolist()[1] == "stage0: 100% a/de, 10 steps at 0.001"


def test_every_trial_of_a_branch_ends_there_or_in_one_below(study: Study) -> None:
    trials = study.trials()
    tree = stage_tree([study.chain(int(number)) for number in trials.index[trials["phase"] != "confirm"]])
    assert tree[()].trials == 30
    for path, branch in tree.items():
        below = [one.trials for other, one in tree.items() if other[:-1] == path and other]
        assert branch.trials == branch.ending + sum(below)


def test_a_bushy_tree_is_drawn_with_its_largest_branches_and_no_trial_is_lost() -> None:
    chains = [through(f"task{place % 40}", f"other{place % 7}") for place in range(1000)]
    text = svg(draw_tree(stage_tree(chains), "pico"))
    drawn = [int(found.replace(",", "")) for found in re.findall(r">([\d,]+)</text>", text)]
    assert len(drawn) <= 1 + MOST_BRANCHES
    assert drawn.count(25) == 8  # 40 tasks have 25 trials each; those drawn stand for 200 of the 1000
    assert "32 more: 800 trials" in text
    assert len(text) < 60_000


def test_the_best_score_so_far_goes_by_the_order_in_which_trials_ended() -> None:
    trials = pd.DataFrame(
        {
            "phase": ["baseline", "search", "search", "search", "confirm", "search"],
            "objective": [50.0, 53.0, float("nan"), 52.0, 60.0, float("nan")],
            "started": [0.0, 10.0, 11.0, 12.0, 90.0, float("nan")],
            "seconds": [10.0, 50.0, 5.0, 6.0, 5.0, float("nan")],
            "steps_trained": [100.0, 200.0, 10.0, 20.0, 300.0, float("nan")],
            "steps_reused": [0.0, 0.0, 0.0, 80.0, 0.0, float("nan")],
        },
        index=pd.Index(range(6), name="trial"),
    )
    so_far = spent(trials)
    assert list(so_far.index) == [0, 2, 3, 1]  # ended at 10, 16, 18 and 60 s
    assert so_far["best"].tolist() == [50.0, 50.0, 52.0, 53.0]
    assert so_far["steps"].tolist() == [100.0, 110.0, 130.0, 330.0]
    assert so_far["steps_unshared"].tolist() == [100.0, 110.0, 210.0, 410.0]
    assert so_far["seconds"].tolist() == [10.0, 15.0, 21.0, 71.0]


def test_every_point_and_line_of_the_curve_is_in_its_table(study: Study) -> None:
    found = section([study])
    assert found
    table = found.tables["Best score against cost"]
    pd.testing.assert_frame_equal(table.set_index("trial").drop(columns="study"), spent(study.trials()))
    assert table["objective"].notna().sum() == 28  # 30 of the search, of which one failed and one has no end


def test_every_number_in_the_words_is_in_the_tables(study: Study, tmp_path: Path) -> None:
    """In the words' own units: seconds are shown as minutes and hours, too, shares in percent."""
    found = section([study, Study.load(MadeUp(name="other", trials=40).write(tmp_path))])
    assert found
    values = [value for _, row in found.tables["Cost"].iterrows() for value in row if not isinstance(value, str)]
    known = {f"{value:,.0f}" for value in values} | {f"{100 * value:.0f}" for value in values}
    known |= {f"{value / 60:.0f} min" for value in values} | {f"{value / 3600:.1f} h" for value in values}
    said = re.findall(r"\d(?:[\d,.]*\d)?(?: min| h\b)?", " ".join(found.words))
    assert len(said) == 2 * 6
    assert any(one.endswith("min") for one in said)
    assert set(said) <= known


def test_several_studies_stand_side_by_side(study: Study, tmp_path: Path) -> None:
    other = Study.load(MadeUp(name="other", trials=4).write(tmp_path))
    found = section([study, other])
    assert found
    assert [words.split(":")[0] for words in found.words] == [study.name, "other"]
    assert {"Stage tree (other)", "Best score against cost (other)"} <= set(found.figures)
    assert all(set(table["study"]) == {study.name, "other"} for table in found.tables.values())


def test_a_study_in_which_nothing_has_ended_costs_nothing_yet(tmp_path: Path) -> None:
    nothing = MadeUp(trials=2, states=((0, "unfinished"), (1, "unfinished"))).write(tmp_path)
    assert section([Study.load(nothing)]) is None


def test_a_study_in_which_all_failed_still_says_what_it_took(tmp_path: Path) -> None:
    failed = MadeUp(trials=2, states=((0, "failed"), (1, "failed"))).write(tmp_path)
    found = section([Study.load(failed)])
    assert found
    assert found.tables["Cost"]["failed"].tolist() == [2]
    assert "Best score against cost" not in found.figures
