"""Shipped spaces and suites with a slip in them: they are planned, or refused in words that name the place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tunexfer.data.rows import Rows
from tunexfer.errors import TunexferError
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import shipped_spaces
from tunexfer.tasks.suite import SPLITS, load_suite

SPACES = {name: yaml.safe_load(file.read_text()) for name, file in shipped_spaces().items()}
FILES = {path.stem: path for path in Path(str(resources.files("tunexfer.tasks") / "suites")).glob("*.yaml")}
SUITES = {name: yaml.safe_load(file.read_text()) for name, file in FILES.items()}
HALF = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    database=None,
)  # fmt: skip
"""The two tests try 200 files together; the same ones each time."""
VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 1, 2**70, 0.0, -0.5, 1e300, float("nan"), float("inf"), 5e-5]),
    st.sampled_from(["", " ", "5e-5", "no", "all", "{language}", "../x", "a/b", "[bold]", "名前", "\x85", "x" * 300]),
    st.sampled_from([[], [[]], [None], {}, {"choice": []}, {"choice": [1, "a"]}, {"uniform": [2, 1]}, {1: 2}]),
    st.sampled_from([{"subset": {"of": ["mnli"], "size": [0, 9]}}, {"log_uniform": [0, 1]}, {"int_uniform": ["a", 3]}]),
    st.recursive(st.none() | st.text(max_size=4) | st.floats(), lambda inner: st.lists(inner, max_size=3)),
)  # fmt: skip


def paths(tree: Any) -> list[tuple[Any, ...]]:
    """The places of all values of a tree, below its root."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in inside for path in [(key,), *((key, *rest) for rest in paths(value))]]


@st.composite
def mutated(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with one to three slips: a value replaced, left out or doubled, a key with a typo."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        places = paths(tree)
        if not places:
            break
        *parents, key = draw(st.sampled_from(places))
        holder = tree
        for parent in parents:
            holder = holder[parent]
        slip = draw(st.sampled_from(["replace", "replace", "remove", "rename", "wrap"]))
        if slip == "remove":
            del holder[key]
        elif slip == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from([f"{key}s", str(key)[1:], key]))] = holder.pop(key)
        elif slip == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"choice": [holder[key]]}, str(holder[key])]))
        else:
            holder[key] = copy.deepcopy(draw(VALUES))
    return tree


@st.composite
def suites(draw: st.DrawFn) -> Any:
    """A shipped suite of a few tasks, with slips."""
    suite = SUITES[draw(st.sampled_from(sorted(SUITES)))]
    names = draw(st.lists(st.sampled_from(sorted(suite["tasks"])), min_size=1, max_size=3, unique=True))
    return draw(mutated(suite | {"tasks": {name: suite["tasks"][name] for name in names}}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


def write(tree: Any, file: Path) -> Path:
    file.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return file


def refusal(read: Callable[[], object]) -> str | None:
    """The words in which reading is refused; None if it isn't."""
    try:
        read()
    except TunexferError as error:
        return str(error)
    return None


@HALF
@given(tree=st.sampled_from(sorted(SPACES)).flatmap(lambda name: mutated(SPACES[name])))
def test_a_space_with_slips_is_planned_or_its_place_is_named(folder: Path, tree: Any) -> None:
    file = write(tree, folder / "space.yaml")
    words = refusal(lambda: Plan.load(file, cache=folder / "cache"))
    assert words is None or "space.yaml" in words


@HALF
@given(tree=suites())
def test_a_suite_with_slips_is_read_or_its_place_is_named(folder: Path, tree: Any) -> None:
    file = write(tree, folder / "suite.yaml")

    def read() -> None:
        suite, root = load_suite(str(file))
        rows = Rows(suite, root, folder / "cache")
        for name in suite.tasks:
            for split in SPLITS:
                rows.languages(name, split)

    words = refusal(read)
    assert words is None or "suite.yaml" in words or any(f"task {name!r}" in words for name in tree["tasks"])
