"""Compare two chains score by score: the difference in every language of every target, and how sure it is."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunexfer.errors import StudyError
from tunexfer.record.gains import reported
from tunexfer.record.noise import LEVEL, Gain, LanguageGains, baseline_spread, gain, holm, language_gains, sureness
from tunexfer.report.paired import RESAMPLES, Draws, Hashes, Sums, draw, mean_draws
from tunexfer.report.row_sums import NUMBERS, PART, columns_for, row_sums
from tunexfer.report.study import Study
from tunexfer.tasks.metrics.metric import Array, Columns

SAME = 0.05
"""Points by which a score computed from its rows may differ from the recorded one: rows are in single precision."""
UNSEEN, EVERY, TARGETS = "mean of unseen languages", "mean of all languages", "mean of targets"


class Run(NamedTuple):
    """One trial of one study."""

    study: Study
    trial: int


class _Cell(NamedTuple):
    """One target and language that both chains were scored in."""

    target: str
    language: str
    metric: str
    split: str
    unseen: bool
    """By both chains."""
    afters: Array
    """Recorded scores, shape (S,)."""
    befores: Array


class _Difference(NamedTuple):
    """A difference between two chains, of one language or a mean of several."""

    afters: Array
    """Scores of each seed, shape (S,)."""
    befores: Array
    runs: Array
    """Differences of single runs, from which their variance is known, shape (R,): those of the seeds, or of the
    baseline's runs where there is a single seed; empty where there are no replicates."""
    draws: Draws | None
    """None where rows are missing."""

    def gain(self) -> Gain | None:
        """Estimate the gain; None where the variance between runs or through the rows is unknown."""
        deltas, draws = self.afters - self.befores, self.draws
        if draws is None:
            return None
        return gain(float(deltas.mean()), self.runs, seeds=len(deltas), rows=draws.rows, clusters=draws.clusters)

    def as_row(self, estimate: Gain | None) -> dict[str, float]:
        """Tabulate; without replicates there is no interval, and a single seed has no p-value."""
        deltas = self.afters - self.befores
        low, high = estimate.interval if estimate else (np.nan, np.nan)
        rows_low, rows_high = self.draws.interval if self.draws else (np.nan, np.nan)
        return {
            "before": float(self.befores.mean()),
            "after": float(self.afters.mean()),
            "delta": float(deltas.mean()),
            "low": low,
            "high": high,
            "p": estimate.p if estimate and len(deltas) > 1 else np.nan,
            "sd": float(deltas.std(ddof=1)) if len(deltas) > 1 else np.nan,
            "seeds": len(deltas),
            "same_sign": int(max((deltas > 0).sum(), (deltas < 0).sum())),
            "rows_low": rows_low,
            "rows_high": rows_high,
            "rows_p": self.draws.p if self.draws else np.nan,
            "rows_variance": self.draws.rows if self.draws else np.nan,
            "clusters": self.draws.clusters if self.draws else np.nan,
        }


_Rows = Mapping[Hashable, Columns]
"""The rows of one run by target, language and split, each part in the order of its ids."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Scores of two chains, `before` and `after`, as means over seeds, and their difference `delta` in points.

    low, high:  95 % interval of the delta over runs and rows, `noise.gain`; NaN where no chain was run twice
    p:          two-sided, from the same variances; NaN with one seed, which selected the chain
    sd:         standard deviation of the delta over seeds; NaN with one seed
    same_sign:  seeds whose difference has the commoner sign
    rows_low, rows_high, rows_p: 95 % interval by paired bootstrap and p-value by random exchange of rows, which is
                what other rows would change if the same models were scored on them; NaN where rows are missing
    rows_variance: the variance of the delta through the rows that all seeds share, from so many `clusters`
    """

    languages: pd.DataFrame
    """One row per target and language: target, language, metric, split, unseen, the columns above, shrunken (the delta
    drawn towards the target's mean by as much as it is noise), p_holm (Holm's correction over the target's languages),
    verdict (gain or loss, or empty)."""
    means: pd.DataFrame
    """The same averaged over languages: one row per target and mean, then over targets where there are several;
    `language` names the mean, `languages` counts its languages; p_holm (over targets and chains), sure (a word of
    `noise.sureness`), q, q_p and tau (`noise.LanguageGains`)."""
    remarks: tuple[str, ...]
    """Sentences about what could not be compared, and why."""


