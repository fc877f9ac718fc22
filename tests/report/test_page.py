"""The page: whole in itself, safe, backed by files, and made of whatever is there."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_up_study import MadeUp
from typer.testing import CliRunner

from tunexfer import Study
from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.record.record import Record
from tunexfer.report.answer import answer
from tunexfer.report.page import SECTIONS, write_report

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a page loads, which tags it has, and its tables' cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.ids += [found["id"]] if "id" in found else []
        if tag == "a":
            self.links.append(found["href"])
        else:
            self.loads += [found[name] for name in ("src", "href", "xlink:href", "data", "action") if name in found]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data.strip()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The study's folder and its page."""
    folder = MadeUp(trials=8, rows=20, seeds=2, states=((3, "failed"),)).write(tmp_path_factory.mktemp("runs"))
    return folder, write_report([Study.load(folder)], folder)


def test_the_page_loads_nothing_and_its_links_lead_to_files_beside_it(written: tuple[Path, Path]) -> None:
    page = Page(written[1].read_text())
    assert "script" not in page.tags
    assert [one for one in page.loads if not one.startswith(("#", "data:image/png;base64,"))] == []
    files = [link for link in page.links if not link.startswith("#")]
    assert files
    assert [link for link in files if not (written[1].parent / link).is_file()] == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in written[1].read_text()


def test_every_table_is_a_csv_and_every_figure_an_svg_and_a_png(written: tuple[Path, Path]) -> None:
    files = sorted((written[1].parent / "report_files").iterdir())
    kinds = {kind: [path for path in files if path.suffix == kind] for kind in (".csv", ".svg", ".png")}
    assert [path.stem for path in kinds[".svg"]] == [path.stem for path in kinds[".png"]]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in kinds[".png"])
    page = written[1].read_text()
    assert page.count("<table>") == len(kinds[".csv"])
    assert page.count("<svg") == len(kinds[".svg"])


