"""What the search cost: steps and seconds, what sharing stages saved, and how the best score grew with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tunexfer.record.savings import seconds_saved
from tunexfer.report.section import Section
from tunexfer.report.stage_tree import draw_tree, stage_tree, tree_table
from tunexfer.report.strips import faint
from tunexfer.report.study import UNFINISHED, Study
from tunexfer.report.style import BLUE, INK, ORANGE, WIDTH, new_figure, scatter, styled

MINUTE, HOUR = 60, 3600


def section(studies: Sequence[Study]) -> Section | None:
    """What each study cost so far; None where nothing has ended yet."""
    ended = [study for study in studies if study.ended]
    if not ended:
        return None
    totals = [_totals(study) for study in ended]
    tables = {"Cost": pd.DataFrame(totals)}
    by_stage = [_by_stage(study) for study in ended]
    if any(map(len, by_stage)):
        tables["Cost by stage"] = pd.concat(by_stage, ignore_index=True)
    figures: dict[str, Figure] = {}
    trees, curves = [], []
    for study in ended:
        name = f" ({study.name})" if len(ended) > 1 else ""
        trials = study.trials()
        chains = [study.chain(int(number)) for number in trials.index[trials["phase"] != "confirm"]]
        tree = stage_tree(chains)
        trees.append(tree_table(tree).assign(study=study.name))
        if len(tree) > 1:
            root = chains[0].encoder.name if len({chain.encoder for chain in chains}) == 1 else "every chain"
            figures[f"Stage tree{name}"] = draw_tree(tree, root)
        so_far = spent(trials)
        curves.append(so_far.reset_index().assign(study=study.name))
        if so_far["objective"].notna().sum() > 1:
            figures[f"Best score against cost{name}"] = _draw_spent(so_far)
    tables["Stage tree"] = _study_first(trees)
    tables["Best score against cost"] = _study_first(curves)
    return Section(
        key="cost",
        title="Cost",
        words=tuple(map(_in_words, totals)),
        tables=tables,
        figures=figures,
        folded=frozenset({"Cost by stage", "Stage tree", "Best score against cost"} & tables.keys()),
    )


def _totals(study: Study) -> dict[str, Any]:
    """Of all phases: the confirmation costs too."""
    trials = study.trials()
    states = trials["state"].value_counts()
    trained, reused = int(trials["steps_trained"].sum()), int(trials["steps_reused"].sum())
    return {
        "study": study.name,
        **{state: int(states.get(state, 0)) for state in ("complete", "failed", "stopped", UNFINISHED)},
        "steps_trained": trained,
        "steps_reused": reused,
        "share_reused": reused / (trained + reused) if reused else 0.0,
        "seconds_of_trials": float(trials["seconds"].sum()),
        "seconds_trained": float(trials["seconds_trained"].sum()),
        "seconds_saved": float(sum(seconds_saved(study.ended).values())),
    }


def _in_words(totals: dict[str, Any]) -> str:
    trained, reused = totals["steps_trained"], totals["steps_reused"]
    said = (
        f"{totals['study']}: its trials took {_time(totals['seconds_of_trials'])}, added up, of which training "
        f"{trained:,} steps took {_time(totals['seconds_trained'])}."
    )
    if not reused:
        return f"{said} Nothing was shared."
    return (
        f"{said} {reused:,} steps more ({totals['share_reused']:.0%} of all) were taken from the store, trained "
        f"before by other trials or studies: about {_time(totals['seconds_saved'])} saved."
    )


def _time(seconds: float) -> str:
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


def _by_stage(study: Study) -> pd.DataFrame:
    """One row a stage or target: how often it was trained and reused, with steps and seconds."""
    runs = study.stages()
    trained, saved = runs[~runs["reused"].astype(bool)], seconds_saved(study.ended)
    names = runs["name"].unique()
    return pd.DataFrame(
        {
            "study": study.name,
            "stage": names,
            "runs": runs.groupby("name").size().reindex(names).to_numpy(),
            "trained": trained.groupby("name").size().reindex(names, fill_value=0).to_numpy(),
            "steps_trained": trained.groupby("name")["steps"].sum().reindex(names, fill_value=0).to_numpy(),
            "seconds_trained": trained.groupby("name")["seconds"].sum().reindex(names, fill_value=0.0).to_numpy(),
            "seconds_saved": [saved.get(name, 0.0) for name in names],
        }
    )


def spent(trials: pd.DataFrame) -> pd.DataFrame:
    """TrialResult trials of the search in the order in which they ended, with what had been spent by then.

    trials: of `Study.trials`
    returns: indexed by trial: objective (NaN where the trial isn't complete), best (objective so far, NaN before the
    first), steps (trained so far), steps_unshared (if every trial had trained all of its own), seconds (of trials)
    """
    own = trials[(trials["phase"] != "confirm") & trials["seconds"].notna()]
    own = own.loc[(own["started"] + own["seconds"]).sort_values(kind="stable").index]
    return pd.DataFrame(
        {
            "objective": own["objective"],
            "best": own["objective"].cummax().ffill(),
            "steps": own["steps_trained"].cumsum(),
            "steps_unshared": (own["steps_trained"] + own["steps_reused"]).cumsum(),
            "seconds": own["seconds"].cumsum(),
        }
    )


def _study_first(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    return table[["study", *table.columns.drop("study")]]


@styled
def _draw_spent(so_far: pd.DataFrame) -> Figure:
    """The best objective so far against steps, as trained and as if nothing were shared, and against time."""
    figure = new_figure(WIDTH, 2.8)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    _climb(by_steps, so_far, "steps", BLUE, "as trained")
    apart = {"color": ORANGE, "linestyle": "--", "label": "if nothing were shared"}
    by_steps.step(so_far["steps_unshared"], so_far["best"], where="post", **apart)
    by_steps.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=2)
    by_steps.set(xlabel="optimizer steps so far", ylabel="best objective so far (validation)")
    by_steps.xaxis.set_major_formatter(EngFormatter(sep=""))
    unit, word = (HOUR, "hours") if so_far["seconds"].max() > 2 * HOUR else (MINUTE, "minutes")
    _climb(by_time, so_far.assign(time=so_far["seconds"] / unit), "time", BLUE, "")
    by_time.set(xlabel=f"{word} of trials so far, added up")
    return figure


def _climb(axes: Axes, so_far: pd.DataFrame, cost: str, color: str, label: str) -> None:
    """Each trial a point, the best so far a line."""
    scatter(axes, so_far[cost], so_far["objective"], s=9, color=INK, alpha=faint(len(so_far)))
    axes.step(so_far[cost], so_far["best"], where="post", color=color, label=label)
