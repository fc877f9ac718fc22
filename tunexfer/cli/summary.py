"""The summary that `search` prints when it ends."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tunexfer.record.findings import Findings


def show_summary(findings: Findings, console: Console, *, folder: Path, state: str, seconds: float) -> None:
    """Print the findings and the commands to look further.

    folder: of the study
    state: how the search ended, after so many seconds
    """
    trials, steps = findings.trials, findings.steps
    counts = ", ".join(f"{trials[state]} {state}" for state in ("complete", "failed", "stopped") if trials[state])
    confirming = f", {trials['confirm']} for confirmation" if trials["confirm"] else ""
    line = (
        f"{folder.name}: {state}; {counts or 'no'} of {trials['wanted']} trials{confirming}; "
        f"{steps['trained']} steps trained, {steps['reused']} reused; {seconds:.0f} s"
    )
    for text in (line, findings.headline, *findings.sentences):
        console.print(Text(text))
    for warning in findings.warnings:
        console.print(Text(warning, style="yellow"))
    for command in ("report", "ui"):
        console.print(f"  tunexfer {command} {shlex.quote(str(folder))}", highlight=False, markup=False, soft_wrap=True)