def test_the_top_says_how_far_the_study_is_and_when_the_page_was_made(written: tuple[Path, Path]) -> None:
    head = written[1].read_text().partition("<nav")[0]
    assert "made_up: 11 of 12 trials wanted are complete. It isn&#39;t running; trials missing: 1." in head
    [made] = re.findall(r">(\d{4}-\d\d-\d\d \d\d:\d\d) UTC<", head)
    age = datetime.now(UTC) - datetime.strptime(made, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert timedelta(0) <= age < timedelta(minutes=10)


def test_the_top_says_whether_a_search_is_at_work_and_how_the_last_one_ended(tmp_path: Path) -> None:
    made_up = MadeUp(trials=4, states=((3, "unfinished"),))
    folder = made_up.write(tmp_path)
    with Record.drive(StudyFolder(folder), made_up.plan()) as record:
        assert (
            "made_up: 3 of 4 trials wanted are complete. It is running."
            in write_report([Study.load(folder)], tmp_path).read_text()
        )
        record.end("out of time")
    text = write_report([Study.load(folder)], tmp_path).read_text()
    assert "It has used its minutes up; trials missing: 1." in text


def test_every_image_and_every_table_that_scrolls_has_a_name_and_every_heading_says_of_what(
    written: tuple[Path, Path],
) -> None:
    text = written[1].read_text()
    made = [made for section in SECTIONS if (made := section([Study.load(written[0])]))]
    alts = [section.alts.get(title, title) for section in made for title in section.figures]
    assert [html.unescape(alt) for alt in re.findall(r'<svg role="img" aria-label="([^"]+)"', text)] == alts
    assert text.count("<svg") == len(alts)
    regions = re.findall(r'<div class="wide table" tabindex="0" role="region" aria-label="[^"]+">', text)
    assert len(regions) == text.count("<table>")
    assert set(re.findall(r"<th\b[^>]*>", text)) == {
        '<th scope="col">',
        '<th scope="col" class="n">',
        '<th scope="row">',
    }


def test_every_number_of_a_shown_table_is_in_its_csv(written: tuple[Path, Path]) -> None:
    text = written[1].read_text()
    shown = Page(text).tables
    names = re.findall(r'href="(report_files/[^"]+\.csv)"', text)
    assert len(shown) == len(names)
    for (heading, *rows), name in zip(shown, names, strict=True):
        kept = pd.read_csv(written[1].parent / name)
        table = pd.DataFrame(rows, columns=heading)
        assert heading == list(kept.columns)
        for column in kept.select_dtypes("float").columns:
            numbers = pd.to_numeric(table[column]).tolist()
            assert numbers == pytest.approx(kept[column].tolist(), abs=0.006, rel=0.006, nan_ok=True)


def test_numbers_in_the_words_are_in_the_tables(written: tuple[Path, Path]) -> None:
    study = Study.load(written[0])
    tables = [pd.read_csv(path) for path in (written[1].parent / "report_files").glob("*.csv")]
    known = {f"{value:+.2f}" for table in tables for value in table.select_dtypes("number").to_numpy().ravel()}
    said = re.findall(r"[+-]\d+\.\d\d(?!\d)", " ".join(answer(study)))
    assert len(said) > 8
    assert set(said) <= known


def test_the_answer_says_who_chose_what_is_unseen_and_how_sure(tmp_path: Path) -> None:
    study = Study.load(MadeUp(trials=8, rows=20, objective="train").write(tmp_path))
    text = " ".join(answer(study))
    assert "Against the baseline, mean of all targets: " in text
    assert "train languages alone, which is the zero-shot protocol" in text
    assert "Seen in training: intent in en; slots in en." in text
    assert "one seed, the one it was chosen by" in text
    assert "With one seed a difference can only be beyond the noise of the scored rows" in text
    assert "Beyond chance it" not in text
    every = " ".join(answer(Study.load(MadeUp(name="all", trials=8, rows=20, objective="all").write(tmp_path))))
    assert "not the zero-shot protocol" in every


def test_a_study_in_which_nothing_beats_the_baseline_says_so(tmp_path: Path) -> None:
    made_up = MadeUp(trials=3, intermediate=("questions",), sources=("zh",), target_rates=("0.0003",), noise=0.0)
    text = " ".join(answer(Study.load(made_up.write(tmp_path))))
    assert "Best chain" not in text
    assert "No chain beat the baseline" in text


def test_user_text_is_never_markup(tmp_path: Path) -> None:
    made_up = MadeUp(
        name="a<b>&c",
        trials=4,
        rows=4,
        intermediate=(HOSTILE, "$x_1$"),
        targets=(HOSTILE, "b&amp;<i>"),
        encoder=HOSTILE,
    )
    folder = made_up.write(tmp_path)
    StudyFolder(folder).trial(2).status.write_text("<img src=x onerror=alert(1)>")
    text = write_report([Study.load(folder)], tmp_path / "out").read_text()
    page = Page(text)
    assert not {"script", "img", "i", "b"} & set(page.tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    names = [path.name for path in (tmp_path / "out" / "report_files").iterdir()]
    assert all(re.fullmatch(r"\w+\.(csv|svg|png)", name) for name in names)


def test_titles_that_make_the_same_file_name_have_a_file_each(tmp_path: Path) -> None:
    folder = MadeUp(trials=4, targets=("slots!", "slots?")).write(tmp_path)
    write_report([Study.load(folder)], folder)
    names = [path.name for path in (folder / "report_files").glob("languages_trial_1_slots*.csv")]
    assert len(names) == 2


def test_a_killed_and_a_damaged_study_are_reported_with_what_is_missing(tmp_path: Path) -> None:
    folder = MadeUp(trials=8, rows=10, states=((6, "unfinished"), (7, "unfinished"))).write(tmp_path)
    files = StudyFolder(folder)
    files.scores.unlink()
    files.trial(2).chain.write_text("chain: [")
    files.trial(3).scores.write_bytes(files.trial(3).scores.read_bytes()[:-30])
    files.trial(4).rows.write_bytes(b"PAR1")
    files.environment.unlink()
    text = write_report([Study.load(folder)], folder).read_text()
    head = text[: text.index("<nav")]
    assert "Trial 2: what it is can&#39;t be read" in head
    assert "Trial 3 is complete, but its scores.jsonl can&#39;t be read" in head
    assert "Trial 4: rows.parquet can&#39;t be read, so its scores have no intervals" in head
    assert "Against the baseline, mean of all targets: " in text
    trials = pd.read_csv(folder / "report_files" / "trials_trials.csv")
    assert trials["state"].value_counts().to_dict() == {"complete": 5, "unfinished": 2}


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_just_begun_has_a_report(tmp_path: Path, trials: int) -> None:
    text = write_report([Study.load(MadeUp(trials=trials).write(tmp_path))], tmp_path).read_text()
    assert "There is nothing to compare yet" in text


def test_several_studies_are_reported_together(tmp_path: Path) -> None:
    folders = [
        MadeUp(name=name, trials=5, rows=4, seed=seed).write(tmp_path) for name, seed in (("one", 1), ("two", 2))
    ]
    done = CliRunner().invoke(app, ["report", *map(str, folders), "--out", str(tmp_path / "both")])
    assert done.exit_code == 0, done.output
    assert done.output.count("Against the baseline, mean of all targets: ") == 2
    studies = pd.read_csv(tmp_path / "both" / "report_files" / "trials_studies.csv")
    assert studies["study"].tolist() == ["one", "two"]
    assert "one, trial" in (tmp_path / "both" / "report.html").read_text()


def test_studies_of_the_same_name_have_every_table_and_figure_each(tmp_path: Path) -> None:
    made_up = {"suite": "xtreme", "targets": ("xnli",), "trials": 8, "rows": 4}
    folders = [MadeUp(seed=seed, **made_up).write(tmp_path / runs) for seed, runs in ((1, "A"), (2, "B"))]  # type: ignore[arg-type]
    apart = [MadeUp(name=name, seed=seed, **made_up).write(tmp_path) for seed, name in ((1, "one"), (2, "two"))]  # type: ignore[arg-type]
    kinds = {}
    for name, some in (("alike", folders), ("apart", apart)):
        page = write_report([Study.load(folder) for folder in some], tmp_path / name)
        kinds[name] = Counter(path.suffix for path in (page.parent / "report_files").iterdir())
    assert kinds["alike"] == kinds["apart"]
    text = (tmp_path / "alike" / "report.html").read_text()
    assert "<h1>A/made_up and B/made_up: what the search found</h1>" in text
    for title in ("{}, trial", "Stage tree ({})"):
        assert all(title.format(study) in text for study in ("A/made_up", "B/made_up")), title


def test_a_report_takes_the_place_of_an_earlier_one_with_its_files_and_of_nothing_else(tmp_path: Path) -> None:
    one, other = (
        Study.load(MadeUp(name=target, trials=4, targets=(target,)).write(tmp_path / "runs")) for target in ("x", "y")
    )
    beside = tmp_path / "report_files"
    write_report([one], tmp_path)
    assert list(beside.glob("languages_*_x*.csv"))
    mine = [beside / "gains_of_mine.csv", beside / "cost_notes.txt", tmp_path / "gains_x.csv"]
    for path in mine:
        path.write_text("mine")
    write_report([other], tmp_path)
    write_report([other], tmp_path / "fresh")
    fresh = {path.name for path in (tmp_path / "fresh" / "report_files").iterdir()}
    assert {path.name for path in beside.iterdir()} == fresh | {"gains_of_mine.csv", "cost_notes.txt"}
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_the_command_prints_the_answer_and_the_page_without_importing_torch_ray_or_mlflow(tmp_path: Path) -> None:
    folder = MadeUp(trials=3, rows=4, targets=("intent",)).write(tmp_path)
    code = (
        "import sys; from tunexfer.cli.main import app; "
        f"app(['report', {str(folder)!r}], standalone_mode=False); "
        "print(sorted({'torch', 'ray', 'transformers', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [str(folder / "report.html"), "[]"]
    assert "intent: " in done.stdout
