from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report.made_up_study import MadeUp

from tunexfer.export.xtreme_scores import TARGETS
from tunexfer.report.reference import AVERAGE, own_table, published, published_table, section
from tunexfer.report.study import Study
from tunexfer.tasks.suite import load_suite

XNLI = tuple(TARGETS["xnli"].languages.split())


def study(runs: Path, **how: Any) -> Study:
    usual = {"name": "x", "suite": "xtreme", "trials": 4, "noise": 0.0, "languages": ("en", *XNLI[:4], *XNLI[5:])}
    return Study.load(MadeUp(**(usual | how)).write(runs))


def test_every_task_of_the_benchmark_has_published_scores_and_a_task_of_the_suite() -> None:
    known, suite = published(), load_suite("xtreme")[0]
    assert list(known.tasks) == list(TARGETS)
    assert {ours.task for choices in known.tasks.values() for ours in choices} <= suite.tasks.keys()
    assert all([*system.scores] == [*TARGETS, AVERAGE] for system in known.systems)


@pytest.mark.parametrize("place", [0, 1])
def test_the_published_average_is_the_mean_of_the_nine(place: int) -> None:
    scores = published().systems[place].scores
    assert sum(scores[task].score for task in TARGETS) / 9 == pytest.approx(scores[AVERAGE].score, abs=0.05)


def test_published_gains_are_those_of_intermediate_training() -> None:
    gains = published_table(published()).set_index("task")["gain"]
    assert gains["tatoeba"] == 23.9
    assert gains["panx"] == -1.4
    assert gains["tydiqa"] == 12.7  # F1 10.9, exact match 14.5
    assert gains[AVERAGE] == 5.4


def test_remembered_numbers_are_marked() -> None:
    table = published_table(published()).set_index("task")
    assert table.loc[["bucc2018", "tatoeba"], "X-STILTs is"].tolist() == ["remembered", "remembered"]
    assert table.loc["xnli", ["XLM-R large is", "X-STILTs is"]].tolist() == ["quoted", "quoted"]


def test_a_studys_scores_are_means_over_the_benchmarks_languages(tmp_path: Path) -> None:
    one = study(tmp_path, targets=("xnli",))
    row = own_table(published(), one).set_index("task").loc["xnli"]
    scores = one.scores().query("main and split == 'test' and trial == 0")
    assert row["languages"] == 15
    assert row["unlike"] == ""
    assert row["baseline"] == pytest.approx(scores["value"].mean())
    assert row["gain"] == pytest.approx(row["best"] - row["baseline"])
    assert row[["XLM-R large", "X-STILTs"]].tolist() == [79.2, 80.0]
    assert row["epochs"] == pytest.approx(80 * 32 / 392_702, rel=1e-3)  # steps, batch, rows of MultiNLI


def test_what_makes_scores_unlike_is_said(tmp_path: Path) -> None:
    one = study(tmp_path, targets=("xnli", "udpos"), languages=("en", "de", "sw"))
    table = own_table(published(), one).set_index("task")
    assert table.loc["xnli", "unlike"] == "3 of 15 languages"
    assert table.loc["udpos", "unlike"].startswith("rows of the hub")
    made = section([one])
    assert made is not None
    words = "\n".join(made.words)
    assert "the encoder is pico, the published ones are FacebookAI/xlm-roberta-large" in words
    assert "xnli 0.0065 (5 and 2)" in words
    assert "not among its targets: pawsx" in words


def test_the_published_encoder_needs_no_remark(tmp_path: Path) -> None:
    made = section([study(tmp_path, targets=("xnli",), encoder="FacebookAI/xlm-roberta-large")])
    assert made is not None
    assert not [line for line in made.words if "the encoder is" in line]


def test_studies_of_other_suites_have_no_such_section(tmp_path: Path) -> None:
    assert section([study(tmp_path, suite="toy", targets=("xnli",))]) is None


def test_without_a_baseline_there_is_no_such_section(tmp_path: Path) -> None:
    assert section([study(tmp_path, targets=("xnli",), states=((0, "failed"),))]) is None
