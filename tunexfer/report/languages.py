"""The best chains beside the baseline, language by language."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tunexfer.report.comparison import (
    ONE_SEED,
    Comparison,
    Run,
    compare_runs,
    untested_in_words,
    verdict_in_words,
)
from tunexfer.report.figures import BLUE, INK, VERMILION, WIDTH, new_figure, styled
from tunexfer.report.section import Section
from tunexfer.report.study import Study

SHOWN = 3
"""Chains of a search without confirmation."""
CHAINS = "Chains compared"
_COLUMNS = ["language", "unseen", "before", "after", "delta", "low", "high", "sd", "seeds", "p", "p_holm", "verdict"]
_LOOKS = {
    "gain": (BLUE, "o", BLUE),
    f"gain{ONE_SEED}": (BLUE, "o", "none"),
    "loss": (VERMILION, "s", VERMILION),
    f"loss{ONE_SEED}": (VERMILION, "s", "none"),
    "": (INK, "o", "none"),
}
"""Colour, marker and face colour of each verdict."""
_EXPLANATION = (
    "Each chain is compared with the baseline of the same seeds. before and after are percentages, delta is in points; "
    "all are means over seeds. low and high: 95 % interval of the delta by paired bootstrap over the scored rows, "
    "10,000 resamples; rows of one template or of parallel text are drawn together. p: two-sided, by random exchange "
    "of the two chains' rows; p_holm: after Holm's correction over the target's languages. sd: standard deviation of "
    "the delta over seeds. gains and losses count verdicts, those of one seed included (hollow markers in the figures)."
)


@dataclass(frozen=True)
class Candidate:
    """A chain, and the runs that compare it with the baseline."""

    study: Study
    trial: int
    """Its number in the search."""
    pairs: tuple[tuple[Run, Run], ...]
    """The chain and the baseline, once per seed."""
    fresh: bool
    """Whether the seeds are others than the one that it was selected with."""
    objective: float
    """Mean over the seeds; validation."""
    baseline_objective: float

    @property
    def stages(self) -> str:
        return str(self.study.trials().loc[self.trial, "stages"])

    @property
    def chain(self) -> str:
        return str(self.study.trials().loc[self.trial, "chain"])

    @property
    def beats_baseline(self) -> bool:
        return self.objective > self.baseline_objective

    @cached_property
    def comparison(self) -> Comparison:
        return compare_runs(self.pairs)


@lru_cache(maxsize=16)
def candidates(study: Study) -> tuple[Candidate, ...]:
    """Select the chains that were confirmed, or else the best of the search, in order of their objective.

    The baseline is not among them; without a complete baseline, or another complete chain, there are none.
    """
    baseline = study.baseline()
    if baseline is None:
        return ()
    trials = study.trials()
    objectives, seeds = trials["objective"].to_dict(), trials["seed"].to_dict()
    baselines = {seeds[number]: number for number in study.repeats(baseline)}
    searched = trials[
        (trials["phase"] == "search") & trials["objective"].notna() & trials.index.isin(study.scores()["trial"])
    ]
    ranked = []
    for number in searched.sort_values("objective", ascending=False, kind="stable").index.tolist():
        if study.chain(number) == study.chain(baseline):
            continue
        fresh = [(n, baselines[seeds[n]]) for n in study.repeats(number) if seeds[n] in baselines]
        runs = fresh or [(number, baseline)]
        means = (statistics.fmean(objectives[n] for n in side) for side in zip(*runs, strict=True))
        pairs = tuple((Run(study, after), Run(study, before)) for after, before in runs)
        ranked.append(Candidate(study, number, pairs, bool(fresh), *means))
    best = study.best()
    confirmed = [candidate for candidate in ranked if candidate.fresh]
    confirmed.sort(key=lambda candidate: (candidate.trial != best, -candidate.objective))
    return tuple(confirmed or ranked[:SHOWN])


def section(studies: Sequence[Study]) -> Section | None:
    """Tabulate each candidate by target; plot the best candidate of each study."""
    compared = [candidate for study in studies for candidate in candidates(study)]
    if not compared:
        return None
    tables: dict[str, pd.DataFrame] = {}
    figures: dict[str, Figure] = {}
    for candidate in compared:
        prefix = f"{candidate.study.name}, " if len(studies) > 1 else ""
        for target, part in candidate.comparison.languages.groupby("target", sort=False):
            title = f"{prefix}trial {candidate.trial}: {target}"
            tables[title] = part[_COLUMNS].sort_values("delta", ascending=False, kind="stable")
            if candidate is candidates(candidate.study)[0]:
                scored = f"{target} ({part['metric'].iloc[0]}, {part['split'].iloc[0]})"
                figures[f"{title}, differences and intervals"] = forest(part, scored)
    overview = pd.DataFrame([_chain_row(candidate) for candidate in compared])
    verdicts = (verdict_in_words(seeds) for seeds in sorted({len(candidate.pairs) for candidate in compared}))
    untested = dict.fromkeys(untested_in_words(candidate.comparison) for candidate in compared)
    return Section(
        key="languages",
        title="Language by language",
        words=(_EXPLANATION, *verdicts, *filter(None, untested)),
        tables={CHAINS: overview.drop(columns=[] if len(studies) > 1 else "study"), **tables},
        figures=figures,
        folded=frozenset([*tables, *list(figures)[1:]]),
        shaded={title: ["delta"] for title in tables},
    )


def _chain_row(candidate: Candidate) -> dict[str, object]:
    verdicts = candidate.comparison.languages["verdict"]
    return {
        "study": candidate.study.name,
        "trial": candidate.trial,
        "stages": candidate.stages,
        "objective": candidate.objective,
        "baseline": candidate.baseline_objective,
        "seeds": len(candidate.pairs),
        "fresh seeds": candidate.fresh,
        "scores": len(verdicts),
        "gains": int(verdicts.str.startswith("gain").sum()),
        "losses": int(verdicts.str.startswith("loss").sum()),
    }


@styled
def forest(part: pd.DataFrame, title: str) -> Figure:
    """Plot each language's delta with its interval, the largest on top; coloured where there is a verdict.

    part: rows of `Comparison.languages`, of one target
    """
    part = part.sort_values("delta", kind="stable")
    height = 0.17 * len(part) + 1.0
    figure = new_figure(WIDTH, height)
    figure.set_layout_engine("none")  # labels are short and alike, so their room is known without measuring them
    box = (0.12, 0.55 / height, 0.86, 1 - 0.85 / height)
    axes = figure.add_axes(box, title=title, xlabel="points over the baseline")
    places = np.arange(len(part))
    colours = [_LOOKS[str(verdict)][0] for verdict in part["verdict"]]
    axes.axvline(0.0, color=INK, linewidth=0.6)
    axes.hlines(places, part["low"], part["high"], colors=colours, linewidth=1.2)
    for verdict, (colour, marker, face) in _LOOKS.items():
        some = (part["verdict"] == verdict).to_numpy()
        look: dict[str, Any] = {"marker": marker, "facecolors": face, "edgecolors": colour}
        axes.scatter(part["delta"][some], places[some], s=16, zorder=3, **look)
    trained = np.where(part["unseen"].astype(bool), "", " (trained)")
    axes.set_yticks(places, (part["language"] + trained).tolist())
    axes.set_ylim(-0.8, len(part) - 0.2)
    axes.tick_params(axis="y", length=0, labelsize=7)
    return figure
