"""The documentation agrees with the code: commands, options, keys, files, floors and links."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel
from typer.main import get_command

from tunexfer.cli.main import app
from tunexfer.core.files import StudyFolder
from tunexfer.core.objective import Objective
from tunexfer.plan import recipe, space_file
from tunexfer.plan.recipe import Strict
from tunexfer.search.algorithms import ALGORITHMS
from tunexfer.search.stopping import RULES
from tunexfer.tasks import suite
from tunexfer.tasks.kinds import KINDS

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").glob("*.md"))]
ALL_PAGES = [*PAGES, REPOSITORY / "starter" / "README.md", *sorted(REPOSITORY.glob("experiments/*/README.md"))]
COMMANDS: dict[str, click.Command] = get_command(app).commands  # type: ignore[attr-defined]
FOLDERS = ("tunexfer", "starter", "search_spaces", "benchmarks", "experiments", "monitoring", "docs")
UNLISTED = {"__init__.py", "LICENSE", "py.typed"}


def block(model: type[BaseModel], field: str) -> type[BaseModel]:
    """Find the model of a field's value, or of the items of its list."""
    annotation = model.model_fields[field].annotation
    types = [part for part in (annotation, *get_args(annotation)) if isinstance(part, type)]
    return next(part for part in types if issubclass(part, BaseModel))


SPACE_KEYS: dict[str, tuple[type[BaseModel], ...]] = {
    "The file": (space_file.SpaceFile,),
    "Encoder": (block(recipe.Recipe, "encoder"),),
    "Stages": (recipe.StageRecipe,),
    "Mixing": (recipe.Mixing, block(recipe.Mixing, "temperature"), block(recipe.Mixing, "proportional")),
    "Targets": (recipe.TargetRecipe,),
    "Objective": (Objective,),
    "Search": (block(space_file.SpaceFile, "search"), block(block(space_file.SpaceFile, "search"), "budget")),
    "Stopping": (space_file.Stop,),
    "Resources": (block(space_file.SpaceFile, "resources"),),
    "Noise": (block(space_file.SpaceFile, "noise"),),
    "Confirmation": (space_file.Confirm,),
}
"""Heading of docs/spaces.md -> the models whose keys are documented under it."""
SHARES = {"uniform", "shares", "step", "by", "cap"}
"""Documented under Mixing; they are no fields of a model."""
SUITE_KEYS: dict[str, type[BaseModel]] = {
    "Keys of a suite": suite.Suite,
    "Keys of a task": suite.TaskBlock,
    "Keys of `hub`": suite.HubRows,
    "Keys of `read`": suite.ReadOptions,
    "Keys of a part": block(suite.TaskBlock, "parts"),
    "Keys of `recipe`": block(suite.TaskBlock, "recipe"),
}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """Blank out code blocks, in which `#` begins a comment."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def sections(text: str) -> dict[str, str]:
    """Map each heading to the text up to the next heading of any level."""
    parts = re.split(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def keys(section: str) -> set[str]:
    """Collect the code in the first cells of a section's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", section, flags=re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def anchors(text: str) -> set[str]:
    """Name each heading as GitHub does in links."""
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in sections(text)}


