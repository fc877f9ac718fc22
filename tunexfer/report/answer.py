"""The report's first part: the study's findings, and how certain the best chain's gains are over the scored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from tunexfer.report.comparison import EVERY, ONE_SEED, TARGETS, UNSEEN, untested_in_words, verdict_in_words
from tunexfer.report.languages import Candidate, candidates
from tunexfer.report.section import Section
from tunexfer.report.study import Study

MEANS = "Gain of the best chain"
WINNERS = "Winner of each target"
FRONT = "Pareto front"
_COLUMNS = ["target", "language", "languages", "before", "after", "delta", "low", "high", "p", "sd", "seeds"]
_VERDICTS = {
    "gain": "Significant gains in",
    "loss": "Significant losses in",
    f"gain{ONE_SEED}": "Significant gains (one seed) in",
    f"loss{ONE_SEED}": "Significant losses (one seed) in",
}


def section(studies: Sequence[Study]) -> Section:
    """Write a few paragraphs per study, with the numbers of its best chain as a table."""
    words = [sentence for study in studies for sentence in answer(study, named=len(studies) > 1)]
    tables = []
    for study in studies:
        for best in candidates(study)[:1]:
            tables.append(best.comparison.means[_COLUMNS])
            tables[-1].insert(0, "trial", best.trial)
            if len(studies) > 1:
                tables[-1].insert(0, "study", study.name)
    titled = {MEANS: tables, WINNERS: _of_each(studies, _winners), FRONT: _of_each(studies, _front)}
    whole = {title: pd.concat(own, ignore_index=True) for title, own in titled.items() if own}
    return Section(
        key="answer",
        title="The answer",
        words=tuple(words),
        tables=whole,
        shaded={MEANS: ["delta"], WINNERS: ["delta"]},
    )


def _of_each(studies: Sequence[Study], tabulate: Callable[[Study], pd.DataFrame]) -> list[pd.DataFrame]:
    """Tabulate every study that has such rows, named where there are several."""
    tables = [(study, tabulate(study)) for study in studies]
    return [table.assign(study=study.name) if len(studies) > 1 else table for study, table in tables if len(table)]


def _winners(study: Study) -> pd.DataFrame:
    """Tabulate the winner of each target by its own validation score, then their mean."""
    rows = [{"target": name, **row} for name, row in study.findings.best_per_target.items()]
    if len(rows) > 1:
        rows.append({"target": "mean over targets", **study.findings.mean_of_winners})
    columns = ["target", "trial", "value", "metric", "split", "languages", "unseen", "baseline", "score", "delta"]
    return pd.DataFrame(rows, columns=[*columns, "chain"]).rename(columns={"value": "validation"})


def _front(study: Study) -> pd.DataFrame:
    """Tabulate the trials that no other beats in all goals at once."""
    rows = study.findings.front
    return pd.DataFrame([{"trial": row["trial"], **row["goals"], "chain": row["chain"]} for row in rows])


def answer(study: Study, *, named: bool = False) -> Iterator[str]:
    """Print a study's findings, then what the scored rows say about the best chain, then warnings.

    named: begin with the study's name
    """
    yield f"{study.name}: {study.findings.headline}" if named else study.findings.headline
    yield from study.findings.sentences
    for best in candidates(study)[:1]:
        yield from _over_rows(best)
    yield from study.findings.warnings


def _over_rows(best: Candidate) -> Iterator[str]:
    comparison, seeds = best.comparison, len(best.pairs)
    targets = comparison.languages["target"].unique().tolist()
    rows = f"scored rows of {seeds} fresh seed{'s' * (seeds > 1)}" if best.fresh else "scored rows"
    yield (
        f"Trial {best.trial} and the baseline compared over the {rows}. Intervals do not account for seed variance. "
        f"{verdict_in_words(seeds)}"
    )
    if len(targets) > 1:
        yield f"All targets: {_in_words(_mean(best, TARGETS))}."
    for target in targets:
        yield " ".join(_target(best, target))
    yield _unseen(best)
    yield from filter(None, (untested_in_words(comparison), *comparison.remarks))


def _target(best: Candidate, target: str) -> Iterator[str]:
    mean, languages = _mean(best, target), best.comparison.languages
    own = languages[languages["target"] == target]
    yield f"{target}: {_in_words(mean)}."
    for verdict, words in _VERDICTS.items():
        if some := own.loc[own["verdict"] == verdict, "language"].tolist():
            yield f"{words} {', '.join(some)}."
    if mean["split"] == "test" and own["low"].notna().any() and not own["verdict"].any():
        yield "No difference in a single language is significant."


def _mean(best: Candidate, target: str) -> Any:
    """Look up the mean over unseen languages, where there are any, else over all."""
    means = best.comparison.means[best.comparison.means["target"] == target].set_index("language", drop=False)
    return means.loc[UNSEEN if UNSEEN in means.index else EVERY]


def _in_words(mean: Any) -> str:
    delta = f"{mean['delta']:+.2f} points, {mean['language']}"
    if pd.isna(mean["low"]):
        return f"{delta} (no interval)"
    p = f"p = {mean['p']:.3f}" if mean["p"] >= 0.001 else "p < 0.001"
    return f"{delta} (95 % interval {mean['low']:+.2f} to {mean['high']:+.2f}, {p})"


def _unseen(best: Candidate) -> str:
    languages = best.comparison.languages
    seen = languages[~languages["unseen"].astype(bool)].groupby("target", sort=False)["language"].agg(", ".join)
    if seen.empty:
        return "Every language of every target is unseen."
    lines = "; ".join(f"{target} in {some}" for target, some in seen.items())
    return f"Seen in training: {lines}. Every other language of a target is unseen."
