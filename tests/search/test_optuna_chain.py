"""The chain sampler in a study of Optuna's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest

from tunexfer.search import ChainSampler

PAGE = Path(__file__).parents[2] / "docs" / "sampler.md"


def test_the_example_of_the_page_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert f"This prints `{printed}`" in text


def run(seed: int, trials: int) -> list[dict[str, Any]]:
    study = optuna.create_study(directions=["maximize"] * 2, sampler=ChainSampler(["a", "b"], seed))
    for _ in range(trials):
        trial = study.ask()
        rate = trial.suggest_float("rate", 1e-6, 1e-3, log=True)
        steps = trial.suggest_int("a.steps", 1, 1000, log=True)
        layer = trial.suggest_int("b.layer", 1, 12)
        study.tell(trial, [50 + 1e3 * rate + steps / 1000, 40 - abs(layer - 7)])
    return [trial.params for trial in study.trials]


def test_ranges_are_searched_within_their_bounds_and_by_seed() -> None:
    first, again, other = run(1, 9), run(1, 9), run(2, 9)
    assert first == again
    assert first != other
    assert all(1e-6 <= params["rate"] <= 1e-3 for params in first)
    assert all(isinstance(params["a.steps"], int) and 1 <= params["a.steps"] <= 1000 for params in first)


def test_a_study_with_another_number_of_values_is_an_error() -> None:
    study = optuna.create_study(sampler=ChainSampler(["a", "b"], 0))
    with pytest.raises(ValueError, match="directions"):
        study.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=1)
