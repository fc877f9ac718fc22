"""Batches in parts, where memory doesn't hold them whole: parts are halved until they fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_FITTED: dict[Hashable, int] = {}
"""Rows at a time that fitted after more of them didn't, in this process."""

log = logging.getLogger(__name__)


def in_fitting_parts(use: Hashable, rows: int, attempt: Callable[[int], Result]) -> Result:
    """Call `attempt` with how many of a batch's rows to take at a time: what fitted last, or all.

    Where memory runs out, half as many are tried, and that is where the next batch of the same use begins.

    use:     model, kind and length of the batch, as `memory_use` gives them
    attempt: leaves nothing behind when it fails
    raises:  the memory error, if a single row doesn't fit
    """
    size = max(1, min(rows, _FITTED.get(use, rows)))
    while True:
        try:
            return attempt(size)
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        # here, and not in the handler: the error's traceback holds on to tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("memory ran out with %d rows at a time: trying %d", size, -(-size // 2))
        size = _FITTED[use] = -(-size // 2)


def memory_use(model: Any, kind: str, length: int, *, training: bool) -> Hashable:
    """Say what a batch's memory depends on beside its rows; lengths up to the same power of two are one."""
    config = model.config
    return config.model_type, config.hidden_size, config.num_hidden_layers, kind, training, (length - 1).bit_length()


def is_out_of_memory(error: Exception) -> bool:
    """Tell errors of full memory, on any device, from others."""
    phrases = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in phrases)
