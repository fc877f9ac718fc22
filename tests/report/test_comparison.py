"""Two chains score by score, over the rows that both left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_up_study import MadeUp

from tunexfer import Study
from tunexfer.core.files import StudyFolder
from tunexfer.errors import StudyError
from tunexfer.report.answer import answer
from tunexfer.report.comparison import Run, compare_runs
from tunexfer.report.languages import candidates

MADE_UP = MadeUp(
    trials=4, rows=300, rows_per_cluster=1, seeds=3, top=2, noise=0.05, targets=("intent", "slots", "retrieval", "qa"),
    seed=1,
)  # fmt: skip
"""Trials after the baseline: on nli, on paraphrase and questions, on questions."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study.load(MADE_UP.write(tmp_path_factory.mktemp("runs")))


def _staged(study: Study, task: str) -> int:
    """A trial whose stage is on this task alone."""
    points = study.coordinates()["stages[0].tasks"]
    return int(points.index[points == task][0])


def test_before_after_and_delta_are_the_recorded_scores(study: Study) -> None:
    result = study.compare(1, 0)
    scores = study.scores()
    main = scores[(scores["trial"] == 1) & scores["main"] & (scores["split"] == "test")]
    expected = main.set_index(["target", "language"])["delta"]
    mine = result[result["metric"].notna()].set_index(["target", "language"])["delta"]
    assert mine.to_dict() == pytest.approx(expected.to_dict(), abs=1e-6)
    assert len(mine) == 4 * 5 - 1  # retrieval has no English


def test_over_rows_alone_a_helpful_and_a_harmful_task_differ_but_one_seed_claims_nothing(study: Study) -> None:
    """By 4 to 5 and -5 to -6 points over 300 rows that are as hard for both; English never changes."""
    for task, sign in (("nli", 1), ("questions", -1)):
        languages = study.compare(_staged(study, task), 0).query("metric.notna()")
        changed = languages[languages["target"].isin(["slots", "qa"]) & languages["unseen"]]
        assert (changed["rows_p"] < 0.05).all()
        assert (sign * changed["delta"] > 0).all()
        assert (languages["verdict"] == "").all()
        assert languages[["p", "p_holm"]].isna().all(axis=None)
        widths = [
            (languages[high] - languages[low]).mean() for low, high in (("low", "high"), ("rows_low", "rows_high"))
        ]
        assert widths[0] > widths[1]
        english = languages[languages["language"] == "en"]
        assert ((english["rows_low"] <= 0) & (english["rows_high"] >= 0)).all()


def test_the_true_gain_lies_within_the_intervals_of_the_means(study: Study) -> None:
    best = candidates(study)[0]
    means = best.comparison.means
    mean = means[(means["target"] == "mean of targets") & (means["language"] == "mean of unseen languages")].iloc[0]
    true = MADE_UP.gain(study.chain(best.trial), "intent", "de")
    assert mean["low"] < true < mean["high"]
    assert mean["seeds"] == 3


def test_a_confirmed_chain_is_beside_the_baseline_of_the_same_fresh_seeds(study: Study) -> None:
    result = candidates(study)
    trials = study.trials()
    assert [candidate.fresh for candidate in result] == [True, True]
    assert result[0].objective >= result[1].objective
    for candidate in result:
        for (_, after), (_, before) in candidate.pairs:
            assert trials.loc[after, "seed"] == trials.loc[before, "seed"] != trials.loc[0, "seed"]
            assert study.chain(after) == study.chain(candidate.trial)
            assert study.chain(before) == study.chain(0)


def test_the_spread_is_over_seeds_and_a_mean_is_of_its_languages(study: Study) -> None:
    best = candidates(study)[0]
    scores = study.scores()
    mine = scores[scores["trial"].isin([after.trial for after, _ in best.pairs]) & scores["main"]]
    deltas = mine[(mine["target"] == "slots") & (mine["split"] == "test")]
    languages, means = best.comparison.languages, best.comparison.means
    slots = languages[languages["target"] == "slots"].set_index("language")
    by_language = deltas.groupby("language", observed=True)["delta"]
    assert slots["sd"].to_dict() == pytest.approx(by_language.std().to_dict())
    mean = means[(means["target"] == "slots") & (means["language"] == "mean of unseen languages")].iloc[0]
    assert mean["languages"] == 4
    assert mean["delta"] == pytest.approx(slots.loc[["de", "ru", "zh", "sw"], "delta"].mean())


def test_a_gain_that_its_spread_over_seeds_does_not_explain_is_called_one(tmp_path: Path) -> None:
    """Three seeds of 4 points, the same rows of 300 in all."""
    made_up = MadeUp(trials=4, rows=300, rows_per_cluster=1, noise=0.0, seed=1, targets=("intent", "slots"))
    study = Study.load(made_up.write(tmp_path))
    pair = (Run(study, _staged(study, "nli")), Run(study, 0))
    result = compare_runs([pair] * 3, resamples=1000).languages.query("target == 'slots' and unseen")
    assert (result["p_holm"] < 0.05).all()
    assert (result["verdict"] == "gain").all()


