"""What has to hold between the targets of a chain: what each is called, and which goes on from which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tunexfer.plan.recipe import TargetRecipe
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, nearest


def target_problems(targets: Sequence[TargetRecipe], suite: Suite) -> Iterator[str]:
    """Every mistake in names and `after:`, with its place in the file."""
    names = [target.name or target.task for target in targets]
    earlier: dict[str, TargetRecipe] = {}
    followers: dict[str, str] = {}
    for index, (target, name) in enumerate(zip(targets, names, strict=True)):
        where = f"targets[{index}]"
        if name in earlier:
            yield f"{where}: {name!r} is there more than once. A task that is a target twice needs a `name:` for each"
        elif name != target.task and name in suite.tasks:
            yield f"{where}.name: {name!r} is another task of the suite; take a name that isn't a task's"
        if target.after is not None:
            problem = _misplaced(target.after, name, names, earlier) or _misfit(target, earlier[target.after], suite)
            if not problem and target.after in followers:
                problem = f"{followers[target.after]!r} goes on from {target.after!r} already, and only one target can"
            if problem:
                yield f"{where}.after: {problem}"
            followers.setdefault(target.after, name)
        earlier.setdefault(name, target)


def _misplaced(after: str, name: str, names: Sequence[str], earlier: Mapping[str, TargetRecipe]) -> str | None:
    if after in earlier:
        return None
    if after == name:
        return "a target can't go on from itself"
    if after in names:
        return f"{after!r} comes later; a target goes on from one before it, so change their order"
    return f"there is no target {after!r} before this one.{nearest(after, earlier)}"


def _misfit(target: TargetRecipe, first: TargetRecipe, suite: Suite) -> str | None:
    """Why the first one's head can't go on as this target's; unknown tasks are told of elsewhere."""
    if first.task not in suite.tasks or target.task not in suite.tasks:
        return None
    one, other = suite.tasks[first.task], suite.tasks[target.task]
    if KINDS[one.kind].head is None:
        return f"{first.task} is retrieval, which trains nothing to go on from"
    if one.kind != other.kind:
        return f"{first.task} is {one.kind} and {target.task} {other.kind}, so its head doesn't fit"
    if (one.labels, one.labels_file) != (other.labels, other.labels_file):
        return f"{first.task} and {target.task} have other labels, or in another order, so its head doesn't fit"
    return None