_NUMBERS = (
    *("before", "after", "delta", "low", "high", "p", "sd", "seeds", "same_sign"),
    *("rows_low", "rows_high", "rows_p", "rows_variance", "clusters"),
)
_LANGUAGES = ("target", "language", "metric", "split", "unseen", *_NUMBERS, "shrunken", "p_holm", "verdict")
_MEANS = ("target", "language", "languages", "split", *_NUMBERS, "p_holm", "sure", "q", "q_p", "tau")


def compare_runs(
    pairs: Sequence[tuple[Run, Run]],
    *,
    resamples: int = RESAMPLES,
    cells: Collection[tuple[str, str]] | None = None,
    chains: int = 1,
) -> Comparison:
    """Compute by how much the first run of each pair is ahead of the second.

    The runs of a pair have the same seed; all pairs are of the same two chains. Main metrics are compared, on the test
    split where the target has one, in the languages that both chains were scored in. A pair whose rows can't be read
    is left out with a remark, as long as another pair is complete.

    With one pair, the variance between runs is that of the baseline's seeds, where the study ran it with several.
    A language's verdict is gain or loss where its p after Holm's correction is below 0.05, if that is so for its
    target's mean too. Targets without test rows have no verdict, as their validation rows selected the chains.

    Targets that share clusters share their resamples: a cluster that the suite names (a template, a message) is the
    same in each of its tasks, a cluster that is a row's own id in the same task only.

    cells:  the targets and languages to compare; by default all
    chains: how many chains are compared with the same baseline, for which p-values are corrected
    """
    scored = _scored(pairs, cells)
    rows, remarks = _read(pairs, columns_for({cell.metric for cell in scored})) if scored else ([], [])
    if 0 < len(rows) < len(pairs):
        scored = _scored([pair for pair, _ in rows], cells)
    targets = {cell.target: [other for other in scored if other.target == cell.target] for cell in scored}
    draws, undrawn = _draw([own for _, own in rows], targets, resamples)
    runs = _runs(pairs[0][1].study, scored) if scored else np.empty((0, 0))
    places = {(cell.target, cell.language): place for place, cell in enumerate(scored)}
    parts = {
        target: [
            _Difference(c.afters, c.befores, runs[:, places[target, c.language]], draws.get((target, c.language)))
            for c in part
        ]
        for target, part in targets.items()
    }
    means = _mean_rows(targets, parts, chains)
    return Comparison(languages=_language_rows(targets, parts, means), means=means, remarks=(*remarks, *undrawn))


def _runs(study: Study, scored: Sequence[_Cell]) -> Array:
    """Collect differences of single runs in every cell, shape (R, cells): of the seeds where there are several, else
    from the runs of the baseline's chain, which spread as the runs of another chain do."""
    deltas: Array = np.stack([cell.afters - cell.befores for cell in scored], axis=1)
    if len(deltas) > 1:
        return deltas
    baseline = study.baseline()
    numbers = [] if baseline is None else [baseline, *study.repeats(baseline)]
    scores = main_scores(study)
    own = scores[scores["trial"].isin(numbers)].astype({"target": str, "language": str})
    table = own.pivot_table(index="trial", columns=["target", "language"], values="value")
    wide = table.reindex(columns=pd.MultiIndex.from_tuples([(cell.target, cell.language) for cell in scored]))
    whole = wide.dropna(how="all")
    return baseline_spread(whole.to_numpy()) if len(whole) > 1 else np.empty((0, len(scored)))


def main_scores(study: Study) -> pd.DataFrame:
    """Select the scores that are compared: main metrics, of the test split where a target has one, else validation."""
    scores = study.scores()
    return reported(scores[scores["main"]])


