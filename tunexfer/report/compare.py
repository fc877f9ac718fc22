"""`tunexfer compare`: a trial of one study beside a trial of another, score by score on the same rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunexfer.errors import StudyError
from tunexfer.report.comparison import (
    ONE_SEED,
    Comparison,
    Run,
    compare_runs,
    main_scores,
    untested_in_words,
    verdict_in_words,
)
from tunexfer.report.study import Study

_MOST = 20
"""Differences of two plans that are shown."""
_ROW = ("id", "gold", "gold_count")
"""What makes two scored rows the same, and whether there is anything to find in them."""

_AHEAD = {"gain": "b", "loss": "a"}
Cell = tuple[str, str]
"""Target and language."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two trials, A and B; every difference is B's score less A's, in points."""

    runs: tuple[Run, Run]
    """The trials chosen."""
    pairs: tuple[tuple[Run, Run], ...]
    """What was compared for them, A and B: themselves, or their confirmations by the seeds that both have."""
    differences: pd.DataFrame
    """Where the two plans differ: setting, a, b."""
    comparison: Comparison
    """Its `before` is A, its `after` B."""
    left_out: tuple[str, ...]
    """Sentences: what only one of them has, and what isn't the same in both."""

    def table(self) -> pd.DataFrame:
        """A row per target and language, then the means: target, language, a, b, delta, interval, tests, and which is
        ahead, with `ONE_SEED` where only the scored rows say so."""
        whole = pd.concat([self.comparison.languages, self.comparison.means], ignore_index=True)
        names = {"before": "a", "after": "b", "verdict": "ahead"}
        known = {f"{verdict}{how}": f"{side}{how}" for verdict, side in _AHEAD.items() for how in ("", ONE_SEED)}
        ahead = whole["verdict"].map(known).fillna("")
        return whole.assign(verdict=ahead).rename(columns=names)


def compare_studies(a: Study, b: Study, trial_a: int | None = None, trial_b: int | None = None) -> Compared:
    """Two trials, by default each study's best, in all that both were scored on.

    raises: StudyError, if a trial has no scores, or the two have no target, language and scored rows in common
    """
    runs = Run(a, _chosen(a, trial_a)), Run(b, _chosen(b, trial_b))
    if a.folder.path.resolve() == b.folder.path.resolve() and runs[0].trial == runs[1].trial:
        raise StudyError(
            f"{a.folder.path}: trial {runs[0].trial} would be compared with itself. "
            "Choose two trials of a study with --trial-a and --trial-b."
        )
    pairs = _pairs(*runs)
    left_out = [*_only_one(*runs)]
    cells, unlike = _alike(*pairs[0])
    left_out += unlike
    if not cells:
        reasons = "\n".join(f"  {line}" for line in left_out)
        raise StudyError(
            f"{_named(runs[0])} (A) and {_named(runs[1])} (B) can't be compared: they weren't scored on the same rows "
            f"of the same targets.\n{reasons}"
        )
    return Compared(
        runs=runs,
        pairs=pairs,
        differences=_differences(a, b),
        comparison=compare_runs([(after, before) for before, after in pairs], cells=cells),
        left_out=tuple(left_out),
    )


def _chosen(study: Study, trial: int | None) -> int:
    scored = set(main_scores(study)["trial"])
    if trial is None:
        best = study.best()
        if best is None:
            raise StudyError(f"{study.folder.path} has no complete trial with an objective yet: nothing to compare.")
        return best
    study.chain(trial)
    if trial not in scored:
        there = ", ".join(map(str, sorted(scored))) or "none"
        raise StudyError(f"{study.folder.path}: trial {trial} has no scores. Trials that have: {there}.")
    return trial


def _pairs(a: Run, b: Run) -> tuple[tuple[Run, Run], ...]:
    """The confirmations of both by the same seeds, where there are any."""
    seeds = [
        {_seed(again): again for again in (Run(run.study, number) for number in run.study.repeats(run.trial))}
        for run in (a, b)
    ]
    return tuple((seeds[0][seed], seeds[1][seed]) for seed in seeds[0] if seed in seeds[1]) or ((a, b),)


def _seed(run: Run) -> int:
    return int(run.study.trials()["seed"][run.trial])


def _named(run: Run) -> str:
    return f"trial {run.trial} of {run.study.folder.path}"


def _only_one(a: Run, b: Run) -> Iterator[str]:
    """Targets and languages that one of them wasn't scored on, and targets by another metric or split."""
    sides = {"A": _scored(a), "B": _scored(b)}
    for name, other in (("A", "B"), ("B", "A")):
        for target, (languages, how) in sides[name].items():
            if target not in sides[other]:
                yield f"{target}: only {name} was scored on it."
                continue
            there, how_there = sides[other][target]
            if how != how_there and name == "A":
                yield f"{target}: {how} in A, {how_there} in B."
            elif how == how_there and (more := [language for language in languages if language not in there]):
                yield f"{target}: only {name} was scored in {', '.join(more)}."


def _scored(run: Run) -> dict[str, tuple[list[str], str]]:
    """Target -> its languages, and its main metric and split."""
    scores = main_scores(run.study)
    own = scores[scores["trial"] == run.trial]
    return {
        str(target): (part["language"].astype(str).tolist(), f"{part['metric'].iloc[0]} on {part['split'].iloc[0]}")
        for target, part in own.groupby("target", observed=True, sort=False)
    }