def test_seeds_of_one_sign_whose_spread_is_wide_make_no_verdict(tmp_path: Path) -> None:
    """By 4 and by 2 points: Student's interval of two seeds is 3 +- 12.7."""
    made_up = MadeUp(trials=40, rows=1000, rows_per_cluster=1, noise=0.0, seed=1, targets=("slots",))
    study = Study.load(made_up.write(tmp_path))
    points = study.coordinates()
    half = points.index[points["stages[0].mixing[nli+paraphrase]"] == "2/2"]
    wide = [(Run(study, _staged(study, "nli")), Run(study, 0)), (Run(study, int(half[0])), Run(study, 0))]
    result = compare_runs(wide, resamples=1000).languages.query("unseen")
    assert (result["delta"] > result["sd"]).all()
    assert (result["rows_p"] < 0.05).any()
    assert (result["verdict"] == "").all()


def _edited(study: Study, trial: int, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = study.folder.trial(trial).rows
    edit(pq.read_table(path).to_pandas()).to_parquet(path)


def _rescored(study: Study, trial: int, values: dict[tuple[str, str], float]) -> None:
    """Main test scores, by target and language."""
    path = study.folder.trial(trial).scores
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["split"] == "test" and line["main"]:
            line["value"] = values.get((line["target"], line["language"]), line["value"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_no_verdict_on_a_target_without_test_rows(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=4, rows=300, rows_per_cluster=1, noise=0.05, seed=1).write(tmp_path))
    for trial in range(4):
        path = study.folder.trial(trial).scores
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if ('"slots"' in line) <= ('"validation"' in line)))
    again = Study.load(study.folder.path)
    result = again.compare(_staged(again, "nli"), 0).query("metric.notna() and target == 'slots' and unseen")
    assert (result["split"] == "validation").all()
    assert (result["rows_p"] < 0.05).all()
    assert (result["verdict"] == "").all()
    assert any("no test rows for slots" in line and "winner's curse" in line for line in answer(again))


def test_rows_with_nothing_to_find_may_be_there_in_one_chain_alone(tmp_path: Path) -> None:
    """As mining leaves them: thirty sentences without a translation that are recorded for a single chain."""
    study = Study.load(MadeUp(trials=2, rows=60, targets=("intent", "slots"), seed=1).write(tmp_path))
    rows = study.rows(1)
    own = rows[(rows["target"] == "slots") & (rows["language"] == "de") & (rows["split"] == "test")]
    names = [f"extra{n}" for n in range(30)]
    more = own.head(30).assign(id=names, cluster=names, tp=0, predicted=1, gold_count=0)
    f1 = 200 * own["tp"].sum() / (own["predicted"].sum() + own["gold_count"].sum() + 30)
    _edited(study, 1, lambda table: pd.concat([table, more], ignore_index=True))
    _rescored(study, 1, {("slots", "de"): f1})
    alone = Study.load(study.folder.path).compare(1, 0)
    _edited(study, 0, lambda table: pd.concat([table, more.assign(predicted=0)], ignore_index=True))
    both = Study.load(study.folder.path).compare(1, 0)
    assert alone["rows_low"].notna().all()
    pd.testing.assert_frame_equal(alone, both)


def test_targets_that_share_clusters_are_resampled_together(tmp_path: Path) -> None:
    """Two targets with the same rows: their mean is as unsure as either, not less by a factor of sqrt(2)."""
    made_up = MadeUp(trials=2, rows=200, targets=("intent", "slots", "retrieval", "qa", "topic"), seed=1)
    study = Study.load(made_up.write(tmp_path))
    for trial in (0, 1):
        scores = study.scores().query(f"trial == {trial} and main and split == 'test' and target == 'intent'")
        _rescored(study, trial, {("topic", row.language): row.value for row in scores.itertuples()})
        _edited(study, trial, _topic_like_intent)
    cells = {("intent", "de"), ("topic", "de")}
    widths = []
    for change in (lambda table: table, lambda table: table.assign(cluster=table["id"])):
        for trial in (0, 1):
            _edited(study, trial, change)
        again = Study.load(study.folder.path)
        result = compare_runs([(Run(again, 1), Run(again, 0))], cells=cells)
        means = result.means[result.means["language"] == "mean of unseen languages"].set_index("target")
        width = means["rows_high"] - means["rows_low"]
        widths.append(width["mean of targets"] / width["intent"])
    templates, rows_of_a_task = widths
    assert templates == pytest.approx(1.0)
    assert rows_of_a_task == pytest.approx(1 / np.sqrt(2), abs=0.1)


