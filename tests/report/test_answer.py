"""The sentences at the top of a report."""

from __future__ import annotations

from pathlib import Path

from made_up_study import MadeUp

from tunexfer import Study
from tunexfer.report.answer import answer


def test_the_answer_says_how_the_chain_was_selected_what_is_unseen_and_how_certain_it_is(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=8, rows=20, objective="train").write(tmp_path))
    text = " ".join(answer(study))
    assert "Mean gain over all targets: " in text
    assert "training languages only (zero-shot protocol)" in text
    assert "Seen in training: intent in en; slots in en." in text
    assert "one seed, the one it was selected with" in text
    assert "subject to selection bias" in text
    assert "With one seed, significance is over the scored rows only" in text
    assert "Significant gains in" not in text
    every = " ".join(answer(Study.load(MadeUp(name="all", trials=8, objective="all").write(tmp_path))))
    assert "selection uses target-language validation data" in every


def test_a_study_in_which_nothing_beats_the_baseline_says_so(tmp_path: Path) -> None:
    made_up = MadeUp(trials=3, intermediate=("questions",), sources=("zh",), target_rates=("0.0003",), noise=0.0)
    text = " ".join(answer(Study.load(made_up.write(tmp_path))))
    assert "Best chain" not in text
    assert "No chain beat the baseline" in text


def test_a_study_without_a_baseline_has_nothing_to_compare_with(tmp_path: Path) -> None:
    [sentence] = answer(Study.load(MadeUp(trials=3, states=((0, "failed"),)).write(tmp_path)), named=True)
    assert sentence.startswith("made_up: There is nothing to compare yet: the baseline (trial 0) is missing.")
