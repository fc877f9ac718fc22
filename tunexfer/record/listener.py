"""Listeners are notified of what happens in a search while it happens."""

from __future__ import annotations

from tunexfer.core.trial import Trial, TrialResult


class Listener:
    """Ignores every event; subclasses override what they need."""

    def started(self, trial: Trial) -> None: ...

    def finished(self, result: TrialResult) -> None:
        """result: of a trial that is complete, failed or stopped; with its scores"""

    def info(self, text: str) -> None: ...

    def warning(self, text: str) -> None:
        """text: to be shown even where the user asked for no output"""
