"""The answer first, in words: the best chain, what it gains where, who chose it, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tunexfer.report.comparison import EVERY, ONE_SEED, TARGETS, UNSEEN, untested_in_words, verdict_in_words
from tunexfer.report.contenders import Contender, contenders
from tunexfer.report.section import Section
from tunexfer.report.study import Study

MEANS = "Gain of the best chain"
_COLUMNS = ("target", "language", "languages", "before", "after", "delta", "low", "high", "p", "sd", "seeds")


def section(studies: Sequence[Study]) -> Section | None:
    """A paragraph or two per study, and the numbers in them as a table."""
    words = [sentence for study in studies for sentence in answer(study, named=len(studies) > 1)]
    tables = []
    for study in studies:
        for best in contenders(study)[:1]:
            table = best.comparison.means[[*_COLUMNS]]
            tables.append(table.assign(study=study.name, trial=best.trial)[["study", "trial", *_COLUMNS]])
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if len(studies) == 1 and not found.empty:
        found = found.drop(columns="study")
    return Section(
        key="answer",
        title="The answer",
        words=tuple(words),
        tables={MEANS: found} if not found.empty else {},
        shaded={MEANS: ["delta"]},
    )


def answer(study: Study, *, named: bool = False) -> Iterator[str]:
    """What a study found, a sentence or a few at a time.

    named: begin with the study's name
    """
    trials = study.trials()
    states = trials.loc[trials["phase"] != "confirm", "state"].value_counts()
    done = f"Trials of the search: {', '.join(f'{count} {state}' for state, count in states.items()) or 'none'}."
    found = contenders(study)
    name = f"{study.name}: " if named else ""
    if not found:
        missing = "the baseline (trial 0) isn't there" if study.baseline() is None else "no other chain is complete"
        yield f"{name}There is nothing to compare yet: {missing}. {done}"
        return
    best = found[0]
    yield f"{name}{_headline(best)}"
    if best.comparison.languages["target"].nunique() > 1:
        mean = _mean(best, TARGETS)
        yield f"Against the baseline, mean of all targets: {_in_words(mean)} in the {mean['language']}."
    for target in best.comparison.languages["target"].unique():
        yield " ".join(_target(best, str(target)))
    yield _chosen_by(study)
    yield _unseen(best)
    yield " ".join((*_certainty(best, len(found)), done))


def _headline(best: Contender) -> str:
    said = "Best chain" if best.ahead else "No chain beat the baseline. The next best"
    objectives = f"Its objective is {best.objective:.2f}, the baseline's {best.baseline_objective:.2f}."
    return f"{said} (trial {best.trial}): {best.chain}. {objectives}"


def _target(best: Contender, target: str) -> Iterator[str]:
    mean, languages = _mean(best, target), best.comparison.languages
    own = languages[languages["target"] == target]
    yield f"{target}: {_in_words(mean)} in the {mean['language']} ({int(mean['languages'])}, {mean['split']} split)."
    for verdict, said in _SAID.items():
        some = own.loc[own["verdict"] == verdict, "language"].tolist()
        if some:
            yield f"{said} in {', '.join(some)}."
    if mean["split"] == "test" and own["low"].notna().any() and not own["verdict"].any():
        yield "In no single language is the difference beyond chance."


_SAID = {
    "gain": "Beyond chance it helps",
    "loss": "Beyond chance it hurts",
    f"gain{ONE_SEED}": "Beyond the noise of the rows alone, with one seed, it is ahead",
    f"loss{ONE_SEED}": "Beyond the noise of the rows alone, with one seed, it is behind",
}
"""By verdict."""


def _mean(best: Contender, target: str) -> Any:
    """Over unseen languages, where there are any, else over all."""
    means = best.comparison.means[best.comparison.means["target"] == target].set_index("language", drop=False)
    return means.loc[UNSEEN if UNSEEN in means.index else EVERY]


def _in_words(mean: Any) -> str:
    if pd.isna(mean["low"]):
        return f"{mean['delta']:+.2f} points (no interval)"
    p = f"p = {mean['p']:.3f}" if mean["p"] >= 0.001 else "p < 0.001"
    return f"{mean['delta']:+.2f} points (95 % interval {mean['low']:+.2f} to {mean['high']:+.2f}, {p})"


def _chosen_by(study: Study) -> str:
    objective = study.objective
    if not objective:
        return "Whose validation rows chose it is unknown, as the plan can't be read."
    languages = objective["languages"]
    said = f"It was chosen by the {str(objective['maximize']).replace('_', ' ')} of validation scores"
    if languages == "train":
        return f"{said} in the targets' train languages alone, which is the zero-shot protocol."
    which = "all languages" if languages == "all" else ", ".join(languages)
    return f"{said} in {which}: labelled rows of target languages took part, so this is not the zero-shot protocol."


def _unseen(best: Contender) -> str:
    languages = best.comparison.languages
    seen = languages[~languages["unseen"].astype(bool)].groupby("target", sort=False)["language"].agg(", ".join)
    if seen.empty:
        return "Every language of every target is unseen: nothing trained its task in it."
    lines = "; ".join(f"{target} in {some}" for target, some in seen.items())
    return f"Seen in training: {lines}. Every other language of a target is unseen."


def _certainty(best: Contender, chains: int) -> Iterator[str]:
    seeds, trials = len(best.pairs), best.study.trials()
    searched = int(((trials["phase"] == "search") & (trials["state"] == "complete")).sum())
    if best.fresh:
        yield (
            f"How sure: {seeds} fresh seed{'s' * (seeds > 1)}, for the baseline as well; of the {chains} confirmed "
            f"chain{'s' * (chains > 1)} it has the best objective."
        )
        if seeds < 3:
            yield "So few seeds say little about their spread."
    else:
        yield (
            f"How sure: one seed, the one it was chosen by. The best of {searched} chains is partly the luckiest, so "
            "expect less of it elsewhere."
        )
    yield "Intervals are over the scored rows; they know nothing of other seeds."
    yield verdict_in_words(seeds)
    if untested := untested_in_words(best.comparison):
        yield untested
    yield from best.comparison.remarks