def _scored(pairs: Sequence[tuple[Run, Run]], cells: Collection[tuple[str, str]] | None) -> list[_Cell]:
    """Collect what all runs were scored in, with the scores of every seed."""
    tables = {run.study: main_scores(run.study) for pair in pairs for run in pair}
    keys = ["target", "language", "metric", "split"]
    runs = []
    for run in (run for pair in pairs for run in pair):
        own = tables[run.study][tables[run.study]["trial"] == run.trial]
        runs.append(own.astype(dict.fromkeys(keys, "str")).set_index(keys)[["value", "unseen"]])
    joined = pd.concat(runs, axis=1, join="inner", keys=range(len(runs)))
    values = joined.xs("value", axis=1, level=1).to_numpy(dtype=np.float64)
    unseen = (joined[0, "unseen"] & joined[1, "unseen"]).tolist()
    return [
        _Cell(target, language, metric, split, unseen[at], values[at, 0::2], values[at, 1::2])
        for at, (target, language, metric, split) in enumerate(joined.index)
        if cells is None or (target, language) in cells
    ]


def _read(
    pairs: Sequence[tuple[Run, Run]], columns: Sequence[str]
) -> tuple[list[tuple[tuple[Run, Run], tuple[_Rows, _Rows]]], list[str]]:
    """Read the rows of the pairs that have them; list why others have not, and what that costs."""
    rows: list[tuple[tuple[Run, Run], tuple[_Rows, _Rows]]] = []
    errors: list[tuple[int, StudyError]] = []
    for after, before in pairs:
        try:
            rows.append(((after, before), (_rows(after, columns), _rows(before, columns))))
        except StudyError as error:
            errors.append((int(after.study.trials()["seed"][after.trial]), error))
    if not rows:
        return [], [f"There are no intervals: {error}" for _, error in errors[:1]]
    return rows, [f"Seed {seed} is left out of scores and intervals: {error}" for seed, error in errors]


def _rows(run: Run, columns: Sequence[str]) -> _Rows:
    table = run.study.rows(run.trial, columns)
    # Ids and clusters as 64-bit hashes: their texts would take more room than everything else.
    for name in ("id", "cluster"):
        table[name] = pd.util.hash_array(table[name].to_numpy(dtype=object))
    own_id = (table["id"] == table["cluster"]).to_numpy()
    table.loc[own_id, "cluster"] ^= _task_hashes(run, table["target"])[own_id]
    numbers = [name for name in columns if name in NUMBERS]
    table = table.astype(dict.fromkeys(numbers, "float64")).sort_values("id", kind="stable")
    values = {name: table[name].to_numpy() for name in columns if name not in PART}
    parts = table.groupby([*PART], observed=True).indices
    return {key: {name: column[places] for name, column in values.items()} for key, places in parts.items()}


def _task_hashes(run: Run, targets: pd.Series[Any]) -> Hashes:
    """Hash the task of each row's target: two targets of one task have the same rows."""
    tasks = {target.name: target.task for target in run.study.chain(run.trial).targets}
    codes, names = pd.factorize(targets)
    hashes: Hashes = pd.util.hash_array(np.array([tasks.get(str(name), str(name)) for name in names], dtype=object))
    return hashes[codes]


def _draw(
    rows: Sequence[tuple[_Rows, _Rows]], targets: Mapping[str, Sequence[_Cell]], resamples: int
) -> tuple[dict[tuple[str, str], Draws], list[str]]:
    """Resample every target and language whose rows give back the recorded scores of all runs; list the others."""
    sums: dict[str, dict[tuple[str, str], Sums]] = {target: {} for target in targets}
    remarks: list[str] = []
    for cell in (cell for part in targets.values() for cell in part if rows):
        try:
            sums[cell.target][cell.target, cell.language] = _sum(rows, cell)
        except _NoSums as error:
            remarks.append(f"{cell.target}, {cell.language}: no interval, because {error}.")
    draws: dict[tuple[str, str], Draws] = {}
    for group in _sharing(sums):
        seed = min(list(targets).index(target) for target in group)
        shared = {cell: own for target in group for cell, own in sums[target].items()}
        draws |= draw(shared, resamples=resamples, seed=seed)
    return draws, remarks


