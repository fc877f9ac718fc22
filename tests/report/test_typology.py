"""Gain against distance, and other sources against English: against scipy, hand calculations and planted effects."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from report.frames import Frames, chain, stage

from tunexfer.core.chain import Chain
from tunexfer.report import typology
from tunexfer.report.distances import MEASURES
from tunexfer.report.transfer import transfer
from tunexfer.report.typology import (
    ADVANTAGE,
    ALL,
    CORRELATIONS,
    FAR,
    NEAR,
    PAIRS,
    against_english,
    language_pairs,
    languages_differ,
    partial_rho,
    rank_correlations,
    section,
    source_gains,
)

CODES = "af ar de el es fi fr he hi hu id ja ko ru sw ta tr vi".split()


def of(*studies: Frames) -> pd.DataFrame:
    return source_gains(*transfer(studies))  # type: ignore[arg-type]


def matrix(**from_english: float) -> pd.DataFrame:
    """Distances of 0.5, but those given from English."""
    codes = sorted({"en", "zh", *CODES, *from_english})
    table = pd.DataFrame(0.5, codes, codes)
    for code, value in from_english.items():
        table.loc["en", code] = table.loc[code, "en"] = value
    return table


def prefixes(*sources: str, per_source: int = 1, task: str = "nli") -> list[Chain]:
    """Chains with different stages for each of the sources, `en` or `en_zh` (half of each)."""
    chains = []
    for source in sources:
        codes = source.split("_")
        shares = {f"{task}_{code}": 1 / len(codes) for code in codes}
        chains += [chain(stage("mid", 1e-5 * (1 + n), **shares)) for n in range(per_source)]
    return chains


def test_a_source_is_not_its_own_target() -> None:
    gains = {(1, "intent", code): 1.0 for code in ("de", "zh", "ru")}
    assert set(of(Frames([chain(), *prefixes("en_zh")], gains))["language"]) == {"de", "ru"}


def test_several_sources_are_as_far_as_their_mean_by_rows() -> None:
    gains = {(trial, "intent", "sw"): 1.0 for trial in (1, 2)}
    matrices = dict.fromkeys(MEASURES, matrix(sw=0.9))
    pairs = language_pairs(of(Frames([chain(), *prefixes("en", "en_zh")], gains)), matrices)
    assert pairs.set_index("sources")["syntactic"].to_dict() == {"en": 0.9, "en+zh": pytest.approx(0.7)}
    unknown = matrix(sw=0.9)
    unknown.loc["zh", "sw"] = np.nan
    pairs = language_pairs(of(Frames([chain(), *prefixes("en", "en_zh")], gains)), dict.fromkeys(MEASURES, unknown))
    assert pairs.set_index("sources")["syntactic"].isna().to_dict() == {"en": False, "en+zh": True}


def test_a_language_scored_on_an_easy_target_alone_is_not_ahead_for_it() -> None:
    """`slots` gains 10 more than `intent` in every language; `sw` is scored on `slots` alone."""
    two = {"targets": ("intent", "slots")}
    gains = {(1, "intent", "de"): 0.0, (1, "intent", "ru"): 2.0, (1, "slots", "de"): 10.0, (1, "slots", "ru"): 12.0}
    gains[1, "slots", "sw"] = 11.0
    staged = chain(stage("mid", nli_en=1.0), **two)  # type: ignore[arg-type]
    pairs = language_pairs(of(Frames([chain(**two), staged], gains)), dict.fromkeys(MEASURES, matrix()))  # type: ignore[arg-type]
    # The targets' levels are 1 and 11, of which the mean is 6.
    assert pairs.set_index("language")["gain"].to_dict() == pytest.approx({"de": 5.0, "ru": 7.0, "sw": 6.0})


def pairs_of(**columns: object) -> pd.DataFrame:
    facts = {"study": "s", "sources": "en", "language": CODES, "family": "one", "level": 50.0}
    return pd.DataFrame({**facts, **dict.fromkeys(MEASURES, np.nan), **columns}, index=range(len(CODES)))


def test_correlations_are_spearmans_with_a_permutation_test() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.uniform(size=len(CODES)), draw.normal(size=len(CODES))
    [found] = rank_correlations(pairs_of(syntactic=x, gain=y)).itertuples()
    assert found.rho == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert found.p == pytest.approx(scipy.stats.spearmanr(x, y).pvalue, abs=0.03)  # by t there
    assert (found.measure, found.languages) == ("syntactic", len(CODES))


def test_given_the_level_they_are_partial_correlations_of_ranks() -> None:
    """The textbook formula of the partial correlation from three simple ones."""
    draw = np.random.default_rng(2)
    x, z = draw.integers(0, 9, 30).astype(float), draw.normal(size=30)
    y = z + draw.normal(size=30)
    xy, xz, yz = (scipy.stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_rho(x, y, z, np.zeros(30))[0] == pytest.approx(expected)


def test_a_gain_that_only_the_level_explains_is_no_matter_of_distance() -> None:
    x = np.arange(18.0)
    level = x + np.random.default_rng(3).normal(0, 3, 18)
    assert partial_rho(x, -level, np.zeros(18), np.zeros(18))[1] < 0.01
    assert partial_rho(x, -level, level, np.zeros(18)) == (0.0, 1.0)


def test_what_whole_families_gain_is_no_evidence_for_a_distance() -> None:
    """Two families, one near and gaining: no exchange within a family changes that."""
    draw = np.random.default_rng(4)
    families = np.repeat(["near", "far"], 9)
    x = np.where(families == "near", 0.1, 0.9) + draw.uniform(0, 0.01, 18)
    y = np.where(families == "near", 5.0, 0.0) + draw.normal(0, 0.1, 18)
    assert partial_rho(x, y, np.zeros(18), np.zeros(18))[1] < 0.01
    assert partial_rho(x, y, np.zeros(18), families)[1] > 0.05


def test_gain_that_falls_with_distance_has_a_correlation_of_minus_one() -> None:
    x = np.linspace(0.1, 0.9, len(CODES))
    [found] = rank_correlations(pairs_of(genetic=x, gain=-x)).itertuples()
    assert found.rho == pytest.approx(-1.0)
    assert found.p < 0.01
    assert found.p_holm == found.p  # it is the only correlation


def test_measures_that_tell_less_than_three_languages_from_the_rest_are_left_out() -> None:
    gain = np.arange(float(len(CODES)))
    two, three = np.ones(len(CODES)), np.ones(len(CODES))
    two[:2] = three[:3] = 0.5
    assert rank_correlations(pairs_of(genetic=two, syntactic=three, gain=gain))["measure"].tolist() == ["syntactic"]
    few = pairs_of(genetic=np.linspace(0, 1, len(CODES)), gain=gain).head(7)
    assert rank_correlations(few).empty


DISTANT = dict.fromkeys(CODES[9:], 0.8) | dict.fromkeys(CODES[:9], 0.3)


def planted(zh: float, en: float, noise: float = 0.0, per_source: int = 4, seed: int = 0) -> Frames:
    """Points in distant languages by source; 1 in near ones; each stage has its own level on top."""
    chains = [chain(), *prefixes("en", "zh", per_source=per_source)]
    level = np.random.default_rng(seed).normal(0, noise, len(chains)) if noise else np.zeros(len(chains))
    gains = {
        (trial, "intent", code): (1.0 if DISTANT[code] < 0.5 else (en if trial <= per_source else zh)) + level[trial]
        for trial in range(1, len(chains))
        for code in CODES
    }
    return Frames(chains, gains)


def english(study: Frames) -> pd.DataFrame:
    return against_english(of(study), matrix(**DISTANT)["en"]).set_index("languages_are")


def test_the_advantage_over_english_is_the_difference_of_means_with_the_interval_of_a_t_test_over_stages() -> None:
    study = planted(zh=3.0, en=1.0, noise=1.0)
    found = english(study).loc[FAR]
    gains = of(study).query("language in @CODES[9:]").groupby(["sources", "prefix"])["gain"].mean()
    theirs = scipy.stats.ttest_ind(gains["zh"], gains["en"])
    interval = theirs.confidence_interval()
    assert found[["languages", "prefixes", "prefixes_english"]].tolist() == [9, 4, 4]
    assert found[["advantage", "low", "high"]].tolist() == pytest.approx(
        [gains["zh"].mean() - gains["en"].mean(), interval.low, interval.high]
    )


def test_another_source_that_is_ahead_in_distant_languages_alone_is_told() -> None:
    table = english(planted(zh=3.0, en=1.0, noise=0.1))
    assert table["advantage"].to_dict() == pytest.approx({ALL: 1.0, NEAR: 0.0, FAR: 2.0}, abs=0.2)
    assert "Yes, in this study: in the 9 languages further from English" in typology._verdict(table.reset_index())
    table = english(planted(zh=0.0, en=2.0, noise=0.1))
    assert "No, in this study English helps them more" in typology._verdict(table.reset_index())


def test_languages_that_agree_make_no_verdict_where_stages_differ() -> None:
    """Chinese is ahead by 1 point in every single language, but stages from one source differ by up to 8."""
    study = planted(zh=1.0, en=1.0)
    level = [0.0, 4.0, -4.0, 2.0, 1.0, 5.0, -3.0, 3.0]
    study.gains = {(trial, *rest): gain + level[trial - 1] for (trial, *rest), gain in study.gains.items()}  # type: ignore[misc]
    table = english(study)
    assert table["advantage"].to_dict() == pytest.approx({ALL: 1.0, NEAR: 1.0, FAR: 1.0})
    assert "cannot be told, as the interval includes 0" in typology._verdict(table.reset_index())


def test_fewer_than_three_stages_from_a_source_make_no_verdict() -> None:
    table = english(planted(zh=9.0, en=1.0, per_source=2))
    assert table["advantage"][FAR] == pytest.approx(8.0)
    assert table[["low", "high"]].isna().all(axis=None)
    assert "cannot be told: it takes 3 different stages from each source; there are 2" in typology._verdict(
        table.reset_index()
    )


def test_it_is_the_mixed_model_with_a_random_effect_of_the_run() -> None:
    study = planted(zh=3.0, en=1.0, noise=1.0)
    draw = np.random.default_rng(5)
    study.gains = {key: gain + draw.normal(0, 0.5) for key, gain in study.gains.items()}
    cells = of(study).query("language in @CODES[9:]").assign(other=lambda table: (table["sources"] == "zh") * 1.0)
    fit = smf.mixedlm("gain ~ other", cells, groups=cells["prefix"]).fit()
    found = english(study).loc[FAR]
    assert found["advantage"] == pytest.approx(fit.params["other"])
    half = scipy.stats.t.ppf(0.975, 8 - 2) * fit.bse["other"]  # over the eight runs
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=1e-3)


def test_a_difference_that_is_surely_small_is_called_none() -> None:
    """By two one-sided t-tests of scipy against a point more and a point less."""
    study = planted(zh=1.1, en=1.0, noise=0.5)
    table = english(study)
    gains = of(study).query("language in @CODES[9:]").groupby(["sources", "prefix"])["gain"].mean()
    more = scipy.stats.ttest_ind(gains["zh"] + 1, gains["en"], alternative="greater").pvalue
    less = scipy.stats.ttest_ind(gains["zh"] - 1, gains["en"], alternative="less").pvalue
    assert table.loc[FAR, "p_alike"] == pytest.approx(max(more, less))
    assert max(more, less) < 0.05
    assert "No difference larger than 1 point" in typology._verdict(table.reset_index())


def test_languages_differ_by_more_than_the_stages_among_themselves() -> None:
    draw = np.random.default_rng(6)
    study = planted(zh=3.0, en=1.0, noise=1.0)
    study.gains = {key: gain + draw.normal(0, 0.2) for key, gain in study.gains.items()}
    assert languages_differ(of(study)).set_index("sources")["differ"].to_dict() == {"en": False, "zh": True}
    few = planted(zh=3.0, en=1.0, per_source=2)
    assert not languages_differ(of(few))["differ"].any()


def test_only_stages_on_the_same_tasks_are_compared() -> None:
    chains = [chain(), *prefixes("en", per_source=3), *prefixes("zh", per_source=3, task="qa")]
    gains = {(trial, "intent", code): 1.0 for trial in range(1, 7) for code in CODES}
    table = against_english(of(Frames(chains, gains)), matrix(**DISTANT)["en"])
    assert table.empty
    assert "This cannot be answered" in typology._verdict(table)


def test_without_stages_the_train_language_is_the_source() -> None:
    chains = [chain(train=code, rate=rate) for code in ("en", "zh") for rate in (1e-4, 2e-4, 3e-4)]
    gains = {(trial, "intent", code): float(trial >= 3) for trial in range(6) for code in CODES}
    table = english(Frames(chains, gains))
    assert table.loc[FAR, ["advantage", "prefixes", "prefixes_english"]].tolist() == pytest.approx([1.0, 3, 3])


def test_the_figure_and_the_words_are_of_the_tables() -> None:
    study = planted(zh=3.0, en=2.0, noise=0.1)
    draw = np.random.default_rng(7)
    study.gains = {key: gain + draw.normal(0, 0.1) for key, gain in study.gains.items()}
    made = section([study])  # type: ignore[list-item]
    assert made is not None
    assert list(made.tables) == [CORRELATIONS, ADVANTAGE, PAIRS]
    [figure] = made.figures.values()
    pairs, shown = made.tables[PAIRS], made.tables[CORRELATIONS]["measure"].unique()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in panels] == [f"{measure} distance" for measure in shown]
    for axes, measure in zip(panels, shown, strict=True):
        parts = [part.get_offsets() for part in axes.collections if part.get_label().startswith("from")]
        drawn = np.ma.compress_rows(np.ma.vstack(parts))
        table = pairs[[measure, "gain"]].dropna().to_numpy()
        np.testing.assert_allclose(drawn[np.lexsort(drawn.T)], table[np.lexsort(table.T)])
    first = made.tables[CORRELATIONS].iloc[0]
    assert f"from {first['sources']}, {first['measure']} {first['rho']:+.2f}" in made.words[1]
    assert pairs.set_index("language").loc["hi", ["name", "script", "family"]].iloc[0].tolist() == [
        "Hindi",
        "Devanagari",
        "Indo-European",
    ]


def test_languages_that_uriel_does_not_know_make_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {(1, "intent", f"x{letter}"): 1.0 for letter in "abcdefghijk"}
    unknown = {measure: pd.DataFrame(np.nan, ["en", *"ab"], ["en", *"ab"]) for measure in MEASURES}
    monkeypatch.setattr(
        typology, "distances", lambda codes: {m: t.reindex(codes, columns=codes) for m, t in unknown.items()}
    )
    made = section([Frames([chain(), *prefixes("en")], gains)])  # type: ignore[list-item]
    assert made is not None
    assert not made.figures
    assert any("cannot be told for sources with fewer than 3 different stages: en" in words for words in made.words)


def test_without_a_gain_there_is_no_such_section() -> None:
    assert section([Frames([chain()], {(0, "intent", "ru"): 0.0})]) is None  # type: ignore[list-item]


def test_without_the_extra_the_section_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    made = section([planted(1.0, 1.0)])  # type: ignore[list-item]
    assert made is not None
    assert not made.tables
    assert "pip install 'tunexfer[typology]'" in made.words[0]