def tree() -> dict[str, str]:
    """Read the tree of docs/architecture.md: path of each file or folder -> its comment."""
    block = read(REPOSITORY / "docs" / "architecture.md").split("## Every file")[1].split("```")[1]
    parents: list[str] = []
    found: dict[str, str] = {}
    for line in block.strip("\n").splitlines():
        indent, name, comment = re.fullmatch(r"( *)(\S+)(?:  +(\S.*))?", line).groups()  # type: ignore[union-attr]
        parents[len(indent) // 2 :] = [name]
        path = "".join(parents)
        assert path not in found, f"{path} is listed twice"
        found[path] = comment or ""
    return found


def models(module: Any) -> set[type[BaseModel]]:
    """Collect the models with fields that a module defines."""
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    return {model for model in classes if model.__module__ == module.__name__ and model.model_fields}


def test_the_readme_has_at_most_200_lines() -> None:
    assert len(read(README).splitlines()) <= 200


def test_the_readme_shows_the_shipped_space() -> None:
    assert read(REPOSITORY / "search_spaces" / "multitask.yaml").strip() in read(README)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_section_that_explains_its_options_and_no_others(command: str) -> None:
    explained = [
        text for page in PAGES for heading, text in sections(read(page)).items() if f"`tunexfer {command}`" in heading
    ]
    options = {max(option.opts, key=len) for option in COMMANDS[command].params if option.opts[0].startswith("--")}
    assert len(explained) == 1, f"one section's heading has to name `tunexfer {command}`"
    assert {key for key in keys(explained[0]) if key.startswith("--")} == options - {"--help"}


def test_no_page_names_a_command_that_does_not_exist() -> None:
    named = {command for page in ALL_PAGES for command in re.findall(r"`tunexfer (\w+)", read(page))}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("heading", SPACE_KEYS)
def test_the_page_on_spaces_lists_every_key_and_no_other(heading: str) -> None:
    documented = keys(sections(read(REPOSITORY / "docs" / "spaces.md"))[heading])
    fields = {field.alias or name for model in SPACE_KEYS[heading] for name, field in model.model_fields.items()}
    assert documented == fields | (SHARES if heading == "Mixing" else set())


def test_the_page_on_spaces_leaves_out_no_block() -> None:
    documented = {model for blocks in SPACE_KEYS.values() for model in blocks}
    wanted = {*models(space_file), *models(recipe), Objective} - {recipe.Recipe, Strict}
    assert documented == wanted


def test_the_page_on_spaces_names_every_stopping_rule() -> None:
    section = sections(read(REPOSITORY / "docs" / "spaces.md"))["Stopping"]
    assert [name for name in RULES if f"`{name}`" not in section] == []


def test_the_page_on_spaces_names_every_sampler() -> None:
    section = sections(read(REPOSITORY / "docs" / "spaces.md"))["Search"]
    assert [name for name in ALGORITHMS if f"`{name}`" not in section] == []


@pytest.mark.parametrize("heading", SUITE_KEYS)
def test_the_page_on_suites_lists_every_key_and_no_other(heading: str) -> None:
    documented = keys(sections(read(REPOSITORY / "docs" / "suites.md"))[heading])
    assert documented == set(SUITE_KEYS[heading].model_fields)


def test_the_page_on_suites_leaves_out_no_block() -> None:
    assert set(SUITE_KEYS.values()) == models(suite)


def test_the_page_on_suites_lists_every_kind_with_its_metrics() -> None:
    rows = {}
    for line in sections(read(REPOSITORY / "docs" / "suites.md"))["Kinds of task"].splitlines():
        if line.startswith("| `"):
            kind, _, metrics = line.strip("| ").split(" | ")
            rows[kind.strip("`")] = set(re.findall(r"`(\w+)`", metrics))
    assert rows == {name: set(kind.metrics) for name, kind in KINDS.items()}


def test_the_page_on_results_names_every_file_of_a_study() -> None:
    page = read(REPOSITORY / "docs" / "results.md")
    study = StudyFolder(Path("study"))
    paths = [
        value
        for folder in (study, study.trial(7))
        for name, value in vars(folder).items()
        if isinstance(value, Path) and name != "path"
    ]
    assert len(paths) > 10
    assert [path.name for path in paths if path.name not in page] == []


def test_the_tree_lists_every_file_and_nothing_else() -> None:
    files = {path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*") if path.is_file()}
    paths = {path.relative_to(REPOSITORY).as_posix() for path in files if path.name not in UNLISTED}
    there = {path for path in paths if not re.search(r"/(\.|__pycache__/|[^/]*\.egg-info/)", path)}
    listed = {path for path in tree() if not path.endswith("/") and path.split("/")[0] in FOLDERS}
    assert sorted(there - listed) == [], "not in the tree"
    assert sorted(listed - there) == [], "only in the tree"


def test_the_tree_has_a_comment_for_every_file_and_folder() -> None:
    assert [path for path, comment in tree().items() if not comment] == []


def test_every_folder_of_the_tree_exists() -> None:
    assert [path for path in tree() if not (REPOSITORY / path).exists()] == []


def test_imports_point_to_lower_floors_only() -> None:
    section = sections(read(REPOSITORY / "docs" / "architecture.md"))["Floors"]
    rows = re.findall(r"^\| (\d) \| (.+) \|$", section, flags=re.MULTILINE)
    floors = {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}
    package = REPOSITORY / "tunexfer"
    upward = []
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package).parts[0].removesuffix(".py")
        if own == "__init__":  # hands out `Study` on request
            continue
        for module in imported(path):
            if module != own and floors[module] <= floors[own]:
                upward.append(f"{path.relative_to(REPOSITORY)} imports {module}")
    assert upward == []


def imported(path: Path) -> set[str]:
    """Collect the packages and modules right below `tunexfer` that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "tunexfer" else {f"tunexfer.{a.name}" for a in node.names}
    return {name.split(".")[1] for name in names if name.startswith("tunexfer.")}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", without_code(read(page))):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(read(target)), link