def _sharing(sums: Mapping[str, Mapping[tuple[str, str], Sums]]) -> list[list[str]]:
    """Group targets so that targets of different groups have no cluster in common."""
    groups: list[tuple[list[str], Hashes]] = []
    for target, cells in sums.items():
        names, clusters = (
            [target],
            np.unique(np.concatenate([np.empty(0, np.uint64), *(s.clusters for s in cells.values())])),
        )
        unshared = []
        for group in groups:
            if np.isin(clusters, group[1]).any():
                names, clusters = [*group[0], *names], np.union1d(group[1], clusters)
            else:
                unshared.append(group)
        groups = [*unshared, (names, clusters)]
    return [names for names, _ in groups]


class _NoSums(Exception):
    """Rows don't give the scores that are compared; the message completes a sentence."""


def _sum(rows: Sequence[tuple[_Rows, _Rows]], cell: _Cell) -> Sums:
    """Sum one target's rows in one language by cluster.

    raises: _NoSums, if rows are missing, differ between the chains, or don't give the recorded scores
    """
    parts: list[Columns] = []
    sums: list[Array] = []
    recorded = [score for scores in zip(cell.afters, cell.befores, strict=True) for score in scores]
    for run, value in zip((run for pair in rows for run in pair), recorded, strict=True):
        part = run.get((cell.target, cell.language, cell.split))
        made = None if part is None else row_sums(cell.metric, part)
        if part is None or made is None:
            raise _NoSums("its rows aren't in rows.parquet")
        if parts and not np.array_equal(_to_find(parts[0]), _to_find(part)):
            raise _NoSums("the two chains weren't scored on the same rows")
        if abs(float(made[1](made[0].sum(axis=1))) - value) > SAME:
            raise _NoSums("its rows don't give the recorded score")
        parts.append(part)
        sums.append(made[0])
        score = made[1]
    clusters = np.unique(np.concatenate([part["cluster"] for part in parts]))
    codes = [np.searchsorted(clusters, part["cluster"]) for part in parts]
    summed = [_by_cluster(*values, len(clusters)) for values in zip(sums, codes, strict=True)]
    after, before = (np.stack(summed[side::2], axis=2) for side in (0, 1))
    return Sums(clusters=clusters, after=after, before=before, score=score)


def _to_find(part: Columns) -> Hashes:
    """Select the ids of the rows that both chains must have been scored on.

    Where there is nothing to find (mining's sentences without a translation), a row is recorded only if a chain found
    something in it, and a row that is missing adds nothing to any sum.
    """
    ids: Hashes = part["id"][part["gold_count"] != 0]
    return ids


def _by_cluster(values: Array, codes: NDArray[np.intp], clusters: int) -> Array:
    """Add up each row's values, shape (K, rows), over each cluster's rows: shape (clusters, K)."""
    return np.stack([np.bincount(codes, weights=row, minlength=clusters) for row in values], axis=1)


def _language_rows(
    targets: Mapping[str, Sequence[_Cell]], parts: Mapping[str, Sequence[_Difference]], means: pd.DataFrame
) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    clear = set(means.loc[means["p_holm"] < 1 - LEVEL, "target"])
    for target, cells in targets.items():
        drawn = [part for part in parts[target] if part.draws]
        estimates = _over_languages(drawn)
        known = zip(estimates.gains, estimates.shrunken, strict=True) if estimates else repeat((None, np.nan))
        both = [next(known) if part.draws else (None, np.nan) for part in parts[target]]
        own = [part.as_row(estimate) for part, (estimate, _) in zip(parts[target], both, strict=True)]
        adjusted = holm([row["p"] for row in own])
        for cell, numbers, (_, shrunken), p in zip(cells, own, both, adjusted, strict=True):
            head = {"target": target, "language": cell.language, "metric": cell.metric, "split": cell.split}
            called = p < 1 - LEVEL and target in clear and cell.split == "test"
            verdict = ("gain" if numbers["delta"] > 0 else "loss") if called else ""
            more = {"unseen": cell.unseen, "shrunken": shrunken, "p_holm": p, "verdict": verdict}
            rows.append({**head, **numbers, **more})
    return pd.DataFrame(rows, columns=[*_LANGUAGES])


