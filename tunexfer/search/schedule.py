"""The order of trials: what an earlier run left unfinished, the baseline, the sampler's, confirmation, noise."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tunexfer.core.chain import Chain
from tunexfer.core.files import StudyFolder
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.errors import StudyError
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import Confirm
from tunexfer.record.record import Record
from tunexfer.search.algorithms import ALGORITHMS
from tunexfer.search.confirm import Values, candidates, next_round, values_of
from tunexfer.search.costs import Costs

MAX_REPEATS = 500
"""Points drawn in a row whose chains have all been run: then the space holds no more worth waiting for."""
WORTH = 0.1
"""Points that the next draw has to be expected to gain for the seconds of a whole chain, with `trials: auto`. By
`benchmarks/replay/replay.py auto`, twice as much ends searches before the best chain, half as much costs 8 % more."""
AUTO_AFTER = 6
"""Trials before `trials: auto` may end a search: with fewer the model knows little but its assumptions."""


class Schedule:
    """Hands out trials, one at a time. A chain already run is drawn again rather than run again, and doesn't count."""

    def __init__(self, plan: Plan, record: Record, costs: Costs | None = None) -> None:
        """
        costs: of the search's jobs; by their names alone if not given
        """
        self.plan, self.record = plan, record
        self._costs = costs or Costs(plan.seed)
        self.exhausted = False
        """Whether the space ran out of chains before the trials asked for were reached."""
        self.why = ""
        """Why the search ended before the trials asked for were reached: a sentence, or nothing."""
        self.sampler = ALGORITHMS[plan.algorithm](plan, self._costs)
        self.chance = self.sampler.chance
        self._spent = 0.0
        """Seconds that devices spent on jobs of trials that have ended."""
        self._done: set[str] = set()
        """Keys of the jobs that trials of this study have done."""
        self._taken: set[str] = set()
        """Fingerprints of all that was handed out or run before."""
        self._running: dict[int, Trial] = {}
        trials = plan.file.search.trials
        self._wanted = math.inf if trials == "auto" else trials
        self._ready = deque(record.unfinished())
        self._searched = sum(trial.phase != "confirm" for trial in self._ready)
        self._racers: list[Trial] = []
        """Trials whose chains are confirmed, once the search is over."""
        self._runs: dict[tuple[Chain, int], Values] = {}
        for folder in plan.file.search.from_:
            self._learn_from(Path(folder))
        unfinished = {trial.number for trial in self._ready}
        for ended in record.ended:
            if ended.trial.number in unfinished:
                continue
            self._searched += ended.trial.phase != "confirm" and not self._is_free(ended.trial)
            self._taken.add(ended.trial.fingerprint)
            scores = record.scores(ended.trial.number) if self.sampler.reads_scores else ()
            self._tell(replace(ended, scores=scores))
        if not any(trial.number == 0 for trial in [*self._ready, *(ended.trial for ended in record.complete)]):
            point, chain = plan.baseline
            self._ready.appendleft(Trial(number=0, phase="baseline", seed=plan.seed, point=point, chain=chain))
            self._searched += 1
        self._taken |= {trial.fingerprint for trial in self._ready}

    def next(self) -> Trial | Literal["wait", "done"]:
        """The next trial; `wait` while it depends on trials that still run."""
        if not self._ready and (self._searched >= self._wanted or self.exhausted or self.why):
            if self.plan.confirm:
                if self._running:
                    return "wait"
                self._ready += self._to_confirm(self.plan.confirm)
            if not self._ready:
                self._ready += self._of_noise()
            if not self._ready and self.plan.matched and not self.plan.confirm:
                if any(trial.phase == "search" for trial in self._running.values()):
                    return "wait"
                self._ready += self._of_best()
            if not self._ready:
                return "done"
        trial = self._ready.popleft() if self._ready else self._draw()
        if trial == "wait":
            return trial
        if trial is None:
            self.exhausted = not self.why
            return self.next()
        self._running[trial.number] = trial
        return trial

    def ended(self, ended: TrialResult) -> None:
        self._running.pop(ended.trial.number, None)
        self._tell(ended)

    def _tell(self, ended: TrialResult) -> None:
        self._costs.time(ended)
        self._spent += sum(run.seconds for run in ended.jobs if not run.reused)
        keys = [run.key for run in ended.jobs]
        self._done.update(keys)
        self._costs.add_done(keys)
        self.sampler.tell(ended)

    def _learn_from(self, folder: Path) -> None:
        """Teach the sampler the results of another study."""
        if not StudyFolder(folder).plan.exists():
            raise StudyError(f"search.from: {folder.absolute()} holds no study. Give a folder with a plan.yaml.")
        other = Record(StudyFolder(folder))
        for ended in other.ended:
            self.sampler.learn(replace(ended, scores=other.scores(ended.trial.number)))

    def _is_free(self, trial: Trial) -> bool:
        """Tell whether other trials of this study have done all jobs of a chain that the chain sampler put together."""
        if self.plan.algorithm != "chain" or trial.phase != "search":
            return False
        return all(job.key in self._done for job in self._costs.jobs(trial.chain, trial.seed))

    def _why_end(self, trial: Trial) -> str:
        """Say why the search ends instead of running a trial that was drawn; nothing if it goes on."""
        search, gain = self.plan.file.search, self.sampler.gain_per_chain
        if search.trials == "auto" and self._searched >= AUTO_AFTER and gain is not None and gain < WORTH:
            return (
                f"Search ended: the best chain left is expected to gain {gain:.2g} points for the seconds of a whole "
                f"chain, less than {WORTH:g}."
            )
        if search.budget and self._costs.timed:
            running = sum(self._costs.remaining(open.chain, open.seed) for open in self._running.values())
            kept = self._confirmation()
            needed = self._spent + running + self._costs.remaining(trial.chain, trial.seed) + kept
            if needed > 3600 * search.budget.device_hours:
                return (
                    f"Search ended: another trial would exceed the budget of {search.budget.device_hours:g} device "
                    f"hours, of which {self._spent / 3600:.2g} are spent and {kept / 3600:.2g} kept for confirmation."
                )
        return ""

    def _confirmation(self) -> float:
        """Estimate the seconds that confirmation and noise take: with fresh seeds nothing is shared with the search."""
        confirm, baseline = self.plan.confirm, self._costs.whole(self.plan.baseline[1])
        chains = {ended.trial.chain for ended in self.record.complete if ended.trial.phase != "confirm"}
        controls = max([baseline, *(sum(map(self._costs.whole, self.plan.controls(chain))) for chain in chains)])
        if not confirm:
            return (self.plan.noise_seeds - 1) * baseline + (controls if self.plan.matched else 0.0)
        whole = sorted((self._costs.whole(chain) for chain in chains), reverse=True)[: confirm.top + 1]
        raced = sum(whole) + (confirm.top + 1 - len(whole)) * max(whole, default=0.0)
        return confirm.count * (raced + confirm.top * controls) + (self.plan.noise_seeds - 1 - confirm.count) * baseline

    def _draw(self) -> Trial | Literal["wait"] | None:
        number = next(number for number in self.record.free_numbers() if number not in self._running)
        for attempt in range(MAX_REPEATS):
            drawn = self.sampler.ask(number, attempt, tuple(self._running.values()))
            if drawn is None:
                return None
            point, chain = drawn
            trial = Trial(number=number, phase="search", seed=self.plan.seed, point=point, chain=chain)
            if trial.fingerprint not in self._taken:
                if why := self._why_end(trial):
                    self.why = "" if self._running else why
                    return "wait" if self._running else None
                self._searched += not self._is_free(trial)
                self._taken.add(trial.fingerprint)
                return trial
            self.sampler.turned_down(number, point)
        return None

    def _to_confirm(self, confirm: Confirm) -> list[Trial]:
        """List the trials of the next round of the race; none when it is over."""
        complete, objective = self.record.complete, self.plan.objective
        confirming = [result.trial for result in complete if result.trial.phase == "confirm"]
        begun = [r.trial for r in self.record.ended if r.trial.phase == "confirm" and r.trial.chain.stages]
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
        # Gains are over the chain without stages that has the same target values: it is run beside, or now, where an
        # earlier run of the study ended between the two.
        chains = {trial.chain for trial in self._racers}
        raced = [r.trial for r in self.record.ended if r.trial.phase == "confirm" and r.trial.chain in chains]
        controls = [control for trial in (*missing, *raced) for control in self._controls(trial)]
        return self._fresh([*missing, *controls])

    def _controls(self, trial: Trial) -> list[Trial]:
        """Make the trials that a trial is compared with; their points have the targets' coordinates alone."""
        point = {name: value for name, value in trial.point.items() if not name.startswith("stages[")}
        return [replace(trial, phase="confirm", point=point, chain=chain) for chain in self.plan.controls(trial.chain)]

    def _of_noise(self) -> list[Trial]:
        """List the baseline's runs with further seeds, which show the noise of training; none if it failed."""
        if any(result.trial.number == 0 and result.state == "failed" for result in self.record.ended):
            return []
        point, chain = self.plan.baseline
        seeds = range(self.plan.seed + 1, self.plan.seed + self.plan.file.noise.seeds)
        return self._fresh([Trial(number=0, phase="confirm", seed=seed, point=point, chain=chain) for seed in seeds])

    def _of_best(self) -> list[Trial]:
        """List the best chain's baselines of equal compute, with the search's own seed."""
        best = candidates(
            self.record.complete, Confirm(top=1, seeds=1), self.plan.objective, (), posterior=lambda chain: None
        )
        return self._fresh([control for trial in best for control in self._controls(trial)])

    def _fresh(self, trials: Sequence[Trial]) -> list[Trial]:
        """Number the trials that were not run or handed out yet, each once."""
        distinct: dict[str, Trial] = {}
        for trial in trials:
            if trial.fingerprint not in self._taken:
                distinct.setdefault(trial.fingerprint, trial)
        self._taken |= distinct.keys()
        numbers = (number for number in self.record.free_numbers() if number not in self._running)
        return [replace(trial, number=number) for number, trial in zip(numbers, distinct.values(), strict=False)]
