"""Weak data: few rows, one label for almost all of them, test rows from templates of train rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tunexfer.core.graph import Key
from tunexfer.core.scores import Split
from tunexfer.data.survey import Survey

FEW = 200
"""Rows below which an accuracy of 50 % has a standard error above 3.5 points: sqrt(0.25 / 200)."""
MANY_TIMES = 9
"""How often the most frequent label occurs for every other one, if always guessing it is right in 90 % of rows."""
NAMED = 6
"""Languages that are named in a sentence."""
SHARED_TEMPLATES = 0.05
"""The share of test rows with a template of train rows from which it is said."""

Surveys = Callable[[str, str, Split], Sequence[Survey]]


def weaknesses(
    keys: Iterable[Key],
    count: Callable[[str, str, Split], int],
    surveys: Surveys,
    labels: Callable[[str], Sequence[str]],
) -> Iterator[str]:
    """Yield a sentence for each weakness of a task's rows.

    count:   rows of a task, language and split
    surveys: of local files; none of other rows, of which only the numbers are known
    labels:  the names of a task's labels
    """
    by_split: dict[tuple[str, Split], list[str]] = {}
    for task, language, split in sorted(keys):
        by_split.setdefault((task, split), []).append(language)
    for (task, split), languages in by_split.items():
        if split != "validation":
            yield from _few(task, split, {language: count(task, language, split) for language in languages})
        own = [survey for language in languages for survey in surveys(task, language, split)]
        counts: Counter[str] = Counter()
        for survey in own:
            counts += survey.tally.labels
        yield from _one_label(task, split, counts, labels)
        if split == "test":
            yield from _templates(task, languages, surveys)


def _few(task: str, split: Split, counts: dict[str, int]) -> Iterator[str]:
    few = {language: rows for language, rows in counts.items() if rows < FEW}
    if few:
        where = ", ".join(f"{language} {rows}" for language, rows in list(few.items())[:NAMED])
        where += f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        effect = "their scores are uncertain by several points" if split == "test" else "little can be learnt from them"
        yield f"task {task!r} has fewer than {FEW} {split} rows in some languages ({where}): {effect}"


def _one_label(
    task: str, split: Split, counts: Counter[str], labels_of: Callable[[str], Sequence[str]]
) -> Iterator[str]:
    labels = labels_of(task) if counts else []  # a file of labels may be as absent as the rows
    if len(labels) < 2:
        return
    [(position, most)] = counts.most_common(1)
    if most >= MANY_TIMES * (counts.total() - most):
        share = 100 * most / counts.total()
        yield (
            f"task {task!r}: {share:.0f} % of {split} rows have the label {labels[int(position)]!r}, so always "
            "guessing it scores as much; look at macro_f1"
        )


def _templates(task: str, languages: Iterable[str], surveys: Surveys) -> Iterator[str]:
    shared, rows = 0, 0
    for language in languages:
        train, test = (surveys(task, language, split) for split in ("train", "test"))
        for own in test:
            rows += len(own.templates)
            known = [np.isin(own.templates, other.templates) for other in train]
            shared += int(np.logical_or.reduce(known).sum()) if known else 0
    if rows and shared >= SHARED_TEMPLATES * rows:
        yield (
            f"task {task!r}: {100 * shared / rows:.0f} % of test rows differ from train rows of their language in "
            "nothing but numbers and names: scores may show what was learnt by heart"
        )
