"""Names of places, languages and scripts in many languages, from the CLDR data in Babel."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

from babel import Locale

from tunexfer_starter.packages import chance
from tunexfer_starter.rows import Row, Split

ZONES_OF = "ru"
"""A language in which CLDR names the city of nearly every time zone; English omits those that the zone's id names."""


def name_type(language: str, split: Split) -> Iterator[Row]:
    """Yield names labelled with the kind of thing they name."""
    for kind, code, name in _balanced(language):
        if _split(kind, code) == split:
            yield {"id": f"{language}/{kind}/{code}", "cluster": f"{kind}/{code}", "text": name, "label": kind}


def _split(kind: str, code: str) -> Split:
    share = chance("name", kind, code).random()
    return "train" if share < 0.6 else "validation" if share < 0.75 else "test"


@cache
def _balanced(language: str) -> list[tuple[str, str, str]]:
    """Return (kind, code, name), with equally many names of each kind at each length, so that length predicts no kind.

    Length is the number of words and, roughly, of letters.
    """
    names = _names(language)
    cells: dict[tuple[int, int], dict[str, list[tuple[str, str, str]]]] = defaultdict(lambda: defaultdict(list))
    for kind, by_code in names.items():
        for code, name in sorted(by_code.items()):
            cells[len(name.split()), round(4 * math.log2(len(name)))][kind].append((kind, code, name))
    kept: list[tuple[str, str, str]] = []
    for cell in cells.values():
        fewest = min(len(cell[kind]) for kind in names)
        for kind in names:
            chance("names", language, kind).shuffle(cell[kind])
            kept += cell[kind][:fewest]
    chance("names", language).shuffle(kept)
    return kept


def _names(language: str) -> dict[str, dict[str, str]]:
    """Return kind -> code -> name in lower case, without names that two things share."""
    locale = Locale.parse(language)
    found = {
        "country": {code: name for code, name in locale.territories.items() if code.isalpha()},
        "language": {code: name for code, name in locale.languages.items() if "_" not in code},
        "script": dict(locale.scripts),
        "city": {zone: _city(locale, zone) for zone in _zones()},
    }
    lower = {kind: {code: name.lower() for code, name in names.items()} for kind, names in found.items()}
    bearers = Counter(name for names in lower.values() for name in names.values())
    return {
        kind: {code: name for code, name in names.items() if bearers[name] == 1 and _plain(name)}
        for kind, names in lower.items()
    }


def _plain(name: str) -> bool:
    return len(name) > 1 and not re.search(r"[\d(（,،、/]", name)


def _zones() -> list[str]:
    zones = Locale.parse(ZONES_OF).time_zones
    names = [str(zone) for zone in zones if "city" in zones[zone]]
    return sorted(name for name in names if "/" in name and not name.startswith("Etc/"))


def _city(locale: Locale, zone: str) -> str:
    city = locale.time_zones.get(zone, {}).get("city")
    return str(city or zone.rsplit("/", 1)[-1].replace("_", " "))
