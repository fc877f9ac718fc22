"""What every test may use."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # a search of a test is mirrored beside it


def pytest_collection_finish() -> None:
    """Garbage collection need not look again and again at what was imported: that is most of all objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def collection() -> Path | None:
    """The folder of real multilingual rows; None where it isn't."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TUNEXFER_TEST_DATA", default))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_data(collection: Path | None) -> Path:
    """The same for tests that need it, which are skipped where it isn't."""
    if collection is None:
        pytest.skip("no folder of real rows beside the checkout: set TUNEXFER_TEST_DATA")
    return collection


@pytest.fixture(scope="session")
def starter_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the starter's suite and encoders are built once, for all workers of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "starter-cache"
