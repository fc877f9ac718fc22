"""Stopping rules: whether a trial ends before all of its jobs have run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

StoppingRule = Callable[[int, Mapping[str, Any]], str | None]
"""Called after each finished job of a trial with its number and report; returns why it is stopped, or None.

The report: `jobs_done`, `jobs`, `cost_s` (seconds spent on it so far) and `scores`, the main validation scores so far,
as `target/language`. Test scores never reach a rule.
"""


def never(number: int, report: Mapping[str, Any]) -> str | None:
    """Let every trial run to its end."""
    return None


def after_jobs(count: int) -> StoppingRule:
    """Make a rule that stops every trial but the baseline after `count` jobs."""

    def rule(number: int, report: Mapping[str, Any]) -> str | None:
        stops = number > 0 and count <= report["jobs_done"] < report["jobs"]
        return f"stopped by rule after {report['jobs_done']} of {report['jobs']} jobs" if stops else None

    return rule
