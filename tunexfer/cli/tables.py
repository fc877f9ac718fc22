"""What `plan`, `tasks` and `score` print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tunexfer.core.chain import Chain, Stage
from tunexfer.data.rows import Rows
from tunexfer.export.xtreme_scores import score_table
from tunexfer.plan.cost import Estimate
from tunexfer.plan.plan import Cost, Plan
from tunexfer.tasks.suite import SPLITS, Suite


def console(*, stderr: bool = False) -> Console:
    """Where tables go: the terminal's width, or 120 columns where there is none."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=120)


def suite_table(suite: Suite, rows: Rows) -> RenderableType:
    """Each task with its kind, languages and rows per split."""
    table = Table(
        title=f"suite {suite.name}", caption=suite.about or None, title_justify="left", caption_justify="left"
    )
    for column in ("task", "kind", "split", "rows"):
        table.add_column(column, no_wrap=True, justify="right" if column == "rows" else "left")
    table.add_column("languages (rows where they differ)", overflow="fold")
    table.add_column("licence", overflow="fold")
    for name, task in suite.tasks.items():
        first = True
        for split in SPLITS:
            counts = {language: rows.count(name, language, split) for language in rows.languages(name, split)}
            if not counts:
                continue
            head = (name, task.kind) if first else ("", "")
            table.add_row(*head, split, f"{sum(counts.values()):,}", _languages(counts), task.licence if first else "")
            first = False
    return table


def _languages(counts: dict[str, int]) -> str:
    common = Counter(counts.values()).most_common(1)[0][0]
    return f"{len(counts)}: " + " ".join(
        language if count == common else f"{language}({count})" for language, count in counts.items()
    )


def plan_view(plan: Plan, estimate: Estimate | None) -> RenderableType:
    """All that a search of this plan would do, as far as it is known before it starts."""
    parts: list[RenderableType] = [
        Text(f"{plan.name}: suite {plan.suite.name}, encoder {', '.join(e.name for e in plan.encoders)}", style="bold"),
        _coordinates(plan),
        _stages(plan),
        _chain_table("baseline (trial 0): no stage", plan.baseline[1]),
        _evaluated(plan),
        _costs(plan),
        *_foreseen(plan, estimate),
    ]
    parts += [Text(f"note: {warning}", style="yellow") for warning in plan.warnings]
    if plan.without_rows:
        pairs = ", ".join(map(str, plan.without_rows))
        parts.append(Text(f"note: left out, as they have no training rows: {pairs}", style="yellow"))
    return Group(*parts)


def _coordinates(plan: Plan) -> RenderableType:
    table = Table(title="coordinates", title_justify="left")
    table.add_column("what is left open", no_wrap=True)
    table.add_column("options", overflow="fold")
    for name, words in plan.space.coordinates.items():
        table.add_row(name, words)
    return table if plan.space.coordinates else Text("nothing is left open: one chain")


def _stages(plan: Plan) -> RenderableType:
    """What a stage of each name can be, over all points."""
    table = Table(title="stages", title_justify="left")
    for column in ("stage", "steps", "batch size", "rows drawn"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    seen: dict[str, dict[tuple[int, int], None]] = {}
    for chain in plan.variants:
        for stage in chain.stages:
            seen.setdefault(stage.name, {})[stage.steps, stage.batch_size] = None
    for name, sizes in seen.items():
        for steps, size in sorted(sizes):
            table.add_row(name, f"{steps:,}", str(size), f"{steps * size:,}")
    return table if seen else Text("no stage: targets alone")


def _foreseen(plan: Plan, estimate: Estimate | None) -> list[RenderableType]:
    if estimate is None:
        return [Text("stage store: unknown until the data and the encoder have been cached once; `search` does that")]
    of = "of every point" if plan.every_chain() else f"of {plan.trials} random trials"
    lines = [f"stage store: holds {estimate.stored:,} of the {estimate.stages:,} distinct stages {of}"]
    if estimate.stage_bytes:
        whole = estimate.stage_bytes * plan.expected_cost().stages
        lines.append(f"disk: {_size(estimate.stage_bytes)} a stage, about {_size(whole)} for {plan.trials} trials")
    seconds = estimate.seconds(plan)
    if seconds is None:
        lines.append("time: unknown until a stage has been trained and the baseline scored")
    else:
        lines.append(
            f"time: about {_time(seconds)} for {plan.trials} trials one after the other, from an empty store "
            f"({estimate.step_seconds:.2f} s a step, {estimate.scoring_seconds:.0f} s to score a trial)"
        )
    return [Text("\n".join(lines))]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _time(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 5400
        else f"{seconds / 60:.0f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )


def _chain_table(title: str, chain: Chain) -> RenderableType:
    table = Table(title=title, title_justify="left")
    for column in ("stage", "trains on", "learning rate", "steps", "rows"):
        table.add_column(column, justify="left" if column in ("stage", "trains on") else "right")
    for stage in chain.stages:
        _add(table, stage.name, stage)
    for target in chain.targets:
        if target.stage:
            _add(table, target.words, target.stage)
        else:
            table.add_row(target.name, "nothing: scored from the encoder as the stages leave it", "", "", "")
    return table


def _add(table: Table, name: str, stage: Stage) -> None:
    table.add_row(
        name, str(stage.mixture), f"{stage.learning_rate:g}", str(stage.steps), f"{stage.steps * stage.batch_size:,}"
    )


def _evaluated(plan: Plan) -> RenderableType:
    table = Table(title="scored in every trial", title_justify="left")
    for column in ("target", "split", "rows", "languages"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    targets = plan.baseline[1].targets
    for task in dict.fromkeys(target.task for target in targets):
        names = ", ".join(target.name for target in targets if target.task == task)
        for split in SPLITS[1:]:
            languages = [language for one, language, other in sorted(plan.evaluated) if (one, other) == (task, split)]
            if languages:
                count = sum(plan.rows.count(task, language, split) for language in languages)
                chooses = " (chooses)" if split == plan.objective.split else ""
                table.add_row(names, split + chooses, f"{count:,}", f"{len(languages)}: {' '.join(languages)}")
    again = [f"{name} again after {last.name}" for name, last in plan.baseline[1].followed.items()]
    table.caption = f"forgetting: {', '.join(again)}" if again else None
    table.caption_justify = "left"
    return table


def _costs(plan: Plan) -> RenderableType:
    table = Table(title="cost", title_justify="left")
    for column in ("of", "trials", "stages apart", "stages shared", "steps apart", "steps shared"):
        table.add_column(column, justify="left" if column == "of" else "right")
    rows: list[tuple[str, Cost | None]] = [
        (f"{plan.trials} random trials (mean)", plan.expected_cost()),
        ("every point of the space", plan.full_cost()),
    ]
    for name, cost in rows:
        if cost is None:
            table.add_row(name, "too many to count", "", "", "", "")
        else:
            table.add_row(
                name,
                f"{cost.chains:,}",
                f"{cost.stages_unshared:,}",
                f"{cost.stages:,}",
                f"{cost.steps_unshared:,}",
                f"{cost.steps:,}",
            )
    return table


def scores_view(scores: Mapping[str, Any]) -> RenderableType:
    """What `score_folders` returns: a row per task, then per group, then the whole."""
    heads, *rows = score_table(scores)
    table = Table(title="XTREME", title_justify="left")
    for head in heads:
        table.add_column(head, justify="right" if head in ("score", "languages") else "left")
    for index, row in enumerate(rows):
        last_of_its_sort = index + 1 in (len(scores["tasks"]), len(rows) - 1)
        table.add_row(*row, end_section=last_of_its_sort)
    return table
