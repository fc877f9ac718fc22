"""Two chains score by score: by how much one is ahead in every language of every target, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from tunexfer.errors import StudyError
from tunexfer.report.intervals import LEVEL, RESAMPLES, Array, Draws, Sums, draw, holm, mean_draws
from tunexfer.report.row_sums import NUMBERS, TEXTS, Rows, Score, columns_for, mean_score, row_sums
from tunexfer.report.study import Study

SAME = 0.05
"""Points by which a score computed from its rows may miss the recorded one: rows are kept in single precision."""
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
    gain or a loss is real where p after Holm's correction is below 0.05 and, of several seeds, all agree on its sign. A
    pair whose rows can't be read is left out and told, as long as another is whole.

    cells: the targets and languages to compare; by default all
    """
    scored = _scores(pairs, cells)
    if not scored:
        return Comparison(
            languages=pd.DataFrame(columns=[*_LANGUAGES]), means=pd.DataFrame(columns=[*_MEANS]), remarks=()
        )
    rows, told = _read(pairs, columns_for({one.metric for one in scored}))
    if 0 < len(rows) < len(pairs):
        scored = _scores(list(rows), cells)
    targets = _by_target(scored)
    drawn, remarks = _draws(list(rows.values()), targets, resamples) if rows else ({}, ())
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
    tested = main.loc[main["split"] == "test", "task"].unique()
    return main[(main["split"] == "test") | (~main["task"].isin(tested) & (main["split"] == "validation"))]


def _scores(pairs: Sequence[tuple[Run, Run]], cells: Collection[tuple[str, str]] | None) -> list[_Scored]:
    tables = {id(run.study): main_scores(run.study) for pair in pairs for run in pair}
    keys = ["task", "language", "metric", "split"]
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
) -> tuple[dict[tuple[Run, Run], tuple[_Rows, _Rows]], tuple[str, ...]]:
    """The scored rows of the pairs that have them; in words, why the others haven't and what that costs."""
    found: dict[tuple[Run, Run], tuple[_Rows, _Rows]] = {}
    lost: list[tuple[int, StudyError]] = []
    for after, before in pairs:
        try:
            found[after, before] = _Rows(after, columns), _Rows(before, columns)
        except StudyError as error:
            lost.append((int(after.study.trials()["seed"][after.trial]), error))
    if not found:
        return {}, tuple(f"There are no intervals: {error}" for _, error in lost[:1])
    return found, tuple(f"Seed {seed} is left out of scores and intervals: {error}" for seed, error in lost)


def _draws(
    rows: Sequence[tuple[_Rows, _Rows]], targets: Mapping[str, Sequence[_Scored]], resamples: int
) -> tuple[_Drawn, tuple[str, ...]]:
    """For every target and language whose rows give back the recorded scores of all runs."""
    found: dict[tuple[str, str], Draws] = {}
    remarks: list[str] = []
    for place, (target, part) in enumerate(targets.items()):
        sums: dict[str, Sums] = {}
        for one in part:
            made = _sums(rows, one)
            if isinstance(made, Sums):
                sums[one.language] = made
            else:
                remarks.append(f"{target}, {one.language}: no interval, for {made}.")
        drawn = draw(sums, resamples=resamples, seed=place)
        found |= {(target, language): draws for language, draws in drawn.items()}
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


def _sums(rows: Sequence[tuple[_Rows, _Rows]], scored: _Scored) -> Sums | str:
    """One language's rows summed by cluster; in words why that can't be, where it can't."""
    first: Rows | None = None
    sides: list[list[Array]] = [[], []]
    clusters, codes = np.array([], dtype=np.uint64), np.array([], dtype=np.intp)
    score: Score | None = None
    for seed, pair in enumerate(rows):
        for side, one, value in zip(sides, pair, (scored.afters[seed], scored.befores[seed]), strict=True):
            found = one.of(scored.target, scored.language, scored.split)
            made = None if found is None else row_sums(scored.metric, found)
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
    if score is mean_score:  # the same rows in every seed, so the mean over seeds may as well be taken first
        after, before = (side.mean(axis=2, keepdims=True) for side in (after, before))
    return Sums(clusters=clusters, after=after, before=before, score=score)


def _by_cluster(values: Array, codes: np.ndarray[tuple[int], np.dtype[np.intp]], clusters: int) -> Array:
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
    signs = [np.sign(one.afters - one.befores) for one in part]
    agree = np.array([bool((sign == sign[0]).all()) for sign in signs])
    real = (table["p_holm"] < 1 - LEVEL) & agree
    table["verdict"] = np.where(real & (table["delta"] > 0), "gain", np.where(real & (table["delta"] < 0), "loss", ""))
    return table


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
