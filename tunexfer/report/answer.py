"""The report's first part: the best chain, what it gains where, how it was selected, and how certain that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tunexfer.report.comparison import EVERY, ONE_SEED, TARGETS, UNSEEN, untested_in_words, verdict_in_words
from tunexfer.report.languages import Candidate, candidates
from tunexfer.report.section import Section
from tunexfer.report.study import Study

MEANS = "Gain of the best chain"
_COLUMNS = ["target", "language", "languages", "before", "after", "delta", "low", "high", "p", "sd", "seeds"]
_VERDICTS = {
    "gain": "Significant gains in",
    "loss": "Significant losses in",
    f"gain{ONE_SEED}": "Significant gains over rows, with one seed, in",
    f"loss{ONE_SEED}": "Significant losses over rows, with one seed, in",
}


def section(studies: Sequence[Study]) -> Section:
    """Write a few paragraphs per study, with the numbers in them as a table."""
    words = [sentence for study in studies for sentence in answer(study, named=len(studies) > 1)]
    tables = []
    for study in studies:
        for best in candidates(study)[:1]:
            tables.append(best.comparison.means[_COLUMNS])
            tables[-1].insert(0, "trial", best.trial)
            if len(studies) > 1:
                tables[-1].insert(0, "study", study.name)
    return Section(
        key="answer",
        title="The answer",
        words=tuple(words),
        tables={MEANS: pd.concat(tables, ignore_index=True)} if tables else {},
        shaded={MEANS: ["delta"]},
    )


def answer(study: Study, *, named: bool = False) -> Iterator[str]:
    """Summarise a study's result, a sentence or a few at a time.

    named: begin with the study's name
    """
    trials = study.trials()
    states = trials.loc[trials["phase"] != "confirm", "state"].value_counts()
    done = f"Trials of the search: {', '.join(f'{count} {state}' for state, count in states.items()) or 'none'}."
    compared = candidates(study)
    name = f"{study.name}: " if named else ""
    if not compared:
        missing = "the baseline (trial 0) is missing" if study.baseline() is None else "no other chain is complete"
        yield f"{name}There is nothing to compare yet: {missing}. {done}"
        return
    best = compared[0]
    yield f"{name}{_headline(best)}"
    targets = best.comparison.languages["target"].unique().tolist()
    if len(targets) > 1:
        mean = _mean(best, TARGETS)
        yield f"Mean gain over all targets: {_in_words(mean)}, {mean['language']}."
    for target in targets:
        yield " ".join(_target(best, target))
    yield _selection(study)
    yield _unseen(best)
    yield " ".join((*_certainty(best, len(compared)), done))


def _headline(best: Candidate) -> str:
    start = "Best chain" if best.beats_baseline else "No chain beat the baseline. The next best"
    objectives = f"Its objective is {best.objective:.2f}, the baseline's {best.baseline_objective:.2f}."
    return f"{start} (trial {best.trial}): {best.chain}. {objectives}"


def _target(best: Candidate, target: str) -> Iterator[str]:
    mean, languages = _mean(best, target), best.comparison.languages
    own = languages[languages["target"] == target]
    yield f"{target}: {_in_words(mean)}, {mean['language']} ({int(mean['languages'])}, {mean['split']} split)."
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
    if pd.isna(mean["low"]):
        return f"{mean['delta']:+.2f} points (no interval)"
    p = f"p = {mean['p']:.3f}" if mean["p"] >= 0.001 else "p < 0.001"
    return f"{mean['delta']:+.2f} points (95 % interval {mean['low']:+.2f} to {mean['high']:+.2f}, {p})"


def _selection(study: Study) -> str:
    objective = study.objective
    if not objective:
        return "Which validation data selected it is unknown, as the plan can't be read."
    languages = objective["languages"]
    start = f"It was selected by the {str(objective['maximize']).replace('_', ' ')} of validation scores"
    if languages == "train":
        return f"{start} in the targets' training languages only (zero-shot protocol)."
    which = "all languages" if languages == "all" else ", ".join(languages)
    return f"{start} in {which}: selection uses target-language validation data, which is not the zero-shot protocol."


def _unseen(best: Candidate) -> str:
    languages = best.comparison.languages
    seen = languages[~languages["unseen"].astype(bool)].groupby("target", sort=False)["language"].agg(", ".join)
    if seen.empty:
        return "Every language of every target is unseen."
    lines = "; ".join(f"{target} in {some}" for target, some in seen.items())
    return f"Seen in training: {lines}. Every other language of a target is unseen."


def _certainty(best: Candidate, chains: int) -> Iterator[str]:
    seeds, trials = len(best.pairs), best.study.trials()
    searched = int(((trials["phase"] == "search") & (trials["state"] == "complete")).sum())
    if best.fresh:
        yield (
            f"Certainty: {seeds} fresh seed{'s' * (seeds > 1)} for chain and baseline; it has the best objective of "
            f"the {chains} confirmed chain{'s' * (chains > 1)}."
        )
        if seeds < 3:
            yield "So few seeds say little about their variance."
    else:
        yield (
            f"Certainty: one seed, the one it was selected with. The best of {searched} chains is subject to selection "
            "bias; expect less on new data."
        )
    yield "Intervals are over the scored rows; they do not account for seed variance."
    yield verdict_in_words(seeds)
    if untested := untested_in_words(best.comparison):
        yield untested
    yield from best.comparison.remarks
