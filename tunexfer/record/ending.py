"""How a study stands: whether a search is at work on it, and how the last one ended."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from tunexfer.core.files import StudyFolder, write_whole

How = Literal["finished", "exhausted", "out of time", "interrupted", "failed"]
"""`exhausted`: the space had no further chain; `out of time`: `search.minutes` were over."""
State = Literal["running", "finished", "exhausted", "out of time", "interrupted", "failed", "stopped", "unknown"]
"""`stopped`: no search is at work, trials are missing, and the last search left no word; it was killed, for example.
`unknown`: whether a search is at work can't be told."""


@dataclass(frozen=True)
class Ending:
    """What the driver of a search leaves in the study's folder."""

    how: How
    reason: str = ""
    """Of a failure."""


@dataclass(frozen=True, kw_only=True)
class StudyStatus:
    """How a study stands."""

    state: State
    missing: int
    """Trials wanted that aren't complete."""
    reason: str = ""

    @classmethod
    def of(cls, folder: StudyFolder, missing: int) -> StudyStatus:
        """As its folder tells it."""
        ending = read_ending(folder)  # while it is there, a driver that still holds the lock only tidies up
        if ending:
            return cls(state=ending.how, missing=missing, reason=ending.reason)
        driven = is_driven(folder)
        if driven is None:
            return cls(state="unknown", missing=missing)
        return cls(state="running" if driven else "stopped" if missing > 0 else "finished", missing=missing)

    def in_words(self, study: str) -> str:
        """A sentence or two: how it stands, and what a person can do.

        study: its name, or a word that stands for it
        """
        missing = f"trials missing: {self.missing}."
        goes_on = f"{missing} The same `tunexfer search` goes on with it."
        if self.state == "finished" and self.missing > 0:
            return f"{study} has finished; {missing} The same `tunexfer search` runs what failed again."
        words = {
            "running": f"{study} is running.",
            "finished": f"{study} has finished.",
            "exhausted": f"{study} has finished: the space has no further chain; {missing}",
            "out of time": f"{study} has used its minutes up; {goes_on}",
            "interrupted": f"{study} was interrupted; {goes_on}",
            "failed": f"{study} failed ({next(iter(self.reason.splitlines()), 'no reason given')}); {goes_on}",
            "stopped": f"{study} isn't running; {goes_on}",
            "unknown": f"{study} may be running: its .lock can't be asked; {missing}",
        }
        return words[self.state]


def write_ending(folder: StudyFolder, ending: Ending) -> None:
    write_whole(folder.ending, json.dumps(asdict(ending), indent=2, ensure_ascii=False) + "\n")


def read_ending(folder: StudyFolder) -> Ending | None:
    """None where a search is at work, was killed, or is older than this file; and where the file is damaged."""
    try:
        found = Ending(**json.loads(folder.ending.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.how in get_args(How) and isinstance(found.reason, str) else None


def is_driven(folder: StudyFolder) -> bool | None:
    """Whether a driver holds the study's lock right now; None where that can't be told. Asking needs no right to write.

    A driver locks by `flock`, as filelock does, all to itself; who asks shares.
    """
    if sys.platform == "win32":
        return _is_locked(folder)
    import fcntl

    try:
        lock = folder.lock.open("rb")
    except FileNotFoundError:
        return False
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # some file systems say the second of a lock that is held
            return True
        except OSError:
            return None
    return False


def _is_locked(folder: StudyFolder) -> bool | None:
    """The same where there is no `flock`."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder.lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
