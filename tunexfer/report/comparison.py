"""Two chains score by score: by how much one is ahead in every language of every target, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunexfer.errors import StudyError
from tunexfer.record.seeds import beyond_seeds
from tunexfer.report.intervals import LEVEL, RESAMPLES, Array, Draws, Sums, draw, holm, mean_draws
from tunexfer.report.row_sums import NUMBERS, TEXTS, Rows, Score, columns_for, mean_score, row_sums
from tunexfer.report.study import Study

SAME = 0.05
"""Points by which a score computed from its rows may miss the recorded one: rows are kept in single precision."""
ONE_SEED = ", one seed"
"""Ends a verdict that only the scored rows vouch for."""
UNSEEN, EVERY, TARGETS = "mean of unseen languages", "mean of all languages", "mean of targets"


class Run(NamedTuple):
    """One trial of one study."""

    study: Study
    trial: int


class _Scored(NamedTuple):
    """What both chains scored in one language of a target."""

    target: str
    language: str
    metric: str
    split: str
    unseen: bool
    """By both."""
    befores: Array
    """Shape (S,), one per seed."""
    afters: Array


_Hashes = NDArray[np.uint64]
_Codes = NDArray[np.intp]
_Drawn = Mapping[tuple[str, str], Draws]
"""By target and language; not there where rows are missing."""


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
    p_holm (Holm's correction over the target's languages), sd, seeds, verdict (gain or loss, with one seed followed by
    `ONE_SEED`, or nothing)."""
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
    pair whose rows can't be read is left out and told, as long as another is whole.

    A gain or a loss is called so where p after Holm's correction is below 0.05, which is beyond the noise of the scored
    rows, and the differences of the seeds are `beyond_seeds`. Of one seed the verdict says so: two seeds differ by
    several points a score (`benchmarks/agreement.py`), of which rows know nothing. There is no verdict on a target
    without test rows, as its validation rows may have chosen the chains.

    One resample serves all targets that share clusters: a cluster that the suite names (a template, a message) is the
    same one in each of its tasks, one that is a row's own id in the same task only. Other targets are drawn
    independently of each other.

    cells: the targets and languages to compare; by default all
    """
    scored = _scores(pairs, cells)
    if not scored:
        return Comparison(
            languages=pd.DataFrame(columns=[*_LANGUAGES]), means=pd.DataFrame(columns=[*_MEANS]), remarks=()
        )
    rows, told = _read(pairs, columns_for({one.metric for one in scored}))
    if 0 < len(rows) < len(pairs):
        scored = _scores([pair for pair, _ in rows], cells)
    targets = _by_target(scored)
    drawn, remarks = _draws([both for _, both in rows], targets, resamples) if rows else ({}, ())
    remarks = (*told, *remarks)
    languages = pd.concat([_language_rows(part, drawn) for part in targets.values()], ignore_index=True)
    return Comparison(languages=languages[[*_LANGUAGES]], means=_mean_rows(targets, drawn)[[*_MEANS]], remarks=remarks)


_LANGUAGES = (
    *("target", "language", "metric", "split", "unseen", "before", "after", "delta", "low", "high"),
    *("p", "p_holm", "sd", "seeds", "verdict"),
)
_MEANS = ("target", "language", "languages", "split", "before", "after", "delta", "low", "high", "p", "sd", "seeds")


def main_scores(study: Study) -> pd.DataFrame:
    """The scores that are compared: main metrics, of the test split where a target has one, else of validation."""
    scores = study.scores()
    main = scores[scores["main"]]
    tested = main.loc[main["split"] == "test", "target"].unique()
    return main[(main["split"] == "test") | (~main["target"].isin(tested) & (main["split"] == "validation"))]


def _scores(pairs: Sequence[tuple[Run, Run]], cells: Collection[tuple[str, str]] | None) -> list[_Scored]:
    tables = {id(run.study): main_scores(run.study) for pair in pairs for run in pair}
    keys = ["target", "language", "metric", "split"]
    sides: list[list[pd.DataFrame]] = [[], []]
    for pair in pairs:
        for side, run in zip(sides, pair, strict=True):
            table = tables[id(run.study)]
            side.append(table[table["trial"] == run.trial].astype(dict.fromkeys(keys, "str")).set_index(keys))
    values = [pd.concat([one["value"] for one in side], axis=1, join="inner") for side in sides]
    both = values[0].join(values[1], how="inner", lsuffix="_after", rsuffix="_before").index
    afters, befores = (value.reindex(both).to_numpy(dtype=np.float64) for value in values)
    unseen = np.all([side[0]["unseen"].reindex(both) for side in sides], axis=0)
    found = []
    for at, (target, language, metric, split) in enumerate(both.tolist()):
        if cells is None or (target, language) in cells:
            found.append(_Scored(target, language, metric, split, bool(unseen[at]), befores[at], afters[at]))
    return found


def _by_target(scored: Sequence[_Scored]) -> dict[str, list[_Scored]]:
    found: dict[str, list[_Scored]] = {}
    for one in scored:
        found.setdefault(one.target, []).append(one)
    return found


def _read(
    pairs: Sequence[tuple[Run, Run]], columns: Sequence[str]
) -> tuple[list[tuple[tuple[Run, Run], tuple[_Rows, _Rows]]], tuple[str, ...]]:
    """The scored rows of the pairs that have them; in words, why the others haven't and what that costs."""
    found: list[tuple[tuple[Run, Run], tuple[_Rows, _Rows]]] = []
    lost: list[tuple[int, StudyError]] = []
    for after, before in pairs:
        try:
            found.append(((after, before), (_Rows(after, columns), _Rows(before, columns))))
        except StudyError as error:
            lost.append((int(after.study.trials()["seed"][after.trial]), error))
    if not found:
        return [], tuple(f"There are no intervals: {error}" for _, error in lost[:1])
    return found, tuple(f"Seed {seed} is left out of scores and intervals: {error}" for seed, error in lost)


