"""Scores say whether they are zero-shot, by what the suite calls the same task."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from training.conftest import Pico, stage, target


@pytest.mark.parametrize(("same_as", "unseen"), [("match", {"ru"}), (None, {"de", "ru"})])
def test_what_a_stage_on_the_same_task_trained_is_not_called_zero_shot(
    tmp_path: Path, same_as: str | None, unseen: set[str]
) -> None:
    pico = Pico(tmp_path)
    suite = yaml.safe_load(pico.suite.read_text())
    suite["tasks"]["match_again"] = suite["tasks"]["match"] | {"same_as": same_as}
    pico.suite.write_text(yaml.safe_dump(suite))
    train, scored = {"match": ("en",), "match_again": ("de",)}, {"match": ("en", "de", "ru")}
    runner = pico.runner(tmp_path / "store", pico.prepared(train, scored))
    chain = pico.chain((stage("match_again", language="de", steps=1),), (target("match", steps=1),))
    assert {score.language for score in runner.run(chain, seed=1).scores if score.unseen} == unseen
