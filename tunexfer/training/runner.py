"""Running the chains of a study, whatever encoder each starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tunexfer.core.chain import Chain
from tunexfer.data.prepare import Prepared
from tunexfer.store import StageStore
from tunexfer.training.executor import ChainResult, ChainRunner, Progress


class StudyRunner:
    """One encoder is in memory at a time: that of the last chain."""

    def __init__(self, prepared: Mapping[str, Path], store: StageStore, *, device: str, threads: int) -> None:
        """prepared: encoder's name and revision -> the file that `Prepared.load` takes"""
        self._prepared, self._store = prepared, store
        self._device, self._threads = device, threads
        self._current: tuple[str, ChainRunner] | None = None

    def run(self, chain: Chain, *, seed: int, on_progress: Callable[[Progress], None]) -> ChainResult:
        """As `ChainRunner.run`."""
        name = chain.encoder.identity
        if self._current is None or self._current[0] != name:
            self._current = None
            prepared = Prepared.load(self._prepared[name])
            self._current = (name, ChainRunner(prepared, self._store, device=self._device, threads=self._threads))
        return self._current[1].run(chain, seed=seed, on_progress=on_progress)
