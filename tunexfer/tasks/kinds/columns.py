"""From the data's columns to our fields. Every error names the column, what was found and what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock


def value(row: Row, task: TaskBlock, field: str) -> Any:
    """What the row holds for one of our fields; `choices.text` looks inside `choices`."""
    column = task.columns.get(field)
    if not isinstance(column, str):
        raise DataError(
            f"`columns:` has to name the column that holds {field!r}. The data has {', '.join(row)}."
            if column is None
            else f"`columns: {field}:` has to be one column, not a list."
        )
    return _column(row, column, field)


def _column(row: Row, column: str, field: str) -> Any:
    found = _look(row, column)
    if found is None and column not in row:
        raise DataError(
            f"there is no column {column!r} for {field!r}. The data has {', '.join(row)}. "
            f"Name the right one in `columns: {field}:`."
        )
    return found


def _look(row: Row, column: str) -> Any:
    """None as well where there is no such column, or nothing of that name inside it."""
    if column in row:
        return row[column]
    name, *inside = column.split(".")
    found: Any = row.get(name)
    for key in inside:
        found = _inside(found, key)
    return found


def _inside(found: Any, key: str) -> Any:
    if isinstance(found, Mapping):
        return found.get(key)
    return [_inside(one, key) for one in found] if isinstance(found, list) else None


def text(row: Row, task: TaskBlock, field: str) -> str:
    """The field's text without white space around it; several columns are joined by a space."""
    column = task.columns.get(field)
    if isinstance(column, list):
        return " ".join(filter(None, (_text(_column(row, one, field), one) for one in column)))
    found = value(row, task, field)
    return _text(found, column or field)


def _text(found: Any, column: str) -> str:
    if not isinstance(found, str):
        raise DataError(
            f"column {column!r} should hold text, but got {found!r}. Name the right column in `columns:`, or leave "
            f"rows without a value out with `drop_without: [{column}]`."
        )
    return found.strip()


def lacks(row: Row, task: TaskBlock) -> bool:
    """Whether a column of `drop_without` holds nothing in this row: null, no text or an empty list."""
    for column in task.drop_without:
        if column not in row and column.split(".")[0] not in row:
            raise DataError(f"there is no column {column!r} for `drop_without:`. The data has {', '.join(row)}.")
        found = _look(row, column)
        if found is None or found == [] or (isinstance(found, str) and not found.strip()):
            return True
    return False


def identity(row: Row, task: TaskBlock) -> Row:
    """`id` and `cluster`, if the data has columns for them."""
    return {field: str(value(row, task, field)) for field in ("id", "cluster") if field in task.columns}


def label_index(found: Any, labels: Mapping[str | int, int], task: TaskBlock) -> int | None:
    """Position in `task.labels` of a label as the data writes it; None for one of `drop_labels`.

    labels: `label_positions(task)`
    """
    if isinstance(found, str):
        found = found.strip()
    if found in task.drop_labels:
        return None
    ambiguous = isinstance(found, bool) and not task.label_values  # true isn't label 1 unless the suite says so
    if ambiguous or not isinstance(found, str | int) or found not in labels:
        column = task.columns.get("label", task.columns.get("tags"))
        raise DataError(
            f"column {column!r} has the label {found!r}, but the labels are {_some(labels)}. "
            "Correct `labels:`, say how the data writes them in `label_values:`, "
            "or leave rows without gold out with `drop_labels:`."
        )
    return labels[found]


def _some(labels: Mapping[str | int, int], most: int = 40) -> str:
    """The labels in words; of very many the first."""
    rest = len(labels) - most
    return ", ".join(map(repr, list(labels)[:most])) + (f" and {rest} more" if rest > 0 else "")


def label_positions(task: TaskBlock) -> dict[str | int, int]:
    """Position of each label, by what the data may write: its `label_values`, else its name or its number."""
    if task.label_values:
        return {written: index for index, written in enumerate(task.label_values)}
    names: dict[str | int, int] = {name: index for index, name in enumerate(task.labels)}
    return names | {index: index for index in range(len(task.labels))}
