"""The starter suite and encoders: real text and real weights, built from pip packages with nothing downloaded.

tunexfer finds `SUITE` and the encoders through the entry points in `pyproject.toml`. Nothing here imports tunexfer.
"""

from tunexfer_starter.encoder import StarterEncoder
from tunexfer_starter.suite import StarterSuite

SUITE = StarterSuite()
E5_SMALL = StarterEncoder("starter-e5-small", layers=12)
E5_SMALL_4L = StarterEncoder("starter-e5-small-4l", layers=4)

__all__ = ["E5_SMALL", "E5_SMALL_4L", "SUITE", "StarterEncoder", "StarterSuite"]