def _alike(a: Run, b: Run) -> tuple[Collection[Cell], list[str]]:
    """The targets and languages whose scored rows are the same, or aren't there to tell; and what is left out."""
    sides = [_rows(run) for run in (a, b)]
    scored = [_scored(run) for run in (a, b)]
    found: set[Cell] = set()
    unlike: dict[str, list[str]] = {}
    for target, (languages, how) in scored[0].items():
        if target not in scored[1] or how != scored[1][target][1]:
            continue
        for language in languages:
            if language in scored[1][target][0]:
                own, other = (side.get((target, language, how.split()[-1])) for side in sides)
                if own is None or other is None or _same(own, other):
                    found.add((target, language))
                else:
                    unlike.setdefault(target, []).append(language)
    return found, [
        f"{target}: the scored rows aren't the same in {', '.join(some)}." for target, some in unlike.items()
    ]


_Told = frozenset[tuple[str, str, bool]]
"""Of scored rows: id, gold, and whether there is something to find."""


def _same(own: _Told, other: _Told) -> bool:
    """Rows with nothing to find may be there in one alone: mining has them only where a chain found something."""
    return not any(to_find for _, _, to_find in own ^ other)


def _rows(run: Run) -> Mapping[tuple[str, str, str], _Told]:
    """What was scored, by target, language and split; empty where the rows can't be read: `compare_runs` tells."""
    try:
        table = run.study.rows(run.trial, ["task", "language", "split", *_ROW])
    except StudyError:
        return {}
    return {
        (str(task), str(language), str(split)): frozenset(
            zip(part["id"], part["gold"], part["gold_count"] != 0, strict=True)
        )
        for (task, language, split), part in table.groupby(["task", "language", "split"], observed=True)
    }


def _differences(a: Study, b: Study) -> pd.DataFrame:
    """Settings of the plans' identity that differ."""
    sides = [dict(_flat(study.plan.get("identity", {}))) for study in (a, b)]
    rows = [
        (path, sides[0].get(path, ""), sides[1].get(path, ""))
        for path in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(path) != sides[1].get(path)
    ]
    return pd.DataFrame(rows, columns=["setting", "a", "b"])


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every plain value of a tree, and lists of plain values, under its path."""
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from _flat(one, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value):
        for index, one in enumerate(value):
            yield from _flat(one, f"{path}[{index}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def view(compared: Compared) -> RenderableType:
    """For the terminal: which two, how their plans differ, a table a target, and what was left out."""
    a, b = compared.runs
    parts: list[RenderableType] = [_line(name, run) for name, run in (("A", a), ("B", b))]
    if len(compared.pairs) > 1 or compared.pairs[0] != compared.runs:
        seeds = ", ".join(str(_seed(run)) for run, _ in compared.pairs)
        parts.append(Text(f"Scores are those of their confirmations by seeds {seeds}, and means over them."))
    if not compared.differences.empty:
        parts.append(_differences_view(compared.differences))
    table = compared.table()
    for target, part in table.groupby("target", sort=False):
        parts.append(_target_view(str(target), part))
    parts.append(
        Text(
            "delta: B less A, in points. 95 % interval: paired bootstrap over rows. p: random exchange of rows, after "
            "Holm's correction over the languages of a target; of means as it is."
        )
    )
    said = (verdict_in_words(len(compared.pairs)), untested_in_words(compared.comparison))
    parts += [Text(line) for line in said if line]
    parts += [Text(f"Left out: {line}") for line in compared.left_out]
    parts += [Text(line) for line in compared.comparison.remarks]
    return Group(*parts)


def _line(name: str, run: Run) -> Text:
    row = run.study.trials().loc[run.trial]
    objective = f", objective {row['objective']:.2f}" if not np.isnan(row["objective"]) else ""
    return Text(f"{name}: {_named(run)}{objective}: {row['chain']}")


def _differences_view(differences: pd.DataFrame) -> RenderableType:
    more = len(differences) - _MOST
    table = Table(title="The plans differ", title_justify="left", caption=f"and {more} more" if more > 0 else None)
    for column in ("setting", "A", "B"):
        table.add_column(column, overflow="fold")
    for row in differences.head(_MOST).itertuples(index=False):
        table.add_row(*map(str, row))
    return table


def _target_view(target: str, part: pd.DataFrame) -> RenderableType:
    own = part[part["metric"].notna()]
    how = f" ({own['metric'].iloc[0]}, {own['split'].iloc[0]})" if len(own) else ""
    table = Table(title=f"{target}{how}", title_justify="left")
    for column in ("language", "A", "B", "delta", "95 % interval", "p", "ahead"):
        table.add_column(column, justify="left" if column in ("language", "ahead") else "right", no_wrap=True)
    ordered = [
        *part[part["metric"].isna()].to_dict("records"),
        *own.sort_values("delta", ascending=False).to_dict("records"),
    ]
    for row in ordered:
        mean = pd.isna(row["metric"])
        p = row["p"] if mean else row["p_holm"]
        name = f"{row['language']} ({row['languages']:.0f})" if mean and row["languages"] > 0 else str(row["language"])
        table.add_row(
            name if mean or not row["unseen"] else f"{name}, unseen",
            f"{row['a']:.1f}",
            f"{row['b']:.1f}",
            f"{row['delta']:+.1f}",
            "" if np.isnan(row["low"]) else f"{row['low']:+.1f} to {row['high']:+.1f}",
            "" if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "<0.001",
            row["ahead"][:1].upper() + row["ahead"][1:],
        )
    return table
