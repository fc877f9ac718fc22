"""Canonical rows: the data's rows in the fields of their kind of task."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tunexfer.data.origin import Origin
from tunexfer.data.survey import Tally, batched, short_hash
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.kinds.base import LeftOut, Row
from tunexfer.tasks.kinds.columns import inside, lacks


def canonical_rows(rows: Iterable[Row], origin: Origin, place: str, tally: Tally) -> Iterator[Row]:
    """Turn the data's rows into the canonical rows of their kind, which `tally` counts.

    A row without an id takes its position in the data, so that parallel files share ids.

    place:  begins every error
    raises: DataError, with the position of the row; if `where:` fits no row; or if most rows are left out
    """
    block, where = origin.block, origin.where
    kind = KINDS[block.kind]
    passed_over: dict[str, set[str]] = {column: set() for column in where}
    first_ids: dict[int, str] = {}  # of each cluster, by a hash of its text: parallel files share them
    for position, row in enumerate(rows):
        try:
            if not _kept(row, where, passed_over) or lacks(row, block):
                continue
            canonical = kind.read(row, block)
            if canonical is None:
                continue
            if origin.split == "train":
                kind.check_trainable(canonical, block)
        except LeftOut as reason:
            tally.left_out[str(reason)] += 1
            continue
        except DataError as error:
            raise DataError(f"{place}, row {position}: {error}") from error
        name = canonical.get("id", str(position))
        cluster = first_ids.setdefault(short_hash(canonical[kind.clustered_by]), name) if kind.clustered_by else name
        canonical = {"id": name, "cluster": cluster} | canonical
        tally.take(canonical)
        yield canonical
    if not tally.used and any(passed_over.values()):
        seen = (f"{column} is {', '.join(sorted(values)[:8])}" for column, values in passed_over.items() if values)
        raise DataError(
            f"{place}: no row passes `where: {dict(where)}`. In the data, {'; '.join(seen)}. "
            "Correct `where:` or `codes:`."
        )
    if kind.clustered_by and "cluster" not in block.columns and "id" not in tally.same:
        tally.same.pop("cluster", None)  # all rows may well be about one text
    tally.check(place, allowed=block.allow_dropped)


def canonical_batches(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    """Collect canonical rows, `BATCH` at a time."""
    return (pa.Table.from_pylist(batch, schema=schema) for batch in batched(rows))


def canonical_table(tables: Iterable[pa.Table], schema: pa.Schema, tally: Tally) -> pa.Table:
    """Join batches of canonical rows. Ids or clusters that are all the same give way to positions.

    tally: has counted the rows when the last batch is read
    """
    table = pa.concat_tables([schema.empty_table(), *tables])
    if tally.used > 1:
        for name in tally.same:
            own = table["id"] if name == "cluster" and "id" not in tally.same else _positions(table)
            table = table.set_column(table.schema.get_field_index(name), name, own)
    return table


def _positions(table: pa.Table) -> pa.Array:
    return pa.array(map(str, range(len(table))), pa.string())


def _kept(row: Row, where: Mapping[str, str], passed_over: dict[str, set[str]]) -> bool:
    """Tell whether a row has the wanted values; some of the other values are recorded in `passed_over`."""
    for column, wanted in where.items():
        value = str(inside(row, column, "`where:`"))
        if not (value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted):
            if len(passed_over[column]) < 8:
                passed_over[column].add(value)
            return False
    return True


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the tables of a task's parts."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(map(numbered, itertools.count(1), tables))


def numbered(number: int, table: pa.Table) -> pa.Table:
    """Prefix ids with the number of the part, since two parts may count their rows alike."""
    for name in ("id", "cluster"):
        column = table.schema.get_field_index(name)
        table = table.set_column(column, name, pc.binary_join_element_wise(str(number), table[name], "-"))
    return table
