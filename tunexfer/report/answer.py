"""The report's first part: the study's findings, and how certain the best chain's gains are over the scored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from tunexfer.report.comparison import untested_in_words, verdict_in_words
from tunexfer.report.languages import candidates
from tunexfer.report.section import Section
from tunexfer.report.study import Study

WINNERS = "Winner of each target"
EQUAL_COMPUTE = "Gain over baselines of equal compute"
FRONT = "Pareto front"
EACH_ITS_OWN, ONE_FOR_ALL = "mean, each target its own chain", "mean, one chain for all targets"


def section(studies: Sequence[Study]) -> Section:
    """Write each study's card, then the winner of each target; the sentences behind them are folded."""
    named = len(studies) > 1
    titled = {
        WINNERS: _of_each(studies, _winners),
        EQUAL_COMPUTE: _of_each(studies, lambda study: pd.DataFrame(study.findings.equal_compute)),
        FRONT: _of_each(studies, _front),
    }
    return Section(
        key="answer",
        title="The answer",
        card=[
            (f"{study.name}, {name}" if named else name, words)
            for study in studies
            for name, words in study.findings.card.items()
        ],
        words=tuple(warning for study in studies for warning in study.findings.warnings),
        notes={"In words": "\n\n".join(sentence for study in studies for sentence in answer(study, named=named))},
        tables={title: pd.concat(own, ignore_index=True) for title, own in titled.items() if own},
        folded=frozenset({EQUAL_COMPUTE}),
        shaded={WINNERS: ["delta"], EQUAL_COMPUTE: ["mean"]},
    )


def _of_each(studies: Sequence[Study], tabulate: Callable[[Study], pd.DataFrame]) -> list[pd.DataFrame]:
    """Tabulate every study that has such rows, named where there are several."""
    tables = [(study, tabulate(study)) for study in studies]
    return [table.assign(study=study.name) if len(studies) > 1 else table for study, table in tables if len(table)]


def _winners(study: Study) -> pd.DataFrame:
    """Tabulate the winner of each target by its own validation score, their mean, and the one chain for all targets.

    delta, low, high and sure are over fresh seeds; without such seeds a winner is a candidate.
    """
    findings = study.findings
    rows: list[dict[str, Any]] = [
        {"target": name, **row, "sure": findings.how_sure(name)}
        | dict(zip(("low", "high"), findings.interval(name) or (), strict=False))
        for name, row in findings.best_per_target.items()
    ]
    if len(rows) > 1:
        rows.append({"target": EACH_ITS_OWN, **findings.mean_of_winners})
        if one := findings.mean_of_best:
            rows.append({"target": ONE_FOR_ALL, **one, "delta": one["mean"]})
    columns = ["target", "trial", "delta", "low", "high", "sure", "baseline", "score", "languages", "unseen", "value"]
    table = pd.DataFrame(rows, columns=[*columns, "metric", "split", "chain"])
    return table.astype({"low": "float64", "high": "float64"}).rename(columns={"value": "validation"})


def _front(study: Study) -> pd.DataFrame:
    """Tabulate the trials that no other beats in all goals at once."""
    rows = study.findings.front
    return pd.DataFrame([{"trial": row["trial"], **row["goals"], "chain": row["chain"]} for row in rows])


def answer(study: Study, *, named: bool = False) -> Iterator[str]:
    """Print a study's card, its findings, what was trained in, and warnings.

    named: begin with the study's name
    """
    findings = study.findings
    yield f"{study.name}: {findings.headline}" if named else findings.headline
    yield from findings.sentences
    for best in candidates(study)[:1]:
        yield verdict_in_words(len(best.pairs))
        yield _unseen(best.comparison.languages)
        yield from filter(None, (untested_in_words(best.comparison), *best.comparison.remarks))
    yield from findings.warnings


def _unseen(languages: pd.DataFrame) -> str:
    seen = languages[~languages["unseen"].astype(bool)].groupby("target", sort=False)["language"].agg(", ".join)
    if seen.empty:
        return "Every language of every target is unseen."
    lines = "; ".join(f"{target} in {some}" for target, some in seen.items())
    return f"Seen in training: {lines}. Every other language of a target is unseen."
