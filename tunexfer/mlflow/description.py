"""What MLflow's page says at the top of a study's parent run, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NOTE = "mlflow.note.content"
"""The tag that the page shows as a run's description."""
LONGEST = 7500
"""Characters; MLflow takes 8000."""


def description(summary: Mapping[str, Any]) -> str:
    """summary: as `tracking.summary.summarise` makes it"""
    trials, steps, best = summary["trials"], summary["steps"], summary["best"]
    counts = ", ".join(f"{trials[state]} {state}" for state in ("complete", "failed", "stopped") if trials[state])
    lines = [
        f"**{_plain(summary['study'])}**: {summary['state']}; trials: {counts or 'none'} of {trials['wanted']}"
        + (f", and {trials['confirm']} with fresh seeds" if trials["confirm"] else "")
        + f". {steps['trained']} steps trained, {steps['reused']} reused.",
    ]
    if best is None or not summary["targets"]:
        return "\n\n".join([*lines, "There is nothing to compare yet: the baseline or every chain is still missing."])
    next_best = summary["next_best"]
    lines.append("\n".join(_table(summary["targets"], "next best" if next_best else "best")))
    lines.append(f"{_best_in_words(best)}: {_plain(best['chain'])}")
    if next_best:
        lines.append(f"The next best (trial {next_best['trial']}): {_plain(next_best['chain'])}")
    if chosen := _chosen_in_words(summary["objective"]):
        lines.append(chosen)
    if best["fresh_seeds"]:
        lines.append(
            f"Of the confirmed chains it has the highest mean objective over {best['fresh_seeds']} fresh seeds."
        )
    if summary["confirmation"]:
        lines.append("\n".join(_confirmed(summary["confirmation"])))
    text = "\n\n".join(lines)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(chr(10))[0]}\n"


def _best_in_words(best: Mapping[str, Any]) -> str:
    return "No chain beat the baseline" if best["trial"] == 0 else f"Best chain (trial {best['trial']})"


def _chosen_in_words(objective: Mapping[str, Any]) -> str:
    if "maximize" not in objective or objective["baseline"] is None:
        return ""
    languages = objective["languages"]
    whose = languages if isinstance(languages, str) else " ".join(languages)
    return (
        f"Chosen by the {objective['maximize']} of {objective['split']} scores (languages: {whose}): baseline "
        f"{objective['baseline']:.2f}, best {objective['best']:.2f}."
    )


def _table(targets: Mapping[str, Any], after: str) -> list[str]:
    """A row a target: means over unseen languages, and in which of all languages it is better or worse."""
    rows = [
        f"| target | metric | unseen languages | baseline | {after} | gain | better in | worse in |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for name, found in targets.items():
        unseen = found["unseen"]
        means = (
            f"{unseen['languages']} | {unseen['baseline']:.1f} | {unseen['best']:.1f} | {unseen['delta']:+.1f}"
            if unseen
            else "0 | | |"
        )
        up = [language for language, row in found["languages"].items() if row["delta"] > 0]
        down = [language for language, row in found["languages"].items() if row["delta"] < 0]
        metric = f"{_plain(str(found['metric']))}, {found['split']}"
        rows.append(f"| {_plain(name)} | {metric} | {means} | {' '.join(up)} | {' '.join(down)} |")
    return rows


def _confirmed(confirmation: list[dict[str, Any]]) -> list[str]:
    rows = [f"Gain in unseen languages over {confirmation[0]['seeds']} fresh seeds, mean ± standard deviation:", ""]
    for found in confirmation:
        gains = (
            f"{_plain(task)} {gain['mean']:+.2f}" + ("" if gain["sd"] is None else f" ± {gain['sd']:.2f}")
            for task, gain in found["unseen_delta"].items()
            if gain
        )
        rows.append(f"- trial {found['trial']}: {', '.join(gains)}")
    return rows


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
