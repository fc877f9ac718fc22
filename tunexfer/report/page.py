"""Write the report: one self-contained page, and its tables and figures as files beside it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from pandas.api.types import is_bool_dtype, is_numeric_dtype

import tunexfer
from tunexfer.core.files import write_whole
from tunexfer.report import answer, choices, languages, overview, spending, transfer, typology
from tunexfer.report.figures import inline, png, svg
from tunexfer.report.section import Section
from tunexfer.report.study import Study, with_distinct_names

PAGE = "report.html"
BESIDE = "report_files"
"""Folder beside the page with tables as CSV and figures as SVG and PNG."""
OPEN = 2
"""Sections that are read without a click: the answer, and what helps which target."""
LONG = 15
"""Rows; longer tables are folded."""
MOST_ROWS = 500
"""Longer tables are cut off in the page; their CSV is complete."""
MOST_COLUMNS = 30
LONG_TEXT = 240
"""Characters; longer texts are cut off in the page."""
_ROUNDING = 1e-12
"""Smaller numbers are differences of equal numbers."""

SECTIONS: tuple[Callable[[Sequence[Study]], Section | None], ...] = (
    answer.section,
    transfer.section,
    languages.section,
    choices.section,
    typology.section,
    spending.section,
    overview.section,
)
"""In the page's order."""


def write_report(studies: Sequence[Study], out: Path) -> Path:
    """Write the report of some studies into a folder, in place of an earlier report and its files.

    returns: the page, `out/report.html`
    raises:  StudyError, if a study is given twice
    """
    studies = with_distinct_names(studies)
    several = len(studies) > 1
    return write_page(
        [made for section in SECTIONS if (made := section(studies))],
        out,
        title=" and ".join(study.name for study in studies) if len(studies) < 4 else f"{len(studies)} studies",
        status=[study.status() for study in studies],
        problems=[f"{study.name}: {line}" if several else line for study in studies for line in study.problems],
    )


def write_page(
    sections: Sequence[Section], out: Path, *, title: str, status: Sequence[str] = (), problems: Sequence[str] = ()
) -> Path:
    """Write a page of sections, every table as CSV and every figure as SVG and PNG, in place of an earlier page.

    returns: the page, `out/report.html`
    """
    written = set[str]()

    def write(name: str, data: str | bytes) -> None:
        write_whole(out / BESIDE / name, data)
        written.add(name)

    parts = [_write_part(section, write, folded=at >= OPEN) for at, section in enumerate(sections)]
    page = out / PAGE
    text = _template().render(
        title=title,
        status=status,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        problems=problems,
        parts=parts,
        version=tunexfer.__version__,
    )
    for name in _files_of(page) - written:
        (out / BESIDE / name).unlink(missing_ok=True)
    write_whole(page, text)
    return page


@dataclass(frozen=True)
class _Figure:
    svg: Markup
    """Text in it is escaped by matplotlib."""
    width: int
    """Pixels."""


@dataclass(frozen=True)
class _Part:
    section: Section
    folded: bool
    files: dict[str, str]
    """Title -> file name without its ending."""
    figures: dict[str, _Figure]


def _write_part(section: Section, write: Callable[[str, str | bytes], None], *, folded: bool) -> _Part:
    files, figures = _file_names(section), {}
    for title, figure in section.figures.items():
        drawn = svg(figure)
        figure.set_layout_engine("none")  # everything has its place now: finding it again takes as long
        write(f"{files[title]}.svg", drawn)
        write(f"{files[title]}.png", png(figure))
        alt = escape(section.alts.get(title, title))
        image = inline(drawn, files[title]).replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
        figures[title] = _Figure(Markup(image), round(96 * figure.get_figwidth()))
    for title, table in section.tables.items():
        write(f"{files[title]}.csv", table.to_csv(index=False, lineterminator="\n"))
    return _Part(section, folded, files, figures)


def _file_names(section: Section) -> dict[str, str]:
    """Map each title to a name of letters, digits and underscores that no other title of the section has."""
    names: dict[str, str] = {}
    for title in dict.fromkeys([*section.tables, *section.figures]):
        words = re.sub(r"[^0-9A-Za-z_]+", "_", title).strip("_").lower()
        stem = name = f"{section.key}_{words[:80]}".rstrip("_")
        number = 1
        while name in names.values():
            number += 1
            name = f"{stem}_{number}"
        names[title] = name
    return names


def _files_of(page: Path) -> set[str]:
    """List the files beside an earlier page that belong to it: those that it links to."""
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    return set(re.findall(rf'href="{BESIDE}/(\w+\.(?:csv|svg|png))"', text))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["columns"] = _columns
    environment.globals |= {"BESIDE": BESIDE, "LONG": LONG, "MOST_ROWS": MOST_ROWS, "MOST_COLUMNS": MOST_COLUMNS}
    return environment.get_template("page.html.j2")


@dataclass(frozen=True)
class _Column:
    name: str
    numeric: bool
    cells: list[tuple[str, str]]
    """Text and CSS style."""


def _columns(table: pd.DataFrame, shaded: Sequence[str]) -> list[_Column]:
    """Format the part of a table that the page shows."""
    return [_column(str(name), column, name in shaded) for name, column in table.iloc[:, :MOST_COLUMNS].items()]


def _column(name: str, values: pd.Series[Any], shaded: bool) -> _Column:
    numeric = is_numeric_dtype(values) and not is_bool_dtype(values)
    largest = max(float(values.abs().max()), 0.5) if shaded and values.notna().any() else 0.0
    shown = values.iloc[:MOST_ROWS]
    missing = shown.isna().tolist()
    cells = [("", "") if gone else _cell(value, name, largest) for value, gone in zip(shown, missing, strict=True)]
    return _Column(name, numeric, cells)


def _cell(value: Any, name: str, largest: float) -> tuple[str, str]:
    """Format a value, and its background where the largest absolute value of its column is given."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        return (text if len(text) <= LONG_TEXT else f"{text[:LONG_TEXT]} ..."), ""
    strength = round(70 * min(1.0, abs(value) / largest)) if largest else 0
    colour = f"background:color-mix(in srgb,var(--{'gain' if value > 0 else 'loss'}) {strength}%,transparent)"
    return _number(value, name, signed=largest > 0 or name in ("delta", "low", "high")), colour if strength else ""


def _number(value: float, name: str, signed: bool) -> str:
    """Format a number as short as a reader wants it; the CSV has every digit."""
    if signed:
        return f"{value:+.2f}"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e12):
        return f"{int(value)}"
    if name == "p" or name.startswith("p_"):
        return f"{value:.4f}" if value >= 0.00005 else f"{value:.0e}"
    if 1 <= abs(value) < 10_000:
        return f"{value:.2f}"
    return f"{value:.3g}" if abs(value) > _ROUNDING else "0"
