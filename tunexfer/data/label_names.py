"""The names that a file or data set itself gives to its labels, as `datasets` keeps them in a schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tunexfer.errors import DataError
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.suite import TaskBlock


def names_in_schema(schema: pa.Schema) -> dict[str, list[str]]:
    """Read the label names of each column from what `datasets` writes into a file's schema."""
    written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return label_names(written.get("info", {}).get("features", {}))


def label_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Find the label names of each column in the features of a data set, as plain data."""
    return {column: names for column, feature in features.items() if (names := _names(feature))}


def _names(feature: Any) -> list[str]:
    """Find the names of a ClassLabel or of a list of them; a list is itself a list with one feature, or has one."""
    if isinstance(feature, list):
        feature = feature[0] if feature else {}
    if not isinstance(feature, Mapping):
        return []
    return list(feature["names"]) if feature.get("_type") == "ClassLabel" else _names(feature.get("feature"))


def named(rows: Iterable[Row], names: Mapping[str, Sequence[str]], block: TaskBlock, place: str) -> Iterator[Row]:
    """Replace the numbers of labels by the names that the data gives them.

    names:  column -> its label names
    place:  begins every error
    raises: DataError, if the data names other labels than the block, and the block gives no `label_values:`
    """
    used = {column: own for column, own in names.items() if column in block.columns.values()}
    by_number = (
        {} if block.label_values else {column: _known(own, block, column, place) for column, own in used.items()}
    )
    for row in rows:
        yield row | {column: _named(row[column], own) for column, own in by_number.items() if column in row}


def _known(names: Sequence[str], block: TaskBlock, column: str, place: str) -> Sequence[str | int]:
    """Return the names as the block writes them, or none where names or labels are mere numbers."""
    own = {label.casefold(): label for label in block.labels}
    if all(name.isdigit() for name in names) or all(label.isdigit() for label in own):
        return []
    if own.keys() <= {name.casefold() for name in names}:
        numbered = enumerate(names)
        return [at if at in block.drop_labels else own.get(name.casefold(), name) for at, name in numbered]
    raise DataError(
        f"{place}: the data itself calls the labels of column {column!r} {', '.join(names)}, but `labels:` are "
        f"{', '.join(block.labels)}. Write the data's names, or the numbers of your labels in `label_values:`."
    )


def _named(label: Any, names: Sequence[str | int]) -> Any:
    if isinstance(label, list):
        return [_named(item, names) for item in label]
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label
