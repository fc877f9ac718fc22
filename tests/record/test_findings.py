"""Findings and the summary printed from them: numbers by hand from the made-up study."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from record.made_up import PLAN, chain, run, scores, study, trial
from rich.console import Console

from tunexfer.cli.tables import show_summary
from tunexfer.core.controls import LONGER, PLACEBO, equal_compute
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Failure, TrialResult
from tunexfer.record.environment import Dataset
from tunexfer.record.findings import Findings
from tunexfer.record.record import Record

OBJECTIVE = {"maximize": "mean", "split": "validation", "languages": ["de", "ru"]}
BEST = "intermediate: 100% intent/de, 10 steps, lr 1e-3 -> intent (en, 10 steps, lr 1e-3), retrieval"


def findings_of(record: Record, **objective: Any) -> Findings:
    plan = {**PLAN, "identity": {**PLAN["identity"], "objective": OBJECTIVE | objective}}
    return Findings.of(record.ended, record.score_table(), plan)


def printed(findings: Findings) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200)
    show_summary(findings, console, folder=Path("runs/my toy"), state="finished", seconds=12.34)
    return out.getvalue()


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    study(StudyFolder(tmp_path / "toy"))
    return findings_of(Record(StudyFolder(tmp_path / "toy")))


def test_the_best_chain_is_compared_with_the_baseline_on_test(findings: Findings) -> None:
    intent = findings.targets["intent"]
    assert intent["languages"]["ru"] == {"baseline": 48.0, "best": 51.0, "delta": 3.0, "unseen": True}
    # the stage trains intent in de and the target in en: only ru is unseen
    assert intent["unseen"] == {"languages": 1, "baseline": 48.0, "best": 51.0, "delta": 3.0}
    assert intent["all"] == {"languages": 3, "baseline": 49.0, "best": 52.0, "delta": 3.0}
    assert findings.headline == f"Best chain (trial 1, objective 53.00, baseline 50.00): {BEST}"
    gain = (
        "intent: +3.0 points in 1 unseen language (48.0 to 51.0, accuracy, test); better in en de ru, worse in none; "
    )
    assert any(sentence.startswith(gain) for sentence in findings.sentences)


def test_where_no_chain_beats_the_baseline_the_next_best_is_compared_with_it(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 47.0)
        run(record, trial(2, of=chain(stages=2)), 48.0)
        findings = findings_of(record)
    assert findings.best
    assert findings.best["trial"] == 0
    assert findings.targets["intent"]["languages"]["ru"]["delta"] == -2.0
    start = "No chain beat the baseline (objective 50.00). The next best (trial 2, objective 48.00): intermediate"
    assert findings.headline.startswith(start)


def test_a_language_that_the_baseline_trained_is_not_unseen_for_a_chain_from_another(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1, of=chain(train="de")), 53.0)
        intent = findings_of(record).targets["intent"]
    assert intent["unseen"]["languages"] == 1
    assert {language for language, row in intent["languages"].items() if row["unseen"]} == {"ru"}


def test_the_best_chain_of_one_target_is_chosen_by_its_validation_scores_in_the_objectives_languages(
    tmp_path: Path,
) -> None:
    """Scores of a trial: its value in en, 1 less in de, 2 less in ru; retrieval has no validation scores."""
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        run(record, trial(2, of=chain(stages=2)), 52.0)
        for maximize, value in (("mean", (52 + 51) / 2), ("worst_language", 51.0)):
            won = findings_of(record, maximize=maximize).best_per_target
            assert {name: (row["trial"], row["value"]) for name, row in won.items()} == {"intent": (1, value)}
        english = findings_of(record, languages="train")
    intent = english.best_per_target["intent"]
    assert (intent["trial"], intent["value"]) == (1, 53.0)
    assert (intent["split"], intent["languages"], intent["unseen"]) == ("test", 1, True)  # ru
    assert (intent["baseline"], intent["score"], intent["delta"]) == (48.0, 51.0, 3.0)


def test_a_race_for_the_mean_leaves_the_winner_of_a_target_to_the_searchs_own_scores(tmp_path: Path) -> None:
    """Trial 2 is confirmed and trial 1, the better one, is not: a race for each target would have confirmed both."""
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        run(record, trial(2, of=chain(stages=2)), 52.0)
        run(record, trial(3, phase="confirm", seed=4, of=chain()), 50.0)
        run(record, trial(4, phase="confirm", seed=4, of=chain(stages=2)), 54.0)
        for maximize, number in (("mean", 1), ("per_target", 2)):
            findings = findings_of(record, maximize=maximize)
            assert {name: row["trial"] for name, row in findings.best_per_target.items()} == {"intent": number}


def test_each_target_with_its_own_chain_is_said_with_the_mean_over_targets(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        findings = findings_of(record, maximize="per_target")
    assert findings.mean_of_winners == {"value": 51.5, "baseline": 48.0, "score": 51.0, "delta": 3.0}
    assert (
        "Each target with its own chain, by its validation score: intent trial 1 (51.5); +3.0 points on average over "
        "targets (48.0 to 51.0)." in findings.sentences
    )


def test_the_summary_has_the_winner_of_each_target(findings: Findings) -> None:
    line = next(line for line in printed(findings).splitlines() if "│" in line and "1 unseen" in line)
    assert [cell.strip() for cell in line.strip("│┃ ").split("│")][:8] == [
        "intent", "1", "51.5", "1 unseen", "49.0", "54.0", "+5.0", "candidate",
    ]  # fmt: skip


def test_what_a_rule_stopped_and_saved_is_said(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        record.begin(trial(2))
        stopped = TrialResult(trial=trial(2), state="stopped", started=0.0, seconds=1.0, saved=41.6)
        record.finish(replace(stopped, failure=Failure(kind="user", message="no good"), scores=scores(chain(), 40.0)))
        findings = findings_of(record)
    assert findings.stopped == {"trials": 1, "seconds": 41.6}
    assert "1 trial stopped early, which saved about 42 s." in findings.sentences
    assert len(record.scores(2)) == len(scores(chain(), 40.0))


def test_a_front_and_a_constraint_are_said(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        facts = [(50.0, 10.0, 50.0), (53.0, 30.0, 51.0), (52.0, 40.0, 51.0), (60.0, 20.0, 48.0)]
        for number, (mean, seconds, intent) in enumerate(facts):
            of = trial(number, phase="search" if number else "baseline", of=chain(stages=number))
            record.begin(of)
            record.finish(
                TrialResult(
                    trial=of, state="complete", started=0.0, seconds=1.0, objective=mean,
                    goals={"mean": mean, "device_seconds": seconds}, by_target={"intent": intent},
                    scores=scores(of.chain, mean),
                )
            )  # fmt: skip
        findings = findings_of(record, minimize="device_seconds", no_target_below_baseline=1.0)
    assert [row["trial"] for row in findings.front] == [1, 0]
    assert findings.ruled_out == {3: {"intent": -2.0}}
    assert findings.best
    assert findings.best["trial"] == 1
    assert findings.best_per_target["intent"]["trial"] == 1
    assert (
        "No trial is better in all goals than: trial 1 (mean 53.0, device_seconds 30.0), trial 0 (mean 50.0, "
        "device_seconds 10.0)." in findings.sentences
    )
    assert (
        "1 chain not recommended, more than 1 below the baseline in some target: trial 3 (intent -2.0)."
        in findings.sentences
    )


def test_confirmation_gives_mean_spread_and_interval_over_fresh_seeds(tmp_path: Path) -> None:
    """Gains of 4, 5 and 6: mean 5, standard deviation 1, and 4.303 is Student's 97.5 % point for 2 degrees."""
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        for seed, gain in ((8, 4.0), (9, 5.0), (10, 6.0)):
            run(record, trial(2 * seed, phase="confirm", seed=seed, of=chain()), 50.0)
            run(record, trial(2 * seed + 1, phase="confirm", seed=seed), 50.0 + gain)
        findings = findings_of(record)
    (confirmed,) = findings.confirmation
    assert (confirmed["trial"], confirmed["seeds"]) == (1, 3)
    half = 4.303 / 3**0.5
    intent = confirmed["gains"]["intent"]
    assert intent["sure"] == "clear"
    assert intent["p_holm"] == pytest.approx(2 * scipy.stats.ttest_1samp([4.0, 5.0, 6.0], 0).pvalue)  # two targets
    numbers = {name: intent[name] for name in ("mean", "sd", "low", "high", "same_sign")}
    expected = {"mean": 5.0, "sd": 1.0, "low": 5 - half, "high": 5 + half, "same_sign": 3}
    assert numbers == pytest.approx(expected, abs=1e-3)
    words = "; clear, over fresh seeds +5.0 (95 % interval +2.5 to +7.5, 3 of 3 seeds with this sign)."
    assert any(sentence.startswith("intent: +3.0") and sentence.endswith(words) for sentence in findings.sentences)
    assert findings.card["how sure"] == "intent clear; retrieval clear"
    assert not [warning for warning in findings.warnings if "seed" in warning]


