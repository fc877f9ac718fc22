"""Two chains score by score: by how much one is ahead in every language of every target, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from tunexfer.errors import StudyError
from tunexfer.report.intervals import LEVEL, RESAMPLES, Array, Draws, Sums, draw, holm, mean_draws
from tunexfer.report.row_sums import NUMBERS, TEXTS, Rows, Score, columns_for, row_sums
from tunexfer.report.study import Study

SAME = 0.05
"""Points by which a score computed from its rows may miss the recorded one: rows are kept in single precision."""
UNSEEN, EVERY, TARGETS = "mean of unseen languages", "mean of all languages", "mean of targets"

_Cell = tuple[str, str]
"""Target and language."""


class Run(NamedTuple):
    """One trial of one study."""

    study: Study
    trial: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`before` and `after`, means over seeds, and `delta` between them, in points.

    low, high:  95 % interval of the delta by paired bootstrap, `Draws.interval`
    p:          two-sided, `Draws.p`
    sd:         of the delta over seeds; NaN with one
    All three are NaN where rows are missing.
    """

    languages: pd.DataFrame
    """One row per target and language: target, language, metric, split, unseen, before, after, delta, low, high, p,
    p_holm (Holm's correction over the target's languages), sd, seeds, verdict (gain, loss or nothing)."""
    means: pd.DataFrame
    """The same over languages: one row per target and mean, then over targets where there are several; language says
    which mean it is, languages how many there are, p_holm isn't there."""
    remarks: tuple[str, ...]
    """What couldn't be compared, and why."""


def compare_runs(
    pairs: Sequence[tuple[Run, Run]], *, resamples: int = RESAMPLES, cells: Collection[tuple[str, str]] | None = None
) -> Comparison:
    """How far the first run of each pair is ahead of the second; a pair is of one seed, all are of the same chains.

    Compared are main metrics, on the test split where the target has one, in the languages that both were scored in. A
    gain or a loss is real where p after Holm's correction is below 0.05 and, of several seeds, all agree on its sign.

    cells: the targets and languages to compare; by default all
    """
    scores = _scores(pairs)
    if cells is not None:
        scores = scores[[cell in cells for cell in zip(scores["target"], scores["language"], strict=True)]]
    if scores.empty:
        return Comparison(
            languages=pd.DataFrame(columns=[*_LANGUAGES]), means=pd.DataFrame(columns=[*_MEANS]), remarks=()
        )
    draws, remarks = _draws(pairs, scores, resamples)
    languages = pd.concat([_language_rows(part, draws) for _, part in scores.groupby("target", sort=False)])
    return Comparison(
        languages=languages[[*_LANGUAGES]].reset_index(drop=True),
        means=_mean_rows(scores, draws)[[*_MEANS]],
        remarks=remarks,
    )


_LANGUAGES = (
    *("target", "language", "metric", "split", "unseen", "before", "after", "delta", "low", "high"),
    *("p", "p_holm", "sd", "seeds", "verdict"),
)
_MEANS = ("target", "language", "languages", "split", "before", "after", "delta", "low", "high", "p", "sd", "seeds")


def main_scores(study: Study) -> pd.DataFrame:
    """The scores that are compared: main metrics, of the test split where a target has one, else of validation."""
    scores = study.scores()
    main = scores[scores["main"]]
    tested = main.loc[main["split"] == "test", "task"].unique()
    return main[(main["split"] == "test") | (~main["task"].isin(tested) & (main["split"] == "validation"))]


def _scores(pairs: Sequence[tuple[Run, Run]]) -> pd.DataFrame:
    """A row per target and language: target, language, metric, split, unseen (by both); befores, afters: shape (S,)."""
    tables: dict[int, pd.DataFrame] = {}
    sides: list[list[pd.DataFrame]] = [[], []]
    for pair in pairs:
        for side, run in zip(sides, pair, strict=True):
            if id(run.study) not in tables:
                tables[id(run.study)] = main_scores(run.study)
            table = tables[id(run.study)]
            side.append(
                table[table["trial"] == run.trial].astype({"task": str, "language": str, "split": str, "metric": str})
            )
    keys = ["task", "language", "split", "metric"]
    values = [[one.set_index(keys)["value"] for one in side] for side in sides]
    joined = pd.concat([*values[0], *values[1]], axis=1, join="inner")
    unseen = np.all([side[0].set_index(keys)["unseen"].reindex(joined.index) for side in sides], axis=0)
    found = joined.index.to_frame(index=False).rename(columns={"task": "target"})
    found["unseen"] = unseen.astype(bool)
    array = joined.to_numpy(dtype=np.float64)
    found["afters"], found["befores"] = list(array[:, : len(pairs)]), list(array[:, len(pairs) :])
    return found


def _draws(
    pairs: Sequence[tuple[Run, Run]], scores: pd.DataFrame, resamples: int
) -> tuple[dict[_Cell, Draws], tuple[str, ...]]:
    """For every target and language whose rows give back the recorded scores of all runs."""
    try:
        columns = columns_for(set(scores["metric"]))
        rows = [(_Rows(after, columns), _Rows(before, columns)) for after, before in pairs]
    except StudyError as error:
        return {}, (f"There are no intervals: {error}",)
    found: dict[_Cell, Draws] = {}
    remarks: list[str] = []
    for place, (target, part) in enumerate(scores.groupby("target", sort=False)):
        sums: dict[str, Sums] = {}
        for row in part.itertuples():
            one = _sums(rows, row)
            if isinstance(one, Sums):
                sums[str(row.language)] = one
            else:
                remarks.append(f"{target}, {row.language}: no interval, for {one}.")
        drawn = draw(sums, resamples=resamples, seed=place)
        found |= {(str(target), language): draws for language, draws in drawn.items()}
    return found, tuple(remarks)


