"""The summary that `search` prints when it ends."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print the findings, the gain for each target, the warnings, and commands to look further.

    summary: the findings as plain values, with `study`, `folder`, `state` and `seconds`
    """
    trials, steps = summary["trials"], summary["steps"]
    counts = ", ".join(f"{trials[state]} {state}" for state in ("complete", "failed", "stopped") if trials[state])
    confirming = f", {trials['confirm']} for confirmation" if trials["confirm"] else ""
    lines = [
        f"{summary['study']}: {summary['state']}; {counts or 'no'} of {trials['wanted']} trials{confirming}; "
        f"{steps['trained']} steps trained, {steps['reused']} reused; {summary['seconds']:.0f} s",
        summary["headline"],
        *summary["sentences"],
    ]
    for line in lines:
        console.print(Text(line))
    if summary["targets"]:
        console.print(_targets(summary["targets"], "next best" if summary["next_best"] else "best"))
    for line in summary["warnings"]:
        console.print(Text(line, style="yellow"))
    folder = shlex.quote(summary["folder"])
    for line in (f"tunexfer report {folder}", f"tunexfer ui {folder}"):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _targets(targets: Mapping[str, Any], after: str) -> Table:
    table = Table(title="mean over unseen languages", title_justify="left")
    for heading in ("target", "metric", "languages", "baseline", after, "gain"):
        table.add_column(heading, justify="left" if heading in ("target", "metric") else "right")
    table.add_column("improved / worse", overflow="fold")
    for name, target in targets.items():
        mean = target["unseen"]
        cells = ["0", "", "", ""]
        if mean:
            cells = [str(mean["languages"]), *(f"{mean[key]:.1f}" for key in ("baseline", "best"))]
            cells.append(f"{mean['delta']:+.1f}")
        signs = [row["delta"] for row in target["languages"].values()]
        changed = f"{sum(delta > 0 for delta in signs)} / {sum(delta < 0 for delta in signs)}"
        table.add_row(name, f"{target['metric']}, {target['split']}", *cells, changed)
    return table