def confirmed_with(record: Record, *gains: float) -> None:
    """A search that chooses trial 1, then as many fresh seeds: baselines of 50, and the chain with these gains."""
    run(record, trial(0, phase="baseline", of=chain()), 50.0)
    run(record, trial(1), 53.0)
    for seed, gain in enumerate(gains, start=8):
        run(record, trial(2 * seed, phase="confirm", seed=seed, of=chain()), 50.0)
        run(record, trial(2 * seed + 1, phase="confirm", seed=seed), 50.0 + gain)


def test_the_winner_of_a_target_is_shown_by_its_fresh_seeds(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        confirmed_with(record, 4.0, 5.0, 6.0)
        findings = findings_of(record, maximize="per_target")
    intent = findings.best_per_target["intent"]
    assert (intent["languages"], intent["baseline"], intent["score"], intent["delta"]) == (1, 48.0, 53.0, 5.0)
    assert findings.card["winner"] == "intent: trial 1"
    assert findings.card["gain"] == "intent +5.0 (+2.5 to +7.5)"
    assert findings.card["how sure"] == "intent clear"
    assert "harm" not in findings.card


@pytest.mark.parametrize("maximize", ["mean", "per_target"])
def test_the_card_has_the_losses_that_fresh_seeds_confirm(tmp_path: Path, maximize: str) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        confirmed_with(record, -4.0, -5.0, -6.0)
        findings = findings_of(record, maximize=maximize)
    assert findings.card["harm"] == "intent -5.0 (-7.5 to -2.5) by trial 1; retrieval -5.0 (-7.5 to -2.5) by trial 1"
    assert findings.how_sure("intent") == ("no gain" if maximize == "per_target" else "harmful")


def test_a_candidate_has_an_interval_as_wide_as_the_baselines_runs_and_keeps_what_is_not_luck(tmp_path: Path) -> None:
    """The baseline's runs 50, 52, 54 have variance 4, so a difference of two runs has 8, known from 2 degrees."""
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        for number, value in ((1, 56.0), (2, 50.0), (3, 53.0)):
            run(record, trial(number, of=chain(stages=number)), value)
        for seed, value in ((8, 52.0), (9, 54.0)):
            run(record, trial(seed, phase="confirm", seed=seed, of=chain()), value)
        findings = findings_of(record)
    intent = findings.candidate["intent"]
    assert (intent["mean"], intent["low"]) == pytest.approx((6.0, 6.0 - 4.303 * 8**0.5), abs=1e-2)
    # validation scores 56, 50 and 53 have variance 9, of which 4 is the luck of a run: 3 points above their mean
    assert intent["kept"] == pytest.approx(6.0 - 4 / 9 * 3.0)
    assert findings.confirmation == []
    assert findings.card["how sure"] == "intent candidate; retrieval candidate"


def test_gains_over_equal_compute_are_paired_by_seed_in_languages_unseen_in_both(tmp_path: Path) -> None:
    """The stage has 10 steps of German intent, so that Russian alone is unseen in all chains."""
    controls = equal_compute(chain(stages=1))
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        for seed, gain in ((8, 4.0), (9, 5.0), (10, 6.0)):
            run(record, trial(10 * seed, phase="confirm", seed=seed, of=chain()), 50.0)
            run(record, trial(10 * seed + 1, phase="confirm", seed=seed), 50.0 + gain)
            longer, placebo = controls[LONGER, "intent"], controls[PLACEBO, "intent"]
            run(record, trial(10 * seed + 2, phase="confirm", seed=seed, of=longer), 51.0)
            run(record, trial(10 * seed + 3, phase="confirm", seed=seed, of=placebo), 49.0 + gain)
        findings = findings_of(record)
    over_longer, over_placebo = findings.equal_compute
    assert (over_longer["over"], over_longer["target"], over_longer["seeds"]) == (LONGER, "intent", 3)
    half = 4.303 / 3**0.5
    assert (over_longer["mean"], over_longer["low"]) == pytest.approx((4.0, 4.0 - half), abs=1e-3)
    assert over_longer["sure"] == "clear"
    assert (over_placebo["mean"], over_placebo["sd"]) == pytest.approx((1.0, 0.0))
    assert findings.card["equal compute"].startswith("over a longer target intent +4.0 (95 % interval +1.5 to +6.5")
    assert [row["trial"] for row in findings.confirmation] == [1]  # controls are no candidates


def test_gains_over_equal_compute_of_one_seed_are_candidates(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1), 53.0)
        run(record, trial(2, phase="confirm", of=equal_compute(chain(stages=1))[LONGER, "intent"]), 52.0)
        (row,) = findings_of(record).equal_compute
    assert (row["mean"], row["low"], row["sure"]) == (1.0, None, "candidate")


