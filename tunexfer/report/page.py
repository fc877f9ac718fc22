"""The report: one page that needs nothing else, and every table and figure of it as files beside it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

import tunexfer
from tunexfer.core.files import write_whole
from tunexfer.report import answer, choices, cost, overview, per_language, transfer, typology
from tunexfer.report.section import Section
from tunexfer.report.study import Study, named_apart
from tunexfer.report.style import inline, png, svg

PAGE = "report.html"
BESIDE = "report_files"
"""The folder beside the page that holds tables as CSV and figures as SVG and PNG."""
LONG = 15
"""Rows; a longer table is shown at a click."""
MOST_ROWS = 500
"""Of a longer table the page shows the first ones; its CSV has all."""
MOST_COLUMNS = 30
LONG_TEXT = 240
"""Characters; of a longer text the page shows the beginning."""
_NOTHING = 1e-12
"""What rounding leaves of a difference between equal numbers."""
_FILE = re.compile(r"[^0-9A-Za-z_]+")

SECTIONS: tuple[Callable[[Sequence[Study]], Section | None], ...] = (
    answer.section,
    transfer.section,
    per_language.section,
    choices.section,
    typology.section,
    cost.section,
    overview.section,
)
"""In the page's order."""


def write_report(studies: Sequence[Study], out: Path) -> Path:
    """Write the report of some studies into a folder; an earlier report there is replaced, with the files beside it.

    returns: the page, `out/report.html`
    raises:  StudyError, if a study is given twice
    """
    studies = named_apart(studies)
    sections = [made for section in SECTIONS if (made := section(studies))]
    parts, written = [], set[str]()

    def write(name: str, data: str | bytes) -> None:
        write_whole(out / BESIDE / name, data)
        written.add(name)

    for section in sections:
        names = _file_names(section)
        figures = {}
        for title, figure in section.figures.items():
            drawn = svg(figure)
            figure.set_layout_engine("none")  # everything has its place now: finding it again takes as long
            write(f"{names[title]}.svg", drawn)
            write(f"{names[title]}.png", png(figure))
            alt = escape(section.alts.get(title, title))
            image = inline(drawn, names[title]).replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
            figures[title] = _Drawn(Markup(image), round(96 * figure.get_figwidth()))
        for title, table in section.tables.items():
            write(f"{names[title]}.csv", table.to_csv(index=False, lineterminator="\n"))
        parts.append(_Part(section, names, figures))
    page, text = out / PAGE, _render(studies, parts)
    for name in _beside(page) - written:
        (out / BESIDE / name).unlink(missing_ok=True)
    write_whole(page, text)
    return page


def _beside(page: Path) -> set[str]:
    """Names of the files beside an earlier page that are its own: those that it links to."""
    found = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    return set(re.findall(rf'href="{BESIDE}/(\w+\.(?:csv|svg|png))"', found))


@dataclass(frozen=True)
class _Drawn:
    svg: Markup
    """matplotlib has escaped what was written into it."""
    width: int
    """Pixels, as it was drawn."""


@dataclass(frozen=True)
class _Part:
    """A section, the names of its files, and its figures."""

    section: Section
    files: Mapping[str, str]
    figures: Mapping[str, _Drawn]


def _file_names(section: Section) -> dict[str, str]:
    """Title -> a name of letters, digits and underscores that no other title of the section has."""
    names: dict[str, str] = {}
    for title in (*section.tables, *section.figures):
        stem = f"{section.key}_{_FILE.sub('_', title).strip('_').lower()[:80]}".rstrip("_")
        others = {name for other, name in names.items() if other != title}
        name, number = stem, 2
        while name in others:
            name, number = f"{stem}_{number}", number + 1
        names.setdefault(title, name)
    return names


def _render(studies: Sequence[Study], parts: Sequence[_Part]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rows"] = _rows
    environment.globals |= {"BESIDE": BESIDE, "LONG": LONG, "MOST_ROWS": MOST_ROWS, "MOST_COLUMNS": MOST_COLUMNS}
    several = len(studies) > 1
    problems = [f"{study.name}: {one}" if several else one for study in studies for one in study.problems]
    return environment.get_template("page.html.j2").render(
        title=" and ".join(study.name for study in studies) if len(studies) < 4 else f"{len(studies)} studies",
        standing=[study.standing() for study in studies],
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        problems=problems,
        parts=parts,
        version=tunexfer.__version__,
    )


@dataclass(frozen=True)
class _Cell:
    text: str
    number: bool
    style: str = ""
    """A background of the diverging colours, where the table's column is of deltas."""


def _rows(table: pd.DataFrame, shaded: Sequence[str]) -> list[list[_Cell]]:
    """The first rows of a table as the page shows them."""
    shown = table.iloc[:MOST_ROWS, :MOST_COLUMNS]
    limits = {column: _limit(table[column]) for column in shaded}
    columns = []
    for place, column in enumerate(shown.columns):
        values = shown.iloc[:, place].tolist()
        kind = shown.dtypes.iloc[place]
        number = pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        limit = limits.get(column, 0.0)
        columns.append([_cell(value, str(column), number, limit) for value in values])
    return [list(row) for row in zip(*columns, strict=True)]


def _limit(values: pd.Series) -> float:
    return max(float(values.abs().max()), 0.5) if values.notna().any() else 0.0


def _cell(value: Any, column: str, number: bool, limit: float) -> _Cell:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _Cell("", number)
    if isinstance(value, bool):
        return _Cell("yes" if value else "no", False)
    if not isinstance(value, int | float):
        text = str(value)
        return _Cell(text if len(text) <= LONG_TEXT else f"{text[:LONG_TEXT]} ...", number)
    signed = limit > 0 or column in ("delta", "low", "high")
    style = ""
    if limit:
        colour = "var(--gain)" if value > 0 else "var(--loss)"
        strength = round(70 * min(1.0, abs(value) / limit))
        style = f"background:color-mix(in srgb,{colour} {strength}%,transparent)" if strength else ""
    return _Cell(_number(value, column, signed), number, style)


def _number(value: float, column: str, signed: bool) -> str:
    """As short as a reader wants it; the CSV has every digit."""
    if signed:
        return f"{value:+.2f}"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e12):
        return f"{int(value)}"
    if column == "p" or column.startswith("p_"):
        return f"{value:.4f}" if value >= 0.00005 else f"{value:.0e}"
    if 1 <= abs(value) < 10_000:
        return f"{value:.2f}"
    return f"{value:.3g}" if abs(value) > _NOTHING else "0"
