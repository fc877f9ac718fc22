"""Passwords in the addresses of databases and servers, which nothing that is shown or kept may hold."""

from __future__ import annotations

import re

HIDDEN = "***"
_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/]+(?=@)")


def without_passwords(text: str) -> str:
    """The text with `scheme://user:***@place` for every address in it that has a password."""
    return _PASSWORD.sub(rf"\1:{HIDDEN}", text)
