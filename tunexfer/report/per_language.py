"""Language by language: the best chains beside the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tunexfer.report.comparison import ONE_SEED, untested_in_words, verdict_in_words
from tunexfer.report.contenders import Contender, contenders
from tunexfer.report.section import Section
from tunexfer.report.study import Study
from tunexfer.report.style import BLUE, INK, VERMILION, WIDTH, new_figure, styled

CHAINS = "Chains compared"
_SHOWN = ("language", "unseen", "before", "after", "delta", "low", "high", "sd", "seeds", "p", "p_holm", "verdict")
_LOOKS = {
    "gain": (BLUE, "o", BLUE),
    f"gain{ONE_SEED}": (BLUE, "o", "none"),
    "loss": (VERMILION, "s", VERMILION),
    f"loss{ONE_SEED}": (VERMILION, "s", "none"),
    "": (INK, "o", "none"),
}
"""Of each verdict: colour, mark, and what the mark is filled with."""


def section(studies: Sequence[Study]) -> Section | None:
    """A table per chain and target; a figure per target of the best chain of each study."""
    chains: list[dict[str, object]] = []
    tables: dict[str, pd.DataFrame] = {}
    figures: dict[str, Figure] = {}
    for study in studies:
        prefix = f"{study.name}, " if len(studies) > 1 else ""
        for rank, one in enumerate(contenders(study)):
            chains.append(_chain_row(one))
            for target, part in one.comparison.languages.groupby("target", sort=False):
                title = f"{prefix}trial {one.trial}: {target}"
                tables[title] = part[[*_SHOWN]].sort_values("delta", ascending=False, kind="stable")
                if rank == 0:
                    scored = f"{target} ({part['metric'].iloc[0]}, {part['split'].iloc[0]})"
                    figures[f"{title}, differences and intervals"] = forest(part, scored)
    if not chains:
        return None
    compared = [one for study in studies for one in contenders(study)]
    said = [verdict_in_words(seeds) for seeds in sorted({len(one.pairs) for one in compared})]
    said += [words for words in dict.fromkeys(untested_in_words(one.comparison) for one in compared) if words]
    overview = pd.DataFrame(chains)
    if len(studies) == 1:
        overview = overview.drop(columns="study")
    return Section(
        key="languages",
        title="Language by language",
        words=(
            "Each chain beside the baseline of the same seeds; before and after are percentages, delta is in points, "
            "all are means over seeds. low and high: 95 % interval of the delta by paired bootstrap over the scored "
            "rows, 10,000 times, rows of one template or of parallel text drawn together. p: how often chance alone "
            "gives a difference as large, had the two chains' rows changed places at random; p_holm: after Holm's "
            "correction over the target's languages. sd: of the delta over seeds. gains and losses: how many verdicts "
            "there are, those of one seed among them; these have hollow marks in the figures.",
            *said,
        ),
        tables={CHAINS: overview, **tables},
        figures=figures,
        folded=frozenset([*tables, *list(figures)[1:]]),
        shaded={title: ["delta"] for title in tables},
    )


def _chain_row(one: Contender) -> dict[str, object]:
    verdicts = one.comparison.languages["verdict"]
    return {
        "study": one.study.name,
        "trial": one.trial,
        "stages": one.stages,
        "objective": one.objective,
        "baseline": one.baseline_objective,
        "seeds": len(one.pairs),
        "fresh seeds": one.fresh,
        "scores": len(verdicts),
        "gains": int(verdicts.str.startswith("gain").sum()),
        "losses": int(verdicts.str.startswith("loss").sum()),
    }


@styled
def forest(part: pd.DataFrame, title: str) -> Figure:
    """Each language's delta with its interval, the largest on top; blue and red where there is a verdict.

    part: rows of `Comparison.languages`, of one target
    """
    part = part.sort_values("delta", kind="stable")
    height = 0.17 * len(part) + 1.0
    figure = new_figure(WIDTH, height)
    figure.set_layout_engine("none")  # labels are short and alike, so their room is known without measuring them
    axes = figure.add_axes(
        (0.12, 0.55 / height, 0.86, 1 - 0.85 / height), title=title, xlabel="points over the baseline"
    )
    places = np.arange(len(part))
    colours = [_LOOKS[str(verdict)][0] for verdict in part["verdict"]]
    axes.axvline(0.0, color=INK, linewidth=0.6)
    axes.hlines(places, part["low"], part["high"], colors=colours, linewidth=1.2)
    for verdict, (colour, marker, face) in _LOOKS.items():
        some = (part["verdict"] == verdict).to_numpy()
        look: dict[str, Any] = {"marker": marker, "facecolors": face, "edgecolors": colour}
        axes.scatter(part["delta"][some], places[some], s=16, zorder=3, **look)
    axes.set_yticks(places, [_label(row) for row in part.itertuples()])
    axes.set_ylim(-0.8, len(part) - 0.2)
    axes.tick_params(axis="y", length=0, labelsize=7)
    return figure


def _label(row: object) -> str:
    language = str(getattr(row, "language"))  # noqa: B009  itertuples has no type
    return language if getattr(row, "unseen") else f"{language} (trained)"  # noqa: B009
