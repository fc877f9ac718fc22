"""Whether intervals and claims hold what they promise: studies with known truth, judged by the report's functions.

    python benchmarks/calibration.py --studies 1000

A study has two chains with one true gain, scored in some languages on the same rows, over some seeds. A row is right
where its difficulty, drawn from [0, 1], is below what the chain can do; that moves with the run (standard deviation
`RUN` points, all languages together), with the run in each language (`RUN_LANGUAGE`), and by the row for each chain,
in all seeds and in each. Scores and resampled rows go through `paired.draw`, gains and claims through `record.noise`,
as in the report. The deviations are set so that nine seeds of a baseline spread as those of the default study do:
1 to 2 points a target, 3.5 points a language; one setting has those of the chains in replay/table.parquet that were
trained with three seeds, which spread more.

Prints for each setting how often the 95 % intervals hold the true gain (of the mean, of a single language), how often
a difference is claimed (false where the true gain is 0, power elsewhere), how often some language is called different
and how often Q says that languages differ; then what is claimed after a search over sixteen chains, before and after
confirmation; then what is claimed about distances and sources by `report.typology`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tunexfer.plan.detect import detectable
from tunexfer.record.noise import (
    LEVEL,
    Gain,
    baseline_spread,
    gain,
    holm,
    kept_gain,
    language_gains,
    sureness,
)
from tunexfer.report import typology
from tunexfer.report.distances import MEASURES, distances, language
from tunexfer.report.paired import Draws, Sums, draw, mean_draws
from tunexfer.report.typology import FAR, against_english, language_pairs, languages_differ, rank_correlations

Array = NDArray[np.float64]

RUN, RUN_LANGUAGE = 1.2, 1.5
"""Standard deviation of a run, in points: of all languages together, and of each by itself."""
LEVEL_OF_SCORES = 0.5
ROW_CHAIN, ROW_RUN = 0.15, 0.1
"""Standard deviation of what a row is worth to a chain in all of its runs, and in one run, as a share of 1."""
RESAMPLES = 100
REPLICATES = Path(__file__).parent / "replay" / "table.parquet"


@dataclass(frozen=True)
class Setting:
    """A kind of study."""

    gain: float = 0.0
    """True gain in points."""
    seeds: int = 3
    languages: int = 15
    rows: int = 100
    cluster: int = 1
    """Rows of a cluster, which have one difficulty."""
    parallel: bool = False
    """Whether all languages have the same rows, translated."""
    tau: float = 0.0
    """Standard deviation of true gains over languages, points."""
    kin: int = 1
    """Languages of a family, which share half of the variance that a language has in a run."""
    run: float = RUN
    run_language: float = RUN_LANGUAGE


@dataclass(frozen=True)
class Judged:
    """What the report's functions make of one study."""

    mean: Gain | None
    covered: float
    """Share of the languages whose interval holds the true gain; NaN without intervals."""
    any_language: bool
    """Whether some language is called different, given that the mean is, or that languages differ."""
    differ: bool


def percent(sums: Array) -> Array:
    share: Array = 100 * sums[0] / sums[1]
    return share


def right_rows(setting: Setting, rng: np.random.Generator, effects: Array) -> tuple[Array, Array]:
    """Draw scored rows.

    effects: what each run of each chain can do beside `LEVEL_OF_SCORES`, shape (chains, seeds, languages), points
    returns: 1 where a row is right, shape (chains, seeds, languages, rows); and each row's cluster, (languages, rows)
    """
    chains, _, languages = effects.shape
    clusters = setting.rows // setting.cluster
    places = np.arange(setting.rows) // setting.cluster
    own = 1 if setting.parallel else languages
    difficulty = np.broadcast_to(rng.uniform(size=(own, clusters)), (languages, clusters))[:, places]
    worth = rng.normal(0, ROW_CHAIN, size=(chains, own, clusters))
    worth = np.broadcast_to(worth, (chains, languages, clusters))[:, :, places]
    noise = rng.normal(0, ROW_RUN, size=(*effects.shape, setting.rows))
    # A difficulty beyond [0, 1] comes in again at the other end, so that the expected score is exact.
    able = (LEVEL_OF_SCORES + effects / 100)[..., None]
    hard = (difficulty + worth[:, None] + noise) % 1.0
    names = places + np.arange(languages)[:, None] * (0 if setting.parallel else clusters)
    return (hard < able).astype(np.float64), names


