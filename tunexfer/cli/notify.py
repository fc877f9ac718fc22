"""`--notify`: a command of the user's that is run when a study ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60
"""How long the command may take."""


def notify(command: str | None, study: Path, **about: str) -> None:
    """Run the command in the user's shell; what becomes of it changes nothing.

    command: None for nothing
    about:   what it finds in its environment as `TUNEXFER_STATE` and so on, beside the name `TUNEXFER_STUDY` and
             `TUNEXFER_FOLDER`. Nothing that comes out of a file becomes part of the command itself.
    """
    if command is None:
        return
    about |= {"study": study.name, "folder": str(study)}
    told = {f"TUNEXFER_{name.upper()}": value.replace("\0", " ")[:1000] for name, value in about.items()}
    try:
        done = subprocess.run(command, shell=True, env=os.environ | told, stdout=sys.stderr, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        print(f"--notify: `{command}` took longer than {PATIENCE_S} s and was given up.", file=sys.stderr)
    else:
        if done.returncode:
            print(f"--notify: `{command}` ended with exit code {done.returncode}.", file=sys.stderr)


@contextmanager
def notifying(command: str | None, study: Path) -> Iterator[dict[str, str]]:
    """Run the command when the block ends, however it ends.

    yields: what the command is to know, for the block to fill in, `state` at least; where the block raises, `state` is
            `interrupted` or `failed`, and `reason` says why
    """
    about: dict[str, str] = {}
    try:
        yield about
    except BaseException as error:
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        notify(command, study, state=state, reason=str(error) or type(error).__name__)
        raise
    notify(command, study, **about)
