"""Read a study folder: its plan, its trials, and whether a search is running on it. Looking needs no right to write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

import yaml
from pydantic import ValidationError

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder, TrialFolder
from tunexfer.core.scores import Score
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.core.yaml_text import parse_yaml
from tunexfer.errors import StudyError

UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""Errors of reading a damaged file of ours."""
How = Literal["finished", "exhausted", "out of time", "interrupted", "failed"]
"""`exhausted`: every chain of the space has been run; `out of time`: the search reached `search.minutes`."""
State = Literal["running", "finished", "exhausted", "out of time", "interrupted", "failed", "stopped", "unknown"]
"""`stopped`: no search is running, trials are missing, and the last search left no note: it was killed, for example.
`unknown`: whether a search is running can't be told."""


def read_plan(folder: StudyFolder) -> dict[str, Any]:
    """Read `plan.yaml` as plain values.

    raises: StudyError, if it isn't there or isn't a plan
    """
    if not folder.path.is_dir():
        raise StudyError(
            f"{folder.path}: there is no such folder. Give the folder of a study, for example runs/multitask."
        )
    if not folder.plan.exists():
        raise StudyError(f"{folder.path} holds no study: there is no plan.yaml in it. Give the folder of a study.")
    try:
        plan: dict[str, Any] = parse_yaml(folder.plan.read_text(encoding="utf-8"))
        if not isinstance(plan, dict) or not isinstance(plan.get("identity"), dict) or not plan.get("study_id"):
            raise ValueError("it has no identity and study_id")
        return plan
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise StudyError(
            f"{folder.plan} can't be read as a plan ({first_line(error)}), so what was studied there is unknown. "
            "Restore that file, or take another --name."
        ) from error


def trials_wanted(plan: Mapping[str, Any]) -> int | None:
    """Return the number of trials that a study is to have, those of its confirmation included if none is dropped.

    plan:    as `plan.yaml` has it
    returns: None for `trials: auto`
    """
    trials, confirm = plan["search"]["trials"], plan.get("confirm") or {"top": 0, "seeds": 0}
    again = confirm["top"] * confirm["seeds"] + max(confirm["seeds"], _noise_trials(plan))
    return None if trials == "auto" else int(trials) + int(again)


def _noise_trials(plan: Mapping[str, Any]) -> int:
    """Count the runs of the baseline with fresh seeds that every study has; older ones have none."""
    return int((plan.get("noise") or {"seeds": 1})["seeds"]) - 1


def trials_missing(plan: Mapping[str, Any], results: Iterable[TrialResult], begun: int = 0) -> int:
    """Count the trials that are still to be run, without those that a rule stopped and chains dropped in confirmation.

    plan:    as `plan.yaml` has it
    results: of the trials that have ended
    begun:   trials that have not ended; with `trials: auto`, only these are known to be missing
    """
    ended = list(results)
    own = [result for result in ended if result.trial.phase != "confirm"]
    over = [result for result in own if result.state == "complete" or (result.state == "stopped" and result.failure)]
    wanted = plan["search"]["trials"]
    missing = begun if wanted == "auto" else max(0, int(wanted) - len(over))
    again = Counter(r.trial.chain for r in ended if r.trial.phase == "confirm" and r.state == "complete")
    baseline = sum(again.pop(result.trial.chain, 0) for result in own if result.trial.phase == "baseline")
    searched = {r.trial.chain for r in own}
    seeds = [count for chain, count in again.items() if chain in searched]
    noise = max(0, _noise_trials(plan) - baseline)
    if not (confirm := plan.get("confirm")):
        return missing + noise
    most, running = max(seeds, default=0), int(begun > 0)  # a round that runs is one ahead for some chains
    if baseline > max(most + running, _noise_trials(plan)):  # no chain is left in the race
        return missing + noise
    racing = [count for count in seeds if count >= most - running] or [0] * int(confirm["top"])
    seeds_wanted = int(confirm["seeds"])
    return missing + sum(max(0, seeds_wanted - count) for count in racing) + max(seeds_wanted - baseline, noise)


