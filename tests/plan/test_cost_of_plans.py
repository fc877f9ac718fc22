"""The cost that `plan` estimates from the stage store before anything is trained."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import yaml
from pico import pico_encoder, pico_suite
from rich.console import Console

from tunexfer.cli.launch import prepare_all
from tunexfer.cli.tables import plan_view
from tunexfer.core.graph import jobs_of
from tunexfer.data.prepare import Prepared
from tunexfer.plan.cost import estimate
from tunexfer.plan.plan import Plan
from tunexfer.store import StageStore

STEPS = 6


def plan_in(folder: Path, encoder: str) -> Plan:
    """Two stages, none, or one of two; one target rate: three chains and five distinct stages."""
    pico_suite(folder)
    space = {
        "name": "toy",
        "suite": "pico.yaml",
        "encoder": encoder,
        "stages": [{"tasks": {"subset": {"of": ["match", "choice"], "size": [0, 1]}}, "languages": ["en"],
                    "learning_rate": 1.0e-3, "steps": STEPS}],
        "targets": [{"task": "tags", "train_language": "en", "learning_rate": 1.0e-3, "steps": STEPS}],
        "search": {"trials": 3},
        "noise": {"seeds": 1},
    }  # fmt: skip
    (folder / "toy.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return Plan.load(folder / "toy.yaml", cache=folder / "cache")


def printed(plan: Plan, store: Path) -> str:
    out = Console(file=io.StringIO(), width=160)
    out.print(plan_view(plan, estimate(plan, plan.rows.cache, str(store))))
    return out.file.getvalue()  # type: ignore[attr-defined]


def test_a_plan_shows_what_the_store_holds_and_estimates_from_it(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, str(pico_encoder(tmp_path / "pico")))
    store = StageStore(tmp_path / "store")
    assert "holds 0 of the 5 distinct stages of the space" in printed(plan, store.root)
    assert "time: unknown until" in printed(plan, store.root)

    prepared = Prepared.load(prepare_all(plan, plan.rows.cache, Console(quiet=True))[plan.encoders[0].identity])
    training, evaluation = jobs_of(plan.baseline[1], seed=plan.seed, contents=prepared.contents)
    store.put(training.key, {"model.safetensors": b"x" * 3_000_000}, {"seconds": 3.0})
    store.put(evaluation.key, {"rows.parquet": b"rows"}, {"seconds": 2.0})
    found = estimate(plan, plan.rows.cache, str(store.root))
    assert found is not None
    assert (found.stages, found.stored) == (5, 1)
    assert found.step_seconds == 3.0 / STEPS
    assert found.scoring_seconds == 2.0
    # three chains: five stages of 6 steps at half a second, and three times the scoring
    assert found.seconds(plan) == 5 * STEPS * 0.5 + 3 * found.scoring_seconds
    said = printed(plan, store.root)
    assert "holds 1 of the 5 distinct stages" in said
    assert "disk: 3 MB per stage, about 15 MB for 3 trials" in said


def test_a_plan_builds_and_fetches_nothing(tmp_path: Path) -> None:
    space = {
        "name": "toy",
        "suite": "starter",
        "encoder": "starter-e5-small-4l",
        "targets": [{"task": "ui_retrieval"}],
        "objective": {"languages": "all"},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    plan = Plan.load(tmp_path / "toy.yaml", cache=tmp_path / "cache")
    assert estimate(plan, tmp_path / "cache", str(tmp_path / "store")) is None
    assert "unknown until the first search has cached the data and the encoder" in printed(plan, tmp_path / "store")
    assert not (tmp_path / "cache").exists()


def test_rows_on_the_hub_that_were_never_read_are_unknown_and_nobody_is_asked(tmp_path: Path) -> None:
    made = plan_in(tmp_path, str(pico_encoder(tmp_path / "pico")))
    suite = yaml.safe_load((tmp_path / "pico.yaml").read_text())
    match = suite["tasks"]["match"]
    del match["files"]
    match |= {"hub": {"path": "some/match", "revision": "dev"}, "rows": {"en": [40, 10, 10]}}
    (tmp_path / "pico.yaml").write_text(yaml.safe_dump(suite))
    store, cache = str(tmp_path / "store"), made.rows.cache
    code = f"""
import sys
from pathlib import Path
from tunexfer.plan.cost import estimate
from tunexfer.plan.plan import Plan
plan = Plan.load(Path({str(tmp_path / "toy.yaml")!r}), cache=Path({str(cache)!r}))
print(estimate(plan, plan.rows.cache, {store!r}))
print([name for name in ("datasets", "huggingface_hub") if name in sys.modules])
"""

    def said() -> list[str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert said() == ["None", "[]"]
    remembered = cache / "hub" / "some%2Fmatch@dev"
    remembered.parent.mkdir(parents=True)
    remembered.write_text("a" * 40)
    first, modules = said()
    assert first.startswith("Estimate(stages=5, stored=0")
    assert modules == "[]"


def test_a_plan_is_shown_without_files_that_its_reader_has_yet_to_provide(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, str(pico_encoder(tmp_path / "pico")))
    shown = printed(plan, tmp_path / "store")
    (tmp_path / "data" / "choice" / "en" / "train.jsonl").unlink()
    assert "stage store: holds" in shown
    assert "stage store, disk and time: unknown" in printed(plan, tmp_path / "store")