def _over_languages(parts: Sequence[_Difference]) -> LanguageGains | None:
    """Estimate the gains of a target's languages together; None without replicates, or where rows are missing."""
    draws = [part.draws for part in parts if part.draws]
    if not parts or len(draws) < len(parts):
        return None
    return language_gains(
        [(part.afters - part.befores).mean() for part in parts],
        np.stack([part.runs for part in parts], axis=1),
        seeds=len(parts[0].afters),
        rows=[own.rows for own in draws],
        clusters=min(own.clusters for own in draws),
    )


def _mean_rows(
    targets: Mapping[str, Sequence[_Cell]], parts: Mapping[str, Sequence[_Difference]], chains: int
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    over_targets: dict[str, list[_Difference]] = {UNSEEN: [], EVERY: []}
    estimates: list[Gain | None] = []
    for target, cells in targets.items():
        for name in (UNSEEN, EVERY):
            own = [part for cell, part in zip(cells, parts[target], strict=True) if cell.unseen or name == EVERY]
            if own:
                mean, apart = _mean(own), _over_languages(own)
                over_targets[name].append(mean)
                head = {"target": target, "language": name, "languages": len(own), "split": cells[0].split}
                estimates.append(mean.gain())
                rows.append({**head, **mean.as_row(estimates[-1]), **_apart(apart)})
    for name, means in over_targets.items():
        if len(means) > 1:
            whole = _mean(means)
            estimates.append(whole.gain())
            rows.append({"target": TARGETS, "language": name, **whole.as_row(estimates[-1])})
    asked = _asked(rows)
    # As if every other chain had the same p-values: their own are not known here.
    adjusted = holm([rows[place]["p"] for place in asked for _ in range(chains)])[::chains]
    for place, p in zip(asked, adjusted, strict=True):
        fresh = rows[place]["seeds"] > 1 and rows[place]["split"] == "test"
        rows[place] |= {"p_holm": p, "sure": sureness(estimates[place], p, fresh=fresh)}
    return pd.DataFrame(rows, columns=[*_MEANS])


def _apart(estimates: LanguageGains | None) -> dict[str, float]:
    return {"q": estimates.q, "q_p": estimates.q_p, "tau": estimates.tau} if estimates else {}


def _asked(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Find the rows that answer the study's questions: each target's unseen languages, else all of its languages."""
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        if row["target"] != TARGETS:
            places.setdefault(row["target"], place)
    return list(places.values())


def _mean(parts: Sequence[_Difference]) -> _Difference:
    """Average differences; without draws where one of them has none."""
    columns = zip(*((part.afters, part.befores, part.runs) for part in parts), strict=True)
    afters, befores, runs = (np.mean(column, axis=0) for column in columns)
    draws = [part.draws for part in parts if part.draws is not None]
    return _Difference(afters, befores, runs, mean_draws(draws) if len(draws) == len(parts) else None)


def verdict_in_words(seeds: int) -> str:
    """Explain when a difference is called a gain or a loss, and how to be surer."""
    if seeds == 1:
        return (
            "One seed makes a candidate: nothing is called a gain or a loss, as another seed can move a score by "
            "several points. `confirm: {top: 3, seeds: 5}` in the space runs the best chains again with fresh seeds."
        )
    return (
        f"Intervals and p-values are over {seeds} seeds and the scored rows. A language is called a gain or a loss "
        "where p < 0.05 after Holm's correction over the target's languages, if the target's mean is significant too."
    )


def untested_in_words(comparison: Comparison) -> str:
    """Warn about targets without test rows; empty where there are none."""
    names = comparison.languages.loc[comparison.languages["split"] != "test", "target"].unique().tolist()
    if not names:
        return ""
    return (
        f"There are no test rows for {', '.join(names)}: its numbers are over the validation rows that selected the "
        "chains, so they are biased towards the selected one (winner's curse), and no difference is called a gain or "
        "a loss."
    )
