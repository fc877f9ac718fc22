"""Findings: what can be concluded from a study, computed once from its score table and worded once.

The terminal, MLflow's description, the top of the report and the model card print the same sentences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from tunexfer.core.objective import Objective
from tunexfer.core.phrases import chain_in_words
from tunexfer.core.scores import FORGETTING
from tunexfer.core.trial import TrialResult
from tunexfer.core.winners import allowed, best_of, fresh_objectives, front, losses
from tunexfer.record.environment import Dataset
from tunexfer.record.gains import (
    ALL_TARGETS,
    RowNoise,
    candidate_gains,
    confirmed_gains,
    gains_over_equal_compute,
    reported,
)
from tunexfer.record.per_target import mean_row, winners

MAX_REASONS = 3
"""Distinct reasons of failed trials, and of rows left out, that the warnings give."""
MAX_FRONT = 10
"""Trials that a sentence names."""
MAX_LANGUAGES = 8
"""Languages that a sentence names; of more it gives the number."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The conclusions from a study in plain values. Scores are percentages, differences points."""

    trials: dict[str, int | str | None]
    """Those `wanted` (None: unknown), and how many are `complete`, `failed`, `stopped`; `confirm`: complete besides."""
    objective: dict[str, Any]
    """The plan's block, with its value for the `baseline` and the `best` trial; the block is empty where unknown."""
    best: dict[str, Any] | None
    """`trial`, `chain`, `objective` and `fresh_seeds` of the recommended chain, which may be the baseline."""
    next_best: dict[str, Any] | None
    """The best other chain, if that is the baseline."""
    targets: dict[str, dict[str, Any]]
    """The best chain, or else the next best, beside the baseline: `split`, `metric`, the means over `unseen` and `all`
    languages, and every language. Test scores where the target has any."""
    best_per_target: dict[str, dict[str, Any]]
    """The winner of each target alone, as `per_target.winners` describes it."""
    front: list[dict[str, Any]]
    """`trial`, `chain` and `goals` of the Pareto front's trials; empty where there is a single goal."""
    ruled_out: dict[int, dict[str, float]]
    """Trials that break the objective's constraint -> target -> points against the baseline."""
    stopped: dict[str, float]
    """`trials` that a rule stopped, and the `seconds` that this saved."""
    confirmation: list[dict[str, Any]]
    """Each confirmed chain with its `gains` over fresh seeds, as `gains.confirmed_gains` describes them."""
    candidate: dict[str, dict[str, Any]]
    """What the best chain, or else the next best, gains with the search's seed: see `gains.candidate_gains`."""
    equal_compute: list[dict[str, Any]]
    """What that chain gains over baselines of equal compute, as `gains.gains_over_equal_compute` describes it."""
    steps: dict[str, int]
    """Optimizer steps `trained` and `reused`."""
    failures: list[dict[str, Any]]
    """The distinct `message`s of failed trials, each with its `trials`."""
    left_out: list[str]
    """What the rows of a task, language and split are that are left out, more than 1 % of them."""

    @classmethod
    def of(
        cls,
        results: Sequence[TrialResult],
        scores: pd.DataFrame,
        plan: Mapping[str, Any],
        rows: RowNoise = MappingProxyType({}),
        datasets: Sequence[Dataset] = (),
    ) -> Findings:
        """Draw the conclusions.

        results: of every trial that has ended
        scores:  the columns of `score_table`; trials without scores count as not complete
        plan:    as `plan.yaml` has it; may be empty
        rows:    the variance of gains through the scored rows, `report.comparison.row_noise`; where it is missing,
                 intervals are over seeds alone
        datasets: the rows that trials read
        """
        scored = set(scores["trial"].unique())
        complete = [result for result in results if result.state == "complete" and result.trial.number in scored]
        baseline = next((result for result in complete if result.trial.phase == "baseline"), None)
        objective = dict(plan.get("identity", {}).get("objective") or {})
        pursued = Objective(**objective)
        permitted = allowed(complete, pursued)
        best = best_of(permitted)
        others = [result for result in permitted if baseline and result.trial.chain != baseline.trial.chain]
        next_best = best_of(others) if best is baseline else None
        shown = next_best or best
        own = [result for result in results if result.trial.phase != "confirm"]
        jobs = [job for result in results for job in result.trainings]
        return cls(
            trials={
                "wanted": plan["search"]["trials"] if plan else None,
                **{state: sum(result.state == state for result in own) for state in ("complete", "failed", "stopped")},
                "confirm": sum(result.trial.phase == "confirm" for result in complete),
            },
            objective={**objective, "baseline": baseline and baseline.objective, "best": best and best.objective},
            best=_described(best, complete) if best else None,
            next_best=_described(next_best, complete) if next_best else None,
            targets=_targets(shown, scores) if baseline and shown else {},
            best_per_target=winners(complete, scores, pursued) if objective else {},
            front=[
                {"trial": r.trial.number, "chain": chain_in_words(r.trial.chain), "goals": dict(r.goals)}
                for r in front(complete, pursued)
            ],
            ruled_out=losses(complete, pursued),
            stopped=_stopped(results),
            confirmation=confirmed_gains(complete, scores, baseline.trial.chain, rows) if baseline else [],
            candidate=candidate_gains(shown.trial.number, complete, scores, baseline.trial.chain, rows)
            if baseline and shown and shown is not baseline
            else {},
            equal_compute=gains_over_equal_compute(shown, complete, scores, baseline.trial.chain, rows)
            if baseline and shown
            else [],
            steps={
                "trained": sum(job.steps for job in jobs if not job.reused),
                "reused": sum(job.steps for job in jobs if job.reused),
            },
            failures=_failures(results),
            left_out=[data.warning for data in datasets if data.warning],
        )

    def gain(self, target: str) -> dict[str, Any] | None:
        """Look up what the best chain, or else the next best, gains in a target or `ALL_TARGETS`.

        returns: over fresh seeds, with their number as `seeds`, where it was confirmed; else as a candidate
        """
        shown = self.next_best or self.best
        return (self._confirmed(shown["trial"], target) if shown else None) or self.candidate.get(target)

    def _confirmed(self, trial: int, target: str) -> dict[str, Any] | None:
        for chain in self.confirmation:
            if chain["trial"] == trial and chain["gains"].get(target):
                return {**chain["gains"][target], "seeds": chain["seeds"]}
        return None

    def interval(self, target: str) -> tuple[float, float] | None:
        """Look up the 95 % interval of what the target's own winner gains; None of a candidate."""
        gain = self._confirmed(self.best_per_target[target]["trial"], target)
        return (gain["low"], gain["high"]) if gain and gain["low"] is not None else None

    def how_sure(self, target: str) -> str:
        """Say in a word how sure the gain of the target's own winner is; a chain without fresh seeds is a candidate."""
        trial = self.best_per_target[target]["trial"]
        if trial == 0:
            return "no gain"
        return str((self._confirmed(trial, target) or {"sure": "candidate"})["sure"])

    @property
    def card(self) -> dict[str, str]:
        """The question, the winner, its expected gain, how sure that is, and the cost, each in a line."""
        steps, shown = self.steps, self.next_best or self.best
        cost = f"{steps['trained']:,} steps trained, {steps['reused']:,} reused"
        question = f"Which stages before {', '.join(self.targets) or 'the targets'} help, in languages not trained in?"
        more = {"equal compute": "; ".join(self._over_controls()), "harm": "; ".join(self._harms())}
        more = {name: words for name, words in more.items() if words}
        if self.objective.get("maximize") == "per_target" and self.best_per_target:
            winners = self.best_per_target
            return {
                "question": question,
                "winner": ", ".join(f"{name}: trial {row['trial']}" for name, row in winners.items()),
                "gain": "; ".join(self._gain_of_winner(name) for name in winners),
                "how sure": "; ".join(f"{name} {self.how_sure(name)}" for name in winners),
                **more,
                "cost": cost,
            }
        gain = self.gain(ALL_TARGETS) or next(filter(None, map(self.gain, self.targets)), None)
        if not shown or not gain:
            return {"question": question, "winner": self.headline, "cost": cost}
        winner = "none: no chain beat the baseline" if self.next_best else f"trial {shown['trial']}: {shown['chain']}"
        over = ALL_TARGETS if self.gain(ALL_TARGETS) else next(iter(self.targets))
        return {
            "question": question,
            "winner": winner,
            "gain": f"{over}{' of the next best chain' if self.next_best else ''}: {gain_in_words(gain)}",
            "how sure": "; ".join(
                f"{name} {(self.gain(name) or {}).get('sure', 'candidate')}" for name in self.targets
            ),
            **more,
            "cost": cost,
        }

    def _over_controls(self) -> Iterator[str]:
        """Word the gains over baselines of equal compute, a sentence a control."""
        for over in dict.fromkeys(row["over"] for row in self.equal_compute):
            own = ", ".join(
                f"{row['target']} {row['mean']:+.1f} ({interval_in_words(row)}, {row['sure']})"
                for row in self.equal_compute
                if row["over"] == over
            )
            yield f"over {over} {own}"

    def _harms(self) -> Iterator[str]:
        """Word the losses that fresh seeds confirm, target by target."""
        for chain in self.confirmation:
            for name, gain in chain["gains"].items():
                if name != ALL_TARGETS and gain and gain["sure"] == "harmful":
                    yield f"{name} {_points(gain)} by trial {chain['trial']}"

    def _gain_of_winner(self, target: str) -> str:
        row = self.best_per_target[target]
        if row["delta"] is None:
            return f"{target} has no baseline"
        return f"{target} {_points(self._confirmed(row['trial'], target) or {'mean': row['delta'], 'low': None})}"

    @property
    def mean_of_winners(self) -> dict[str, float]:
        """The mean over targets of `best_per_target`, as `per_target.mean_row` computes it."""
        return mean_row(self.best_per_target)

    @property
    def mean_of_best(self) -> dict[str, Any] | None:
        """The one chain for all targets beside `mean_of_winners`: `trial`, `chain`, and its gain in `ALL_TARGETS` as
        `mean`, `low`, `high`, `sure`."""
        shown, gain = self.next_best or self.best, self.gain(ALL_TARGETS)
        return {**shown, "sure": "candidate", **gain} if shown and gain else None

    @property
    def headline(self) -> str:
        """The best chain, or that no chain beat the baseline."""
        if self.best is None or (self.best["trial"] == 0 and not self.next_best):
            missing = "the baseline (trial 0)" if self.objective["baseline"] is None else "any other chain"
            return f"There is nothing to compare yet: {missing} is not complete."
        if self.next_best:
            return (
                f"No chain beat the baseline (objective {self.best['objective']:.2f}). The next best (trial "
                f"{self.next_best['trial']}, objective {self.next_best['objective']:.2f}): {self.next_best['chain']}"
            )
        before = self.objective["baseline"]
        beside = "no baseline to compare with" if before is None else f"baseline {before:.2f}"
        return (
            f"Best chain (trial {self.best['trial']}, objective {self.best['objective']:.2f}, {beside}): "
            f"{self.best['chain']}"
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """Say how the best chain was selected, and what it gains for each target."""
        return tuple(_sentences(self))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to trust the conclusions less, and what is missing."""
        return tuple(_warnings(self))

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain JSON values, the words included."""
        return asdict(self) | {
            name: getattr(self, name)
            for name in ("mean_of_winners", "mean_of_best", "card", "headline", "sentences", "warnings")
        }


def _described(result: TrialResult, complete: Sequence[TrialResult]) -> dict[str, Any]:
    chain = result.trial.chain
    return {
        "trial": result.trial.number,
        "chain": chain_in_words(chain),
        "objective": result.objective,
        "fresh_seeds": len(fresh_objectives(complete).get(chain, ())),
    }


def _targets(result: TrialResult, scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = reported(scores[scores["trial"] == result.trial.number])
    return {target.name: _target(rows[rows["target"] == target.name]) for target in result.trial.chain.targets}


def _target(rows: pd.DataFrame) -> dict[str, Any]:
    """rows: a target's reported scores by one trial"""
    main = rows[rows["main"] & rows["baseline"].notna()]
    columns = {"baseline": main["baseline"], "best": main["value"], "delta": main["delta"]}
    table = pd.DataFrame({**columns, "unseen": main["unseen_by_both"]}).set_index(main["language"].astype(str))
    lost = rows[rows["metric"] == FORGETTING]
    forgetting = {
        language: {"baseline": None if math.isnan(before) else before, "best": after}
        for language, before, after in zip(lost["language"], lost["baseline"], lost["value"], strict=True)
    }
    return {
        "split": next(iter(main["split"]), None),
        "metric": next(iter(main["metric"]), None),
        "unseen": _means(table[table["unseen"]]),
        "all": _means(table),
        "languages": table.to_dict("index"),
        **({"forgetting": forgetting} if forgetting else {}),
    }


def _means(table: pd.DataFrame) -> dict[str, Any] | None:
    means = {name: float(table[name].mean()) for name in ("baseline", "best", "delta")}
    return {"languages": len(table), **means} if len(table) else None


def _stopped(results: Sequence[TrialResult]) -> dict[str, float]:
    by_rule = [result for result in results if result.state == "stopped" and result.failure]
    return {"trials": len(by_rule), "seconds": sum(result.saved for result in by_rule)}


def _failures(results: Sequence[TrialResult]) -> list[dict[str, Any]]:
    trials: dict[str, list[int]] = {}
    for result in results:
        if result.state == "failed":
            message = result.failure.message if result.failure else "no reason was recorded"
            trials.setdefault(message, []).append(result.trial.number)
    return [{"message": message, "trials": numbers} for message, numbers in trials.items()]


def _sentences(findings: Findings) -> Iterator[str]:
    best, shown = findings.best, findings.next_best or findings.best
    if best is None or shown is None:
        return
    if "languages" in findings.objective:
        yield _selection(findings.objective)
    if best["fresh_seeds"] and findings.confirmation:
        dropped = sum(chain["seeds"] < best["fresh_seeds"] for chain in findings.confirmation)
        fewer = f" {_counted(dropped, 'chain')} left the race after fewer seeds." if dropped else ""
        yield (
            f"Of the {len(findings.confirmation) + 1} confirmed chains, baseline included, it has the highest mean "
            f"objective over {_counted(best['fresh_seeds'], 'fresh seed')}.{fewer}"
        )
    for name, target in findings.targets.items():
        if target["all"] and shown["trial"] != 0:
            yield f"{_gain(name, target)}; {gain_in_words(findings.gain(name))}."
        if "forgetting" in target:
            yield _forgetting(name, target["forgetting"])
    others = {name: own for name, own in findings.best_per_target.items() if own["trial"] != shown["trial"]}
    if findings.objective.get("maximize") == "per_target":
        yield _each_its_own(findings.best_per_target)
    elif others and len(findings.targets) > 1:
        best_alone = (f"{name} trial {own['trial']} ({own['value']:.1f})" for name, own in others.items())
        yield f"Other trials have the best validation scores for a single target: {', '.join(best_alone)}."
    yield from _more_goals(findings)


def _each_its_own(winners: dict[str, dict[str, Any]]) -> str:
    chosen = ", ".join(f"{name} trial {own['trial']} ({own['value']:.1f})" for name, own in winners.items())
    mean, gain = mean_row(winners), ""
    if "delta" in mean:
        gain = f"; {mean['delta']:+.1f} points on average over targets ({mean['baseline']:.1f} to {mean['score']:.1f})"
    return f"Each target with its own chain, by its validation score: {chosen}{gain}."


def _more_goals(findings: Findings) -> Iterator[str]:
    """Word the Pareto front, what the constraint rules out, and what stopping saved."""
    if findings.front:
        trials = ", ".join(
            f"trial {row['trial']} ({', '.join(f'{goal} {value:.1f}' for goal, value in row['goals'].items())})"
            for row in findings.front[:MAX_FRONT]
        )
        more = f", and {len(findings.front) - MAX_FRONT} more" if len(findings.front) > MAX_FRONT else ""
        yield f"No trial is better in all goals than: {trials}{more}."
    if findings.ruled_out:
        worst = {trial: min(lost.items(), key=lambda item: item[1]) for trial, lost in findings.ruled_out.items()}
        listed = ", ".join(f"{trial} ({name} {lost:+.1f})" for trial, (name, lost) in list(worst.items())[:MAX_FRONT])
        more = ", ..." if len(worst) > MAX_FRONT else ""
        most = findings.objective["no_target_below_baseline"]
        yield (
            f"{_counted(len(worst), 'chain')} not recommended, more than {most:g} below the baseline in some "
            f"target: trial {listed}{more}."
        )
    if count := int(findings.stopped["trials"]):
        yield f"{_counted(count, 'trial')} stopped early, which saved about {findings.stopped['seconds']:.0f} s."


def _selection(objective: Mapping[str, Any]) -> str:
    languages = objective["languages"]
    if languages == "train":
        where = "the targets' training languages alone (the zero-shot protocol)"
    else:
        where = "all languages" if languages == "all" else ", ".join(languages)
    goal = Objective(**{"maximize": objective["maximize"]}).goals[0]
    what = "mean" if goal == "mean" else "worst language"
    return f"Selected by the {what} of validation scores in {where}. Test data was not used."


def _gain(name: str, target: Mapping[str, Any]) -> str:
    mean, kind = (target["unseen"], "unseen language") if target["unseen"] else (target["all"], "language")
    better, worse = (
        [language for language, row in target["languages"].items() if sign * row["delta"] > 0] for sign in (1, -1)
    )
    return (
        f"{name}: {mean['delta']:+.1f} points in {_counted(mean['languages'], kind)} ({mean['baseline']:.1f} to "
        f"{mean['best']:.1f}, {target['metric']}, {target['split']}); better in {_listed(better)}, worse in "
        f"{_listed(worse)}"
    )


def gain_in_words(gain: Mapping[str, Any] | None) -> str:
    """Word a gain of `Findings.gain`: the mean, its interval, how sure it is, or what it is expected to keep."""
    if not gain:
        return "no gain can be computed"
    interval = interval_in_words(gain)
    if "seeds" not in gain:
        kept = "" if gain["kept"] is None else f", expected on new seeds {gain['kept']:+.1f}"
        return f"candidate, one seed {gain['mean']:+.1f} ({interval}{kept})"
    signs = f"{gain['same_sign']} of {_counted(gain['seeds'], 'seed')} with this sign"
    return f"{gain['sure']}, over fresh seeds {gain['mean']:+.1f} ({interval}, {signs})"


def interval_in_words(gain: Mapping[str, Any]) -> str:
    """Word a gain's 95 % interval."""
    return "no interval" if gain["low"] is None else f"95 % interval {gain['low']:+.1f} to {gain['high']:+.1f}"


def _points(gain: Mapping[str, Any]) -> str:
    interval = "" if gain["low"] is None else f" ({gain['low']:+.1f} to {gain['high']:+.1f})"
    return f"{gain['mean']:+.1f}{interval}"


def _forgetting(name: str, languages: Mapping[str, Mapping[str, Any]]) -> str:
    lost = (
        f"{language} {row['best']:.1f}" + ("" if row["baseline"] is None else f" (baseline {row['baseline']:.1f})")
        for language, row in languages.items()
    )
    return f"Forgetting of {name}, in % of its score (negative: it improved): {', '.join(lost)}."


def _warnings(findings: Findings) -> Iterator[str]:
    yield from findings.left_out[:MAX_REASONS]
    if more := len(findings.left_out[MAX_REASONS:]):
        yield f"More than 1 % of rows are left out in {_counted(more, 'more place')}; `tunexfer tasks` lists them."
    if findings.best and findings.best["trial"] != 0 and not findings.best["fresh_seeds"]:
        yield (
            "A candidate, not a result: the best of several chains with one seed is high partly by luck. "
            "`confirm: {top: 3, seeds: 5}` in the space runs the best chains again with fresh seeds."
        )
    if findings.confirmation and findings.confirmation[0]["seeds"] < 2:
        yield "One fresh seed shows no spread, so its gains have no interval: use `confirm: {top: 3, seeds: 5}`."
    unconfirmed = [name for name in findings.best_per_target if findings.how_sure(name) == "candidate"]
    if findings.confirmation and len(findings.best_per_target) > 1 and unconfirmed:
        yield f"Not confirmed are the winners of {', '.join(unconfirmed)}: they rest on one seed."
    if findings.objective.get("languages", "train") != "train":
        yield "Selection uses target-language validation data, so this is not the zero-shot protocol."
    for failure in findings.failures[:MAX_REASONS]:
        numbers = failure["trials"]
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
        yield f"{_counted(len(numbers), 'trial')} failed ({listed}): {failure['message']}"
    if more := sum(len(failure["trials"]) for failure in findings.failures[MAX_REASONS:]):
        yield f"{_counted(more, 'more trial')} failed for other reasons."


def _listed(languages: Sequence[str]) -> str:
    if len(languages) > MAX_LANGUAGES:
        return f"{len(languages)} languages"
    return " ".join(languages) or "none"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
