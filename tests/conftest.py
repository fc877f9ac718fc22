"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real multilingual rows; tests that need it are skipped where it isn't."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TUNEXFER_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no folder of real rows at {folder}: set TUNEXFER_TEST_DATA")
    return folder
