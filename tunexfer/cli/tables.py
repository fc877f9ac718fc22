"""The tables that `plan`, `tasks`, `score` and `search` print."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunexfer.core.chain import Chain, Stage
from tunexfer.core.objective import Objective
from tunexfer.core.phrases import duration
from tunexfer.data.rows import Rows
from tunexfer.export.xtreme_scores import score_table
from tunexfer.plan.cost import Estimate
from tunexfer.plan.detect import detectable
from tunexfer.plan.plan import Plan
from tunexfer.tasks.suite import SPLITS, Suite

if TYPE_CHECKING:
    from tunexfer.record.findings import Findings


MOST_WARNINGS = 4
"""Warnings in the summary; the report has all of them."""


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or 120 columns where there is none. Brackets in names are no markup."""
    made = Console(stderr=stderr, highlight=False, markup=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=120)


def suite_table(suite: Suite, rows: Rows) -> RenderableType:
    """Show each task with its kind, languages and rows per split."""
    table = table_of(
        f"suite {suite.name}", ["task", "kind", "split", "rows", "languages (rows where they differ)", "licence"]
    )
    table.columns[3].justify = "right"
    table.caption = suite.about or None
    for column in table.columns[:4]:
        column.no_wrap = True
    for name, task in suite.tasks.items():
        cells: tuple[str, str, str] = (name, task.kind, task.licence)
        for split in SPLITS:
            counts = {language: rows.count(name, language, split) for language in rows.languages(name, split)}
            if counts:
                table.add_row(*cells[:2], split, f"{sum(counts.values()):,}", _languages(counts), cells[2])
                cells = ("", "", "")
    return Group(table, *notes(rows.remarks(), rows.warnings()))


def notes(lines: Iterable[str], warnings: Sequence[str]) -> list[Text]:
    """Show the warnings, then the other lines as notes."""
    others = (Text(f"note: {line}", style="yellow") for line in lines if line not in warnings)
    return [*(Text(f"warning: {line}", style="bold red") for line in warnings), *others]


def _languages(counts: dict[str, int]) -> str:
    common = Counter(counts.values()).most_common(1)[0][0]
    return f"{len(counts)}: " + " ".join(
        language if count == common else f"{language}({count})" for language, count in counts.items()
    )


def plan_view(plan: Plan, estimate: Estimate | None) -> RenderableType:
    """Show what a search of this plan would do, as far as it is known before the search starts."""
    lines = list(plan.warnings)
    if plan.without_rows:
        lines.append(f"left out for lack of training rows: {', '.join(map(str, plan.without_rows))}")
    return Group(
        Text(plan.name, style="bold"),
        Text("\n".join(_settings(plan))),
        _dimensions(plan),
        _stages(plan),
        _baseline(plan.baseline[1]),
        _evaluations(plan),
        _costs(plan),
        Text("\n".join(_estimates(plan, estimate))),
        *notes(lines, plan.rows.warnings(plan.read_keys)),
    )


def _settings(plan: Plan) -> list[str]:
    search, resources, confirm = plan.file.search, plan.file.resources, plan.confirm
    lines = [
        f"suite {plan.suite.name}, encoder {', '.join(encoder.name for encoder in plan.encoders)}",
        f"search: {search.algorithm}, {'as many' if search.trials == 'auto' else search.trials} trials "
        f"{'as pay' if search.trials == 'auto' else 'with the baseline'}, seed {search.seed}",
        f"objective: {_objective(plan.objective)}",
        f"resources: {resources.cpus} CPUs, {resources.gpus:g} GPUs, {plan.precision}",
    ]
    stop = search.stop
    if stop.rule == "chance":
        lines.append(f"stopping: when the chance to beat the best trial is below {100 * stop.chance:g} %")
    elif stop.rule == "top_k":
        lines.append(f"stopping: all but the {stop.top} best, once {stop.after} of their targets are scored")
    if confirm:
        best = f"the best {confirm.top} chains" + (" of each target" if plan.objective.per_target else "")
        lines.append(f"confirmation: {best} and the baseline, up to {confirm.count} fresh seeds each")
        points = detectable(confirm.count)
        lines.append(f"detectable: mean gains of about {points:.1f} points or more, and the noise of the rows on top")
    else:
        lines.append(
            "detectable: nothing, as chains have one seed; `confirm: {top: 3, seeds: 5}` tells candidates apart"
        )
    if plan.file.noise.seeds > 1:
        lines.append(f"noise: the baseline with {plan.noise_seeds} seeds in all")
    if plan.matched:
        whose = "each confirmed chain" if confirm else "the best chain, with the search's seed"
        lines.append(
            f"equal compute: {whose}, against as many more steps of each target, and against its stages on the "
            "target's own training rows"
        )
    return lines


