"""The errors a user can cause or must know of. Anything else is our own bug and keeps its traceback."""


class TunexferError(Exception):
    """Printed without a traceback; the command ends with exit code 2."""


class SpaceError(TunexferError):
    """The space file is wrong. Holds every problem at once, one line each."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["SpaceError"], tuple[list[str]]]:
        return type(self), (self.problems,)


class DataError(TunexferError):
    """Rows, a column, a label, a language or a download isn't there."""


class StudyError(TunexferError):
    """The study folder doesn't match the plan, is in use, or too many trials failed."""


class TrialFailed(TunexferError):
    """One trial failed for a reason worth recording; the study goes on."""