class _Rows:
    """The scored rows of one run, by target, language and split; each part's rows in the order of their ids."""

    def __init__(self, run: Run, columns: Sequence[str]) -> None:
        table = run.study.rows(run.trial, columns)
        # Ids and clusters as 64-bit hashes: their texts would take more room than everything else.
        hashed = {name: pd.util.hash_array(table[name].to_numpy(dtype=object)) for name in ("id", "cluster")}
        part = table.groupby(["task", "language", "split"], sort=False, observed=True)
        numbers = part.ngroup().to_numpy()
        order = np.lexsort((hashed["id"], numbers))
        values = {name: table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in columns if name in NUMBERS}
        texts = {name: table[name].to_numpy(dtype=object) for name in columns if name in TEXTS}
        self._columns = {name: column[order] for name, column in (hashed | values | texts).items()}
        keys = list(part.size().index)
        ends = np.searchsorted(numbers[order], np.arange(len(keys) + 1))
        self._parts = {key: slice(*ends[at : at + 2]) for at, key in enumerate(keys)}

    def of(self, target: str, language: str, split: str) -> Rows | None:
        part = self._parts.get((target, language, split))
        return None if part is None else {name: column[part] for name, column in self._columns.items()}


def _sums(rows: Sequence[tuple[_Rows, _Rows]], row: object) -> Sums | str:
    """One language's rows summed by cluster; in words why that can't be, where it can't."""
    target, language, split, metric, afters, befores = (
        getattr(row, name) for name in ("target", "language", "split", "metric", "afters", "befores")
    )
    first: Rows | None = None
    sides: list[list[Array]] = [[], []]
    clusters, codes = np.array([], dtype=np.uint64), np.array([], dtype=np.intp)
    score: Score | None = None
    for seed, pair in enumerate(rows):
        for side, one, value in zip(sides, pair, (afters[seed], befores[seed]), strict=True):
            found = one.of(target, language, split)
            made = None if found is None else row_sums(metric, found)
            if found is None or made is None:
                return "its scored rows aren't in rows.parquet"
            if first is None:
                first, score = found, made[1]
                clusters, codes = np.unique(found["cluster"], return_inverse=True)
            elif not np.array_equal(first["id"], found["id"]):
                return "the two weren't scored on the same rows"
            if abs(float(made[1](made[0].sum(axis=1))) - value) > SAME:
                return "its rows don't give the recorded score"
            side.append(_by_cluster(made[0], codes, len(clusters)))
    assert score is not None
    after, before = (np.stack(side, axis=2) for side in sides)
    return Sums(clusters=clusters, after=after, before=before, score=score)


def _by_cluster(values: Array, codes: np.ndarray[tuple[int], np.dtype[np.intp]], clusters: int) -> Array:
    """Sums of each row's values, shape (K, rows), over each cluster's rows: shape (clusters, K)."""
    return np.stack([np.bincount(codes, weights=one, minlength=clusters) for one in values], axis=1)


def _language_rows(part: pd.DataFrame, draws: Mapping[_Cell, Draws]) -> pd.DataFrame:
    rows = [
        {name: getattr(row, name) for name in ("target", "language", "metric", "split", "unseen")}
        | _numbers(row.befores, row.afters, draws.get((row.target, row.language)))
        for row in part.itertuples()
    ]
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"])
    deltas = [after - before for after, before in zip(part["afters"], part["befores"], strict=True)]
    agree = np.array([bool((np.sign(one) == np.sign(one.mean())).all()) for one in deltas])
    real = (table["p_holm"] < 1 - LEVEL) & agree
    table["verdict"] = np.where(real & (table["delta"] > 0), "gain", np.where(real & (table["delta"] < 0), "loss", ""))
    return table


def _mean_rows(scores: pd.DataFrame, draws: Mapping[_Cell, Draws]) -> pd.DataFrame:
    rows = []
    over_targets: dict[str, list[tuple[Array, Array, Draws | None]]] = {UNSEEN: [], EVERY: []}
    for target, part in scores.groupby("target", sort=False):
        for name, some in ((UNSEEN, part[part["unseen"]]), (EVERY, part)):
            if some.empty:
                continue
            before, after = (np.mean(np.stack(some[column].tolist()), axis=0) for column in ("befores", "afters"))
            own = [draws.get((str(target), str(language))) for language in some["language"]]
            drawn = mean_draws([one for one in own if one]) if all(own) else None
            over_targets[name].append((before, after, drawn))
            head = {"target": target, "language": name, "languages": len(some), "split": some["split"].iloc[0]}
            rows.append(head | _numbers(before, after, drawn))
    for name, parts in over_targets.items():
        if len(parts) > 1:
            before, after = (np.mean([part[side] for part in parts], axis=0) for side in (0, 1))
            own = [part[2] for part in parts]
            drawn = mean_draws([one for one in own if one]) if all(own) else None
            rows.append({"target": TARGETS, "language": name} | _numbers(before, after, drawn))
    return pd.DataFrame(rows, columns=[*_MEANS])


def _numbers(before: Array, after: Array, drawn: Draws | None) -> dict[str, float]:
    """before, after: one score per seed, shape (S,)"""
    delta = after - before
    low, high = drawn.interval if drawn else (np.nan, np.nan)
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "delta": float(delta.mean()),
        "low": low,
        "high": high,
        "p": drawn.p if drawn else np.nan,
        "sd": float(delta.std(ddof=1)) if len(delta) > 1 else np.nan,
        "seeds": len(delta),
    }
