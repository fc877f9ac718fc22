"""Whoever is told what happens in a study while it happens."""

from __future__ import annotations

from tunexfer.core.trial import Trial, TrialResult


class Listener:
    """Told of everything, and takes no notice of it."""

    def begun(self, trial: Trial) -> None: ...

    def ended(self, ended: TrialResult) -> None: ...

    def said(self, text: str) -> None:
        """Worth knowing."""

    def warned(self, text: str) -> None:
        """Worth knowing even where the user asked for quiet."""
