"""`tunexfer init`: from a folder of files to a suite and a first space, with guesses marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.text import Text

from tunexfer.cli.tables import suite_table, table_of
from tunexfer.core.files import write_whole
from tunexfer.core.scores import Split
from tunexfer.data.inspect import TaskGuess, inspect_folder
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError, StudyError, TunexferError
from tunexfer.plan.plan import Plan
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import SPLITS, Suite, TaskBlock, load_suite

ROWS_SHOWN = 3
LONGEST_CELL = 60
WIDTH = 118
MOST_TARGETS = 3
HEAD = "# Written by `tunexfer init`. What it was not sure of follows a line that begins with `# ?`.\n"


def init_folder(folder: Path, encoder: str, console: Console, *, cache: Path, force: bool) -> None:
    """Write `suite.yaml` and `space.yaml` into a folder of data, and show what was seen.

    encoder: of the space
    force:   whether files that are there are overwritten
    raises:  DataError, if no task can be made of the files; StudyError, if one of the two files is there already
    """
    suite_file, space_file = folder / "suite.yaml", folder / "space.yaml"
    for file in (suite_file, space_file):
        if file.exists() and not force:
            raise StudyError(f"{file} is there already. Move it away, or overwrite it with --force.")
    tasks, unknown = inspect_folder(folder, cache)
    tasks, refused = _valid(tasks)
    unknown += refused
    if not tasks:
        reasons = "".join(f"\n{line}" for line in unknown)
        raise DataError(f"{folder}: no task can be made of the files in it.{reasons or ' There are none with rows.'}")
    write_whole(suite_file, suite_text(_name(folder), tasks, unknown))
    suite, place = load_suite(str(suite_file.absolute()))
    rows = Rows(suite, place, cache)
    console.print(Group(suite_table(suite, rows), *(_seen(task, rows) for task in tasks)))
    notes = [*unknown, *(f"{task.name}, {key}: {doubt}" for task in tasks for key, doubt in _doubts(task))]
    try:
        write_whole(space_file, space_text(suite, rows, encoder))
        notes += Plan.load(space_file, cache=cache).warnings
    except TunexferError as error:
        notes.append(f"no space could be planned: {error}")
    for note in notes:
        console.print(Text(f"? {note}", style="yellow"))
    console.print(Text(_next_commands(suite_file, space_file, tasks[0].name)), soft_wrap=True)


def _next_commands(suite: Path, space: Path, task: str) -> str:
    lines = [f"{suite} and {space} are written. Look at the lines after `# ?` in both, then:"] if space.exists() else []
    lines = lines or [f"{suite} is written; no space, for the reason above."]
    lines.append(f"  tunexfer tasks --suite {suite} --show {task}")
    return "\n".join([*lines, *(f"  tunexfer {command} {space}" for command in ("plan", "search") if space.exists())])


def _name(folder: Path) -> str:
    return "-".join(re.findall(r"[A-Za-z0-9]+", folder.resolve().name)) or "mine"


def _valid(tasks: Iterable[TaskGuess]) -> tuple[list[TaskGuess], list[str]]:
    """Sort out the tasks that a suite would refuse; a sentence for each."""
    valid, refused = [], []
    for task in tasks:
        try:
            TaskBlock.model_validate(task.block)
        except ValidationError as error:
            problems = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
            refused.append(f"{task.block.get('files', task.name)}: {problems}")
        else:
            valid.append(task)
    return valid, refused


def _doubts(task: TaskGuess) -> list[tuple[str, str]]:
    return [(key, doubt) for key, doubts in task.doubts.items() for doubt in doubts]


def suite_text(name: str, tasks: Iterable[TaskGuess], unknown: Iterable[str]) -> str:
    """The suite as YAML, with a comment before each key that isn't sure."""
    lines = [HEAD, _entry("name", name), "tasks:\n"]
    for task in tasks:
        lines.append(f"  {_flow(task.name)}:\n")
        unplaced = {key: doubts for key, doubts in task.doubts.items() if key not in task.block}
        lines += [_marked(doubt, 4) for doubts in unplaced.values() for doubt in doubts]
        for key, value in task.block.items():
            lines += [_marked(doubt, 4) for doubt in task.doubts.get(key, ())]
            lines.append(_entry(key, value, 4))
    return "".join([*lines, *(_marked(f"not read: {line}", 0) for line in unknown)])


def _entry(key: str, value: Any, indent: int = 0) -> str:
    """A key with its value as YAML, on one line if it fits."""
    line = f"{key}: {_flow(value)}\n"
    if len(line) + indent > WIDTH and isinstance(value, list | dict):
        line = _yaml({key: value}, flow=None, width=WIDTH - indent)
    return _indented(line, indent)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return _yaml([value], flow=True, width=10**6).strip()[1:-1]


def _yaml(value: Any, *, flow: bool | None, width: int) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=width)
    return text


def _marked(sentence: str, indent: int) -> str:
    return f"{' ' * indent}# ? {' '.join(sentence.split())}\n"


def _indented(text: str, indent: int) -> str:
    return "".join(f"{' ' * indent}{line}\n" for line in text.splitlines())


