"""The stage tree: trials that begin alike share a path from the root, and every branch is trained once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tunexfer.core.chain import Chain, Encoder, Stage, Target
from tunexfer.report.strips import shortened
from tunexfer.report.style import BLUE, INK, WIDTH, new_figure, styled

MOST_BRANCHES, MOST_SIBLINGS = 16, 8
"""Branches that are drawn, in all and of one parent: those with the most trials. The others of a parent share a line,
and the table has all."""
ROW_INCHES = 0.34
LETTER_INCHES = 0.066
TARGETS_SHARE = 0.38
"""Room at the right, in stages."""

_Path = tuple[Encoder | Stage, ...]


@dataclass
class Branch:
    """A beginning that some trials share."""

    trials: int = 0
    ending: int = 0
    """Trials that have no further stage: their targets are fine-tuned from here."""
    targets: set[tuple[Target, ...]] = field(default_factory=set)
    """Different fine-tunings of targets from here, each with those it goes on from."""


@dataclass
class _Line:
    """A node of the drawing and the line that leads to it; without a branch a remark in the place of one."""

    label: str
    detail: str = ""
    branch: Branch | None = None
    under: list[_Line] = field(default_factory=list)
    place: float = 0.0
    """Height; lines are 1 apart, the first is at 0."""


def stage_tree(chains: Iterable[Chain]) -> dict[_Path, Branch]:
    """Every beginning of a chain, the empty one too -> the trials that have it.

    Where trials differ in their encoder, that is the first branch.
    """
    chains = list(chains)
    several = len({chain.encoder for chain in chains}) > 1
    tree: dict[_Path, Branch] = {(): Branch()}
    for chain in chains:
        path: _Path = (chain.encoder, *chain.stages) if several else chain.stages
        for length in range(len(path) + 1):
            tree.setdefault(path[:length], Branch()).trials += 1
        tree[path].ending += 1
        tree[path].targets |= {chain.line(target.name) for target in chain.targets if target.stage}
    return tree


def tree_table(tree: Mapping[_Path, Branch]) -> pd.DataFrame:
    """One row a branch, those with the most trials first.

    depth:         stages so far; 0 is the root
    begins:        what these trials have in common
    steps:         of the last stage
    trials
    ending:        trials that have no further stage
    fine_tunings:  of targets from here, different ones
    """
    rows = [
        {
            "depth": len(path),
            "begins": "; then ".join(map(_in_full, path)) or "the encoder",
            "steps": path[-1].steps if path and isinstance(path[-1], Stage) else 0,
            "trials": branch.trials,
            "ending": branch.ending,
            "fine_tunings": len(branch.targets),
        }
        for path, branch in tree.items()
    ]
    return pd.DataFrame(rows).sort_values(["trials", "depth"], ascending=[False, True], ignore_index=True)


@styled
def draw_tree(tree: Mapping[_Path, Branch], root: str) -> Figure:
    """From left to right: a line a stage, and in each node the number of trials that share all before it."""
    kept = _kept(tree)
    top = _lines((), tree, kept)
    count = _settle(top, 0)
    depth = max(1, *map(len, kept))
    figure = new_figure(WIDTH, 0.7 + ROW_INCHES * count)
    axes = figure.subplots()
    axes.set(xlim=(-0.06 * depth, depth * (1 + TARGETS_SHARE)), ylim=(-count + 0.4, 0.6), title=root)
    _draw(axes, top, 0, depth)
    axes.set_axis_off()
    return figure


def _kept(tree: Mapping[_Path, Branch]) -> set[_Path]:
    """The branches that are drawn, the root among them, and with each its parent, which has at least as many trials."""
    kept: set[_Path] = {()}
    siblings: Counter[_Path] = Counter()
    for path in sorted(tree, key=lambda path: (-tree[path].trials, len(path)))[1:]:
        if len(kept) <= MOST_BRANCHES and path[:-1] in kept and siblings[path[:-1]] < MOST_SIBLINGS:
            kept.add(path)
            siblings[path[:-1]] += 1
    return kept


def _lines(path: _Path, tree: Mapping[_Path, Branch], kept: set[_Path]) -> _Line:
    branch = tree[path]
    label, detail = _in_short(path[-1]) if path else ("", "")
    line = _Line(label, detail, branch)
    below = [one for one in tree if len(one) == len(path) + 1 and one[:-1] == path]
    below.sort(key=lambda one: -tree[one].trials)
    if below and branch.ending:
        line.under.append(_Line(f"no {'further ' if path else ''}stage: {_many(branch.ending, 'trial')}"))
    line.under += [_lines(one, tree, kept) for one in below if one in kept]
    if rest := [one for one in below if one not in kept]:
        line.under.append(_Line(f"{len(rest):,} more: {_many(sum(tree[one].trials for one in rest), 'trial')}"))
    return line


def _settle(line: _Line, first: int) -> int:
    """Place what is under a node from line `first` on, and the node in the middle of it.

    returns: the next line that is free
    """
    line.place = float(-first)
    following = first
    for one in line.under:
        following = _settle(one, following)
    if line.under:
        line.place = (line.under[0].place + line.under[-1].place) / 2
    return max(following, first + 1)


def _draw(axes: Axes, line: _Line, x: int, depth: int) -> None:
    near = 0.05 * depth
    letters = int((WIDTH / ((1.06 + TARGETS_SHARE) * depth) - 0.55) / LETTER_INCHES)
    for one in line.under:
        end = x + (1 if one.branch else 1.4 * near)
        corner = [line.place, line.place, one.place, one.place]
        axes.plot([x, x + near, x + near, end], corner, color=INK, linewidth=0.7, zorder=1)
        if not one.branch:
            axes.text(x + near * 1.6, one.place, one.label, va="center", fontsize=7.5)
            continue
        axes.text(x + near * 1.4, one.place + 0.06, shortened(one.label, letters), va="bottom", fontsize=7.5)
        axes.text(x + near * 1.4, one.place - 0.08, shortened(one.detail, letters), va="top", fontsize=6.5)
        _draw(axes, one, x + 1, depth)
    if line.branch:
        node = {"boxstyle": "round,pad=0.4,rounding_size=0.8", "facecolor": BLUE, "edgecolor": "none"}
        count = f"{line.branch.trials:,}"
        axes.text(x, line.place, count, color="white", ha="center", va="center", fontsize=7, zorder=3, bbox=node)
        if not line.under:
            targets = f"{_many(len(line.branch.targets), 'fine-tuning')} of targets"
            axes.text(x + 0.6 * near, line.place, targets, va="center", fontsize=7.5)


def _in_short(step: Encoder | Stage) -> tuple[str, str]:
    """Tasks with their shares and languages; steps and rate."""
    if isinstance(step, Encoder):
        return step.name, step.pooling
    mixture = step.mixture
    languages = "+".join(dict.fromkeys(source.language for source in mixture.sources))
    shares = dict.fromkeys(mixture.tasks, 0.0)
    for source, share in zip(mixture.sources, mixture.shares, strict=True):
        shares[source.task] += share
    tasks = [f"{share:.0%} {task}" if len(shares) > 1 else task for task, share in shares.items()]
    return f"{' + '.join(tasks)}, {languages}", f"{step.steps:,} steps at {step.learning_rate:g}"


def _in_full(step: Encoder | Stage) -> str:
    if isinstance(step, Encoder):
        return f"{step.identity}, {step.pooling}"
    return f"{step.name}: {step.mixture}, {step.steps} steps at {step.learning_rate:g}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
