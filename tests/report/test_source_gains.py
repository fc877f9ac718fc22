from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report.made_up_study import MadeUp
from scipy.stats import spearmanr

from tunexfer.core.chain import Chain
from tunexfer.report.source_gains import (
    Estimate,
    add_distances,
    language_values,
    languages_of,
    rank_correlation,
    resamples,
    trial_gains,
)
from tunexfer.report.study import Study


def test_rank_correlation_of_a_resample_is_spearmans_of_the_languages_drawn() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 6, 20).astype(float), rng.normal(size=20)
    draws = resamples(20)[:50]
    expected = [spearmanr(np.repeat(x, n.astype(int)), np.repeat(y, n.astype(int))).statistic for n in draws]
    assert rank_correlation(x, y, draws) == pytest.approx(expected)


def test_rank_correlation_with_what_does_not_vary_is_unknown() -> None:
    assert np.isnan(rank_correlation(np.ones(9), np.arange(9.0), np.ones((1, 9)))).all()


def test_an_interval_is_read_off_the_resamples_that_gave_a_value() -> None:
    resampled = np.concatenate([np.linspace(0, 1, 1001), [np.nan] * 5])
    assert Estimate.of(0.5, resampled) == Estimate(0.5, pytest.approx(0.025), pytest.approx(0.975))


def test_a_languages_value_is_its_mean_where_all_were_scored_on_everything() -> None:
    gains = pd.DataFrame({"target": ["a", "a", "b", "b"], "language": ["de", "zh"] * 2, "gain": [1.0, 2.0, 3.0, 8.0]})
    assert language_values(gains, ["target"]).to_dict() == pytest.approx({"de": 2.0, "zh": 5.0})


def test_a_language_scored_on_an_easy_target_alone_is_not_ahead_for_it() -> None:
    part = {"de": 1.0, "zh": 2.0, "sw": 4.0}
    level = {"easy": 10.0, "hard": 0.0}
    rows = [
        (target, code, level[target] + part[code])
        for target in level
        for code in part
        if (target, code) != ("hard", "sw")
    ]
    gains = pd.DataFrame(rows, columns=["target", "language", "gain"])
    assert language_values(gains, ["target"]).to_dict() == pytest.approx({"de": 6.0, "zh": 7.0, "sw": 9.0})


@pytest.fixture(scope="module")
def gains(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return trial_gains(Study.load(MadeUp(seeds=1).write(tmp_path_factory.mktemp("runs"))))


def test_gains_are_of_unseen_languages_and_of_chains_with_a_source(gains: pd.DataFrame) -> None:
    assert set(gains["language"]) == {"de", "ru", "zh", "sw"}
    assert set(gains["sources"]) == {"en", "zh", "en+zh"}
    assert not gains["baseline"].any()
    assert languages_of(gains) == ["de", "en", "ru", "sw", "zh"]


def test_several_sources_are_as_far_as_their_mean_by_rows(gains: pd.DataFrame) -> None:
    codes = languages_of(gains)
    matrix = pd.DataFrame(1.0, index=codes, columns=codes)
    matrix.loc["zh", "sw"] = 0.0
    far = add_distances(gains, {"syntactic": matrix})
    found = far[far["language"] == "sw"].groupby("sources")["syntactic"].first()
    assert found.to_dict() == pytest.approx({"en": 1.0, "zh": 0.0, "en+zh": 0.5})


def test_an_unknown_distance_from_one_source_leaves_the_mixture_without(gains: pd.DataFrame) -> None:
    codes = languages_of(gains)
    matrix = pd.DataFrame(1.0, index=codes, columns=codes)
    matrix.loc["zh"] = np.nan
    far = add_distances(gains, {"syntactic": matrix})
    assert far.groupby("sources")["syntactic"].count().to_dict()["en"] > 0
    assert far.loc[far["sources"] != "en", "syntactic"].isna().all()


def test_without_a_baseline_there_are_no_gains(tmp_path: Path) -> None:
    study = Study.load(MadeUp(states=((0, "failed"),)).write(tmp_path))
    assert trial_gains(study).empty


VARIED: dict[str, Any] = {"intermediate": (), "train_languages": ("en", "de"), "target_rates": ("0.0003",)}


def test_without_stages_the_train_language_is_the_source_where_the_study_varies_it(tmp_path: Path) -> None:
    class Varied(MadeUp):
        def gain(self, chain: Chain, target: str, language: str) -> float:
            return 2.0 if chain.targets[0].train_language == "de" else 0.0

    study = Study.load(Varied(**VARIED, targets=("intent",), noise=0.0, trials=6).write(tmp_path))
    gains = trial_gains(study)
    assert set(gains["tasks"]) == {""}
    assert {sources: set(part["language"]) for sources, part in gains.groupby("sources")} == {
        "en": {"de", "ru", "zh", "sw"},
        "de": {"ru", "zh", "sw"},  # not English, which the baseline has seen
    }
    assert gains[gains["sources"] == "de"]["gain"].tolist() == pytest.approx([2.0] * (gains["sources"] == "de").sum())
    assert gains.loc[gains["baseline"], "sources"].unique().tolist() == ["en"]


def test_without_stages_and_with_one_train_language_nothing_has_a_source(tmp_path: Path) -> None:
    class Plain(MadeUp):
        def gain(self, chain: Chain, target: str, language: str) -> float:
            return 0.0

    assert trial_gains(Study.load(Plain(intermediate=()).write(tmp_path))).empty
