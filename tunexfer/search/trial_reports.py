"""A trial as Ray Tune sees it, in a process of its own. It imports what Ray Tune does, and no more."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune


class _TrialReports(tune.Trainable):
    """A report after each finished job, then the end. It takes no resources."""

    def setup(self, config: dict[str, Any], board: Any = None) -> None:
        self._board, self._number = board, config["number"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number = new_config["number"]
        return True

    def step(self) -> dict[str, Any]:
        report: dict[str, Any] = ray.get(self._board.next.remote(self._number))
        return report


def trainable(board: Any) -> Any:
    """Make what Ray Tune runs for each trial; the reports are those that are posted on the board."""
    return tune.with_parameters(_TrialReports, board=board)