def _draws(
    rows: Sequence[tuple[_Rows, _Rows]], targets: Mapping[str, Sequence[_Scored]], resamples: int
) -> tuple[_Drawn, tuple[str, ...]]:
    """For every target and language whose rows give back the recorded scores of all runs."""
    sums: dict[str, dict[tuple[str, str], Sums]] = {target: {} for target in targets}
    remarks: list[str] = []
    for one in (one for part in targets.values() for one in part):
        made = _sums(rows, one)
        if isinstance(made, Sums):
            sums[one.target][one.target, one.language] = made
        else:
            remarks.append(f"{one.target}, {one.language}: no interval, for {made}.")
    found: dict[tuple[str, str], Draws] = {}
    for together in _sharing(sums):
        seed = min(list(targets).index(target) for target in together)
        cells = {cell: one for target in together for cell, one in sums[target].items()}
        found |= draw(cells, resamples=resamples, seed=seed)
    return found, tuple(remarks)


def _sharing(sums: Mapping[str, Mapping[tuple[str, str], Sums]]) -> list[list[str]]:
    """Targets in groups; those of different groups have no cluster in common."""
    groups: list[tuple[list[str], _Hashes]] = []
    for target, cells in sums.items():
        names, clusters = (
            [target],
            np.unique(np.concatenate([np.empty(0, np.uint64), *(s.clusters for s in cells.values())])),
        )
        apart = []
        for group in groups:
            if np.isin(clusters, group[1]).any():
                names, clusters = [*group[0], *names], np.union1d(group[1], clusters)
            else:
                apart.append(group)
        groups = [*apart, (names, clusters)]
    return [names for names, _ in groups]


class _Rows:
    """The scored rows of one run, by target, language and split; each part's rows in the order of their ids."""

    def __init__(self, run: Run, columns: Sequence[str]) -> None:
        table = run.study.rows(run.trial, columns)
        # Ids and clusters as 64-bit hashes: their texts would take more room than everything else.
        hashed = {name: pd.util.hash_array(table[name].to_numpy(dtype=object)) for name in ("id", "cluster")}
        own_id = hashed["id"] == hashed["cluster"]
        hashed["cluster"] = np.where(own_id, hashed["cluster"] ^ _task_hashes(run, table["task"]), hashed["cluster"])
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


def _task_hashes(run: Run, targets: pd.Series[Any]) -> _Hashes:
    """Of the task of each row's target: two targets of one task have the same rows."""
    tasks = {target.name: target.task for target in run.study.chain(run.trial).targets}
    codes, names = pd.factorize(targets)
    hashes: _Hashes = pd.util.hash_array(np.array([tasks.get(str(name), str(name)) for name in names], dtype=object))
    return hashes[codes]


def _sums(rows: Sequence[tuple[_Rows, _Rows]], scored: _Scored) -> Sums | str:
    """One language's rows summed by cluster; in words why that can't be, where it can't."""
    found_rows: list[Rows] = []
    values: list[Array] = []
    score: Score | None = None
    for seed, pair in enumerate(rows):
        for one, value in zip(pair, (scored.afters[seed], scored.befores[seed]), strict=True):
            found = one.of(scored.target, scored.language, scored.split)
            made = None if found is None else row_sums(scored.metric, found)
            if found is None or made is None:
                return "its scored rows aren't in rows.parquet"
            if found_rows and not np.array_equal(_to_find(found_rows[0]), _to_find(found)):
                return "the two weren't scored on the same rows"
            if abs(float(made[1](made[0].sum(axis=1))) - value) > SAME:
                return "its rows don't give the recorded score"
            score = made[1]
            found_rows.append(found)
            values.append(made[0])
    assert score is not None
    clusters, codes = _clusters(found_rows)
    summed = [_by_cluster(*one, len(clusters)) for one in zip(values, codes, strict=True)]
    after, before = (np.stack(summed[side::2], axis=2) for side in (0, 1))
    if score is mean_score:  # the same rows in every seed, so the mean over seeds may as well be taken first
        after, before = (side.mean(axis=2, keepdims=True) for side in (after, before))
    return Sums(clusters=clusters, after=after, before=before, score=score)


