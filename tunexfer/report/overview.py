"""The studies that a report is about, and all of their trials."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tunexfer.report.section import Section
from tunexfer.report.study import Study

MOST_TRIALS = 10
"""Numbers of failed trials that a note lists."""


def section(studies: Sequence[Study]) -> Section:
    """Tabulate studies and trials; note why trials failed."""
    notes: dict[str, str] = {}
    for study in studies:
        details = {result.trial.number: result.failure.detail for result in study.ended if result.failure}
        for failure in study.findings.failures:
            numbers = failure["trials"]
            listed = ", ".join(map(str, numbers[:MOST_TRIALS])) + (", ..." if len(numbers) > MOST_TRIALS else "")
            trials = f"Trial {listed}" if len(numbers) == 1 else f"{len(numbers)} trials ({listed})"
            prefix = f"{study.name}: " if len(studies) > 1 else ""
            notes[f"{prefix}{trials} failed: {failure['message']}"] = details.get(numbers[0], "")
    return Section(
        key="trials",
        title="Every trial",
        notes=notes,
        tables={
            "Studies": pd.DataFrame([_study_row(study) for study in studies]),
            "Trials": pd.concat([_trial_rows(study) for study in studies], ignore_index=True),
        },
    )


def _study_row(study: Study) -> dict[str, object]:
    identity = study.plan.get("identity") or {}
    trials, best, baseline = study.trials(), study.best(), study.baseline()
    encoder = identity.get("encoder")
    return {
        "study": study.name,
        "suite": study.suite,
        "encoder": encoder.get("name") if isinstance(encoder, dict) and "name" in encoder else str(encoder or ""),
        "searcher": (study.plan.get("search") or {}).get("algorithm"),
        "objective": " ".join(f"{key}={value}" for key, value in study.objective.items()),
        **{state: int((trials["state"] == state).sum()) for state in ("complete", "failed", "stopped", "unfinished")},
        "best trial": best,
        "best objective": None if best is None else trials.loc[best, "objective"],
        "baseline's objective": None if baseline is None else trials.loc[baseline, "objective"],
    }


def _trial_rows(study: Study) -> pd.DataFrame:
    trials = study.trials().sort_values("objective", ascending=False, kind="stable", na_position="last").reset_index()
    trials.insert(0, "study", study.name)
    return trials.drop(columns=["started", "chain"]).join(study.coordinates(), on="trial")
