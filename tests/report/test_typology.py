from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report.made_up_study import MadeUp

from tunexfer.core.chain import Chain
from tunexfer.report import typology
from tunexfer.report.distances import MEASURES, distances
from tunexfer.report.source_gains import resamples
from tunexfer.report.study import Study, with_distinct_names
from tunexfer.report.typology import Findings, draw_pairs, findings

XTREME = (
    "en af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()


@pytest.fixture(scope="module")
def matrices() -> dict[str, pd.DataFrame]:
    return distances(XTREME)


@pytest.fixture(scope="module")
def report(
    matrices: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Findings | None]:
    """What is found about a study whose gains are as a function of source, target language and matrices says."""

    def made(gain: Callable[[str, str], float], **how: object) -> Findings | None:
        class Planted(MadeUp):
            def gain(self, chain: Chain, target: str, language: str) -> float:
                sources = {source.language for stage in chain.stages for source in stage.mixture.sources}
                return float(np.mean([gain(source, language) for source in sources])) if sources else 0.0

        usual = {
            "trials": 16,
            "noise": 0.0,
            "targets": ("intent",),
            "languages": tuple(XTREME),
            "intermediate": ("nli",),
        }
        study = Study.load(Planted(**(usual | how)).write(tmp_path_factory.mktemp("runs")))
        with pytest.MonkeyPatch.context() as patch:  # so that it takes a tenth of the time
            patch.setattr(typology, "resamples", lambda languages: resamples(languages)[:500])
            patch.setattr(typology, "distances", lambda codes: {m: matrices[m].loc[codes, codes] for m in MEASURES})
            return findings([study])

    return made


@pytest.fixture(scope="module")
def near(report: Callable[..., Findings], matrices: dict[str, pd.DataFrame]) -> Findings:
    """Of a study where gain falls with syntactic distance, in all 40 languages of XTREME."""
    return report(lambda source, language: 10 - 10 * matrices["syntactic"].loc[source, language])


def test_gain_that_falls_with_distance_is_correlated_by_minus_one(near: Findings) -> None:
    table = near.correlations
    own = table[(table["sources"] == "en") & (table["measure"] == "syntactic")].iloc[0]
    assert own[["rho", "low", "high"]].tolist() == pytest.approx([-1.0, -1.0, -1.0])
    assert own["languages"] == 39
    other = table[(table["sources"] == "en") & (table["measure"] == "phonological")].iloc[0]
    assert -1 < other["low"] < other["rho"] < other["high"] < 1


def test_each_language_is_marked_by_script_and_family(near: Findings) -> None:
    table = near.pairs
    rows = table[table["sources"] == "en"].set_index("language")
    assert rows.loc["de", ["script", "family", "same_script", "same_family"]].tolist() == [
        "Latin",
        "Indo-European",
        True,
        True,
    ]
    assert rows.loc["hi", ["script", "same_script", "same_family"]].tolist() == ["Devanagari", False, True]
    assert rows.loc["tr", ["family", "same_script", "same_family"]].tolist() == ["Turkic", True, False]


def test_another_source_that_is_ahead_in_distant_languages_alone_is_found(
    report: Callable[..., Findings], matrices: dict[str, pd.DataFrame]
) -> None:
    apart = matrices["syntactic"].loc["en"].drop("en")
    distant = set(apart.index[apart > apart.median()])
    found = report(lambda source, language: 3.0 if source == "zh" and language in distant else 1.0)
    table = found.halves
    halves = table[table["measure"] == "syntactic"].set_index("languages_are")["advantage"]
    assert halves.to_dict() == pytest.approx({"nearer half": 0.0, "further half": 2.0, "further minus nearer": 2.0})
    assert any("Yes, in this study" in words and "+2.0 [+2.0, +2.0]" in words for words in found.words)
    means = found.means.iloc[0]
    assert means["advantage"] == pytest.approx(2.0 * len(distant) / 39)


def test_where_english_is_ahead_the_answer_is_no(report: Callable[..., Findings]) -> None:
    found = report(lambda source, language: 2.0 if source == "en" else 0.5)
    assert any("No: in this study English helps them more" in words for words in found.words)


@pytest.mark.parametrize(
    ("sources", "why"),
    [(("de", "zh"), "no trial has English as its only source"), (("en",), "every trial has English")],
)
def test_a_study_that_cannot_compare_with_english_says_why(
    report: Callable[..., Findings], sources: tuple[str, ...], why: str
) -> None:
    found = report(lambda source, language: 1.0, sources=sources)
    assert any("can't be answered here" in words and why in words for words in found.words)


def test_a_handful_of_languages_gives_no_correlation(report: Callable[..., Findings]) -> None:
    found = report(lambda source, language: 1.0, languages=("en", "de", "ru", "sw"))
    assert any("need 8 unseen languages" in words for words in found.words)
    assert found.correlations.empty


def test_without_a_baseline_there_is_no_such_section(report: Callable[..., Findings | None]) -> None:
    assert report(lambda source, language: 1.0, states=((0, "failed"),), languages=("en", "de")) is None


def test_studies_of_the_same_name_are_kept_apart(
    tmp_path: Path, matrices: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [
        Study.load(MadeUp(languages=tuple(XTREME[:12]), seed=seed).write(tmp_path / str(seed))) for seed in (1, 2)
    ]
    monkeypatch.setattr(typology, "distances", lambda codes: matrices)
    found = findings(with_distinct_names(studies))
    assert found is not None
    assert set(found.pairs["study"]) == {"1/made_up", "2/made_up"}


def test_without_the_extra_the_section_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    study = Study.load(MadeUp().write(tmp_path))
    monkeypatch.setattr(metadata, "distribution", missing)
    section = typology.section([study])
    assert section is not None
    assert not section.tables
    assert "pip install 'tunexfer[typology]'" in section.words[0]


def test_no_label_of_forty_languages_is_over_another(near: Findings) -> None:
    figure = draw_pairs(near.pairs[near.pairs["sources"] == "en"])
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
        assert len(boxes) >= 15
        assert [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])] == []


def test_every_figure_of_the_section_is_of_a_table_beside_it(tmp_path: Path) -> None:
    section = typology.section([Study.load(MadeUp(languages=tuple(XTREME[:12])).write(tmp_path))])
    assert section is not None
    assert list(section.figures) == [
        *(f"Gain against distance, from {sources}" for sources in ("en", "en+zh", "zh")),
        "Advantage over English against distance from English",
        "Rank correlation of gain and distance",
    ]
    assert {"Gain and distance of each language", "Advantage over English in each language"} < section.tables.keys()


def test_languages_that_uriel_does_not_know_make_no_empty_figures(tmp_path: Path) -> None:
    made_up = ("en", *(f"l{number:02}" for number in range(10)))
    section = typology.section([Study.load(MadeUp(languages=made_up, targets=("intent",)).write(tmp_path))])
    assert section is not None
    assert not section.figures
    assert any("URIEL knows too little for some of the distances of: l00, l01" in words for words in section.words)
