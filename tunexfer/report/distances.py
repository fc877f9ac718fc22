"""How far languages are from each other, by URIEL; and their names, scripts and families.

L: languages, F: features.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunexfer.errors import DataError

MEASURES = ("syntactic", "genetic", "geographic", "phonological")
SHARED = 10
"""Features that two languages have to be known for; a distance over fewer is chance."""
_FILES = {
    "syntactic": ("features.npz", "S_"),
    "genetic": ("family_features.npz", ""),
    "geographic": ("geocoord_features.npz", ""),
    "phonological": ("features.npz", "P_"),
}
"""Where a measure's features are, and how their names begin."""
_UNKNOWN = -1

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Language:
    code: str
    uriel: str
    """ISO 639-3, the code that URIEL knows it by."""
    name: str
    script: str
    """The usual one; empty where it isn't known."""
    family: str
    """Glottolog's topmost; empty where it isn't known."""


def language(code: str) -> Language:
    """The language of an ISO 639-1 or 639-3 code; one that the table doesn't have is known by its code alone."""
    return _languages().get(code) or Language(code, code, code, "", "")


def distances(codes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """For each of `MEASURES` the distance of every two languages, 0 to 1: shape (L, L), indexed by code both ways.

    NaN where URIEL knows fewer than `SHARED` features of both. Nothing is downloaded or written.

    raises: DataError, if the package isn't installed, or isn't as we know it
    """
    folder = _folder()
    wanted = list(dict.fromkeys(codes))
    found: dict[str, pd.DataFrame] = {}
    for file in dict.fromkeys(file for file, _ in _FILES.values()):
        features, names = _features(folder / file, [language(code).uriel for code in wanted])
        for measure, (of, prefix) in _FILES.items():
            if of == file:
                matrix = angular(features[:, np.char.startswith(names, prefix)])
                found[measure] = pd.DataFrame(matrix, index=wanted, columns=wanted)
    return {measure: found[measure] for measure in MEASURES}


def angular(features: Array) -> Array:
    """The angle between every two rows, over the features that both are known for, as a share of a right angle.

    features:  shape (L, F), each 0 or above, or -1 where it isn't known
    returns:   shape (L, L), 0 to 1; NaN where fewer than `SHARED` features are known for both

    A language that has none of the shared features is at 1 from any other: one without relatives, such as Basque, isn't
    a bit nearer to some. (urielplus puts a vector of ones in its place, and the deeper a family the nearer it gets.)

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


@cache
def _languages() -> Mapping[str, Language]:
    """By code, and by ISO 639-3 code where that isn't a code already."""
    text = resources.files("tunexfer.report").joinpath("languages.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = [Language(**row) for row in csv.DictReader(lines)]
    return {row.uriel: row for row in reversed(rows)} | {row.code: row for row in rows}


def _folder() -> Path:
    """The arrays as the package ships them. Importing it would copy them and set up logging for the whole process."""
    try:
        package = metadata.distribution("urielplus")
    except metadata.PackageNotFoundError:
        raise DataError(
            "Distances between languages are URIEL's, from the package urielplus, which isn't installed. "
            "Get it with: pip install 'tunexfer[typology]'"
        ) from None
    folder = Path(str(package.locate_file("urielplus/database/original_uriel")))
    if not all((folder / file).is_file() for file, _ in _FILES.values()):
        raise DataError(
            f"urielplus {package.version} doesn't have URIEL's arrays where version 1.3 has them, in {folder}. "
            "Get that one: pip install 'urielplus~=1.3.2'"
        )
    return folder


def _features(file: Path, codes: Sequence[str]) -> tuple[Array, NDArray[np.str_]]:
    """Shape (L, F) and the features' names; of several sources the highest value, URIEL's union; -1: not known."""
    with np.load(file, allow_pickle=False) as arrays:
        places = {str(code): at for at, code in enumerate(arrays["langs"])}
        names: NDArray[np.str_] = arrays["feats"]
        data = arrays["data"]
    found = np.full((len(codes), len(names)), float(_UNKNOWN))
    for row, code in enumerate(codes):
        if code in places:
            found[row] = data[places[code]].max(axis=-1)
    return found, names
