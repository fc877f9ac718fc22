"""One report that all tests of the page read, as a report takes seconds to write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_up_study import MadeUp

from tunexfer import Study
from tunexfer.core.files import StudyFolder
from tunexfer.report.page import write_report

HOSTILE = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Report:
    study: Path
    page: Path
    text: str


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Eight trials of hostile names, two confirmed with fresh seeds; one failed, one's record is damaged."""
    folder = MadeUp(
        trials=8,
        rows=20,
        seeds=2,
        intermediate=(HOSTILE, "$x_1$", "questions"),
        targets=("intent", "b&amp;<i>", "retrieval"),
        encoder=HOSTILE,
        states=((3, "failed"),),
    ).write(tmp_path_factory.mktemp("runs"))
    files = StudyFolder(folder)
    status = json.loads(files.trial(3).status.read_text())
    status["failure"] = {"kind": "bug", "message": f"KeyError: '{HOSTILE}'", "detail": "Traceback\n  in <module>"}
    files.trial(3).status.write_text(json.dumps(status))
    files.trial(2).status.write_text("<img src=x onerror=alert(1)>")
    page = write_report([Study.load(folder)], folder)
    return Report(folder, page, page.read_text())
