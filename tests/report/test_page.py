"""The page: self-contained, safe, backed by files, and made of whatever a study folder holds."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from conftest import HOSTILE, Report
from made_up_study import MadeUp

from tunexfer import Study
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Failure
from tunexfer.record.record import Record
from tunexfer.report import overview, typology
from tunexfer.report.figures import new_figure
from tunexfer.report.page import LONG, MOST_COLUMNS, MOST_ROWS, SECTIONS, write_page, write_report
from tunexfer.report.section import Section
from tunexfer.report.study import with_distinct_names


class Page(HTMLParser):
    """Collects what a page loads, its tags, links and ids, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        else:
            self.loads += [values[name] for name in ("src", "href", "xlink:href", "data", "action") if name in values]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data.strip()


def test_the_page_loads_nothing_and_its_links_lead_to_files_beside_it(report: Report) -> None:
    page = Page(report.text)
    assert [link for link in page.loads if not link.startswith(("#", "data:image/png;base64,"))] == []
    files = [link for link in page.links if not link.startswith("#")]
    assert files
    assert [link for link in files if not (report.page.parent / link).is_file()] == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in report.text


def test_user_text_is_never_markup(report: Report) -> None:
    assert not {"script", "img", "i", "module"} & set(Page(report.text).tags)
    assert report.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    names = [path.name for path in (report.page.parent / "report_files").iterdir()]
    assert all(re.fullmatch(r"\w+\.(csv|svg|png)", name) for name in names)


def test_every_table_is_a_csv_and_every_figure_an_svg_and_a_png(report: Report) -> None:
    files = sorted((report.page.parent / "report_files").iterdir())
    kinds = {kind: [path for path in files if path.suffix == kind] for kind in (".csv", ".svg", ".png")}
    assert [path.stem for path in kinds[".svg"]] == [path.stem for path in kinds[".png"]]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in kinds[".png"])
    assert report.text.count("<table>") == len(kinds[".csv"])
    assert report.text.count("<svg") == len(kinds[".svg"])


def test_the_top_says_how_far_the_study_is_and_when_the_page_was_made(report: Report) -> None:
    head = unescape(report.text.partition("<nav")[0])
    assert "made_up: 10 of 12 trials are complete. It is not running; trials missing: 2." in head
    [made] = re.findall(r">(\d{4}-\d\d-\d\d \d\d:\d\d) UTC<", head)
    age = datetime.now(UTC) - datetime.strptime(made, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert timedelta(0) <= age < timedelta(minutes=30)


def test_the_top_says_what_is_damaged_and_the_rest_is_there(report: Report) -> None:
    assert "Trial 2: how it ended can't be read from status.json" in unescape(report.text.partition("<nav")[0])
    assert "mean of targets: " in report.text
    trials = pd.read_csv(report.page.parent / "report_files" / "trials_trials.csv")
    assert trials["state"].value_counts().to_dict() == {"complete": 10, "failed": 1, "unfinished": 1}


def test_a_failed_trial_is_shown_with_its_reason_and_the_details_are_folded(report: Report) -> None:
    text = unescape(report.text)
    reason = f"KeyError: '{HOSTILE}'"
    folded = f'<details><summary>Trial 3 failed: {reason}</summary><pre class="wide">Traceback\n  in <module></pre>'
    assert folded in text
    [trials] = [table for table in Page(report.text).tables if {"trial", "phase", "reason"} <= set(table[0])]
    assert [row[trials[0].index("reason")] for row in trials[1:] if row[trials[0].index("trial")] == "3"] == [reason]


def test_every_image_and_every_table_that_scrolls_has_a_name_and_every_heading_a_scope(report: Report) -> None:
    names = re.findall(r'<svg role="img" aria-label="([^"]+)"', report.text)
    assert len(names) == len(set(names)) == report.text.count("<svg")
    regions = re.findall(r'<div class="wide table" tabindex="0" role="region" aria-label="[^"]+">', report.text)
    assert len(regions) == report.text.count("<table>")
    assert set(re.findall(r"<th\b[^>]*>", report.text)) == {
        '<th scope="col">',
        '<th scope="col" class="n">',
        '<th scope="row">',
    }


def test_every_number_of_a_shown_table_is_in_its_csv(report: Report) -> None:
    shown = Page(report.text).tables
    names = re.findall(r'href="(report_files/[^"]+\.csv)"', report.text)
    assert len(shown) == len(names)
    for (heading, *rows), name in zip(shown, names, strict=True):
        kept = pd.read_csv(report.page.parent / name)
        table = pd.DataFrame(rows, columns=heading)
        assert heading == list(kept.columns)
        for column in kept.select_dtypes("float").columns:
            numbers = pd.to_numeric(table[column]).tolist()
            assert numbers == pytest.approx(kept[column].tolist(), abs=0.006, rel=0.006, nan_ok=True)


def test_the_page_opens_with_the_card_of_the_findings(report: Report) -> None:
    card = Study.load(report.study).findings.card
    assert list(card) == ["question", "winner", "gain", "how sure", "cost"]
    shown = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", unescape(report.text)))
    assert shown == card


def page_of(out: Path, *sections: Section) -> str:
    return write_page(sections, out, title="made up").read_text()


def test_cells_are_as_short_as_a_reader_wants_them(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "name": ["first", None],
            "unseen": [True, False],
            "steps": [100, 2],
            "before": [61.23456, float("nan")],
            "delta": [1.0, -0.123],
            "p_holm": [0.00391, 0.0000391],
            "rate": [0.00003, 1e-15],
        }
    )
    [rows] = Page(page_of(tmp_path, Section(key="a", title="A", tables={"T": table}))).tables
    assert rows[1] == ["first", "yes", "100", "61.23", "+1.00", "0.0039", "3e-05"]
    assert rows[2] == ["", "no", "2", "", "-0.12", "4e-05", "0"]