def runs(setting: Setting, rng: np.random.Generator, gains: Array, seeds: int) -> Array:
    """Draw what runs of chains can do, shape (chains, seeds, languages); gains: shape (chains, languages)."""
    shape = (len(gains), seeds, setting.languages)
    together = rng.normal(0, setting.run, size=(*shape[:2], 1))
    share = 0.5 if setting.kin > 1 else 0.0
    families = rng.normal(0, setting.run_language * np.sqrt(share), size=shape)
    families = families[..., np.arange(setting.languages) // setting.kin]
    apart = rng.normal(0, setting.run_language * np.sqrt(1 - share), size=shape)
    effects: Array = gains[:, None, :] + together + families + apart
    return effects


def real_spread() -> tuple[float, float]:
    """Measure the standard deviations of a run and of a language in a run, over chains trained with three seeds."""
    table = pd.read_parquet(REPLICATES)
    scores = table[(table["split"] == "test") & (table["main"] == True)]  # noqa: E712  missing of trainings
    chain = ["stage", "target", "setting"]
    values = scores.pivot_table(index=[*chain, "language"], columns="seed", values="value").dropna()
    means = values.groupby(chain).transform("mean")
    languages = values.groupby(chain).size().mean()
    apart = (values - means).var(axis=1).mean() * languages / (languages - 1)
    return float(np.sqrt(means.var(axis=1).mean() - apart / languages)), float(np.sqrt(apart))


def draws_of(right: Array, clusters: Array, *, after: int, before: int, seed: int) -> list[Draws]:
    """Resample two chains' rows, as `compare_runs` does."""
    sums = {}
    for place, names in enumerate(clusters):
        distinct, codes = np.unique(names, return_inverse=True)
        sides = []
        for chain in (after, before):
            own = right[chain, :, place]  # (S, rows)
            hits = np.stack([np.bincount(codes, weights=row, minlength=len(distinct)) for row in own], axis=1)
            counts = np.broadcast_to(np.bincount(codes)[:, None], hits.shape)
            sides.append(np.stack([hits, counts], axis=1).astype(np.float64))
        sums[place] = Sums(clusters=distinct, after=sides[0], before=sides[1], score=percent)
    return list(draw(sums, resamples=RESAMPLES, seed=seed).values())


def judge(setting: Setting, rng: np.random.Generator) -> Judged:
    """Run a study of two chains, and of three more baselines where there is a single seed."""
    apart = rng.normal(0, setting.tau, size=setting.languages)
    true = setting.gain + apart - apart.mean()
    gains = np.stack([np.zeros(setting.languages), true])
    right, clusters = right_rows(setting, rng, runs(setting, rng, gains, setting.seeds))
    scores = 100 * right.mean(axis=-1)
    deltas = scores[1] - scores[0]
    draws = draws_of(right, clusters, after=1, before=0, seed=int(rng.integers(2**31)))
    spread = deltas
    if setting.seeds == 1:
        floor, _ = right_rows(setting, rng, runs(setting, rng, gains[:1], 3))
        spread = baseline_spread(100 * floor[0].mean(axis=-1))
    whole, count = mean_draws(draws), len(np.unique(clusters))
    mean = gain(float(deltas.mean()), spread.mean(axis=1), seeds=setting.seeds, rows=whole.rows, clusters=count)
    own = language_gains(
        deltas.mean(axis=0),
        spread,
        seeds=setting.seeds,
        rows=[part.rows for part in draws],
        clusters=draws[0].clusters,
    )
    if mean is None or own is None:
        return Judged(mean, np.nan, False, False)
    covered = np.mean([abs(part.delta - value) <= part.half_width for part, value in zip(own.gains, true, strict=True)])
    flags = (holm([part.p for part in own.gains]) < 1 - LEVEL).any() and mean.p < 1 - LEVEL
    return Judged(mean, float(covered), bool(flags), own.differ)


def rates(setting: Setting, studies: int, seed: int = 0) -> dict[str, float]:
    """Judge many studies: shares of them, in percent."""
    judged = [judge(setting, rng) for rng in np.random.default_rng(seed).spawn(studies)]
    means = [study.mean for study in judged if study.mean]
    return {
        "mean covered": 100 * float(np.mean([abs(own.delta - setting.gain) <= own.half_width for own in means])),
        "languages covered": 100 * float(np.mean([study.covered for study in judged])),
        "claimed": 100 * float(np.mean([own.p < 1 - LEVEL for own in means])),
        "some language": 100 * float(np.mean([study.any_language for study in judged])),
        "differ": 100 * float(np.mean([study.differ for study in judged])),
    }


@dataclass(frozen=True)
class Searched:
    """What a search over chains makes of its best one."""

    raw: float
    """Its gain in the search, points, less its true gain."""
    kept: float
    """The same of the gain that it is expected to keep."""
    candidate: bool
    """Whether the interval of its gain in the search holds its true gain."""
    confirmed: float
    """Share of the confirmed chains whose interval over fresh seeds holds the true gain."""
    claims: bool
    """Whether a confirmed chain is called clear or harmful, though its true gain is 0."""
    found: bool
    """Whether the best confirmed chain is called clear."""


def search(setting: Setting, rng: np.random.Generator, chains: int = 16, top: int = 4, spread: float = 0.0) -> Searched:
    """Search with one seed, select by validation scores that share the run with the test scores, confirm the best.

    spread: standard deviation of the chains' true gains, points
    """
    true = rng.normal(0, spread, size=chains) if spread else np.full(chains, setting.gain)
    gains = np.concatenate([[np.zeros(setting.languages)], np.repeat(true[:, None], setting.languages, axis=1)])
    effects = runs(setting, rng, gains, 1)
    test, clusters = right_rows(setting, rng, effects)
    validation, _ = right_rows(setting, rng, effects)
    again = runs(setting, rng, gains[:1], 3)
    floor = [right_rows(setting, rng, again)[0] for _ in ("test", "validation")]
    scores = 100 * test.mean(axis=(1, 3))  # (chains, languages)
    deltas = (scores[1:] - scores[0]).mean(axis=1)
    order = np.argsort(-(validation[1:].mean(axis=(1, 2, 3))))
    best = int(order[0])
    chosen_by = 100 * validation[1:].mean(axis=(1, 2, 3))
    luck = float(np.cov(*(100 * part[0].mean(axis=(1, 2)) for part in floor))[0, 1])
    seen = draws_of(test, clusters, after=best + 1, before=0, seed=0)
    levels = baseline_spread(100 * floor[0][0].mean(axis=(1, 2)))
    single = gain(float(deltas[best]), levels, seeds=1, rows=mean_draws(seen).rows, clusters=len(np.unique(clusters)))
    confirmed = order[:top]
    own = gains[[0, *(confirmed + 1)]]
    again, clusters = right_rows(setting, rng, runs(setting, rng, own, setting.seeds))
    results = []
    for place in range(1, top + 1):
        delta = 100 * (again[place] - again[0]).mean(axis=(1, 2))
        rows = mean_draws(draws_of(again, clusters, after=place, before=0, seed=place)).rows
        result = gain(float(delta.mean()), delta, seeds=setting.seeds, rows=rows, clusters=len(np.unique(clusters)))
        results.append(result)
    adjusted = holm([result.p if result else np.nan for result in results])
    held = [bool(r and abs(r.delta - true[place]) <= r.half_width) for r, place in zip(results, confirmed, strict=True)]
    words = [sureness(result, p) for result, p in zip(results, adjusted, strict=True)]
    return Searched(
        raw=float(deltas[best] - true[best]),
        kept=kept_gain(float(deltas[best]), chosen_by, best, luck) - float(true[best]),
        candidate=bool(single and abs(single.delta - true[best]) <= single.half_width),
        confirmed=float(np.mean(held)),
        claims=any(word in ("clear", "harmful") for word in words),
        found=words[int(np.argmax([result.delta if result else -np.inf for result in results]))] == "clear",
    )


@dataclass(frozen=True)
class Sources:
    """A kind of study about source languages: two tasks, some stages from each of English, Chinese and Spanish."""

    languages: int = 15
    stages: int = 3
    """From each source on each task."""
    tau: float = 2.0
    """Standard deviation of true gains over languages, half of its variance by family; nothing is due to distances."""
    level: float = 0.0
    """Points that a language gains less for each point that its baseline scores, which falls with distance."""
    ahead: float = 0.0
    """Points by which other sources than English are ahead in distant languages."""
    slope: float = 0.0
    """Points that a language at the largest distance gains less than one at none."""


CODES = (
    "ar bg de el fr hi ru sw th tr vi ur fi ko ja he id it pl nl pt ro uk cs hu et ta te bn fa mr ml ka kk eu af jv tl "
    "my yo"
)
distances_of = cache(distances)


def sources_study(setting: Sources, rng: np.random.Generator) -> dict[str, bool]:
    """Run a study as `typology.source_gains` tabulates it: what is claimed."""
    codes = CODES.split()[: setting.languages]
    matrices = distances_of(("en", "zh", "es", *codes))
    far = matrices[MEASURES[0]].loc["en", codes].to_numpy()
    families = pd.factorize(np.array([language(code)["family"] for code in codes]))[0]
    spread = setting.tau * np.sqrt(0.5)
    true = rng.normal(0, spread, len(codes)) + rng.normal(0, spread, families.max() + 1)[families]
    level = 70 - 30 * far + rng.normal(0, 5, len(codes))
    true = true - setting.level * (level - level.mean()) - setting.slope * far
    baseline = rng.normal(0, RUN) + rng.normal(0, RUN_LANGUAGE, len(codes))
    rows = []
    for source in ("en", "zh", "es"):
        for task in ("nli", "ner"):
            for _ in range(setting.stages):
                run = rng.normal(0, RUN) + rng.normal(0, RUN_LANGUAGE, len(codes))
                extra = setting.ahead * (far > np.median(far)) * (source != "en")
                rows.append(pd.DataFrame({"gain": true + extra + run - baseline, "task": task, "sources": source}))
    gains = pd.concat(rows, keys=range(len(rows)), names=["prefix", "at"]).reset_index()
    gains = gains.assign(
        study="s",
        target="intent",
        target_alone="",
        language=np.array(codes)[gains["at"]],
        weights=[((source, 1.0),) for source in gains["sources"]],
        level=(level + baseline)[gains["at"]] + gains["gain"] / 2,
    ).rename(columns={"task": "tasks"})
    apart = languages_differ(gains)
    pairs = language_pairs(gains, matrices).merge(apart.loc[apart["differ"], ["study", "sources"]])
    correlations = rank_correlations(pairs)
    row = against_english(gains, matrices[MEASURES[0]]["en"]).set_index("languages_are").loc[FAR]
    return {
        "differ": bool(apart["differ"].any()),
        "distance": bool((correlations["p_holm"] < 1 - LEVEL).any()),
        "source": bool(row["low"] > 0 or row["high"] < 0),
        "covered": bool(row["low"] <= setting.ahead <= row["high"]),
        "alike": bool(row["p_alike"] < 1 - LEVEL),
    }


def settings() -> Iterator[Setting]:
    """List the kinds of study that are tried."""
    for seeds in (1, 3, 5, 10):
        for true in (0.0, 1.0, 2.0, 5.0):
            yield Setting(gain=true, seeds=seeds)
    run, run_language = real_spread()
    for seeds in (3, 5):
        base = Setting(seeds=seeds)
        yield from (replace(base, languages=9), replace(base, languages=40), replace(base, rows=40))
        yield from (replace(base, rows=1000, languages=5), replace(base, rows=200, cluster=5))
        yield from (replace(base, parallel=True), replace(base, rows=80, cluster=5, parallel=True))
        yield from (replace(base, kin=3), replace(base, tau=3.0), replace(base, run=run, run_language=run_language))


def main(studies: Annotated[int, typer.Option(help="Studies without a gain; of others a third.")] = 1000) -> None:
    """Print the figures of every setting, then those of searches, then those of distances and sources."""
    console = Console(width=150)
    typology.PERMUTATIONS = 499
    heads = ("gain", "seeds", "languages", "rows", "cluster", "parallel", "kin", "tau", "run")
    names = ("mean covered", "languages covered", "claimed", "some language", "differ")
    table = Table(*heads, *names, title=f"{studies} studies, or a third of it; % of studies")
    for setting in settings():
        figures = rates(setting, studies if setting.gain == 0 else studies // 3)
        shown = [f"{value:.1f}" if isinstance(value := getattr(setting, head), float) else str(value) for head in heads]
        table.add_row(*shown, *(f"{figures[name]:.1f}" for name in names))
    console.print(table)
    columns = ("candidate", "confirmed", "claims", "found")
    searches = Table("chains differ by", "seeds", "raw - true", "kept - true", *columns, title="searches, 16 chains")
    for spread, seeds in ((0.0, 3), (0.0, 5), (2.0, 3), (2.0, 5)):
        rngs = np.random.default_rng(1).spawn(studies // 2)
        made = [search(Setting(seeds=seeds, languages=9), rng, spread=spread) for rng in rngs]
        raw, kept = (np.mean([getattr(own, name) for own in made]) for name in ("raw", "kept"))
        others = (100 * np.mean([getattr(own, name) for own in made]) for name in columns)
        searches.add_row(f"{spread}", str(seeds), f"{raw:+.2f}", f"{kept:+.2f}", *(f"{own:.1f}" for own in others))
    console.print(searches)
    console.print(_sources_table(studies // 8))
    sd = float(np.sqrt(2 * (RUN**2 + RUN_LANGUAGE**2 / 15)))
    powers = ", ".join(f"{seeds} seeds {detectable(seeds, sd):.1f}" for seeds in (3, 5, 10))
    console.print(f"Detectable with 80 % power at this spread between runs, many rows: {powers} points")


def _sources_table(studies: int) -> Table:
    names = ("differ", "distance", "source", "covered", "alike")
    heads = ("languages", "stages", "tau", "level", "ahead", "slope")
    table = Table(*heads, *names, title=f"distances and sources; % of {studies} studies")
    none = Sources()
    kinds = [none, replace(none, languages=40), replace(none, tau=0.0), replace(none, level=0.2, languages=40)]
    kinds += [replace(none, ahead=ahead) for ahead in (1.0, 2.0, 5.0)] + [replace(none, slope=20.0, languages=40)]
    for setting in kinds:
        made = [sources_study(setting, rng) for rng in np.random.default_rng(2).spawn(studies)]
        shares = (100 * np.mean([study[name] for study in made]) for name in names)
        table.add_row(*(f"{getattr(setting, head):g}" for head in heads), *(f"{share:.1f}" for share in shares))
    return table


if __name__ == "__main__":
    typer.run(main)
