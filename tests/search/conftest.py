"""One pico encoder and suite for all searches that are run here."""

from __future__ import annotations

import pytest
from command import Home


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))
