"""What targets may be called."""

from __future__ import annotations

from typing import Any

from tunexfer.plan.recipe import TargetRecipe, target_problems
from tunexfer.tasks.suite import Suite

PAIRS: dict[str, Any] = {
    "kind": "retrieval",
    "columns": {"text": "a", "english": "b"},
    "files": "{language}/{split}.jsonl",
}


def test_two_targets_whose_scores_would_have_one_name_in_mlflow_are_refused() -> None:
    suite = Suite.model_validate({"name": "toy", "tasks": {"a@b": PAIRS, "a_b": PAIRS, "c@b": PAIRS}})
    targets = [TargetRecipe(task=task) for task in ("a@b", "c@b", "a_b")]
    assert list(target_problems(targets, suite)) == [
        "targets[2]: MLflow can't tell 'a_b' from 'a@b'; rename one of these tasks, or give it a `name:`"
    ]
