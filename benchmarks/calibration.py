"""Whether intervals and claims hold what they promise: studies with known truth, judged by the report's functions.

    python benchmarks/calibration.py [--studies 400]

A study has two chains with one true gain, scored in some languages on the same rows, over some seeds. A row is right
where its difficulty, drawn from [0, 1], is below what the chain can do; that moves with the run (standard deviation
`RUN` points, all languages together), with the run in each language (`RUN_LANGUAGE`), and by the row for each chain,
in all seeds and in each. Scores and resampled rows go through `paired.draw`, gains and claims through `record.noise`,
as in the report. The deviations are set so that nine seeds of a baseline spread as those of the default study do:
1 to 2 points a target, 3.5 points a language.

Prints for each setting how often the 95 % intervals hold the true gain (of the mean, of a single language), how often
a difference is claimed (false where the true gain is 0, power elsewhere), how often some language is called different
and how often languages are said to differ; then what is claimed after a search over chains that are alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
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
from tunexfer.report.paired import Draws, Sums, draw, mean_draws

Array = NDArray[np.float64]

RUN, RUN_LANGUAGE = 1.2, 1.5
"""Standard deviation of a run, in points: of all languages together, and of each by itself."""
LEVEL_OF_SCORES = 0.5
ROW_CHAIN, ROW_RUN = 0.15, 0.1
"""Standard deviation of what a row is worth to a chain in all of its runs, and in one run, as a share of 1."""
RESAMPLES = 200


@dataclass(frozen=True)
class Setting:
    """A kind of study."""

    gain: float = 0.0
    """True gain in points."""
    seeds: int = 3
    languages: int = 15
    rows: int = 200
    cluster: int = 1
    """Rows of a cluster, which have one difficulty."""
    parallel: bool = False
    """Whether all languages have the same rows, translated."""
    tau: float = 0.0
    """Standard deviation of true gains over languages, points."""


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
    together = rng.normal(0, RUN, size=(*shape[:2], 1))
    effects: Array = gains[:, None, :] + together + rng.normal(0, RUN_LANGUAGE, size=shape)
    return effects


def draws_of(right: Array, clusters: Array, *, after: int, before: int, seed: int) -> list[Draws]:
    """Resample two chains' rows, as `compare_runs` does."""
    sums = {}
    for language, names in enumerate(clusters):
        distinct, codes = np.unique(names, return_inverse=True)
        sides = []
        for chain in (after, before):
            own = right[chain, :, language]  # (S, rows)
            hits = np.stack([np.bincount(codes, weights=row, minlength=len(distinct)) for row in own], axis=1)
            counts = np.broadcast_to(np.bincount(codes)[:, None], hits.shape)
            sides.append(np.stack([hits, counts], axis=1).astype(np.float64))
        sums[language] = Sums(clusters=distinct, after=sides[0], before=sides[1], score=percent)
    return list(draw(sums, resamples=RESAMPLES, seed=seed).values())


def judge(setting: Setting, rng: np.random.Generator) -> Judged:
    """Run a study of two chains, and of three more baselines where there is a single seed."""
    true = (
        setting.gain + rng.normal(0, setting.tau, size=setting.languages)
        if setting.tau
        else np.full(setting.languages, setting.gain)
    )
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
    words = [sureness(result, p) for result, p in zip(results, adjusted, strict=True)]
    return Searched(
        raw=float(deltas[best] - true[best]),
        kept=kept_gain(float(deltas[best]), chosen_by, best, luck) - float(true[best]),
        claims=any(word in ("clear", "harmful") for word in words),
        found=words[int(np.argmax([result.delta if result else -np.inf for result in results]))] == "clear",
    )


def settings() -> Iterator[Setting]:
    """The kinds of study that are tried."""
    for seeds in (1, 3, 5, 10):
        for true in (0.0, 1.0, 2.0, 5.0):
            yield Setting(gain=true, seeds=seeds)
    three = Setting(seeds=3)
    yield from (replace(three, languages=9), replace(three, languages=40), replace(three, rows=40))
    yield from (replace(three, rows=1000), replace(three, cluster=5), replace(three, rows=80, cluster=5, parallel=True))
    yield from (replace(three, parallel=True), replace(three, tau=3.0), replace(three, tau=3.0, seeds=5))


def main(studies: Annotated[int, typer.Option(help="Studies of each setting.")] = 400) -> None:
    """Print the figures of every setting, then those of searches."""
    console = Console(width=140)
    heads = ("gain", "seeds", "languages", "rows", "cluster", "parallel", "tau")
    names = ("mean covered", "languages covered", "claimed", "some language", "differ")
    table = Table(*heads, *names, title=f"{studies} studies each; % of studies")
    for setting in settings():
        figures = rates(setting, studies)
        shown = [str(getattr(setting, head)) for head in heads]
        table.add_row(*shown, *(f"{figures[name]:.1f}" for name in names))
    console.print(table)
    searches = Table(
        "chains differ by", "seeds", "raw - true", "kept - true", "claimed", "best is clear", title="searches"
    )
    for spread, seeds in ((0.0, 3), (0.0, 5), (2.0, 3), (2.0, 5)):
        rngs = np.random.default_rng(1).spawn(studies // 2)
        made = [search(Setting(seeds=seeds, rows=100, languages=9), rng, spread=spread) for rng in rngs]
        raw, kept = (np.mean([getattr(own, name) for own in made]) for name in ("raw", "kept"))
        claimed, found = (100 * np.mean([getattr(own, name) for own in made]) for name in ("claims", "found"))
        searches.add_row(f"{spread}", str(seeds), f"{raw:+.2f}", f"{kept:+.2f}", f"{claimed:.1f}", f"{found:.1f}")
    console.print(searches)
    sd = float(np.sqrt(2 * (RUN**2 + RUN_LANGUAGE**2 / 15)))
    powers = ", ".join(f"{seeds} seeds {detectable(seeds, sd):.1f}" for seeds in (3, 5, 10))
    console.print(f"Detectable with 80 % power at this spread between runs, many rows: {powers} points")


if __name__ == "__main__":
    typer.run(main)