def _objective(objective: Objective) -> str:
    """Describe what is pursued."""
    languages = {"train": "each target's training language", "all": "all languages"}
    goals = {
        "mean": "mean validation score",
        "worst_language": "lowest language's validation score",
        "device_seconds": "device seconds (minimised)",
    }
    where = objective.languages
    words = ", ".join(goals[goal] for goal in objective.goals)
    words += f"; validation in {languages[where] if isinstance(where, str) else ' '.join(where)}, "
    words += "each target with its own chain" if objective.per_target else "averaged over targets"
    most = objective.no_target_below_baseline
    return words if most is None else f"{words}; no target more than {most:g} points below the baseline"


def table_of(title: str, left: Iterable[str], right: Iterable[str] = ()) -> Table:
    """A table with some columns aligned to the left, then some to the right."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right")
    return table


def _dimensions(plan: Plan) -> RenderableType:
    if not plan.space.coordinates:
        return Text("no search dimensions: the space is one chain")
    table = table_of("search dimensions", ["dimension", "options"])
    for name, domain in plan.space.coordinates.items():
        table.add_row(name, str(domain))
    return table


def _stages(plan: Plan) -> RenderableType:
    """Sizes of each stage, as ranges over all points."""
    stages: dict[str, list[Stage]] = {}
    for chain in plan.variants:
        for stage in chain.stages:
            stages.setdefault(stage.name, []).append(stage)
    if not stages:
        return Text("no intermediate stage: targets only")
    table = table_of("intermediate stages", ["stage"], ["steps", "batch size", "training rows drawn"])
    for name, variants in stages.items():
        table.add_row(
            name,
            _extent(stage.steps for stage in variants),
            _extent(stage.batch_size for stage in variants),
            _extent(stage.steps * stage.batch_size for stage in variants),
        )
    return table


def _extent(counts: Iterable[int]) -> str:
    low, *_, high = sorted([*counts] * 2)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _baseline(chain: Chain) -> RenderableType:
    columns = ["learning rate", "steps", "batch size", "training rows drawn"]
    table = table_of("baseline (trial 0): no intermediate stage", ["target", "fine-tuned on"], columns)
    for target in chain.targets:
        if stage := target.stage:
            numbers = (stage.steps, stage.batch_size, stage.steps * stage.batch_size)
            cells = [f"{stage.learning_rate:g}", *(f"{number:,}" for number in numbers)]
            table.add_row(target.words, ", ".join(map(str, stage.mixture.sources)), *cells)
        else:
            table.add_row(target.name, "no fine-tuning; scored with the encoder after the last stage")
    return table


def _evaluations(plan: Plan) -> RenderableType:
    table = table_of("evaluated in every trial", ["target", "split", "rows", "languages"])
    table.columns[2].justify = "right"
    chain = plan.baseline[1]
    for task in dict.fromkeys(target.task for target in chain.targets):
        names = ", ".join(target.name for target in chain.targets if target.task == task)
        for split in SPLITS[1:]:
            languages = sorted(language for key, language, part in plan.evaluated if (key, part) == (task, split))
            if languages:
                count = sum(plan.rows.count(task, language, split) for language in languages)
                use = " (used for selection)" if split == plan.objective.split else ""
                table.add_row(names, split + use, f"{count:,}", f"{len(languages)}: {' '.join(languages)}")
    again = [f"{name} is evaluated again after {last.name}" for name, last in chain.followed.items()]
    table.caption = f"forgetting: {', '.join(again)}" if again else None
    return table


def _costs(plan: Plan) -> RenderableType:
    heads = ["trials", "stages without sharing", "with sharing", "steps without sharing", "with sharing"]
    table = table_of("cost", [""], heads)
    costs = {f"{plan.trials} random trials, mean": plan.expected_cost, "all chains and baseline": plan.full_cost()}
    if plan.confirm:
        costs["confirmation besides, at most"] = plan.confirmation_cost
    elif plan.matched:
        costs["equal compute, of a random chain"] = plan.controls_cost
    if plan.noise_cost.chains:
        costs["noise: the baseline again"] = plan.noise_cost
    for name, cost in costs.items():
        if cost is None:
            table.add_row(name, "too many to count")
        else:
            table.add_row(name, *(f"{count:,}" for count in cost))
    return table


def _estimates(plan: Plan, estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["stage store, disk and time: unknown until the first search has cached the data and the encoder"]
    of = "of the space" if plan.every_chain() else f"of {plan.trials} random trials"
    lines = [f"stage store: holds {estimate.stored:,} of the {estimate.stages:,} distinct stages {of}"]
    if estimate.stage_bytes:
        total = estimate.stage_bytes * plan.expected_cost.stages
        size = _size(estimate.stage_bytes)
        lines.append(f"disk: {size} per stage, about {_size(total)} for {plan.trials} trials")
    seconds = estimate.seconds(plan)
    if seconds is None:
        lines.append("time: unknown until a stage has been trained and the baseline scored")
    else:
        trials = plan.trials + (plan.confirmation_cost.chains if plan.confirm else 0)
        lines.append(
            f"time: about {duration(seconds)} for {trials} trials one after the other, from an empty store "
            f"({estimate.step_seconds:.2f} s per step, {estimate.scoring_seconds:.0f} s to score a trial)"
        )
    return lines


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def scores_view(scores: Mapping[str, Any]) -> RenderableType:
    """Show what `score_folders` returns: a row for each task, then for each group, then the overall score."""
    heads, *rows = score_table(scores)
    table = Table(title="XTREME", title_justify="left")
    for head in heads:
        table.add_column(head, justify="right" if head in ("score", "languages") else "left")
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index + 1 in (len(scores["tasks"]), len(rows) - 1))
    return table


def show_summary(findings: Findings, console: Console, *, folder: Path, state: str, seconds: float) -> None:
    """Print the findings and the commands to look further.

    folder: of the study
    state: how the search ended, after so many seconds
    """
    trials = findings.trials
    counts = ", ".join(f"{trials[state]} {state}" for state in ("complete", "failed", "stopped") if trials[state])
    confirming = f", {trials['confirm']} for noise and confirmation" if trials["confirm"] else ""
    wanted, complete = trials["wanted"], trials["complete"]
    of = "" if wanted == "auto" else f" of {wanted}"
    free = max(0, complete - wanted) if isinstance(wanted, int) and isinstance(complete, int) else 0
    besides = f" ({free} of them made of what others trained)" if free else ""
    console.print(Text(f"{folder.name}: {state}; {counts or 'no'}{of} trials{besides}{confirming}; {seconds:.0f} s"))
    card = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for name, value in findings.card.items():
        card.add_row(Text(name, style="dim"), Text(value))
    console.print(card)
    for table in (winners_table(findings), front_table(findings)):
        if table:
            console.print(table)
    for warning in findings.warnings[:MOST_WARNINGS]:
        console.print(Text(warning, style="yellow"))
    for command in ("report", "ui"):
        console.print(f"  tunexfer {command} {shlex.quote(str(folder))}", highlight=False, markup=False, soft_wrap=True)


def winners_table(findings: Findings) -> RenderableType | None:
    """Show the winner of each target, then their mean; None where no trial has scores that the objective reads."""
    rows = findings.best_per_target
    if not rows:
        return None
    numbers = ["trial", "validation", "languages", "baseline", "score", "gain"]
    table = table_of("winner of each target, by its own validation score", ["target"], numbers)
    table.add_column("how sure")
    for column in table.columns[1:]:
        column.no_wrap = True  # numbers are never cut: names and stages give way where the terminal is narrow
    table.columns[0].overflow = "fold"
    table.add_column("stages", overflow="fold", min_width=8)
    table.caption = "baseline, score and gain: means over unseen languages where there are any"
    for name, row in rows.items():
        count = f"{row['languages']}{' unseen' if row['unseen'] else ''}"
        *scores, gain = _scores(row)
        gain += _half_width(*(findings.interval(name) or (None, None)))
        numbers = [str(row["trial"]), f"{row['value']:.1f}", count, *scores, gain]
        table.add_row(name, *numbers, findings.how_sure(name), row["chain"].partition(" -> ")[0])
    if len(rows) > 1:
        mean, one = findings.mean_of_winners, findings.mean_of_best
        table.add_section()
        table.add_row("mean, each its own", "", f"{mean['value']:.1f}", "", *_scores(mean), "", "")
        if one:
            gain = f"{one['mean']:+.1f}{_half_width(one['low'], one['high'])}"
            numbers = [str(one["trial"]), "", "", "", "", gain]
            table.add_row("mean, one for all", *numbers, one["sure"], one["chain"].partition(" -> ")[0])
    return table


def _half_width(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ±{(high - low) / 2:.1f}"


def _scores(row: Mapping[str, Any]) -> list[str]:
    if row.get("delta") is None:
        return [""] * 3
    return [f"{row['baseline']:.1f}", f"{row['score']:.1f}", f"{row['delta']:+.1f}"]


def front_table(findings: Findings) -> RenderableType | None:
    """Show the trials that no other beats in all goals at once; None where there is a single goal."""
    if not findings.front:
        return None
    goals = list(findings.front[0]["goals"])
    table = table_of("Pareto front: no trial is better in all goals", [], ["trial", *goals])
    table.add_column("chain", overflow="fold")
    for row in findings.front:
        table.add_row(str(row["trial"]), *(f"{row['goals'][goal]:.2f}" for goal in goals), row["chain"])
    return table
