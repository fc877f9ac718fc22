"""Search over intermediate-task chains for zero-shot cross-lingual transfer."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunexfer.report.study import Study as Study

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """`Study` is imported when it is asked for: pandas takes a second that most commands don't need."""
    if name == "Study":
        from tunexfer.report.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
