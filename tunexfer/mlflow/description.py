"""The description of a study's parent run: the findings in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunexfer.record.findings import Findings

NOTE = "mlflow.note.content"
"""The tag that MLflow's page shows as a run's description."""
LONGEST = 7500
"""Characters; MLflow takes 8000."""


def description(study: str, state: str, findings: Findings) -> str:
    """Write the findings for MLflow's page, cut at `LONGEST`."""
    counts = ", ".join(f"{count} {state}" for state, count in findings.trials.items() if count)
    lines = [f"**{_plain(study)}**: {state}; trials: {counts}.", _plain(findings.headline)]
    lines += map(_plain, findings.sentences)
    if findings.targets:
        lines.append("\n".join(_table(findings)))
    lines += (f"- {_plain(warning)}" for warning in findings.warnings)
    text = "\n\n".join(lines)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(chr(10))[0]}\n"


def _table(findings: Findings) -> Iterator[str]:
    """Write a row for each target: means over unseen languages, and which of all languages improve or get worse."""
    after = "next best" if findings.next_best else "best"
    yield f"| target | metric | unseen languages | baseline | {after} | gain | improve | get worse |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |"
    for name, target in findings.targets.items():
        mean, deltas = target["unseen"], {language: row["delta"] for language, row in target["languages"].items()}
        means = "0 | | |"
        if mean:
            means = f"{mean['languages']} | {mean['baseline']:.1f} | {mean['best']:.1f} | {mean['delta']:+.1f}"
        up, down = (" ".join(language for language, delta in deltas.items() if sign * delta > 0) for sign in (1, -1))
        metric = _plain(f"{target['metric']}, {target['split']}")
        yield f"| {_plain(name)} | {metric} | {means} | {up} | {down} |"


def _plain(text: str) -> str:
    """Escape what Markdown would read."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
