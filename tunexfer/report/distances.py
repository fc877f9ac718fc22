"""Distances between languages from URIEL, and their names, scripts and families.

L: languages, F: features.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunexfer.errors import DataError

MEASURES = ("syntactic", "genetic", "geographic", "phonological")
SHARED = 10
"""Features that must be known for both languages; a distance over fewer is chance."""
_FILES = {
    "syntactic": ("features.npz", "S_"),
    "genetic": ("family_features.npz", ""),
    "geographic": ("geocoord_features.npz", ""),
    "phonological": ("features.npz", "P_"),
}
"""The file of each measure's features, and the beginning of their names."""
_UNKNOWN = -1

Array = NDArray[np.float64]


def language(code: str) -> dict[str, str]:
    """Look up an ISO 639-1 or 639-3 code; a language that the table lacks is known by its code alone.

    returns: code; uriel (the ISO 639-3 code that URIEL uses); name; script (the usual one) and family (Glottolog's
        topmost), which are empty if unknown
    """
    return _languages().get(code) or {"code": code, "uriel": code, "name": code, "script": "", "family": ""}


@cache
def _languages() -> Mapping[str, dict[str, str]]:
    text = resources.files("tunexfer.report").joinpath("languages.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    return {row["uriel"]: row for row in reversed(rows)} | {row["code"]: row for row in rows}


def distances(codes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Compute the distance of every two languages by each of `MEASURES`: 0 to 1, shape (L, L), indexed by code.

    NaN where URIEL has fewer than `SHARED` features of both. Nothing is downloaded or written.

    raises: DataError, if urielplus isn't installed or its files have moved
    """
    folder = _folder()
    wanted = list(dict.fromkeys(codes))
    matrices = {}
    for file in dict.fromkeys(file for file, _ in _FILES.values()):
        with np.load(folder / file, allow_pickle=False) as arrays:
            places = {str(code): at for at, code in enumerate(arrays["langs"])}
            names, data = arrays["feats"], arrays["data"]
        features = np.full((len(wanted), len(names)), float(_UNKNOWN))
        for row, code in enumerate(wanted):
            if (uriel := language(code)["uriel"]) in places:
                features[row] = data[places[uriel]].max(axis=-1)  # the union of URIEL's sources
        for measure, (own, prefix) in _FILES.items():
            if own == file:
                angles = angular(features[:, np.char.startswith(names, prefix)])
                matrices[measure] = pd.DataFrame(angles, index=wanted, columns=wanted)
    return {measure: matrices[measure] for measure in MEASURES}


def angular(features: Array) -> Array:
    """Compute the angle between every two rows over the features known for both, as a share of a right angle.

    features:  shape (L, F), each 0 or above, or -1 where it isn't known
    returns:   shape (L, L), 0 to 1; NaN where fewer than `SHARED` features are known for both

    A language with none of the shared features is at 1 from any other: one without relatives, such as Basque, isn't
    nearer to some. (urielplus puts a vector of ones in its place, and the deeper a family the nearer it gets.)

    Source: 2 arccos(u v / |u| |v|) / pi, as `new_distance` of urielplus 1.3 has it (Khan et al. 2025, URIEL+).
    """
    known = (features != _UNKNOWN).astype(np.float64)
    values = np.where(known > 0, features, 0.0)
    squares = values**2 @ known.T
    norms = np.sqrt(squares * squares.T)
    cosines = np.divide(values @ values.T, norms, out=np.zeros_like(norms), where=norms > 0)
    angles: Array = 2 * np.arccos(np.clip(cosines, -1.0, 1.0)) / np.pi
    np.fill_diagonal(angles, 0.0)
    angles[known @ known.T < SHARED] = np.nan
    return angles


def _folder() -> Path:
    """Find the package's arrays; importing it would copy them and set up logging for the whole process."""
    try:
        package = metadata.distribution("urielplus")
    except metadata.PackageNotFoundError:
        raise DataError(
            "Distances between languages need the package urielplus (URIEL's data), which isn't installed. "
            "Get it with: pip install 'tunexfer[typology]'"
        ) from None
    folder = Path(str(package.locate_file("urielplus/database/original_uriel")))
    if not all((folder / file).is_file() for file, _ in _FILES.values()):
        raise DataError(
            f"urielplus {package.version} lacks URIEL's arrays in {folder}, where version 1.3 has them. "
            "Get that version: pip install 'urielplus~=1.3.2'"
        )
    return folder
