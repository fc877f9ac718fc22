from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from report.made_up_study import MadeUp
from rich.console import Console
from typer.testing import CliRunner

from tunexfer.cli.main import app
from tunexfer.errors import StudyError
from tunexfer.report.compare import compare_studies, view
from tunexfer.report.study import Study

SMALL: dict[str, Any] = {"trials": 4, "rows": 40, "targets": ("intent", "slots"), "languages": ("en", "de", "sw")}


def study(runs: Path, name: str, **how: Any) -> Study:
    return Study.load(MadeUp(**(SMALL | {"name": name} | how)).write(runs))


def shown(compared: Any) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(view(compared))
    return capture.get()


def test_the_best_trials_of_two_studies_stand_side_by_side(tmp_path: Path) -> None:
    a, b = study(tmp_path, "a"), study(tmp_path, "b", trials=8)
    table = compare_studies(a, b).table().set_index(["target", "language"])
    for name, own_study in (("a", a), ("b", b)):
        scores = own_study.scores()
        own = scores[(scores["trial"] == own_study.best()) & scores["main"] & (scores["split"] == "test")]
        expected = own.astype({"target": str, "language": str}).set_index(["target", "language"])["value"]
        assert table.loc[expected.index, name].to_dict() == pytest.approx(expected.to_dict())
    cells = table[table["metric"].notna()]
    assert cells["delta"].tolist() == pytest.approx((cells["b"] - cells["a"]).tolist())
    assert (cells["rows_low"] <= cells["delta"]).all()
    assert (cells["delta"] <= cells["rows_high"]).all()
    assert cells["low"].isna().all()  # neither study ran a chain twice


def test_a_large_difference_of_one_seed_is_marked_for_neither(tmp_path: Path) -> None:
    study_a = study(tmp_path, "a", rows=400, trials=12, noise=0.0, languages=("en", "de"), targets=("intent",))
    gains = study_a.scores().query("main and split == 'test' and language == 'de'").set_index("trial")["value"]
    compared = compare_studies(study_a, study_a, int(gains.idxmin()), int(gains.idxmax()))
    german = compared.table().set_index("language").loc["de"]
    assert (german["ahead"], german["rows_p"] < 0.05, german["rows_low"] > 0) == ("", True, True)
    text = " ".join(shown(compared).split())
    assert "One seed makes a candidate" in text
    assert "confirm: {top: 3, seeds: 5}" in text


def test_the_chain_that_is_ahead_over_fresh_seeds_is_marked(tmp_path: Path) -> None:
    options = {"languages": ("en", "de", "ru"), "targets": ("slots",), "noise": 0.0, "rows_per_cluster": 1}
    study_a = study(tmp_path, "a", rows=400, trials=12, seeds=3, top=12, **options)
    scores = study_a.scores().query("main and split == 'test' and language == 'de' and phase == 'search'")
    gains = scores.set_index("trial")["value"]
    turned = compare_studies(study_a, study_a, int(gains.idxmax()), int(gains.idxmin()))
    assert turned.table().query("language == 'de'")["ahead"].tolist() == ["a"]


def test_what_the_plans_have_different_is_told(tmp_path: Path) -> None:
    compared = compare_studies(study(tmp_path, "a"), study(tmp_path, "b", encoder="nano", seed=9))
    rows = compared.differences.set_index("setting")
    assert rows.loc["encoder.name"].tolist() == ["pico", "nano"]
    assert rows.loc["seed"].tolist() == ["7", "9"]
    assert "stages[0].name" not in rows.index


def test_what_only_one_was_scored_on_is_left_out_and_said(tmp_path: Path) -> None:
    a = study(tmp_path, "a", targets=("intent", "slots"))
    b = study(tmp_path, "b", targets=("intent",), languages=("en", "sw", "zh", "de"))
    compared = compare_studies(a, b)
    assert set(compared.comparison.languages["target"]) == {"intent"}
    assert set(compared.left_out) >= {"slots: only A was scored on it.", "intent: only B was scored in zh."}


