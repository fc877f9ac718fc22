"""The README says what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from tunexfer.cli.main import app

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_space_it_shows_is_the_shipped_one() -> None:
    assert (REPOSITORY / "search_spaces" / "multitask.yaml").read_text(encoding="utf-8").strip() in README


def test_every_file_of_its_tree_is_there() -> None:
    tree = README.split("## File tree")[1].split("```")[1]
    folders: list[str] = []
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for name in line.split("  ")[depth].split(", ") if depth else line.split("  ")[0].split(", "):
            path = Path(*folders[:depth], name.strip())
            assert list(REPOSITORY.glob(str(path))), f"{path} is in the README alone"
        folders[depth:] = [name.strip()]


@pytest.mark.parametrize("command", ["search", "plan", "score", "watch", "ui", "register"])
def test_every_option_of_a_command_is_told(command: str) -> None:
    options = get_command(app).commands[command].params  # type: ignore[attr-defined]
    names = {max(option.opts, key=len) for option in options if option.opts[0].startswith("--")} - {"--help"}
    assert [name for name in names if name not in README] == []


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            headings = [line.lstrip("# ").lower() for line in README.splitlines() if line.startswith("#")]
            assert target[1:] in [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
        elif not target.startswith("http"):
            assert (REPOSITORY / target).exists(), target