def test_gains_are_over_the_chain_without_stages_that_has_the_same_target_values(tmp_path: Path) -> None:
    with Record.drive(StudyFolder(tmp_path / "toy"), PLAN) as record:
        run(record, trial(0, phase="baseline", of=chain()), 50.0)
        run(record, trial(1, of=chain(target_rate=2e-3)), 52.0)
        run(record, trial(2, of=chain(stages=1, target_rate=2e-3)), 53.0)
        table = record.score_table()
        main = table[table["main"] & (table["target"] == "intent") & (table["split"] == "test")]
    assert main.groupby("trial")["delta"].unique().map(list).to_dict() == {0: [0.0], 1: [2.0], 2: [1.0]}


def test_one_fresh_seed_shows_no_spread(findings: Findings) -> None:
    (confirmed,) = findings.confirmation
    expected = {"mean": 5.0, "sd": None, "low": None, "high": None, "p_holm": None, "same_sign": 1, "sure": "candidate"}
    assert confirmed["gains"]["intent"] == expected
    assert "One fresh seed shows no spread" in " ".join(findings.warnings)


def test_trials_and_steps_are_counted(findings: Findings) -> None:
    assert findings.trials == {"wanted": 3, "complete": 2, "failed": 1, "stopped": 0, "confirm": 2}
    assert findings.steps == {"trained": 50, "reused": 0}
    assert findings.objective == OBJECTIVE | {"baseline": 50.0, "best": 53.0}