def test_languages_with_other_rows_are_left_out_and_said(tmp_path: Path) -> None:
    a, b = study(tmp_path, "a"), study(tmp_path, "b")
    path = b.folder.trial(b.best() or 0).rows
    rows = pq.read_table(path).to_pandas()
    rows.loc[(rows["language"] == "sw") & (rows["target"] == "intent"), "id"] += "x"
    rows.to_parquet(path)
    compared = compare_studies(a, b)
    cells = set(zip(compared.comparison.languages["target"], compared.comparison.languages["language"], strict=True))
    assert ("intent", "de") in cells
    assert ("slots", "sw") in cells
    assert ("intent", "sw") not in cells
    assert compared.left_out == ("intent: the scored rows differ in sw.",)
    assert "Left out: intent: the scored rows differ in sw." in shown(compared)


def test_rows_with_nothing_to_find_that_only_one_has_do_not_make_the_rows_unlike(tmp_path: Path) -> None:
    a, b = study(tmp_path, "a"), study(tmp_path, "b")
    path = b.folder.trial(b.best() or 0).rows
    rows = pq.read_table(path).to_pandas()
    test_rows = (rows["target"] == "slots") & (rows["language"] == "sw") & (rows["split"] == "test")
    more = rows[test_rows].head(1).assign(id="more", cluster="more", tp=0, predicted=0, gold_count=0)
    pd.concat([rows, more], ignore_index=True).to_parquet(path)
    compared = compare_studies(a, b)
    assert compared.left_out == ()
    assert compared.comparison.remarks == ()


def test_studies_with_nothing_in_common_are_refused_with_the_reasons(tmp_path: Path) -> None:
    a, b = study(tmp_path, "a", targets=("intent",)), study(tmp_path, "b", targets=("topic",))
    with pytest.raises(StudyError, match=r"can't be compared[\s\S]*intent: only A[\s\S]*topic: only B"):
        compare_studies(a, b)


def test_without_scored_rows_the_scores_are_shown_without_intervals(tmp_path: Path) -> None:
    a, b = study(tmp_path, "a"), study(tmp_path, "b")
    b.folder.trial(b.best() or 0).rows.unlink()
    compared = compare_studies(a, Study.load(b.folder.path))
    assert len(compared.comparison.languages) == 6
    assert compared.comparison.languages["low"].isna().all()
    assert "There are no intervals" in shown(compared)


def test_confirmed_chains_are_compared_by_the_seeds_of_both(tmp_path: Path) -> None:
    a, b = study(tmp_path, "a", seeds=3), study(tmp_path, "b", seeds=2, trials=6)
    compared = compare_studies(a, b)
    assert [(a.trials()["seed"][x.trial], b.trials()["seed"][y.trial]) for x, y in compared.pairs] == [
        (1000, 1000),
        (1001, 1001),
    ]
    assert set(compared.comparison.languages["seeds"]) == {2}
    assert "seeds 1000, 1001" in shown(compared)


@pytest.mark.parametrize(
    ("trials", "message"),
    [((0, 0), "compared with itself"), ((99, 0), "no trial 99"), ((3, 0), r"trial 3 has no scores.*0, 1, 2")],
)
def test_a_choice_that_makes_no_sense_is_refused(tmp_path: Path, trials: tuple[int, int], message: str) -> None:
    study_a = study(tmp_path, "a", states=((3, "failed"),))
    with pytest.raises(StudyError, match=message):
        compare_studies(study_a, study_a, *trials)


def test_the_command_prints_tables_and_writes_every_number(tmp_path: Path) -> None:
    folders = [str(study(tmp_path, name).folder.path) for name in ("a", "b")]
    out = tmp_path / "both.csv"
    done = CliRunner().invoke(app, ["compare", *folders, "--trial-a", "0", "--trial-b", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "intent (accuracy, test)" in done.stdout
    assert "mean of unseen languages (2)" in done.stdout
    table = pd.read_csv(out)
    assert set(table["target"]) == {"intent", "slots", "mean of targets"}
    assert table["a"].notna().all()
