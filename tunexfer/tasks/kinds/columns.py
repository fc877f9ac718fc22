"""Read our fields from the data's columns. Every error names the column, its value and what to change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row

if TYPE_CHECKING:
    from tunexfer.tasks.suite import TaskBlock


def value(row: Row, task: TaskBlock, field: str) -> Any:
    """Return the row's value of one of our fields; `choices.text` looks inside `choices`."""
    column = task.columns.get(field)
    if not isinstance(column, str):
        raise DataError(
            f"`columns:` has to name the column that holds {field!r}. The data has {', '.join(row)}."
            if column is None
            else f"`columns: {field}:` has to be one column, not a list."
        )
    return _column(row, column, field)


def _column(row: Row, column: str, field: str) -> Any:
    content = _look(row, column)
    if content is None and column not in row:
        raise DataError(
            f"there is no column {column!r} for {field!r}. The data has {', '.join(row)}. "
            f"Name the right one in `columns: {field}:`."
        )
    return content


def _look(row: Row, column: str) -> Any:
    """Return what a column holds; None as well if there is no such column, or nothing of that name inside it."""
    if column in row:
        return row[column]
    name, *inside = column.split(".")
    return reduce(_inside, inside, row.get(name))


def inside(row: Row, column: str, use: str) -> Any:
    """Return what a column or something inside it holds.

    raises: DataError, if there is no such column
    """
    if column not in row and column.split(".")[0] not in row:
        raise DataError(f"there is no column {column!r} for {use}. The data has {', '.join(row)}.")
    return _look(row, column)


def _inside(content: Any, key: str) -> Any:
    if isinstance(content, Mapping):
        return content.get(key)
    return [_inside(item, key) for item in content] if isinstance(content, list) else None


def text(row: Row, task: TaskBlock, field: str) -> str:
    """Return the field's text without white space around it; several columns are joined by a space."""
    column = task.columns.get(field)
    if isinstance(column, list):
        return " ".join(filter(None, (column_text(row, name, field) for name in column)))
    return _text(value(row, task, field), column or field)


def column_text(row: Row, column: str, field: str) -> str:
    """Return the text of one of the columns that make up a field."""
    return _text(_column(row, column, field), column)


def _text(content: Any, column: str) -> str:
    if not isinstance(content, str):
        raise DataError(
            f"column {column!r} should hold text, but got {content!r}. Name the right column in `columns:`, or leave "
            f"rows without a value out with `drop_without: [{column}]`."
        )
    return content.strip()


def lacks(row: Row, task: TaskBlock) -> bool:
    """Tell whether a column of `drop_without` is empty in this row: null, blank or an empty list."""
    for column in task.drop_without:
        content = inside(row, column, "`drop_without:`")
        if content is None or content == [] or (isinstance(content, str) and not content.strip()):
            return True
    return False


def identity(row: Row, task: TaskBlock) -> Row:
    """Return `id` and `cluster`, if the data has columns for them and they are not null."""
    own = {field: value(row, task, field) for field in ("id", "cluster") if field in task.columns}
    return {field: str(content) for field, content in own.items() if content is not None}


def label_index(label: Any, labels: Mapping[str | int, int], task: TaskBlock) -> int | None:
    """Find the position in `task.labels` of a label as the data writes it; None for one of `drop_labels`.

    labels: `label_positions(task)`
    """
    if isinstance(label, str):
        label = label.strip()
        if label not in labels and label.endswith(".0") and label[:-2].removeprefix("-").isdecimal():
            label = label[:-2]  # pandas writes whole numbers so where others are missing
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label in task.drop_labels:
        return None
    ambiguous = isinstance(label, bool) and not task.label_values  # true isn't label 1 unless the suite says so
    if ambiguous or not isinstance(label, str | int) or label not in labels:
        column = task.columns.get("label", task.columns.get("tags"))
        raise DataError(
            f"column {column!r} has the label {label!r}, but the labels are {_some(labels)}. "
            "Correct `labels:`, give the data's own values in `label_values:`, "
            "or leave rows without gold out with `drop_labels:`."
        )
    return labels[label]


def _some(labels: Mapping[str | int, int], most: int = 40) -> str:
    """List the labels, if they are very many the first of them."""
    forms = [form for form in labels if not (isinstance(form, str) and form.isdecimal() and int(form) in labels)]
    rest = len(forms) - most
    return ", ".join(map(repr, forms[:most])) + (f" and {rest} more" if rest > 0 else "")


def label_positions(task: TaskBlock) -> dict[str | int, int]:
    """Map what the data may write for a label (its `label_values`, else its name or number) to the label's position.

    Labels whose names are numbers are meant by their names: of `["1", "2"]`, 1 is the first.
    """
    if task.label_values:
        return {written: index for index, written in enumerate(task.label_values)}
    return _positions(tuple(task.labels))


@lru_cache(maxsize=64)
def _positions(labels: tuple[str, ...]) -> dict[str | int, int]:
    names: dict[str | int, int] = {name: index for index, name in enumerate(labels)}
    if any(name.isdecimal() for name in labels):
        return names | {int(name): index for index, name in enumerate(labels) if name.isdecimal()}
    return names | {form: index for index in range(len(labels)) for form in (index, str(index))}
