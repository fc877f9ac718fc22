"""The description of a study's parent run: the findings in Markdown."""

from __future__ import annotations

import re

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
    lines += (f"- {_plain(warning)}" for warning in findings.warnings)
    text = "\n\n".join(lines)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(chr(10))[0]}\n"


def _plain(text: str) -> str:
    """Escape what Markdown would read."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
