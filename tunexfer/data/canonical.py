"""Canonical rows: the data's rows in the fields of their kind of task."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tunexfer.data.origin import BATCH
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import Row
from tunexfer.tasks.kinds.columns import lacks
from tunexfer.tasks.suite import TaskBlock


def canonical_table(rows: Iterable[Row], block: TaskBlock, where: Mapping[str, str], place: str) -> pa.Table:
    """Turn the data's rows into the canonical rows of their kind.

    where:  column -> the value a row must have to be kept; `*` at its end stands for anything
    place:  begins every error
    raises: DataError, with the position of the row
    """
    kind = KINDS[block.kind]
    passed_over: dict[str, set[str]] = {column: set() for column in where}
    first_ids: dict[Any, str] = {}  # of each cluster: parallel files share them

    def read() -> Iterator[Row]:
        for position, row in enumerate(rows):
            try:
                if not _kept(row, where, passed_over) or lacks(row, block):
                    continue
                canonical = kind.read(row, block)
            except DataError as error:
                raise DataError(f"{place}, row {position}: {error}") from error
            if canonical is not None:
                name = canonical.get("id", str(position))
                cluster = first_ids.setdefault(canonical[kind.clustered_by], name) if kind.clustered_by else name
                yield {"id": name, "cluster": cluster} | canonical

    kept = read()
    batches = iter(lambda: list(itertools.islice(kept, BATCH)), [])
    table = pa.Table.from_batches([pa.RecordBatch.from_pylist(b, schema=kind.schema) for b in batches], kind.schema)
    if not table.num_rows and any(passed_over.values()):
        seen = (f"{column} is {', '.join(sorted(values)[:8])}" for column, values in passed_over.items() if values)
        raise DataError(
            f"{place}: no row passes `where: {dict(where)}`. In the data, {'; '.join(seen)}. "
            "Correct `where:` or `codes:`."
        )
    return table


def _kept(row: Row, where: Mapping[str, str], passed_over: dict[str, set[str]]) -> bool:
    """Whether a row has the wanted values; some of the other values are recorded in `passed_over`."""
    for column, wanted in where.items():
        if column not in row:
            raise DataError(f"there is no column {column!r} for `where:`. The data has {', '.join(row)}.")
        value = str(row[column])
        if not (value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted):
            if len(passed_over[column]) < 8:
                passed_over[column].add(value)
            return False
    return True


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the tables of a task's parts."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(map(_numbered, itertools.count(1), tables))


def _numbered(number: int, table: pa.Table) -> pa.Table:
    """Prefix ids with the number of the part, since two parts may count their rows alike."""
    for name in ("id", "cluster"):
        column = table.schema.get_field_index(name)
        table = table.set_column(column, name, pc.binary_join_element_wise(str(number), table[name], "-"))
    return table