def _seen(task: TaskGuess, rows: Rows) -> RenderableType:
    """Show the labels with their counts, and the first rows, as the suite reads them."""
    language, split = next((language, split) for split in SPLITS for language in rows.languages(task.name, split))
    schema = [name for name in KINDS[task.block["kind"]].schema.names if name not in ("cluster", "tuning")]
    table = table_of(f"{task.name}: {split} in {language}", schema)
    for row in islice(rows.table(task.name, language, split).to_pylist(), ROWS_SHOWN):
        table.add_row(*(Text(_short(row[name])) for name in schema))
    counts = ", ".join(f"{label} {count:,}" for label, count in task.labels.most_common(40))
    table.caption = Text(f"labels: {counts}") if counts else None
    return table


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def space_text(suite: Suite, rows: Rows, encoder: str) -> str:
    """A first space: the tasks with test rows in most languages as targets, other tasks before them.

    raises: DataError, if there is nothing to train or to score
    """
    languages = {name: {split: rows.languages(name, split) for split in SPLITS} for name, task in suite.tasks.items()}
    targets = _targets(suite, languages)
    if not targets:
        raise DataError("no task has both a score and test or validation rows, so there is no target")
    trained = {
        name: _training_language(rows, name, languages[name]["train"]) for name in targets if languages[name]["train"]
    }
    lines = [
        HEAD, _entry("name", suite.name), _entry("suite", "suite.yaml"), _entry("encoder", encoder),
        *_stage(suite, rows, languages, targets, trained),
        "# Each target is fine-tuned on one language and scored in all of its languages.\ntargets:\n",
    ]  # fmt: skip
    for name in targets:
        if name in trained:
            language = trained[name]
            if language != "en" and len(languages[name]["train"]) > 1:
                lines.append(_marked(f"the language to train on; there are {', '.join(languages[name]['train'])}", 2))
            count = rows.count(name, language, "train")
            steps = {"learning_rate": {"choice": [2.0e-5, 5.0e-5]}, "steps": _steps(count)}
            lines.append(_indented(f"- {_flow({'task': name, 'train_language': language} | steps)}", 2))
        else:
            lines.append(_indented(f"- {_flow({'task': name})}", 2))
    selects = any(language in languages[name]["validation"] for name, language in trained.items())
    if not selects:
        lines.append(
            _marked("no target has validation rows in the language it is trained on, so all languages select", 0)
        )
    objective = {"maximize": "mean", "split": "validation", "languages": "train" if selects else "all"}
    lines += [
        _entry("objective", objective),
        _entry("search", {"algorithm": "tpe", "trials": 8, "seed": 13}),
        _marked("what one job may use; `gpus: 1` on a machine that has one", 0),
        _entry("resources", {"cpus": 1, "gpus": 0}),
    ]
    return "".join(lines)


Languages = Mapping[str, Mapping[Split, list[str]]]
"""Task -> split -> languages with rows."""


def _targets(suite: Suite, languages: Languages) -> list[str]:
    """Choose a few tasks that can be scored, those in most languages first, of different kinds as far as possible."""
    scored = [
        name for name, task in suite.tasks.items() if KINDS[task.kind].scored and _scorable(suite, name, languages)
    ]
    scored.sort(key=lambda name: -len({*languages[name]["test"], *languages[name]["validation"]}))
    several = [name for name in scored if len({*languages[name]["test"], *languages[name]["validation"]}) > 1]
    first_of_kind = {suite.tasks[name].kind: name for name in reversed(several or scored)}
    return [name for name in scored if name in first_of_kind.values()][:MOST_TARGETS]


def _scorable(suite: Suite, name: str, languages: Languages) -> bool:
    trains = KINDS[suite.tasks[name].kind].head is None or languages[name]["train"]
    return bool(trains and (languages[name]["test"] or languages[name]["validation"]))


def _stage(
    suite: Suite, rows: Rows, languages: Languages, targets: Sequence[str], trained: Mapping[str, str]
) -> list[str]:
    """An intermediate stage on another task, or where there is none on a target's task in another language."""
    tasks = [
        name
        for name, task in suite.tasks.items()
        if name not in targets and KINDS[task.kind].head and languages[name]["train"]
    ]
    choice: Any = sorted({language for name in tasks for language in languages[name]["train"]})
    if not tasks:
        others = {
            name: [language for language in languages[name]["train"] if language != own]
            for name, own in trained.items()
        }
        tasks = [name for name, own in others.items() if own][:1]
        choice = {"choice": [[language] for language in others[tasks[0]]]} if tasks else []
    if not tasks:
        return [
            "# ? no other task and no other language to train on, so the search is over the targets alone\nstages: []\n"
        ]
    steps = max(
        _steps(max(rows.count(name, language, "train") for language in languages[name]["train"])) for name in tasks
    )
    stage = {
        "name": "intermediate", "tasks": {"subset": {"of": tasks, "size": [0, 1]}}, "languages": choice,
        "learning_rate": 2.0e-5, "steps": steps,
    }  # fmt: skip
    lines = [_entry(key, value, 4) for key, value in stage.items()]
    return [
        "# At most one of these tasks first; none of them is the baseline.\nstages:\n",
        "  - ",
        "".join(lines).lstrip(),
    ]


def _training_language(rows: Rows, task: str, languages: Sequence[str]) -> str:
    """English, or else the language with most training rows."""
    return "en" if "en" in languages else max(languages, key=lambda language: rows.count(task, language, "train"))


def _steps(rows: int) -> int:
    """Steps of about two passes in batches of 32, within reason for a first search."""
    return min(1000, max(20, -(-2 * rows // 32)))