def _to_find(rows: Rows) -> _Hashes:
    """Ids of the rows that both chains must have been scored on.

    Where there was nothing to find (mining's sentences without a translation), a row is there only if a chain found
    something in it, and one that isn't adds nothing to any sum.
    """
    ids: _Hashes = rows["id"][rows["gold_count"] != 0]
    return ids


def _clusters(parts: Sequence[Rows]) -> tuple[_Hashes, list[_Codes]]:
    """Every cluster that any of them has, once, and which one each row of each of them is of."""
    first = parts[0]
    if all(np.array_equal(first["id"], part["id"]) for part in parts[1:]):
        clusters, codes = np.unique(first["cluster"], return_inverse=True)
        return clusters, [codes] * len(parts)
    clusters = np.unique(np.concatenate([part["cluster"] for part in parts]))
    return clusters, [np.searchsorted(clusters, part["cluster"]) for part in parts]


def _by_cluster(values: Array, codes: _Codes, clusters: int) -> Array:
    """Sums of each row's values, shape (K, rows), over each cluster's rows: shape (clusters, K)."""
    return np.stack([np.bincount(codes, weights=one, minlength=clusters) for one in values], axis=1)


def _language_rows(part: Sequence[_Scored], drawn: _Drawn) -> pd.DataFrame:
    table = pd.DataFrame(
        [
            {name: getattr(one, name) for name in ("target", "language", "metric", "split", "unseen")}
            | _numbers(one.befores, one.afters, drawn.get((one.target, one.language)))
            for one in part
        ]
    )
    table["p_holm"] = holm(table["p"])
    table["verdict"] = [_verdict(one, p) for one, p in zip(part, table["p_holm"], strict=True)]
    return table


def _verdict(scored: _Scored, p: float) -> str:
    deltas = scored.afters - scored.befores
    seeds = len(deltas)
    if not p < 1 - LEVEL or scored.split != "test" or (seeds > 1 and not beyond_seeds(deltas.tolist())):
        return ""
    return ("gain" if deltas.mean() > 0 else "loss") + (ONE_SEED if seeds == 1 else "")


def verdict_in_words(seeds: int) -> str:
    """What it takes to be called a gain or a loss, and how to be surer."""
    if seeds == 1:
        return (
            "With one seed a difference can only be beyond the noise of the scored rows (p below 0.05, corrected); "
            "another seed alone can move a score by several points. `confirm: {top: 3, seeds: 3}` in the space "
            "runs the best again."
        )
    return (
        f"A difference is called a gain or a loss where p is below 0.05, corrected, all {seeds} seeds agree on its "
        "sign, and its mean is beyond what its spread over seeds allows (Student's t, 95 %)."
    )


def untested_in_words(found: Comparison) -> str:
    """What is to be said of targets without test rows; nothing, where there are none."""
    names = found.languages.loc[found.languages["split"] != "test", "target"].unique().tolist()
    if not names:
        return ""
    return (
        f"There are no test rows for {', '.join(names)}: the numbers there are of validation rows, which chose among "
        "the chains, so they flatter the chosen one (the winner's curse), and no difference is called a gain or a loss."
    )


def _mean_rows(targets: Mapping[str, Sequence[_Scored]], drawn: _Drawn) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    over_targets: dict[str, list[tuple[Array, Array, Draws | None]]] = {UNSEEN: [], EVERY: []}
    for target, part in targets.items():
        for name, some in ((UNSEEN, [one for one in part if one.unseen]), (EVERY, part)):
            if some:
                own = [(one.befores, one.afters, drawn.get((target, one.language))) for one in some]
                mean = _mean_of(own)
                over_targets[name].append(mean)
                head = {"target": target, "language": name, "languages": len(some), "split": some[0].split}
                rows.append({**head, **_numbers(*mean)})
    for name, parts in over_targets.items():
        if len(parts) > 1:
            rows.append({"target": TARGETS, "language": name, **_numbers(*_mean_of(parts))})
    return pd.DataFrame(rows, columns=[*_MEANS])


def _mean_of(parts: Sequence[tuple[Array, Array, Draws | None]]) -> tuple[Array, Array, Draws | None]:
    """Before, after and what was drawn, of the mean; nothing drawn where one of them has nothing."""
    before: Array = np.mean([part[0] for part in parts], axis=0)
    after: Array = np.mean([part[1] for part in parts], axis=0)
    drawn = [part[2] for part in parts if part[2] is not None]
    return before, after, mean_draws(drawn) if len(drawn) == len(parts) else None


def _numbers(before: Array, after: Array, drawn: Draws | None) -> dict[str, float]:
    """before, after: shape (S,)"""
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
