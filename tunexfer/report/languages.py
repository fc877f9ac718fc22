"""The best chains beside the baseline, language by language."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tunexfer.core.controls import equal_compute
from tunexfer.record.gains import ALL_TARGETS, fresh_or_own, runs_by_seed
from tunexfer.record.noise import LEVEL
from tunexfer.report.comparison import (
    TARGETS,
    UNSEEN,
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
LANGUAGES = "Every language"
_COLUMNS = [
    *("trial", "target", "language", "unseen", "before", "after", "delta", "low", "high", "shrunken", "sd", "seeds"),
    *("same_sign", "p_holm", "verdict", "rows_low", "rows_high", "rows_p"),
]
_LOOKS = {"gain": (BLUE, "o", BLUE), "loss": (VERMILION, "s", VERMILION), "": (INK, "o", "none")}
"""Colour, marker and face colour of each verdict."""
_EXPLANATION = (
    "Each chain is compared with the baseline of the same seeds. before and after are percentages, delta is in points; "
    "all are means over seeds. low and high: 95 % interval over runs and rows. shrunken: the delta drawn towards the "
    "target's mean by as much as it is noise. p_holm: corrected over the target's languages. same_sign: seeds whose "
    "delta has the commoner sign. rows_low, rows_high, rows_p: bootstrap and exchange test over the scored rows alone, "
    "as if no other seed existed."
)


@dataclass(frozen=True)
class _Candidate:
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
    chains: int = 1
    """How many chains were confirmed with it."""

    @property
    def stages(self) -> str:
        return str(self.study.trials().loc[self.trial, "stages"])

    @property
    def chain(self) -> str:
        return str(self.study.trials().loc[self.trial, "chain"])

    @cached_property
    def comparison(self) -> Comparison:
        return compare_runs(self.pairs, chains=self.chains)


@lru_cache(maxsize=16)
def candidates(study: Study) -> tuple[_Candidate, ...]:
    """Select the chains that were confirmed, or else the best of the search, in order of their objective.

    The baseline is not among them; without a complete baseline, or another complete chain, there are none.
    """
    baseline = study.baseline()
    if baseline is None:
        return ()
    trials = study.trials()
    objectives, seeds = trials["objective"].to_dict(), trials["seed"].to_dict()
    scored = [number for number in trials.index if number in set(study.scores()["trial"])]
    plain = {(study.chain(n).targets, seeds[n]): n for n in scored if not study.chain(n).stages}

    def before(number: int) -> int | None:
        """Find the chain without stages that has the trial's own target values and seed, else the baseline."""
        chain, usual = study.chain(number), plain.get((study.chain(baseline).targets, seeds[number]))
        return plain.get((chain.targets, seeds[number]), usual) if chain.stages else usual

    searched = trials[
        (trials["phase"] == "search") & trials["objective"].notna() & trials.index.isin(study.scores()["trial"])
    ]
    ranked = []
    for number in searched.sort_values("objective", ascending=False, kind="stable").index.tolist():
        if study.chain(number) == study.chain(baseline):
            continue
        fresh = [(n, other) for n in study.repeats(number) if (other := before(n)) is not None]
        runs = fresh or [(number, before(number) or baseline)]
        mean, mean_before = (statistics.fmean(objectives[n] for n in side) for side in zip(*runs, strict=True))
        pairs = tuple((Run(study, run), Run(study, without)) for run, without in runs)
        ranked.append(_Candidate(study, number, pairs, bool(fresh), mean, mean_before))
    best = study.best()
    confirmed = [candidate for candidate in ranked if candidate.fresh]
    confirmed.sort(key=lambda candidate: (candidate.trial != best, -candidate.objective))
    return tuple(replace(candidate, chains=len(confirmed)) for candidate in confirmed) or tuple(ranked[:SHOWN])


def row_noise(study: Study) -> dict[tuple[int | str, ...], tuple[float, float]]:
    """Compute the variance of gains through the rows, and how many clusters they form, as `record.gains` reads them."""
    noise: dict[tuple[int | str, ...], tuple[float, float]] = {}
    for candidate in candidates(study):
        for target, variance in _row_noise(candidate.comparison):
            noise[candidate.trial, target] = variance
    trials = {result.trial.number: result for result in study.ended if result.state == "complete"}
    by_chain = runs_by_seed(list(trials.values()))
    for candidate in candidates(study)[:1]:
        chain = study.chain(candidate.trial)
        own = fresh_or_own(by_chain[chain], trials[candidate.trial])
        for (over, target), control in equal_compute(chain).items():
            other = by_chain.get(control, {})
            if pairs := [(Run(study, own[seed]), Run(study, other[seed])) for seed in own if seed in other]:
                cells = {(target, language) for language in study.scores()["language"].unique()}
                for _, variance in _row_noise(compare_runs(pairs, cells=cells)):
                    noise[candidate.trial, target, over] = variance
    return noise


