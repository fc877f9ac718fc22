"""Compare a trial of one study with a trial of another, score by score on the rows that both predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunexfer.errors import StudyError
from tunexfer.record.record import differences
from tunexfer.report.comparison import Comparison, Run, compare_runs, main_scores, untested_in_words, verdict_in_words
from tunexfer.report.row_sums import PART
from tunexfer.report.study import Study

_MOST = 20
"""Differences of two plans that are shown."""
_AHEAD = {"gain": "b", "loss": "a"}
_LEGEND = (
    "delta: B - A, in points. 95 % interval: over runs and rows, where chains were run with several seeds. p: from the "
    "same variances, with Holm's correction over the languages of a target; means are corrected over targets."
)


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Two trials, A and B; every difference is B's score minus A's, in points."""

    runs: tuple[Run, Run]
    """The selected trials."""
    pairs: tuple[tuple[Run, Run], ...]
    """The runs compared for them, A and B: themselves, or their confirmations with the seeds that both have."""
    differences: pd.DataFrame
    """Settings that differ between the two plans: setting, a, b."""
    comparison: Comparison
    """Its `before` is A, its `after` B."""
    left_out: tuple[str, ...]
    """Sentences about what only one of them has, and what differs between them."""

    def table(self) -> pd.DataFrame:
        """Tabulate targets and languages, then the means: target, language, a, b, delta, interval, tests, and which is
        ahead."""
        whole = pd.concat([self.comparison.languages, self.comparison.means], ignore_index=True)
        ahead = whole["verdict"].map(_AHEAD).fillna("")
        return whole.assign(verdict=ahead).rename(columns={"before": "a", "after": "b", "verdict": "ahead"})


def compare_studies(a: Study, b: Study, trial_a: int | None = None, trial_b: int | None = None) -> _Compared:
    """Compare two trials, by default each study's best, in everything that both were scored on.

    raises: StudyError, if a trial has no scores, or the two have no target, language and scored rows in common
    """
    runs = Run(a, _select(a, trial_a)), Run(b, _select(b, trial_b))
    if a.folder.path.resolve() == b.folder.path.resolve() and runs[0].trial == runs[1].trial:
        raise StudyError(
            f"{a.folder.path}: trial {runs[0].trial} would be compared with itself. "
            "Choose two trials of a study with --trial-a and --trial-b."
        )
    pairs = _pairs(*runs)
    scored = [_scored(run) for run in runs]
    shared = scored[0].merge(scored[1])
    same = _have_same_rows(pairs[0], shared)
    unlike = shared[~same].groupby("target", sort=False)["language"].agg(", ".join)
    left_out = [
        *_only_one(*scored),
        *(f"{target}: the scored rows differ in {some}." for target, some in unlike.items()),
    ]
    if not same.any():
        reasons = "\n".join(f"  {line}" for line in left_out)
        raise StudyError(
            f"{_named(runs[0])} (A) and {_named(runs[1])} (B) can't be compared: they weren't scored on the same rows "
            f"of the same targets.\n{reasons}"
        )
    cells = set(shared.loc[same, ["target", "language"]].itertuples(index=False, name=None))
    return _Compared(
        runs=runs,
        pairs=pairs,
        differences=_plan_differences(a, b),
        comparison=compare_runs([(after, before) for before, after in pairs], cells=cells),
        left_out=tuple(left_out),
    )


def _select(study: Study, trial: int | None) -> int:
    if trial is None:
        best = study.best()
        if best is None:
            raise StudyError(f"{study.folder.path} has no complete trial with an objective yet: nothing to compare.")
        return best
    study.chain(trial)
    scored = sorted(set(main_scores(study)["trial"]))
    if trial not in scored:
        known = ", ".join(map(str, scored)) or "none"
        raise StudyError(f"{study.folder.path}: trial {trial} has no scores. Trials with scores: {known}.")
    return trial


def _pairs(a: Run, b: Run) -> tuple[tuple[Run, Run], ...]:
    """Pair the confirmations of both by their seeds, where there are any."""
    runs_a, runs_b = (
        {_seed(r): r for n in run.study.repeats(run.trial) for r in [Run(run.study, n)]} for run in (a, b)
    )
    return tuple((runs_a[seed], runs_b[seed]) for seed in runs_a if seed in runs_b) or ((a, b),)


def _seed(run: Run) -> int:
    return int(run.study.trials()["seed"][run.trial])


def _named(run: Run) -> str:
    return f"trial {run.trial} of {run.study.folder.path}"


def _scored(run: Run) -> pd.DataFrame:
    """Tabulate what the run was scored in: target, language, split, how (metric and split)."""
    scores = main_scores(run.study)
    own = scores[scores["trial"] == run.trial].astype(dict.fromkeys((*PART, "metric"), "str"))
    return own.assign(how=own["metric"] + " on " + own["split"])[[*PART, "how"]]


