"""Cost of a search: steps and seconds, what sharing jobs saved, the jobs as they ran, and the best score over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tunexfer.core.chain import Stage
from tunexfer.core.phrases import duration, rate
from tunexfer.core.trial import TrialResult
from tunexfer.record.savings import seconds_saved
from tunexfer.report.figures import BLUE, INK, ORANGE, WIDTH, new_figure, scatter, styled
from tunexfer.report.section import Section
from tunexfer.report.study import Study

MINUTE, HOUR = 60, 3600
MOST_JOBS = 24
"""Jobs that are drawn: those of the most trials; the table has all."""
MOST_LETTERS = 72
COST, BY_JOB, JOBS, CURVE = "Cost", "Cost by stage and target", "Jobs of the search", "Best score against cost"


def section(studies: Sequence[Study]) -> Section | None:
    """Add up what each study took so far; None where no trial has ended."""
    words, figures, alts = list[str](), dict[str, Figure](), dict[str, str]()
    tables: dict[str, list[pd.DataFrame]] = {COST: [], BY_JOB: [], JOBS: [], CURVE: []}
    for study in studies:
        if not study.ended:
            continue
        suffix = f" ({study.name})" if len(studies) > 1 else ""
        ran = job_runs(study.ended)
        tree, curve = jobs(ran), spent(study.ended)
        saved = seconds_saved(study.ended)
        total = _totals(study.ended, ran) | {"seconds_saved": float(sum(saved.values()))}
        words.append(f"{study.name}: {_sentence(total)}")
        by_job = costs(ran)
        by_job["seconds_saved"] = by_job["name"].map(saved).fillna(0.0).where(by_job["kind"] == "train", 0.0)
        parts = {COST: pd.DataFrame([total]), BY_JOB: by_job, JOBS: tree, CURVE: curve}
        for title, table in parts.items():
            tables[title].append(pd.concat([pd.Series(study.name, table.index, name="study"), table], axis=1))
        if len(tree) > 1:
            figures[JOBS + suffix] = draw_jobs(tree)
            most = tree.iloc[0]
            alts[JOBS + suffix] = (
                f"Tree of {len(tree)} training jobs, each below the job it starts from, with its number of trials. "
                f"Shared by most: {most['job']}, {most['trials']} trials."
            )
        if curve["objective"].notna().sum() > 1:
            figures[CURVE + suffix] = _draw_curve(curve)
            alts[CURVE + suffix] = (
                f"Best objective so far, from {curve['best'].min():.2f} to {curve['best'].max():.2f}, against "
                "optimizer steps, with and without sharing, and against time."
            )
    if not words:
        return None
    return Section(
        key="cost",
        title="Cost",
        words=tuple(words),
        tables={title: pd.concat(parts, ignore_index=True) for title, parts in tables.items()},
        figures=figures,
        alts=alts,
        folded=frozenset({BY_JOB, JOBS, CURVE}),
    )


def job_runs(ended: Sequence[TrialResult]) -> pd.DataFrame:
    """Tabulate every job of every trial.

    returns: trial, phase, kind, name, key, parent (the key of the job it starts from, or the encoder's name), job (in
        words), reused, steps, seconds
    """
    rows = []
    for result in ended:
        chain = result.trial.chain
        keys = {run.name: run.key for run in result.trainings}
        path = [chain.encoder.identity, *(keys[stage.name] for stage in chain.stages if stage.name in keys)]
        parents = dict(zip((stage.name for stage in chain.stages), path, strict=False))
        parents |= {target.name: keys.get(target.after or "", path[-1]) for target in chain.targets}
        stages = {stage.name: stage for stage in (*chain.stages, *(t.stage for t in chain.targets if t.stage))}
        for run in result.jobs:
            words = _in_words(stages[run.name]) if run.kind == "train" else f"evaluate {run.name}"
            start = keys.get(run.name, path[-1]) if run.kind == "evaluate" else parents[run.name]
            job = (run.kind, run.name, run.key, start, words, run.reused, run.steps, run.seconds)
            rows.append((result.trial.number, result.trial.phase, *job))
    columns = ["trial", "phase", "kind", "name", "key", "parent", "job", "reused", "steps", "seconds"]
    return pd.DataFrame(rows, columns=columns).astype({"reused": bool, "steps": "int64", "seconds": "float64"})


def _in_words(stage: Stage) -> str:
    return f"{stage.name}: {stage.mixture}; {stage.steps:,} steps, lr {rate(stage.learning_rate)}"


def costs(ran: pd.DataFrame) -> pd.DataFrame:
    """Add up the runs of each stage and target: kind, name, runs, trained, steps_trained, seconds_trained."""
    own = ~ran["reused"]
    table = ran.assign(
        trained=own, steps_trained=ran["steps"].where(own, 0), seconds_trained=ran["seconds"].where(own, 0.0)
    )
    sums = table.groupby(["kind", "name"], sort=False)[["trained", "steps_trained", "seconds_trained"]].sum()
    sums.insert(0, "runs", table.groupby(["kind", "name"], sort=False).size())
    return sums.reset_index()


def jobs(ran: pd.DataFrame) -> pd.DataFrame:
    """Count the trials of each training job of the search, those of the most trials first and parents before children.

    returns: job, key, parent, depth (jobs before it), steps, trials, trained (how often), seconds (of training it)
    """
    own = ran[(ran["kind"] == "train") & (ran["phase"] != "confirm")]
    own = own.assign(trained=~own["reused"], seconds=own["seconds"].where(~own["reused"], 0.0))
    first = own.groupby("key", sort=False)[["job", "parent", "steps"]].first()
    sums = own.groupby("key", sort=False).agg(
        trials=("trial", "nunique"), trained=("trained", "sum"), seconds=("seconds", "sum")
    )
    table = first.join(sums).reset_index()
    parents = dict(zip(table["key"], table["parent"], strict=True))
    table["depth"] = [sum(1 for _ in _ancestors(key, parents)) for key in table["key"]]
    table = table.sort_values(["trials", "depth"], ascending=[False, True], kind="stable", ignore_index=True)
    return table[["job", "key", "parent", "depth", "steps", "trials", "trained", "seconds"]]


def _ancestors(key: str, parents: dict[str, str]) -> Iterator[str]:
    while (key := parents.get(key, "")) in parents:
        yield key


def _totals(ended: Sequence[TrialResult], ran: pd.DataFrame) -> dict[str, Any]:
    """Add up all phases: the confirmation costs too."""
    states = pd.Series([result.state for result in ended]).value_counts()
    trained, reused = ran.loc[~ran["reused"]], int(ran.loc[ran["reused"], "steps"].sum())
    steps = int(trained["steps"].sum())
    return {
        **{state: int(states.get(state, 0)) for state in ("complete", "failed", "stopped")},
        "steps_trained": steps,
        "steps_reused": reused,
        "share_reused": reused / (steps + reused) if reused else 0.0,
        "seconds_of_trials": sum(result.seconds for result in ended),
        "seconds_trained": float(trained.loc[trained["kind"] == "train", "seconds"].sum()),
    }


def _sentence(total: dict[str, Any]) -> str:
    return (
        f"the trials took {duration(total['seconds_of_trials'])} in total; training {total['steps_trained']:,} steps "
        f"took {duration(total['seconds_trained'])}. Sharing saved {total['steps_reused']:,} steps "
        f"({total['share_reused']:.0%} of all), about {duration(total['seconds_saved'])}."
    )


def spent(ended: Sequence[TrialResult]) -> pd.DataFrame:
    """Add up the search's trials in the order in which they ended.

    returns: trial; objective (NaN where it isn't complete); best (so far; NaN before the first); steps (trained so
        far), steps_unshared (if every trial had trained all of its own), seconds (of trials)
    """
    own = [result for result in ended if result.trial.phase != "confirm"]
    own.sort(key=lambda result: result.started + result.seconds)
    table = pd.DataFrame(
        {
            "trial": [result.trial.number for result in own],
            "objective": pd.Series([result.objective for result in own], dtype="float64"),
            "steps": [sum(run.steps for run in result.trainings if not run.reused) for result in own],
            "steps_unshared": [sum(run.steps for run in result.trainings) for result in own],
            "seconds": [result.seconds for result in own],
        }
    )
    sums = ["steps", "steps_unshared", "seconds"]
    table[sums] = table[sums].cumsum()
    table.insert(2, "best", table["objective"].cummax().ffill())
    return table


@styled
def draw_jobs(tree: pd.DataFrame) -> Figure:
    """Draw each job below the one it starts from, with the number of its trials; `tree` as `jobs` gives it."""
    shown = tree.head(MOST_JOBS)
    rows: list[_Row] = []
    for root in shown.loc[shown["depth"] == 0, "parent"].unique():
        _place(root, _Row(0, 0, 0, root), tree, set(shown["key"]), rows)
    figure = new_figure(WIDTH, 0.3 + 0.24 * len(rows))
    axes = figure.subplots()
    axes.set(xlim=(-0.2, 14.0), ylim=(len(rows) - 0.5, -0.5))
    axes.set_axis_off()
    for at, row in enumerate(rows):
        if row.depth:
            axes.plot([row.depth - 1, row.depth - 1, row.depth], [row.parent, at, at], color=INK, lw=0.7, zorder=1)
            node = {"boxstyle": "round,pad=0.25", "facecolor": BLUE, "edgecolor": "none"}
            axes.text(row.depth, at, f"{row.trials:,}", color="white", ha="center", va="center", fontsize=7, bbox=node)
        axes.text(row.depth + (0.35 if row.depth else 0.0), at, row.text, va="center", fontsize=7.5)
    return figure


class _Row(NamedTuple):
    depth: int
    parent: int
    """The row of the job that it starts from."""
    trials: int
    text: str


def _place(key: str, row: _Row, tree: pd.DataFrame, shown: set[str], rows: list[_Row]) -> None:
    """Append the row of a job and below it those of the jobs that start from it; the others are counted."""
    children, at = tree[tree["parent"] == key], len(rows)
    drawn = children["key"].isin(shown)
    more = f"  (+ {int((~drawn).sum()):,} more)" if not drawn.all() else ""
    short = row.text if len(row.text) <= MOST_LETTERS else f"{row.text[: MOST_LETTERS - 1]}…"
    rows.append(row._replace(text=short + more))
    for child in children[drawn].to_dict("records"):
        _place(child["key"], _Row(row.depth + 1, at, child["trials"], child["job"]), tree, shown, rows)


@styled
def _draw_curve(curve: pd.DataFrame) -> Figure:
    """Draw the best objective so far against steps, with and without sharing, and against time."""
    figure = new_figure(WIDTH, 2.8)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    _climb(by_steps, curve, "steps", "with sharing")
    look: dict[str, Any] = {"color": ORANGE, "linestyle": "--", "label": "without sharing"}
    by_steps.step(curve["steps_unshared"], curve["best"], where="post", **look)
    by_steps.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2)
    by_steps.set(xlabel="optimizer steps so far", ylabel="best objective so far (validation)")
    by_steps.xaxis.set_major_formatter(EngFormatter(sep=""))
    unit, word = (HOUR, "hours") if curve["seconds"].max() > 2 * HOUR else (MINUTE, "minutes")
    _climb(by_time, curve.assign(time=curve["seconds"] / unit), "time", "")
    by_time.set(xlabel=f"{word} of trials so far, added up")
    return figure


def _climb(axes: Axes, curve: pd.DataFrame, cost: str, label: str) -> None:
    """Draw each trial as a point and the best so far as a line."""
    scatter(axes, curve[cost], curve["objective"], s=9, color=INK, alpha=0.5)
    axes.step(curve[cost], curve["best"], where="post", color=BLUE, label=label)
