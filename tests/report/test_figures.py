"""Figures in a page."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from tunexfer.report.figures import INK, MANY_POINTS, inline, new_figure, png, scatter, styled, svg


@styled
def drawn(points: int = 3) -> Figure:
    figure = new_figure()
    scatter(figure.subplots(), range(points), range(points))
    figure.suptitle("command_slots costs $5")
    return figure


def test_a_figure_is_the_same_text_each_time_and_its_words_stay_words() -> None:
    assert svg(drawn()) == svg(drawn())
    assert "command_slots costs $5" in svg(drawn())


def test_in_a_page_text_takes_the_pages_colour_and_font() -> None:
    text = inline(svg(drawn()), "first")
    assert INK in svg(drawn())
    assert INK not in text
    assert "currentColor" in text
    assert "font-family" not in text


def test_two_figures_in_a_page_share_no_id_and_each_finds_its_own() -> None:
    first, second = (inline(svg(drawn()), key) for key in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]+)"', first)) <= ids[0]
    assert set(re.findall(r"url\(#([^)]+)\)", first)) <= ids[0]


def test_many_points_are_an_image() -> None:
    assert "<image" not in svg(drawn(MANY_POINTS))
    assert "<image" in svg(drawn(MANY_POINTS + 1))


def test_a_png_is_written() -> None:
    assert png(drawn()).startswith(b"\x89PNG")