def test_a_warning_says_where_more_than_one_percent_of_rows_are_left_out(findings: Findings, tmp_path: Path) -> None:
    def rows(language: str, used: int, left_out: int) -> Dataset:
        reasons = {"the answer is not at answer_start": left_out} if left_out else {}
        return Dataset(
            task="qa", language=language, split="train", rows=used, digest="0", suite="mine", left_out=reasons
        )

    record = Record(StudyFolder(tmp_path / "toy"))
    datasets = [rows("en", 3, 57), rows("de", 99, 1), rows("sw", 5, 0)]
    line = "task 'qa', train in 'en': 3 of 60 rows used; in 57 the answer is not at answer_start"
    warned = Findings.of(record.ended, record.score_table(), PLAN, datasets=datasets)
    assert [warning for warning in warned.warnings if "rows used" in warning] == [line]
    assert line in " ".join(printed(warned).split())


def test_failures_and_selection_by_target_languages_are_warnings(findings: Findings) -> None:
    assert "1 trial failed (2): it broke" in findings.warnings
    assert any("target-language validation data" in warning for warning in findings.warnings)
    assert "Selected by the mean of validation scores in de, ru. Test data was not used." in findings.sentences


def test_selection_in_training_languages_is_the_zero_shot_protocol(tmp_path: Path) -> None:
    study(StudyFolder(tmp_path / "toy"))
    findings = findings_of(Record(StudyFolder(tmp_path / "toy")), languages="train")
    assert "zero-shot protocol" in findings.sentences[0]
    assert not any("protocol" in warning for warning in findings.warnings)


def test_findings_are_json_and_the_summary_prints_them(findings: Findings) -> None:
    plain = json.loads(json.dumps(findings.as_dict(), allow_nan=False))
    assert plain["headline"] == findings.headline
    text = printed(findings)
    for words in (*findings.card.values(), *findings.warnings):
        assert words in text
    assert "tunexfer ui 'runs/my toy'" in text
    assert len(text.splitlines()) <= 25


def test_a_study_without_a_trial_has_findings(tmp_path: Path) -> None:
    findings = findings_of(Record(StudyFolder(tmp_path / "none")))
    assert findings.best is None
    assert "nothing to compare" in printed(findings)