def _only_one(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[str]:
    """Describe targets and languages that only one of them was scored on, and targets with another metric or split."""
    for name, own, other in (("A", a, b), ("B", b, a)):
        for target, part in own.groupby("target", sort=False):
            there = other[other["target"] == target]
            if there.empty:
                yield f"{target}: only {name} was scored on it."
            elif part["how"].iloc[0] != there["how"].iloc[0]:
                if name == "A":
                    yield f"{target}: {part['how'].iloc[0]} in A, {there['how'].iloc[0]} in B."
            elif more := part.loc[~part["language"].isin(there["language"]), "language"].tolist():
                yield f"{target}: only {name} was scored in {', '.join(more)}."


def _have_same_rows(pair: tuple[Run, Run], shared: pd.DataFrame) -> NDArray[np.bool_]:
    """Check for each target and language that the scored rows are the same; True where they can't be read."""
    a, b = (_rows(run) for run in pair)
    keys = shared[[*PART]].itertuples(index=False, name=None)
    return np.array([key not in a or key not in b or a[key] == b[key] for key in keys], dtype=bool)


def _rows(run: Run) -> dict[tuple[str, ...], frozenset[tuple[str, str]]]:
    """Collect ids and gold answers by target, language and split; empty where the rows can't be read.

    Rows with nothing to find are left out: mining has them only where a chain found something. `compare_runs` remarks
    on rows that can't be read.
    """
    try:
        table = run.study.rows(run.trial, [*PART, "id", "gold", "gold_count"])
    except StudyError:
        return {}
    table = table[table["gold_count"] != 0]
    parts = table.groupby([*PART], observed=True)
    return {tuple(map(str, key)): frozenset(zip(part["id"], part["gold"], strict=True)) for key, part in parts}


def _plan_differences(a: Study, b: Study) -> pd.DataFrame:
    """Tabulate the settings of the plans' identity that differ."""

    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False)

    places = differences(a.plan.get("identity", {}), b.plan.get("identity", {}))
    rows = [(path, text(one), text(other)) for path, one, other in places]
    return pd.DataFrame(rows, columns=["setting", "a", "b"])


def view(compared: _Compared) -> RenderableType:
    """Lay out for the terminal: the trials, how their plans differ, a table per target, and what was left out."""
    parts: list[RenderableType] = [_line(name, run) for name, run in zip("AB", compared.runs, strict=True)]
    if compared.pairs != (compared.runs,):
        seeds = ", ".join(str(_seed(run)) for run, _ in compared.pairs)
        parts.append(Text(f"Scores are means over their confirmations with seeds {seeds}."))
    if not compared.differences.empty:
        parts.append(_differences_view(compared.differences))
    parts += [_target_view(str(target), part) for target, part in compared.table().groupby("target", sort=False)]
    lines = (_LEGEND, verdict_in_words(len(compared.pairs)), untested_in_words(compared.comparison))
    left_out = (f"Left out: {line}" for line in compared.left_out)
    return Group(*parts, *map(Text, [*filter(None, lines), *left_out, *compared.comparison.remarks]))


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
    means, languages = part[part["metric"].isna()], part[part["metric"].notna()]
    how = f" ({languages['metric'].iloc[0]}, {languages['split'].iloc[0]})" if len(languages) else ""
    table = Table(title=f"{target}{how}", title_justify="left")
    for column in ("language", "A", "B", "delta", "95 % interval", "p", "ahead"):
        table.add_column(column, justify="left" if column in ("language", "ahead") else "right", no_wrap=True)
    for row in means.to_dict("records"):
        count = f" ({row['languages']:.0f})" if row["languages"] > 0 else ""
        p = row["p"] if np.isnan(row["p_holm"]) else row["p_holm"]
        table.add_row(*_cells(row, f"{row['language']}{count}", p))
    for row in languages.sort_values("delta", ascending=False).to_dict("records"):
        table.add_row(*_cells(row, f"{row['language']}{', unseen' if row['unseen'] else ''}", row["p_holm"]))
    return table


def _cells(row: Mapping[Any, Any], name: str, p: float) -> Iterator[str]:
    yield from (name, f"{row['a']:.1f}", f"{row['b']:.1f}", f"{row['delta']:+.1f}")
    yield "" if np.isnan(row["low"]) else f"{row['low']:+.1f} to {row['high']:+.1f}"
    yield "" if np.isnan(p) else f"{p:.3f}" if p >= 0.001 else "<0.001"
    yield row["ahead"][:1].upper() + row["ahead"][1:]
