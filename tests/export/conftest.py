"""Studies that several tests of exports share."""

from __future__ import annotations

import pytest
from export.pico_study import Made, study


@pytest.fixture(scope="session")
def five(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A stage and five targets of different kinds; sentence heads read the first token, as those of transformers do."""
    return study(tmp_path_factory.mktemp("five"))
