from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tunexfer.errors import DataError
from tunexfer.report.distances import MEASURES, angular, distances, language
from tunexfer.tasks.suite import load_suite

URIELPLUS = {  # what URIELPlus().new_distance of urielplus 1.3.2 gives
    ("en", "de"): (0.3582, 0.6336, 0.0437, 0.3695),
    ("en", "zh"): (0.5141, 1.0, 0.3095, 0.427),
    ("hi", "tr"): (0.5659, 1.0, 0.1761, 0.2871),
    ("sw", "zu"): (0.2729, 0.5609, 0.1019, 0.5519),
}


@pytest.fixture(scope="module")
def known() -> Mapping[str, pd.DataFrame]:
    return distances(["en", "de", "zh", "hi", "tr", "sw", "swa", "zu", "eu", "it", "xx"])


@pytest.mark.parametrize("pair", sorted(URIELPLUS), ids="-".join)
def test_distances_are_those_that_urielplus_gives(known: Mapping[str, pd.DataFrame], pair: tuple[str, str]) -> None:
    found = [known[measure].loc[pair] for measure in MEASURES]
    assert found == pytest.approx(URIELPLUS[pair], abs=5e-5)


def test_a_language_without_relatives_is_as_far_as_can_be_from_all(known: Mapping[str, pd.DataFrame]) -> None:
    assert set(known["genetic"].loc["eu", ["en", "de", "zh", "hi", "tr", "sw"]]) == {1.0}


def test_what_uriel_knows_too_little_of_has_no_distance(known: Mapping[str, pd.DataFrame]) -> None:
    assert known["phonological"].loc["it", "en"] != known["phonological"].loc["it", "en"]
    assert known["syntactic"].loc["it", "en"] < 1
    assert all(known[measure]["xx"].isna().all() for measure in MEASURES)


def test_both_codes_of_a_language_mean_the_same(known: Mapping[str, pd.DataFrame]) -> None:
    assert [known[measure].loc["sw", "swa"] for measure in MEASURES] == pytest.approx([0.0] * 4, abs=1e-6)
    assert language("swa") == language("sw")


def test_the_angle_is_taken_over_the_features_known_for_both() -> None:
    one = [1.0] * 6 + [0.0] * 6 + [-1.0] * 3
    other = [0.0] * 3 + [1.0] * 6 + [0.0] * 3 + [1.0] * 3
    assert angular(np.array([one, other]))[0, 1] == pytest.approx(
        2 / 3
    )  # 3 in common of 6 each: an angle of 60 degrees


def test_fewer_than_ten_shared_features_give_no_distance() -> None:
    rows = np.ones((2, 12))
    rows[0, :3] = -1.0
    assert math.isnan(angular(rows)[0, 1])
    rows[0, 0] = 1.0
    assert angular(rows)[0, 1] == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("suite", ["xtreme", "african"])
def test_script_and_family_are_known_for_every_language_of_the_shipped_suites(suite: str) -> None:
    codes = {code for task in load_suite(suite)[0].tasks.values() for code in task.rows or {}}
    assert len(codes) > 1
    assert [code for code in codes if not (language(code)["script"] and language(code)["family"])] == []


def test_the_package_is_only_read(known: Mapping[str, pd.DataFrame]) -> None:
    folder = Path(str(metadata.distribution("urielplus").locate_file("urielplus/database")))
    assert not list(folder.glob("*.npz")), "urielplus copies its arrays there when it is used"
    assert "urielplus" not in sys.modules
    assert not [one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler]


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(DataError, match=r"pip install 'tunexfer\[typology\]'"):
        distances(["en", "de"])
