"""The starter suite and encoder: real text and real weights, built from pip packages with nothing downloaded."""

from tunexfer.starter.encoder import ENCODERS, build_encoder
from tunexfer.starter.suite import build_suite

__all__ = ["ENCODERS", "build_encoder", "build_suite"]
