"""One pico encoder and suite for all searches that are run here, and one Ray cluster for those that need none of their
own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from command import Home
from servers import TOKEN, ray_head

os.environ.update(TOKEN)  # Ray reads it when it is imported


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def head() -> Iterator[str]:
    """The address of a Ray cluster of two CPUs."""
    with ray_head(cpus=2) as address:
        yield address
