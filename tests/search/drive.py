"""A search as a process of its own, for tests that kill it.

`python drive.py FOLDER WHERE EXECUTOR [MOMENT COMPLETE]`: the space is FOLDER/space.yaml; jobs run `here`, in the
process itself, on `ray`, or on the cluster at an address; the executor is the `real` one, or the fake one that takes so
many seconds a step; for the rest see `Mortal`.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml
from fake_executor import CONTENTS, FakeExecutor
from pico import pico_suite

from tunexfer.cli.live import LiveView
from tunexfer.core.files import StudyFolder
from tunexfer.core.graph import Contents
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.mlflow.client import default_uri
from tunexfer.mlflow.mirror import Mirror
from tunexfer.plan.plan import Plan
from tunexfer.record.findings import Findings
from tunexfer.record.record import Record
from tunexfer.search.loop import SearchLoop, run_here
from tunexfer.store import StageStore

SPACE: dict[str, Any] = {
    "name": "fake",
    "suite": "pico.yaml",
    "encoder": "pico",
    "stages": [
        {
            "name": "intermediate",
            "tasks": {"subset": {"of": ["match", "tags"], "size": [0, 2]}},
            "languages": {"choice": [["en"], ["de"]]},
            "learning_rate": {"choice": [1.0e-3, 2.0e-3, 3.0e-3]},
            "steps": 10,
        }
    ],
    "targets": [
        {"task": "choice", "train_language": "en", "learning_rate": {"choice": [1.0e-3, 2.0e-3]}, "steps": 10},
        {"task": "pairs"},
    ],
    "objective": {"languages": "all"},
    "search": {"trials": 6, "seed": 3},
    "noise": {"seeds": 1},
    "resources": {"precision": "fp32"},
}


def plan_in(folder: Path, overrides: dict[str, str] | None = None, **changes: Any) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pico.yaml").exists():
        pico_suite(folder)
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE | changes, sort_keys=False))
    return Plan.load(path, overrides, cache=folder / "cache")


class Mortal(Record):
    """A record whose driver kills itself at the first `begin`, `finish` or `finished` with so many trials complete."""

    moment, wanted = "never", 0

    def _reached(self, moment: str) -> None:
        if moment == self.moment and len(self.complete) >= self.wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(self, trial: Trial) -> None:
        self._reached("begin")
        super().begin(trial)

    def finish(self, result: TrialResult, rows: Any = ()) -> TrialResult:
        self._reached("finish")
        return super().finish(result, rows)

    def write_scores(self) -> None:
        super().write_scores()
        self._reached("finished")


def real(plan: Plan, root: Path) -> tuple[dict[str, Contents], Any]:
    """The contents of a plan's rows, once these are encoded, and what a device makes its executor with."""
    from rich.console import Console

    from tunexfer.cli.launch import contents_of, make_executor, prepare_all

    prepared = prepare_all(plan, root / "cache", Console(quiet=True), quiet=True)
    make = functools.partial(
        make_executor, prepared, str(root / "store"), store_bytes=10**9, device="cpu", threads=plan.file.resources.cpus
    )
    return contents_of(prepared), make


def fake(plan: Plan, root: Path, step_s: float = 0.0) -> tuple[dict[str, Contents], Any]:
    """The same of an executor that trains nothing."""
    contents = {encoder.identity: CONTENTS for encoder in plan.encoders}
    return contents, functools.partial(FakeExecutor, root / "store", step_s)


def search(where: str, plan: Plan, record: Record, root: Path, contents: Any, make: Any, listeners: list[Any]) -> str:
    """Run the study's jobs and return how the search ended."""
    store = StageStore(root / "store")
    if where == "here":
        return run_here(SearchLoop(plan, record, store, contents, listeners), make()).state
    from tunexfer.search.ray_tune import run_search

    address = None if where == "ray" else where
    return run_search(plan, record, store, contents, make, listeners, address=address).state


def main(root: Path, where: str, which: str, moment: str = "never", wanted: int = 0) -> int:
    Mortal.moment, Mortal.wanted = moment, wanted
    plan = Plan.load(root / "space.yaml", cache=root / "cache")
    folder = StudyFolder(root / "runs" / "fake")
    with Mortal.drive(folder, plan.as_dict()) as record, LiveView(folder) as live:
        mirror = Mirror(record, default_uri(root / "runs"), live.warning).start()
        state = "interrupted"
        try:
            contents, make = real(plan, root) if which == "real" else fake(plan, root, float(which))
            state = search(where, plan, record, root, contents, make, [live, mirror])
        finally:
            mirror.close(state)
        findings = Findings.of(record.ended, record.score_table(), plan.as_dict())
        print(json.dumps({"state": state} | findings.as_dict()))
    return 130 if state == "interrupted" else 0


if __name__ == "__main__":
    from tunexfer.errors import TunexferError

    try:
        sys.exit(main(Path(sys.argv[1]), *sys.argv[2:5], *map(int, sys.argv[5:])))
    except TunexferError as error:
        sys.exit(f"{type(error).__name__}: {error}")