def test_deltas_are_shaded_by_sign_and_size(tmp_path: Path) -> None:
    table = pd.DataFrame({"delta": [2.0, -1.0, 0.0], "other": [2.0, -1.0, 0.0]})
    text = page_of(tmp_path, Section(key="a", title="A", tables={"T": table}, shaded={"T": ["delta"]}))
    assert re.findall(r"color-mix\(in srgb,var\(--(\w+)\) (\d+)%", text) == [("gain", "70"), ("loss", "35")]


def test_a_large_table_is_folded_and_cut_off_and_its_csv_is_whole(tmp_path: Path) -> None:
    table = pd.DataFrame({f"column {n}": range(MOST_ROWS + 7) for n in range(MOST_COLUMNS + 3)})
    text = page_of(tmp_path, Section(key="a", title="A", tables={"Large": table, "Short": table.head(LONG)}))
    [large, short] = Page(text).tables
    assert (len(large), len(large[0]), len(short)) == (1 + MOST_ROWS, MOST_COLUMNS, 1 + LONG)
    assert "<details><summary>Large</summary>" in text
    assert "<h3>Short</h3>" in text
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "report_files" / "a_large.csv"), table)


def test_titles_that_make_the_same_file_name_have_a_file_each(tmp_path: Path) -> None:
    tables = {title: pd.DataFrame({"a": [title]}) for title in ("slots!", "slots?", "slots_2")}
    page_of(tmp_path, Section(key="gains", title="Gains", tables=tables))
    files = (tmp_path / "report_files").glob("*.csv")
    assert {path.stem: pd.read_csv(path)["a"].tolist() for path in files} == {
        "gains_slots": ["slots!"],
        "gains_slots_2": ["slots?"],
        "gains_slots_2_2": ["slots_2"],
    }


def test_a_page_replaces_an_earlier_one_with_its_files_and_nothing_else(tmp_path: Path) -> None:
    beside = tmp_path / "report_files"
    table = pd.DataFrame({"a": [1]})
    page_of(tmp_path, Section(key="a", title="A", tables={"Old": table}, figures={"Old figure": new_figure(2, 1)}))
    mine = [beside / "a_of_mine.csv", beside / "notes.txt", tmp_path / "a_old.csv"]
    for path in mine:
        path.write_text("mine")
    page_of(tmp_path, Section(key="a", title="A", tables={"New": table}))
    assert {path.name for path in beside.iterdir()} == {"a_new.csv", "a_of_mine.csv", "notes.txt"}
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_studies_of_the_same_name_have_every_table_and_figure_each(tmp_path: Path) -> None:
    made_up = MadeUp(trials=4, targets=("intent",))
    studies = with_distinct_names([Study.load(made_up.write(tmp_path / runs)) for runs in ("A", "B")])
    sections = [made for section in SECTIONS if section != typology.section and (made := section(studies))]
    titles = [title for made in sections for title in (*made.tables, *made.figures)]
    first, second = ([title for title in titles if f"{runs}/made_up" in title] for runs in ("A", "B"))
    assert [title.replace("A/", "B/") for title in first] == second
    assert len({title.split()[0] for title in first}) > 1


def test_trials_that_failed_alike_are_one_note(tmp_path: Path) -> None:
    states = tuple((trial, "failed") for trial in (2, 3, 5))
    study = Study.load(MadeUp(trials=6, states=states).write(tmp_path))  # type: ignore[arg-type]
    assert overview.section([study]).notes == {"3 trials (2, 3, 5) failed: it broke": ""}
    old = Study.load(Path(__file__).parent / "study_0_1")
    [(sentence, detail)] = overview.section([old]).notes.items()
    assert sentence == "Trial 2 failed: ValueError: the label 7 is out of range"
    assert detail.startswith("Traceback (most recent call last)")
    assert Failure.from_text(detail).message in sentence


def test_the_status_says_whether_a_search_is_running_and_how_the_last_one_ended(tmp_path: Path) -> None:
    made_up = MadeUp(trials=4, states=((3, "unfinished"),))
    folder = made_up.write(tmp_path)
    with Record.drive(StudyFolder(folder), made_up.plan()) as record:
        assert Study.load(folder).status() == "made_up: 3 of 4 trials are complete. It is running."
        record.end("out of time")
    assert "trials missing: 1." in Study.load(folder).status()
    assert "running" not in Study.load(folder).status()


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_just_begun_has_a_report(tmp_path: Path, trials: int) -> None:
    text = write_report([Study.load(MadeUp(trials=trials).write(tmp_path))], tmp_path).read_text()
    assert "There is nothing to compare yet" in text


def test_the_command_prints_the_answer_and_the_page_without_importing_torch_ray_or_mlflow(tmp_path: Path) -> None:
    folder = MadeUp(trials=1).write(tmp_path)
    code = (
        "import sys; from tunexfer.cli.main import app; "
        f"app(['report', {str(folder)!r}], standalone_mode=False); "
        "print(sorted({'torch', 'ray', 'transformers', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [str(folder / "report.html"), "[]"]
    assert "There is nothing to compare yet" in done.stdout


def test_a_report_of_two_studies_names_both(tmp_path: Path) -> None:
    studies = [Study.load(MadeUp(name=name, trials=0).write(tmp_path)) for name in ("one", "two")]
    text = write_report(studies, tmp_path).read_text()
    assert "<h1>one and two: search results</h1>" in text
    assert pd.read_csv(tmp_path / "report_files" / "trials_studies.csv")["study"].tolist() == ["one", "two"]
