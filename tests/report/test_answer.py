"""The sentences at the top of a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_study import MadeUp

from tunexfer import Study
from tunexfer.record.gains import ALL_TARGETS
from tunexfer.report.answer import EACH_ITS_OWN, FRONT, ONE_FOR_ALL, WINNERS, answer, section
from tunexfer.report.languages import candidates


def test_the_answer_says_what_the_scored_rows_show_and_what_is_unseen(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=8, rows=20, objective="train").write(tmp_path))
    sentences = list(answer(study))
    assert "Seen in training: intent in en; slots in en. Every other language of a target is unseen." in sentences
    text = " ".join(sentences)
    assert "One seed makes a candidate: nothing is called a gain or a loss" in text
    assert "p = " not in text


def test_a_confirmed_chain_is_described_over_its_fresh_seeds(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=4, rows=4, seeds=2).write(tmp_path))
    text = " ".join(answer(study))
    assert "Intervals and p-values are over 2 seeds and the scored rows." in text
    best = candidates(study)[0]
    mean = best.comparison.means.query("target == 'intent' and language == 'mean of unseen languages'").iloc[0]
    gain = next(chain for chain in study.findings.confirmation if chain["trial"] == best.trial)["gains"]["intent"]
    assert (gain["mean"], gain["low"], gain["high"]) == pytest.approx((mean["delta"], mean["low"], mean["high"]))


def test_the_answer_begins_with_the_findings_and_ends_with_their_warnings(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=4, states=((3, "failed"),)).write(tmp_path))
    sentences = list(answer(study, named=True))
    expected = (study.findings.headline, *study.findings.sentences)
    assert sentences[: len(expected)] == [f"made_up: {expected[0]}", *expected[1:]]
    assert tuple(sentences[-len(study.findings.warnings) :]) == study.findings.warnings
    assert sentences[-1] == "1 trial failed (3): it broke"


def test_the_report_has_the_winner_of_each_target_and_their_mean(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=8, rows=4).write(tmp_path))
    made = section([study])
    table = made.tables[WINNERS].set_index("target")
    assert list(table.index) == [*study.findings.best_per_target, EACH_ITS_OWN, ONE_FOR_ALL]
    own = table.drop(index=[EACH_ITS_OWN, ONE_FOR_ALL])
    assert table.loc[EACH_ITS_OWN, "delta"] == pytest.approx(own["delta"].mean())
    assert (own["score"] - own["baseline"]).tolist() == pytest.approx(own["delta"].tolist())
    assert own["sure"].tolist() == ["candidate" if trial else "no gain" for trial in own["trial"]]
    assert own["low"].isna().all()
    assert FRONT not in made.tables


def test_confirmed_winners_have_their_intervals_and_the_one_chain_for_all_has_its_own(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=4, rows=4, seeds=3).write(tmp_path))
    table = section([study]).tables[WINNERS].set_index("target")
    (confirmed,) = study.findings.confirmation
    one = confirmed["gains"][ALL_TARGETS]
    columns = ["trial", "delta", "low", "high"]
    assert table.loc[ONE_FOR_ALL, columns].tolist() == [confirmed["trial"], one["mean"], one["low"], one["high"]]
    for target, row in study.findings.best_per_target.items():
        own = confirmed["gains"][target] if row["trial"] == confirmed["trial"] else None
        assert table.loc[target, "sure"] == (own["sure"] if own else study.findings.how_sure(target))
        assert table.loc[target, ["low", "high"]].isna().all() == (own is None)


def test_a_study_without_a_baseline_has_nothing_to_compare_with(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=1, states=((0, "failed"),)).write(tmp_path))
    assert next(answer(study)).startswith("There is nothing to compare yet: the baseline (trial 0)")
