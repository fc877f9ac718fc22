"""What a study found, as plain values (`--json`) and as the table at the end."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from tunexfer.core.phrases import chain_in_words
from tunexfer.core.scores import Split, unseen_by_both
from tunexfer.core.trial import TrialResult, best_of, fresh_objectives
from tunexfer.record.record import Record
from tunexfer.record.seeds import beyond_seeds


def summarise(
    record: Record, *, state: str, objective: Mapping[str, Any], wanted: int, seconds: float
) -> dict[str, Any]:
    """The study in plain JSON values. Scores are percentages, deltas points, both of the test split where there is one.

    Where no chain beats the baseline, `targets` has the next best one's scores as `best`.

    state: `finished`, `interrupted`, `out of time` or `exhausted`
    wanted: trials asked for, the baseline included
    """
    ended, best = record.ended, record.best()
    baseline = next((one for one in record.complete if one.trial.number == 0), None)
    unbeaten = best is not None and best is baseline
    others = [one for one in record.complete if baseline and one.trial.chain != baseline.trial.chain]
    next_best = best_of(others) if unbeaten else None
    stages = [stage for one in ended for stage in one.trainings]
    own = [one for one in ended if one.trial.phase != "confirm"]
    return {
        "study": record.folder.name,
        "folder": str(record.folder.path),
        "state": state,
        "trials": {
            "wanted": wanted,
            **{state: sum(one.state == state for one in own) for state in ("complete", "failed", "stopped")},
            "confirm": sum(one.trial.phase == "confirm" for one in record.complete),
        },
        "objective": {**objective, "baseline": baseline and baseline.objective, "best": best and best.objective},
        "best": best
        and {
            "trial": best.trial.number,
            "chain": chain_in_words(best.trial.chain),
            "fresh_seeds": len(fresh_objectives(record.complete).get(best.trial.chain, ())),
        },
        "next_best": next_best
        and {
            "trial": next_best.trial.number,
            "chain": chain_in_words(next_best.trial.chain),
            "objective": next_best.objective,
        },
        "targets": _targets(_scored(record, baseline), _scored(record, next_best or best)) if baseline and best else {},
        "confirmation": _confirmation(record),
        "steps": {
            "trained": sum(stage.steps for stage in stages if not stage.reused),
            "reused": sum(stage.steps for stage in stages if stage.reused),
        },
        "seconds": round(seconds, 1),
    }


def _scored(record: Record, result: TrialResult) -> TrialResult:
    return replace(result, scores=record.scores(result.trial.number))


def _targets(baseline: TrialResult, best: TrialResult) -> dict[str, Any]:
    return {target.name: _target(baseline, best, target.name) for target in best.trial.chain.targets}


def _target(baseline: TrialResult, best: TrialResult, task: str) -> dict[str, Any]:
    split = _reported(best, task)
    before, after = baseline.main(task, split), best.main(task, split)
    both = [language for language in after if language in before]
    unseen = [language for language in both if unseen_by_both(after[language], before[language])]
    return {
        "split": split,
        "metric": next((score.metric for score in after.values()), None),
        "unseen": _means(before, after, unseen),
        "all": _means(before, after, both),
        "languages": {
            language: {
                "baseline": before[language].value,
                "best": after[language].value,
                "delta": after[language].value - before[language].value,
                "unseen": language in unseen,
            }
            for language in both
        },
        **_forgetting(baseline, best, task, split),
    }


def _forgetting(baseline: TrialResult, best: TrialResult, task: str, split: Split) -> dict[str, Any]:
    """`forgetting` of a target that another goes on from, in percent of its score; nothing of others."""
    before, after = baseline.forgotten(task, split), best.forgotten(task, split)
    found = {language: {"baseline": before.get(language), "best": value} for language, value in after.items()}
    return {"forgetting": found} if found else {}


def _means(before: Mapping[str, Any], after: Mapping[str, Any], languages: list[str]) -> dict[str, float] | None:
    if not languages:
        return None
    old = statistics.fmean(before[language].value for language in languages)
    new = statistics.fmean(after[language].value for language in languages)
    return {"languages": len(languages), "baseline": old, "best": new, "delta": new - old}


def _confirmation(record: Record) -> list[dict[str, Any]]:
    """Per confirmed chain and target: the gain over the baseline of the same fresh seed on unseen languages, each mean
    over languages, then mean and standard deviation over seeds (None with one), and whether it is `beyond_seeds`."""
    confirms = [_scored(record, one) for one in record.complete if one.trial.phase == "confirm"]
    base = next((one.trial.chain for one in record.complete if one.trial.phase == "baseline"), None)
    baselines = {one.trial.seed: one for one in confirms if one.trial.chain == base}
    found = []
    for chain in dict.fromkeys(one.trial.chain for one in confirms if one.trial.chain != base):
        runs = [one for one in confirms if one.trial.chain == chain and one.trial.seed in baselines]
        first = min((one.trial.number for one in record.complete if one.trial.chain == chain), default=None)
        targets = {
            target.name: _spread(_target(baselines[run.trial.seed], run, target.name)["unseen"] for run in runs)
            for target in chain.targets
        }
        found.append({"trial": first, "seeds": len(runs), "chain": chain_in_words(chain), "unseen_delta": targets})
    return found


def _spread(means: Iterable[dict[str, float] | None]) -> dict[str, Any] | None:
    deltas = [one["delta"] for one in means if one]
    if not deltas:
        return None
    sd = statistics.stdev(deltas) if len(deltas) > 1 else None
    return {"mean": statistics.fmean(deltas), "sd": sd, "beyond": beyond_seeds(deltas)}


def _reported(ended: TrialResult, task: str) -> Split:
    return "test" if ended.main(task, "test") else "validation"


def show(summary: Mapping[str, Any], console: Console) -> None:
    """The summary for people: the best chain in words, target x language, and the commands to look further."""
    trials, best = summary["trials"], summary["best"]
    counts = ", ".join(f"{trials[state]} {state}" for state in ("complete", "failed", "stopped") if trials[state])
    steps = summary["steps"]
    console.print(
        f"\n[bold]{summary['study']}[/]: {summary['state']}; trials: {counts or 'none'} of {trials['wanted']}"
        + (f", and {trials['confirm']} with fresh seeds" if trials["confirm"] else "")
    )
    console.print(f"{steps['trained']} steps trained, {steps['reused']} reused, {summary['seconds']:.0f} s")
    if best is None or not summary["targets"]:
        console.print("There is nothing to compare yet: the baseline or every chain is still missing.")
    else:
        objective = summary["objective"]
        console.print(
            f"Objective ({objective['maximize']} of {objective['split']} scores, languages: "
            f"{_chosen_by(objective['languages'])}): baseline {objective['baseline']:.2f}, "
            f"best {objective['best']:.2f} (trial {best['trial']})"
        )
        said = "No chain beat the baseline" if best["trial"] == 0 else "Best chain"
        console.print(f"{said}: {best['chain']}", highlight=False)
        if best["fresh_seeds"]:
            console.print(
                f"Of the confirmed chains it has the highest mean objective over {best['fresh_seeds']} fresh seeds."
            )
        if next_best := summary["next_best"]:
            said = f"The next best (trial {next_best['trial']}, objective {next_best['objective']:.2f})"
            console.print(f"{said}: {next_best['chain']}", highlight=False)
        for task, found in summary["targets"].items():
            console.print(_languages_table(task, found, "next best" if next_best else "best"))
            if "forgetting" in found:
                console.print(_forgetting_in_words(task, found["forgetting"]))
    if summary["confirmation"]:
        _show_confirmation(summary["confirmation"], console)
    console.print("Look further:")
    folder = shlex.quote(summary["folder"])
    report, ui = f"tunexfer report {folder} writes all of it as one page", f"tunexfer ui {folder} opens MLflow on it"
    for line in (report, ui, f"{summary['folder']}/scores.parquet holds every score beside its baseline"):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _show_confirmation(confirmed: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Each confirmed chain's gain on unseen languages, and for each target whether any is beyond the spread."""
    table = Table(
        title=f"gain over the baseline in unseen languages: mean ± standard deviation over {confirmed[0]['seeds']} "
        f"fresh seeds",
        title_justify="left",
    )
    table.add_column("trial", justify="right")
    table.add_column("stages", overflow="fold")
    tasks = list(confirmed[0]["unseen_delta"])
    for task in tasks:
        table.add_column(task, justify="right", no_wrap=True)
    for found in confirmed:
        shown = (found["unseen_delta"][task] for task in tasks)
        table.add_row(
            str(found["trial"]), found["chain"].split(" -> ")[0], *(_signed(gain) if gain else "" for gain in shown)
        )
    console.print(table)
    for task in tasks:
        gains = {found["trial"]: found["unseen_delta"][task] for found in confirmed if found["unseen_delta"][task]}
        beyond = {trial: gain for trial, gain in gains.items() if gain["beyond"] and gain["mean"] > 0}
        best = max(beyond, key=lambda trial: beyond[trial]["mean"], default=None)
        says = (
            f"trial {best} helps, {_signed(beyond[best])}" if best is not None else "no chain helps beyond the spread"
        )
        console.print(f"{task}: {says}")
    if confirmed[0]["seeds"] < 2:
        console.print("One seed shows no spread, so no gain can be told from it: `confirm: {seeds: 3}` in the space.")


