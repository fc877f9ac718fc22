"""The notebook in docs/: what it shows was really run, on no machine's own paths, and its code still works."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from report.made_up_study import MadeUp

PATH = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
NOTEBOOK: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_every_cell_was_run_in_order_and_none_ended_with_an_error() -> None:
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    kinds = {output["output_type"] for cell in CODE for output in cell["outputs"]}
    assert kinds == {"stream", "execute_result"}
    assert all(cell["outputs"] for cell in CODE)


def test_it_is_small_and_shows_no_path_of_the_machine_it_was_run_on() -> None:
    assert PATH.stat().st_size < 500_000
    shown = [output.get("text") or output["data"] for cell in CODE for output in cell["outputs"]]
    words = [text for text in map(json.dumps, shown) if "image/png" not in text]
    assert [found for text in words for found in re.findall(r"/(?:home|root|tmp|work|usr|Users|mnt)/\S*", text)] == []


def test_its_code_runs_on_a_study_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    targets = ("command_intent", "command_slots", "ui_retrieval")
    MadeUp(name="multitask", targets=targets, rows=20).write(tmp_path / "runs")
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in CODE]
    kinds = Counter(type(one).__name__ for one in shown)
    assert kinds == {"list": 1, "LiveTable": 1, "NoneType": 1, "DataFrame": 4, "Figure": 2}
    assert names["study"].chain(names["challenger"]).stages


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """The value of its last line, as a notebook shows it; lines for the notebook itself are left out."""
    body = ast.parse(re.sub(r"(?m)^%.*", "", source)).body
    if not isinstance(body[-1], ast.Expr):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        return None
    exec(compile(ast.Module(body[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(body[-1].value), "cell", "eval"), names)
