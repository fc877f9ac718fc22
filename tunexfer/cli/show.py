"""Rows as the model will see them: pieces, tags beside the pieces that carry them, answers in their context."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tunexfer.core.chain import Encoder
from tunexfer.core.scores import Split
from tunexfer.data.checkpoint import resolve_encoder
from tunexfer.data.encode import encode_source
from tunexfer.data.prepare import load_tokenizer
from tunexfer.data.rows import Rows
from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import IGNORE_INDEX, Feature, Row
from tunexfer.tasks.suite import SPLITS, TaskBlock

SHOWN = 3
AROUND = 60
"""Characters shown on either side of an answer."""


def rows_view(rows: Rows, task: str, language: str | None, encoder: Encoder) -> RenderableType:
    """Show the first rows of a task, encoded as for training.

    language: the first with train rows by default, or else with test rows
    raises:   DataError, if the task has no rows in that language, or the encoder has no tokenizer
    """
    block = rows.task(task)
    language, split = _place(rows, task, language)
    table = rows.table(task, language, split).slice(0, SHOWN)
    tokenizer = load_tokenizer(resolve_encoder(encoder, rows.cache))
    place = f"task {task!r}, {split} in {language!r}"
    with tempfile.TemporaryDirectory() as folder:
        # `list` copies what is mapped from the folder before that is gone.
        encoded = encode_source([table], block, tokenizer, Path(folder) / "shown", training=True, place=place)
        features = [{name: _plain(value) for name, value in feature.items()} for feature in encoded]
    lines = [Text(f"{place}, as {encoder.name} reads them", style="bold")]
    for number, row in enumerate(table.to_pylist()):
        lines.append(Text(f"row {number}, id {row['id']}", style="bold"))
        lines += _gold(row, block)
        own = [feature for feature in features if feature["row"] == number]
        lines += [line for feature in own for line in _feature(feature, block, tokenizer)]
        if not own:
            lines.append(Text("  the model reads nothing of it: no window has the answer", style="yellow"))
    return Group(*lines)


def _place(rows: Rows, task: str, language: str | None) -> tuple[str, Split]:
    there = {split: rows.languages(task, split) for split in SPLITS}
    for split, languages in there.items():
        if languages and (language is None or language in languages):
            return language or languages[0], split
    known = sorted({code for languages in there.values() for code in languages})
    raise DataError(f"task {task!r} has no rows in {language!r}. Languages with rows: {', '.join(known) or 'none'}.")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _gold(row: Row, block: TaskBlock) -> Iterator[Text]:
    if "label" in row:
        label = block.labels[row["label"]] if block.labels else row["label"]
        yield Text(f"  label: {label}")
    for answer in row.get("answers") or ():
        start, end = answer["start"], answer["start"] + len(answer["text"])
        context = row["context"]
        before, after = context[max(0, start - AROUND) : start], context[end : end + AROUND]
        yield Text.assemble("  answer: …", before, "»", (context[start:end], "bold"), "«", after, "…")


def _feature(feature: Feature, block: TaskBlock, tokenizer: Any) -> Iterator[Text]:
    """The pieces of a window or a sentence; of each option, where there are several."""
    ids = feature["input_ids"]
    for number, own in enumerate(ids if isinstance(ids[0], list) else [ids]):
        pieces = tokenizer.convert_ids_to_tokens(own)
        line = Text("  ")
        if ids is not own:
            line.append(f"option {number}: ")
        elif feature.get("side"):
            line.append("English: ")
        for place, piece in enumerate(pieces):
            line.append(piece, style=_style(feature, place))
            line.append(_tag(feature, place, block))
            line.append(" ")
        yield line


def _style(feature: Feature, place: int) -> str:
    """Make the pieces of the answer bold; a window without it has 0 for its place."""
    return "bold" if 0 < feature.get("start", 0) <= place <= feature.get("end", 0) else ""


def _tag(feature: Feature, place: int, block: TaskBlock) -> str:
    labels = feature.get("labels")
    if labels is None or labels[place] == IGNORE_INDEX:
        return ""
    return f"/{block.labels[labels[place]]}"
