"""How often a difference is claimed between runs of one and the same chain, on real scores.

    tunexfer search benchmarks/same_chain.yaml
    python benchmarks/same_chain.py runs/same_chain

The study has one chain with twenty seeds. A draw splits them into two halves and compares some seeds of one half with
as many of the other, by `report.comparison.compare_runs`, as if they were two chains. No difference is real, so 5 % of
the claims are allowed. Prints the share of draws in which a difference is claimed: of each target's mean over unseen
languages, of some single language, and between languages (Q); then how far runs spread, by which the simulated studies
of `calibration.py` are set.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tunexfer.record.noise import LEVEL
from tunexfer.report.comparison import UNSEEN, Run, compare_runs, main_scores
from tunexfer.report.study import Study


def claims(study: Study, seeds: int, rng: np.random.Generator) -> dict[str, bool]:
    """Compare `seeds` runs with as many others: question -> whether a difference is claimed."""
    baseline = study.baseline()
    assert baseline is not None
    runs = rng.permutation([baseline, *study.repeats(baseline)]).tolist()
    half = len(runs) // 2
    pairs = [(Run(study, after), Run(study, before)) for after, before in zip(runs[:half], runs[half:], strict=False)]
    comparison = compare_runs(pairs[:seeds], resamples=300)
    means = comparison.means[comparison.means["language"] == UNSEEN]
    found = {f"{row.target}, mean": row.p < 1 - LEVEL for row in means.itertuples()}
    found["some language"] = bool((comparison.languages["verdict"] != "").any())
    return found | {f"{row.target}, languages differ": row.q_p < 1 - LEVEL for row in means.itertuples()}


def spread(study: Study) -> Table:
    """Tabulate how far the seeds spread: of all languages together, and of a language beside that."""
    table = Table("target", "sd of a run", "sd of a language in a run", title="points, over all seeds")
    for target, scores in main_scores(study).groupby("target", observed=True):
        values = scores.pivot_table(index="trial", columns="language", values="value", observed=True).to_numpy()
        means = values.mean(axis=1)
        rest = values - means[:, None]
        table.add_row(str(target), f"{means.std(ddof=1):.2f}", f"{np.sqrt(rest.var(axis=0, ddof=1).mean()):.2f}")
    return table


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the study with many seeds of its baseline.")],
    draws: Annotated[int, typer.Option(help="Draws for each number of seeds.")] = 300,
) -> None:
    """Print the shares of false claims."""
    study = Study.load(folder)
    console = Console(width=100)
    table = Table("seeds a side", title="differences claimed where none is real, % of draws")
    for seeds in (3, 5, 10):
        rng = np.random.default_rng(seeds)
        counts: Counter[str] = Counter()
        for _ in track(range(draws), description=f"{seeds} seeds", console=console, transient=True):
            counts.update({question: int(claimed) for question, claimed in claims(study, seeds, rng).items()})
        if not table.rows:
            for question in counts:
                table.add_column(question, justify="right")
        table.add_row(str(seeds), *(f"{100 * count / draws:.1f}" for count in counts.values()))
    console.print(table)
    console.print(spread(study))


if __name__ == "__main__":
    typer.run(main)