def _row_noise(comparison: Comparison) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield each target, or `ALL_TARGETS`, with the variance through its rows and their clusters."""
    means = comparison.means.sort_values("language", key=lambda names: names != UNSEEN, kind="stable")
    for row in means[means["rows_variance"].notna()].drop_duplicates("target").to_dict("records"):
        target = ALL_TARGETS if row["target"] == TARGETS else str(row["target"])
        yield target, (float(row["rows_variance"]), float(row["clusters"]))


def section(studies: Sequence[Study]) -> Section | None:
    """Tabulate each candidate by target; plot the best candidate of each study."""
    compared = [candidate for study in studies for candidate in candidates(study)]
    if not compared:
        return None
    tables: list[pd.DataFrame] = []
    figures: dict[str, Figure] = {}
    for candidate in compared:
        prefix = f"{candidate.study.name}, " if len(studies) > 1 else ""
        languages = candidate.comparison.languages.assign(trial=candidate.trial)[_COLUMNS]
        tables.append(languages.assign(study=candidate.study.name) if prefix else languages)
        if candidate is candidates(candidate.study)[0]:
            title = f"{prefix}trial {candidate.trial} in each language: differences and intervals"
            figures[title] = forest(candidate.comparison.languages)
    overview = pd.DataFrame([_chain_row(candidate) for candidate in compared])
    verdicts = (verdict_in_words(seeds) for seeds in sorted({len(candidate.pairs) for candidate in compared}))
    untested = dict.fromkeys(untested_in_words(candidate.comparison) for candidate in compared)
    return Section(
        key="languages",
        title="Language by language",
        words=(*_apart(compared), *verdicts, _EXPLANATION, *filter(None, untested)),
        tables={
            CHAINS: overview.drop(columns=[] if len(studies) > 1 else "study"),
            LANGUAGES: pd.concat(tables, ignore_index=True),
        },
        figures=figures,
        folded=frozenset([CHAINS, LANGUAGES, *list(figures)[1:]]),
        shaded={LANGUAGES: ["delta", "shrunken"]},
    )


def _apart(compared: Sequence[_Candidate]) -> Iterator[str]:
    """Say for each target of the best chains whether languages gain differently at all."""
    for best in (own for own in compared if own is candidates(own.study)[0]):
        means = best.comparison.means.sort_values("language", key=lambda names: names != UNSEEN, kind="stable")
        for row in means[means["q_p"].notna()].drop_duplicates("target").to_dict("records"):
            test = f"Cochran's Q {row['q']:.1f} on {row['languages'] - 1:.0f} degrees of freedom"
            mean = f"trial {best.trial}, {row['target']}: {row['delta']:+.1f} points, {row['language']}. "
            if row["q_p"] < 1 - LEVEL:
                yield f"{mean}Languages differ ({test}; the true gains vary by {row['tau']:.1f} points)."
            else:
                yield f"{mean}No language can be told from the others ({test}), so none is ranked."


def _chain_row(candidate: _Candidate) -> dict[str, object]:
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
        "gains": int((verdicts == "gain").sum()),
        "losses": int((verdicts == "loss").sum()),
    }


@styled
def forest(languages: pd.DataFrame) -> Figure:
    """Plot each language's delta with its interval, a panel a target; coloured where there is a verdict.

    languages: as `Comparison.languages`
    """
    parts = list(languages.groupby("target", sort=False))
    most = int(languages["target"].value_counts().max())
    figure = new_figure(WIDTH, 0.15 * most + 1.2)
    panels = figure.subplots(1, len(parts), sharex=True, squeeze=False)[0]
    for axes, (target, part) in zip(panels, parts, strict=True):
        part = part.sort_values("delta", kind="stable")
        places = np.arange(len(part))
        axes.axvline(0.0, color=INK, linewidth=0.6)
        for verdict, (colour, marker, face) in _LOOKS.items():
            some = (part["verdict"] == verdict).to_numpy()
            axes.hlines(places[some], part["low"][some], part["high"][some], colors=colour, linewidth=1.0)
            look: dict[str, Any] = {"marker": marker, "facecolors": face, "edgecolors": colour}
            axes.scatter(part["delta"][some], places[some], s=10, zorder=3, **look)
        trained = np.where(part["unseen"].astype(bool), "", " (trained)")
        axes.set_yticks(places, (part["language"] + trained).tolist())
        axes.set_title(f"{target} ({part['metric'].iloc[0]})", fontsize=8)
        axes.tick_params(axis="y", length=0, labelsize=6)
        axes.set_ylim(-0.8, most - 0.2)
    figure.supxlabel("points over the baseline", fontsize=8)
    return figure