def trials_in_all(plan: Mapping[str, Any], results: Iterable[TrialResult], begun: int = 0) -> int | None:
    """Return the number of trials that a study will have, as far as is known: `trials_wanted`, or more.

    `trials_wanted` counts neither chains whose jobs other trials have done, nor the chains that the best ones are
    compared with beside the baseline.

    begun: trials that have not ended
    """
    ended, wanted = list(results), trials_wanted(plan)
    complete = sum(result.state == "complete" for result in ended)
    return None if wanted is None else max(wanted, complete + max(trials_missing(plan, ended, begun), begun))


def read_trial(folder: TrialFolder) -> Trial:
    """Read a trial's `chain.yaml`.

    raises: ValueError, if that file isn't there or isn't whole
    """
    try:
        head = parse_yaml(folder.chain.read_text(encoding="utf-8"))
        return Trial(
            number=folder.number,
            phase=head["phase"],
            seed=head["seed"],
            point=head["point"],
            chain=Chain.from_dict(head["chain"]),
        )
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise ValueError(first_line(error)) from error


def read_ended(trial: Trial, folder: TrialFolder) -> TrialResult:
    """Read a trial's `status.json`: how it ended, without its scores.

    raises: ValueError, if that file isn't there or isn't whole
    """
    try:
        return TrialResult.from_status(trial, json.loads(folder.status.read_text(encoding="utf-8")))
    except UNREADABLE as error:
        raise ValueError(first_line(error)) from error


def read_trial_scores(folder: TrialFolder) -> tuple[Score, ...]:
    """Read the scores of one trial; version 0.1 calls their target `task`.

    raises: ValueError or OSError, if they aren't there or aren't whole
    """
    lines = folder.scores.read_text(encoding="utf-8").replace('{"task": "', '{"target": "').splitlines()
    try:
        scores = tuple(Score(**json.loads(line)) for line in lines)
    except TypeError as error:
        raise ValueError(f"{folder.scores}: {error}") from error
    if not scores:
        raise ValueError(f"{folder.scores} is empty")
    return scores


def read_state(folder: StudyFolder, missing: int) -> tuple[State, str]:
    """Return whether a search is running on a study or how the last one ended, and the reason of one that failed.

    missing: as `trials_missing` counts them
    """
    with suppress(*UNREADABLE):  # it is absent while a search is running, and after one that was killed
        ending = json.loads(folder.ending.read_text(encoding="utf-8"))
        if ending["how"] in get_args(How):  # while it is there, a driver that still holds the lock only tidies up
            return ending["how"], str(ending["reason"])
    driven = is_driven(folder)
    if driven is None:
        return "unknown", ""
    return "running" if driven else "stopped" if missing > 0 else "finished", ""


def state_in_words(study: str, missing: int, state: State, reason: str) -> str:
    """Describe what `read_state` returns in a sentence or two, with what to do about it.

    study: its name, or a word for it
    """
    trials = f"trials missing: {missing}."
    resume = f"{trials} Rerun the same command to resume."
    if state == "finished" and missing > 0:
        return f"{study} has finished; {trials} Rerun the same command to retry failed trials."
    return {
        "running": f"{study} is running.",
        "finished": f"{study} has finished.",
        "exhausted": f"{study} has finished: every chain of the space has been run; {trials}",
        "out of time": f"{study} reached its time limit; {resume}",
        "interrupted": f"{study} was interrupted; {resume}",
        "failed": f"{study} failed ({next(iter(reason.splitlines()), 'no reason was recorded')}); {resume}",
        "stopped": f"{study} is not running; {resume}",
        "unknown": f"{study} may be running: its .lock can't be checked; {trials}",
    }[state]


def is_driven(folder: StudyFolder) -> bool | None:
    """Return whether a driver holds the study's lock, None if that can't be told.

    A driver locks by `flock`, as filelock does, exclusively; asking takes a shared lock for a moment.
    """
    try:
        import fcntl  # not on Windows

        lock = folder.lock.open("rb")
    except FileNotFoundError:
        return False
    except (OSError, ImportError):
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # some file systems give the second for a lock that is held
            return True
        except OSError:
            return None
    return False


def first_line(error: Exception) -> str:
    """Return what an error says, cut to one line."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return next(iter(str(error).splitlines()), type(error).__name__)
