"""The studies a report is about, and every trial of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tunexfer.report.section import Section
from tunexfer.report.study import Study


def section(studies: Sequence[Study]) -> Section | None:
    """One row a study, one row a trial."""
    return Section(
        key="trials",
        title="Every trial",
        tables={
            "Studies": pd.DataFrame([_study_row(study) for study in studies]),
            "Trials": pd.concat([_trial_rows(study) for study in studies], ignore_index=True),
        },
    )


def _study_row(study: Study) -> dict[str, object]:
    identity = study.plan.get("identity") or {}
    trials, objective, best, baseline = study.trials(), study.objective, study.best(), study.baseline()
    encoder = identity.get("encoder")
    return {
        "study": study.name,
        "suite": study.suite,
        "encoder": encoder.get("name") if isinstance(encoder, dict) and "name" in encoder else str(encoder or ""),
        "searcher": (study.plan.get("search") or {}).get("algorithm"),
        "objective": " ".join(f"{key}={value}" for key, value in objective.items()),
        **{state: int((trials["state"] == state).sum()) for state in ("complete", "failed", "stopped", "unfinished")},
        "best trial": best,
        "best objective": None if best is None else trials.loc[best, "objective"],
        "baseline's objective": None if baseline is None else trials.loc[baseline, "objective"],
    }


def _trial_rows(study: Study) -> pd.DataFrame:
    trials = study.trials().sort_values("objective", ascending=False, kind="stable", na_position="last").reset_index()
    shown = trials.drop(columns=["started", "chain"]).assign(study=study.name)
    return shown[["study", *shown.columns.drop("study")]].join(study.coordinates(), on="trial")