def _topic_like_intent(table: pd.DataFrame) -> pd.DataFrame:
    own = table[table["target"] == "intent"]
    return pd.concat([table[table["target"] != "topic"], own.assign(target="topic")], ignore_index=True)


def test_seeds_that_disagree_on_the_sign_make_no_verdict(tmp_path: Path) -> None:
    """As if a chain gained 4 points with one seed and lost 6 with another."""
    made_up = MadeUp(trials=4, rows=300, rows_per_cluster=1, noise=0.0, seed=1, targets=("intent", "slots"))
    study = Study.load(made_up.write(tmp_path))
    helped, hurt = _staged(study, "nli"), _staged(study, "questions")
    pairs = [(Run(study, helped), Run(study, 0)), (Run(study, hurt), Run(study, 0))]
    result = compare_runs(pairs, resamples=1000).languages
    assert (result["verdict"] == "").all()
    assert result["sd"].notna().all()


def test_a_lost_file_of_rows_costs_the_intervals_and_is_told(tmp_path: Path) -> None:
    folder = MadeUp(trials=3, rows=20).write(tmp_path)
    StudyFolder(folder).trial(1).rows.unlink()
    study = Study.load(folder)
    result = compare_runs([(Run(study, 1), Run(study, 0))])
    assert result.languages["delta"].notna().all()
    assert result.languages[["low", "high", "p", "p_holm", "rows_low", "rows_p"]].isna().all(axis=None)
    assert "rows.parquet can't be read" in result.remarks[0]


def test_a_seed_whose_rows_are_damaged_is_left_out_and_the_others_keep_their_intervals(tmp_path: Path) -> None:
    folder = MadeUp(trials=6, rows=20, seeds=3).write(tmp_path)
    whole = candidates(Study.load(folder))[0]
    assert [run.trial for _, run in whole.pairs] == [6, 8, 10]
    StudyFolder(folder).trial(8).rows.write_bytes(b"PAR1")
    result = candidates(Study.load(folder))[0].comparison
    wanted = compare_runs([whole.pairs[0], whole.pairs[2]], chains=whole.chains)
    pd.testing.assert_frame_equal(result.languages, wanted.languages)
    pd.testing.assert_frame_equal(result.means, wanted.means)
    assert result.languages["low"].notna().all()
    assert set(result.languages["seeds"]) == {2}
    [remark] = result.remarks
    assert remark.startswith("Seed 1001 is left out of scores and intervals: ")
    assert "0008/rows.parquet can't be read" in remark


def test_rows_that_do_not_give_the_recorded_score_have_no_interval(tmp_path: Path) -> None:
    folder = MadeUp(trials=3, rows=20, targets=("intent",)).write(tmp_path)
    path = StudyFolder(folder).trial(1).rows
    table = pq.read_table(path).to_pandas()
    table.loc[table["language"] == "de", "correct"] = 0.0
    table.to_parquet(path)
    study = Study.load(folder)
    result = compare_runs([(Run(study, 1), Run(study, 0))])
    without = result.languages[result.languages["rows_low"].isna()]
    assert without["language"].tolist() == ["de"]
    assert result.remarks == ("intent, de: no interval, because its rows don't give the recorded score.",)
    assert result.means["rows_low"].isna().all()  # the mean over unseen languages has German in it


def test_chains_scored_on_different_rows_have_no_interval(tmp_path: Path) -> None:
    folder = MadeUp(trials=3, rows=20, targets=("intent",)).write(tmp_path)
    path = StudyFolder(folder).trial(1).rows
    table = pq.read_table(path).to_pandas()
    table["id"] = "other" + table["id"].astype(str)
    table.to_parquet(path)
    study = Study.load(folder)
    result = compare_runs([(Run(study, 1), Run(study, 0))])
    assert {remark.partition(": ")[2] for remark in result.remarks} == {
        "no interval, because the two chains weren't scored on the same rows."
    }


def test_comparing_with_a_trial_without_scores_is_an_error(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=3, states=((2, "failed"),)).write(tmp_path))
    with pytest.raises(StudyError, match="trial 2 has no scores"):
        study.compare(2, 0)
    with pytest.raises(StudyError, match="there is no trial 9"):
        study.compare(9, 0)


def test_without_confirmation_the_best_three_of_the_search_are_looked_at(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=8).write(tmp_path))
    result = candidates(study)
    objectives = study.trials().loc[1:, "objective"].sort_values(ascending=False)
    assert [candidate.trial for candidate in result] == objectives.index[:3].tolist()
    assert not any(candidate.fresh for candidate in result)


def test_comparisons_of_the_same_runs_are_the_same_to_the_last_digit(study: Study) -> None:
    pairs = [(Run(study, 2), Run(study, 0))]
    first, second = compare_runs(pairs, resamples=500), compare_runs(pairs, resamples=500)
    pd.testing.assert_frame_equal(first.languages, second.languages, check_exact=True)
    assert np.isfinite(first.languages["rows_p"]).all()
