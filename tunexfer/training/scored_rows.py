"""Every scored row of a trial, in a scratch file as it comes: many languages take no more memory than one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from tunexfer.tasks.kinds import ROWS_SCHEMA


class ScoredRows:
    """Entered, it takes rows; what `table` returns stays readable after it is left."""

    def __enter__(self) -> ScoredRows:
        self._scratch = tempfile.TemporaryDirectory()
        self._file = Path(self._scratch.name) / "rows.arrow"
        self._writer = pa.ipc.new_stream(str(self._file), ROWS_SCHEMA)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._scratch.cleanup()

    def add(self, rows: pa.Table) -> None:
        """rows: as in ROWS_SCHEMA"""
        self._writer.write_table(rows)

    def table(self) -> pa.Table:
        """All of them, memory-mapped; call it last."""
        self._writer.close()
        with pa.memory_map(str(self._file)) as mapped, pa.ipc.open_stream(mapped) as reader:
            return reader.read_all()
