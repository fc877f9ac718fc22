"""A reduced run of benchmarks/calibration.py: with a fixed seed, within what so few studies can show."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def calibration() -> Any:
    spec = importlib.util.spec_from_file_location("calibration", BENCHMARK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    module.RESAMPLES = 60
    return module


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_intervals_hold_the_truth_and_nothing_is_claimed_where_nothing_is(calibration: Any, seeds: int) -> None:
    """Of 100 studies 95 are expected, with a standard deviation of 2.2; the truth is outside of fewer than 3 more."""
    figures = calibration.rates(calibration.Setting(seeds=seeds, rows=60, languages=6), studies=100)
    assert figures["mean covered"] >= 95 - 3 * 2.2
    assert 91 <= figures["languages covered"] <= 99
    assert figures["claimed"] <= 5 + 3 * 2.2
    assert figures["some language"] <= 5 + 3 * 2.2


def test_a_gain_of_ten_points_is_found_in_five_seeds(calibration: Any) -> None:
    figures = calibration.rates(calibration.Setting(gain=10.0, seeds=5, rows=60, languages=6), studies=30)
    assert figures["claimed"] >= 80
    assert figures["mean covered"] >= 85


def test_the_best_of_sixteen_equal_chains_keeps_nothing_and_is_rarely_called_clear(calibration: Any) -> None:
    setting = calibration.Setting(seeds=5, rows=100, languages=9)
    made = [calibration.search(setting, rng) for rng in np.random.default_rng(1).spawn(100)]
    raw, kept = (np.mean([getattr(study, name) for study in made]) for name in ("raw", "kept"))
    assert raw > 0.8
    assert abs(kept) < raw / 2
    assert np.mean([study.claims for study in made]) <= 0.05 + 3 * 0.022