def _chosen_by(languages: str | list[str]) -> str:
    return languages if isinstance(languages, str) else " ".join(languages)


def _signed(gain: Mapping[str, Any]) -> str:
    return f"{gain['mean']:+.2f}" + ("" if gain["sd"] is None else f" ± {gain['sd']:.2f}")


def _forgetting_in_words(task: str, found: Mapping[str, Any]) -> str:
    """In which language how much of the score is lost."""
    lost = (
        f"{language} {row['best']:.1f}" + ("" if row["baseline"] is None else f" (baseline {row['baseline']:.1f})")
        for language, row in found.items()
    )
    return f"Forgotten of {task}, in % of its score (below 0: gained): {', '.join(lost)}"


def _languages_table(task: str, found: Mapping[str, Any], after: str) -> Table:
    table = Table(title=f"{task} ({found['metric']}, {found['split']})", title_justify="left")
    for heading in ("language", "baseline", after, "delta"):
        table.add_column(heading, justify="left" if heading == "language" else "right")
    for name, mean in (("mean unseen", found["unseen"]), ("mean all", found["all"])):
        if mean:
            table.add_row(name, f"{mean['baseline']:.1f}", f"{mean['best']:.1f}", f"{mean['delta']:+.1f}", style="bold")
    for language, row in sorted(found["languages"].items(), key=lambda item: -item[1]["delta"]):
        label = language if row["unseen"] else f"{language} (trained)"
        table.add_row(label, f"{row['baseline']:.1f}", f"{row['best']:.1f}", f"{row['delta']:+.1f}")
    return table
