"""Which trial runs next: what an earlier run left unfinished, the baseline, what the sampler draws, confirmation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from tunexfer.core.chain import Chain
from tunexfer.core.graph import Contents
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import Confirm
from tunexfer.record.record import Record
from tunexfer.search.algorithms import ALGORITHMS
from tunexfer.search.confirm import Values, candidates, next_round, values_of
from tunexfer.search.costs import Costs

MAX_REPEATS = 500
"""Points drawn in a row whose chains have all been run: then the space holds no more worth waiting for."""


class Schedule:
    """Hands out trials, one at a time. A chain already run is drawn again rather than run again, and doesn't count."""

    def __init__(
        self,
        plan: Plan,
        record: Record,
        contents: Mapping[str, Contents] | None = None,
        stored: Callable[[str], bool] | None = None,
    ) -> None:
        """
        contents: encoder's identity -> what its trials read
        stored:   whether the stage store has the result of a job's key
        """
        self.plan, self.record = plan, record
        self._costs = Costs(plan.seed, contents, stored)
        self.exhausted = False
        """Whether the space ran out of chains before the trials asked for were reached."""
        self.sampler = ALGORITHMS[plan.algorithm](plan, self._costs)
        self.chance = self.sampler.chance
        self._taken: set[str] = set()
        """Fingerprints of all that was handed out or run before."""
        self._running: dict[int, Trial] = {}
        self._ready = deque(record.unfinished())
        self._searched = sum(trial.phase != "confirm" for trial in self._ready)
        self._racers: list[Trial] = []
        """Trials whose chains are confirmed, once the search is over."""
        self._runs: dict[tuple[Chain, int], Values] = {}
        unfinished = {trial.number for trial in self._ready}
        for ended in record.ended:
            if ended.trial.number in unfinished:
                continue
            self._searched += ended.trial.phase != "confirm"
            self._taken.add(ended.trial.fingerprint)
            scores = record.scores(ended.trial.number) if self.sampler.reads_scores else ()
            self.sampler.tell(replace(ended, scores=scores))
        if not any(trial.number == 0 for trial in [*self._ready, *(ended.trial for ended in record.complete)]):
            point, chain = plan.baseline
            self._ready.appendleft(Trial(number=0, phase="baseline", seed=plan.seed, point=point, chain=chain))
            self._searched += 1
        self._taken |= {trial.fingerprint for trial in self._ready}

    def next(self) -> Trial | Literal["wait", "done"]:
        """The next trial; `wait` while it depends on trials that still run."""
        if not self._ready and (self._searched >= self.plan.trials or self.exhausted):
            if self.plan.confirm:
                if self._running:
                    return "wait"
                self._ready += self._to_confirm(self.plan.confirm)
            if not self._ready:
                return "done"
        trial = self._ready.popleft() if self._ready else self._draw()
        if trial is None:
            self.exhausted = True
            return self.next()
        self._running[trial.number] = trial
        return trial

    def ended(self, ended: TrialResult) -> None:
        self._running.pop(ended.trial.number, None)
        self.sampler.tell(ended)

    def _draw(self) -> Trial | None:
        number = next(number for number in self.record.free_numbers() if number not in self._running)
        for attempt in range(MAX_REPEATS):
            drawn = self.sampler.ask(number, attempt, tuple(self._running.values()))
            if drawn is None:
                return None
            point, chain = drawn
            trial = Trial(number=number, phase="search", seed=self.plan.seed, point=point, chain=chain)
            if trial.fingerprint not in self._taken:
                self._searched += 1
                self._taken.add(trial.fingerprint)
                return trial
            self.sampler.turned_down(number, point)
        return None

    def _to_confirm(self, confirm: Confirm) -> list[Trial]:
        """List the trials of the next round of the race; none when it is over."""
        complete, objective = self.record.complete, self.plan.objective
        confirming = [result.trial for result in complete if result.trial.phase == "confirm"]
        begun = [result.trial for result in self.record.ended if result.trial.phase == "confirm"]
        first = min((trial.number for trial in begun), default=0)
        if any(result.trial.phase == "search" and result.trial.number > first for result in complete):
            begun = []  # the search was extended since: who races is decided anew
        baseline = next((result.trial for result in complete if result.trial.number == 0), None)
        if baseline is None:
            return []
        for trial in confirming:
            if (key := (trial.chain, trial.seed)) not in self._runs:
                self._runs[key] = values_of(self.record.scores(trial.number), trial.chain, objective)
        self._racers = self._racers or candidates(
            complete, confirm, objective, {trial.chain for trial in begun}, self.sampler.posterior
        )
        missing = next_round(
            baseline, self._racers, confirm, self._runs, lambda trial: trial.fingerprint in self._taken, objective
        )
        self._taken |= {trial.fingerprint for trial in missing}
        return [
            replace(trial, number=number) for number, trial in zip(self.record.free_numbers(), missing, strict=False)
        ]
