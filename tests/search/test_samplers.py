"""Claims that hold for every sampler, and what the chain sampler makes of what it is told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from drive import SPACE, plan_in
from scipy.stats import norm

from tunexfer.core.chain import Chain
from tunexfer.core.scores import Score
from tunexfer.core.trial import JobRun, Phase, Point, State, Trial, TrialResult
from tunexfer.errors import SpaceError
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import Algorithm
from tunexfer.search.algorithms import ALGORITHMS
from tunexfer.search.chain_candidates import log_improvement
from tunexfer.search.chain_sampler import ChainSearcher
from tunexfer.search.costs import Costs
from tunexfer.search.samplers import OptunaSampler

CONTINUOUS = {
    "task": "choice",
    "train_language": "en",
    "learning_rate": {"log_uniform": [1.0e-5, 1.0e-2]},
    "steps": {"int_uniform": [2, 9]},
}


def value_of(chain: Chain, target: str) -> float:
    """A stage gains its learning rate x 1000 points, a target's own rate x 100; `tags` gains half a point."""
    own = chain.target(target).stage
    stages = sum(1000 * s.learning_rate + 0.5 * ("tags" in s.mixture.tasks) for s in chain.stages)
    return 50.0 + stages + (100 * own.learning_rate if own else 0.0)


def score(target: str, value: float) -> Score:
    return Score(target=target, language="de", split="validation", metric="m", value=value, main=True, unseen=False)


def result_of(
    plan: Plan, number: int, point: Point, chain: Chain, state: State = "complete", phase: Phase = "search"
) -> TrialResult:
    """End a trial; one that isn't complete has only its first target's score and no objective."""
    trial = Trial(number=number, phase=phase, seed=plan.seed, point=point, chain=chain)
    targets = chain.targets if state == "complete" else chain.targets[:1]
    scores = tuple(score(target.name, value_of(chain, target.name)) for target in targets)
    jobs = [job for job in Costs(plan.seed).jobs(chain) if job.target is None or job.target in targets]
    runs = tuple(
        JobRun(key=j.key, kind=j.kind, name=j.name, reused=False, steps=j.steps, seconds=1 + j.steps) for j in jobs
    )
    objective = plan.objective.value(scores, chain) if state == "complete" else None
    by_target = plan.objective.by_target(scores, chain)
    seconds = sum(run.seconds for run in runs)
    goals = plan.objective.values(scores, chain, seconds) if state == "complete" else {}
    facts = {"objective": objective, "goals": goals, "by_target": by_target, "jobs": runs, "scores": scores}
    return TrialResult(trial=trial, state=state, started=0, seconds=1, **facts)


class Searching:
    """Asks and tells a sampler, as a search with one device does."""

    def __init__(self, plan: Plan, algorithm: str) -> None:
        self.plan, self.sampler = plan, ALGORITHMS[algorithm](plan, Costs(plan.seed))
        self.results: list[TrialResult] = []
        self.taken: set[Chain] = set()
        point, chain = plan.baseline
        self.tell(result_of(plan, 0, point, chain, phase="baseline"))

    def tell(self, result: TrialResult) -> None:
        self.results.append(result)
        self.taken.add(result.trial.chain)
        self.sampler.tell(result)

    def draw(self) -> Chain | None:
        """Draw a new chain; None where there is none left."""
        for attempt in range(500):
            drawn = self.sampler.ask(len(self.results), attempt, ())
            if drawn is None:
                return None
            if drawn[1] not in self.taken:
                self.point = drawn[0]
                return drawn[1]
            self.sampler.turned_down(len(self.results), drawn[0])
        return None

    def step(self, state: State = "complete") -> bool:
        """Draw a trial and tell how it ended."""
        chain = self.draw()
        if chain is not None:
            self.tell(result_of(self.plan, len(self.results), self.point, chain, state))
        return chain is not None

    def run(self, trials: int) -> list[Point]:
        while len(self.results) < trials and self.step():
            pass
        return [result.trial.point for result in self.results]


class TestEverySampler:
    @pytest.fixture(params=[name for name in ALGORITHMS if name != "gp"])
    def algorithm(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def plan(self, tmp_path: Path) -> Plan:
        return plan_in(tmp_path)

    def test_one_seed_draws_the_same_and_another_something_else(self, tmp_path: Path, algorithm: str) -> None:
        drawn = [Searching(plan_in(tmp_path, {"search.seed": str(seed)}), algorithm).run(8) for seed in (3, 3, 4)]
        assert drawn[0] == drawn[1]
        assert (drawn[0] != drawn[2]) is (algorithm != "grid")

    @pytest.mark.parametrize("stopped", [2, 5, 9])
    def test_a_resumed_search_draws_what_it_would_have_drawn_in_one_go(
        self, plan: Plan, algorithm: str, stopped: int
    ) -> None:
        whole = Searching(plan, algorithm)
        whole.run(12)
        resumed = Searching(plan, algorithm)
        for result in whole.results[1:stopped]:
            resumed.tell(result)
        assert resumed.run(12) == [result.trial.point for result in whole.results]

    def test_coordinates_of_options_not_drawn_are_left_out(self, plan: Plan, algorithm: str) -> None:
        for point in Searching(plan, algorithm).run(14)[1:]:
            own = "stages[0].learning_rate" in point
            assert own is (point["stages[0].tasks"] != "none")

    def test_ranges_are_drawn_within_their_bounds(self, tmp_path: Path, algorithm: str) -> None:
        search = Searching(plan_in(tmp_path, targets=[CONTINUOUS]), algorithm)
        if algorithm == "grid":
            with pytest.raises(SpaceError, match="continuous"):
                search.step()
            return
        points = search.run(12)[1:]
        assert len({point["targets[0].learning_rate"] for point in points}) > 5
        assert all(1e-5 <= float(point["targets[0].learning_rate"]) <= 1e-2 for point in points)
        assert all(point["targets[0].steps"] in range(2, 10) for point in points)

    def test_failed_and_stopped_trials_do_not_end_the_search(self, plan: Plan, algorithm: str) -> None:
        search = Searching(plan, algorithm)
        states: list[State] = ["failed", "stopped", "complete"] * 4
        assert all(search.step(state) for state in states)
        assert len({result.trial.fingerprint for result in search.results}) == 13

    def test_a_small_space_is_drawn_to_its_last_chain(self, tmp_path: Path, algorithm: str) -> None:
        plan = plan_in(tmp_path, stages=[SPACE["stages"][0] | {"learning_rate": 1.0e-3}])
        chains = plan.every_chain()
        assert chains
        assert len(Searching(plan, algorithm).run(99)) == len({plan.baseline[1], *chains})

    @pytest.mark.parametrize(
        "objective",
        [
            {"maximize": "per_target"},
            {"no_target_below_baseline": 1.0},
            {"maximize": ["mean", "worst_language"], "minimize": "device_seconds"},
        ],
    )
    def test_every_objective_is_searched_alike_after_an_interruption(
        self, tmp_path: Path, algorithm: str, objective: dict[str, object]
    ) -> None:
        plan = plan_in(tmp_path, objective={"languages": "all", **objective})
        whole = Searching(plan, algorithm)
        whole.run(9)
        resumed = Searching(plan, algorithm)
        for result in whole.results[1:6]:
            resumed.tell(result)
        assert resumed.run(9) == [result.trial.point for result in whole.results]
        assert len({result.trial.fingerprint for result in whole.results}) == 9

    @pytest.mark.slow
    def test_thousands_of_draws_take_less_than_half_a_second_each(self, tmp_path: Path, algorithm: str) -> None:
        draws = 500 if algorithm == "tpe" else 2000  # Optuna's own time grows with each draw
        numbers = {"int_uniform": [2, 9]}
        targets = [CONTINUOUS | {"learning_rate": 1e-3, "name": name, "steps": numbers} for name in ("a", "b", "c")]
        search = Searching(plan_in(tmp_path, targets=targets), algorithm)
        started = time.perf_counter()
        assert len(search.run(draws + 1)) == draws + 1
        assert time.perf_counter() - started < draws / 2


@pytest.mark.parametrize("algorithm", ["tpe", "gp"])
def test_optuna_is_told_how_each_trial_ended(tmp_path: Path, algorithm: str) -> None:
    search = Searching(plan_in(tmp_path), algorithm)
    states: list[State] = ["complete", "failed", "stopped"]
    for state in states:
        search.step(state)
    again = Searching(search.plan, algorithm)
    for result in search.results[1:]:
        again.sampler.tell(result)
    for sampler in (search.sampler, again.sampler):
        assert isinstance(sampler, OptunaSampler)
        told = [trial for trial in sampler.study.trials if trial.params in [r.trial.point for r in search.results[1:]]]
        assert [trial.state.name for trial in told] == ["COMPLETE", "FAIL", "PRUNED"]


def test_optunas_gaussian_process_draws_after_its_startup(tmp_path: Path) -> None:
    assert len(Searching(plan_in(tmp_path), "gp").run(9)) == 9


def test_every_name_in_the_space_file_has_a_sampler() -> None:
    assert set(ALGORITHMS) == set(get_args(Algorithm))


@pytest.fixture
def search(tmp_path: Path) -> Searching:
    return Searching(plan_in(tmp_path), "chain")


def chain_sampler(search: Searching) -> ChainSearcher:
    assert isinstance(search.sampler, ChainSearcher)
    return search.sampler


def test_expected_improvement_agrees_with_its_definition_and_is_finite_far_below_the_best() -> None:
    ahead, deviation = np.array([-2.0, 0.0, 1.5]), np.array([0.7, 1.0, 2.0])
    z = ahead / deviation
    expected = ahead * norm.cdf(z) + deviation * norm.pdf(z)
    assert np.exp(log_improvement(ahead, deviation)) == pytest.approx(expected, rel=1e-9)
    far = log_improvement(np.array([-40.0, -50.0]), np.ones(2))
    assert far[0] == pytest.approx(-0.5 * 40**2 - 0.5 * np.log(2 * np.pi) - 2 * np.log(40), abs=1e-2)
    assert far[1] < far[0]


def test_the_best_chain_is_found_before_a_third_of_the_space_was_run(search: Searching) -> None:
    search.run(14)
    chains = search.plan.every_chain()
    assert chains
    true = {chain: search.plan.objective.value(result_of(search.plan, 1, {}, chain).scores, chain) for chain in chains}
    assert max(true[result.trial.chain] for result in search.results) == max(true.values())


def test_a_stopped_trial_teaches_with_the_scores_that_it_has(search: Searching) -> None:
    search.run(4)
    sampler = chain_sampler(search)
    chain = search.draw()
    assert chain
    before = sampler.posterior(chain)
    sampler.tell(result_of(search.plan, 4, search.point, chain, "stopped"))
    after = sampler.posterior(chain)
    assert before
    assert after
    assert after[1] < before[1]


def test_the_chance_to_beat_the_best_rises_with_the_scores_of_finished_targets(search: Searching) -> None:
    search.run(6)
    chain = search.draw()
    assert chain
    chances = [search.sampler.chance(chain, {"choice/de": value}) for value in (40.0, 52.0, 70.0)]
    assert chances == sorted(chances)
    assert chances[0] < 0.1 < 0.9 < chances[2]


def test_a_chain_whose_jobs_are_all_done_is_drawn_at_once_if_it_looks_better(tmp_path: Path) -> None:
    """Two targets with two rates each: what is best for either was trained, but not together."""
    rates = {"choice": [1.0e-3, 2.0e-3]}
    targets = [
        {"name": name, "task": "choice", "train_language": "en", "learning_rate": rates, "steps": 10} for name in "ab"
    ]
    stage = {"name": "stage", "tasks": ["match"], "languages": ["en"], "learning_rate": 1.0e-3, "steps": 500}
    search = Searching(plan_in(tmp_path, stages=[stage], targets=targets), "chain")
    for number, own in enumerate((("0.001", "0.002"), ("0.002", "0.001")), start=1):
        point: Point = {f"targets[{place}].learning_rate": rate for place, rate in enumerate(own)}
        result = result_of(search.plan, number, point, search.plan.space.chain(point))
        values = {"0.001": 50.0, "0.002": 60.0}
        scores = tuple(score(name, values[rate]) for name, rate in zip("ab", own, strict=True))
        search.sampler.tell(replace(result, scores=scores, objective=55.0))
    drawn = search.sampler.ask(3, 0, ())
    assert drawn
    assert list(drawn[0].values()) == ["0.002", "0.002"]


def test_results_of_another_study_teach_but_their_chains_can_be_drawn(search: Searching, tmp_path: Path) -> None:
    search.run(10)
    fresh = Searching(search.plan, "chain")
    for result in search.results:
        fresh.sampler.learn(result)
    best = max(search.results, key=lambda result: result.objective or 0.0)
    belief = fresh.sampler.posterior(best.trial.chain)
    assert belief
    assert belief[0] == pytest.approx(best.objective or 0.0, abs=0.5)
    assert fresh.draw() in {result.trial.chain for result in search.results} | {best.trial.chain}


TARGETS = [
    {"name": name, "task": "choice", "train_language": "en", "learning_rate": 1.0e-3, "steps": 10} for name in "ab"
]


def search_by_stage(folder: Path, gains: dict[str, tuple[float, float]], **objective: object) -> Searching:
    """Search with two targets, whose scores are 50 and what the task of a stage gains, times its rate by 0.003."""

    class ByStage(Searching):
        def step(self, state: State = "complete") -> bool:
            chain = self.draw()
            if chain is not None:
                result = result_of(self.plan, len(self.results), self.point, chain)
                values = [50.0, 50.0]
                for stage in chain.stages:
                    for task in stage.mixture.tasks:
                        values = [v + g * stage.learning_rate / 3e-3 for v, g in zip(values, gains[task], strict=True)]
                scores = tuple(score(name, value) for name, value in zip("ab", values, strict=True))
                by_target = dict(zip("ab", values, strict=True))
                self.tell(replace(result, scores=scores, by_target=by_target, objective=sum(values) / 2))
            return chain is not None

    plan = plan_in(folder, targets=TARGETS, objective={"languages": "all", **objective})
    return ByStage(plan, "chain")


def tasks_of(result: TrialResult) -> set[str]:
    return {task for stage in result.trial.chain.stages for task in stage.mixture.tasks}


def test_where_each_target_chooses_both_winners_are_found_though_their_means_are_poor(tmp_path: Path) -> None:
    search = search_by_stage(tmp_path, {"match": (6.0, -20.0), "tags": (-20.0, 6.0)}, maximize="per_target")
    search.run(12)
    best = {name: max(result.by_target[name] for result in search.results[1:]) for name in "ab"}
    assert best == pytest.approx({"a": 56.0, "b": 56.0})


def test_of_two_goals_the_best_chains_of_both_are_found_though_they_are_apart(tmp_path: Path) -> None:
    """`tags` gains 10 points in one language and loses 4 in the other, `match` gains 1 in both: the first is best in
    the mean, the second in the worst language."""
    objective = {"languages": "all", "maximize": ["mean", "worst_language"]}
    search = Searching(plan_in(tmp_path, targets=TARGETS, objective=objective), "chain")
    gains = {"tags": (10.0, -4.0), "match": (1.0, 1.0)}
    for _ in range(8):
        chain = search.draw()
        assert chain
        tasks = [task for stage in chain.stages for task in stage.mixture.tasks]
        values = {lang: 50.0 + sum(gains[task][place] for task in tasks) for place, lang in enumerate(("de", "en"))}
        scores = tuple(
            replace(score(target, value), language=language) for target in "ab" for language, value in values.items()
        )
        result = result_of(search.plan, len(search.results), search.point, chain)
        goals = search.plan.objective.values(scores, chain, 0.0)
        search.results.append(replace(result, scores=scores, goals=goals, objective=goals["mean"]))
        search.sampler.tell(search.results[-1])
    best = {goal: max(r.goals[goal] for r in search.results[1:]) for goal in ("mean", "worst_language")}
    assert best["worst_language"] == 51.0
    assert best["mean"] >= 53.0


def test_the_gain_of_a_draw_is_each_targets_expected_improvement_over_its_own_best(tmp_path: Path) -> None:
    """Of one target, its own best is the best of the mean, so both objectives expect and draw the same."""
    drawn = []
    for maximize in ("mean", "per_target"):
        plan = plan_in(tmp_path, targets=TARGETS[:1], objective={"languages": "all", "maximize": maximize})
        search = Searching(plan, "chain")
        drawn.append([(search.run(number)[-1], search.sampler.gain_per_chain) for number in range(2, 9)])
    for (point, gain), (other, same) in zip(*drawn, strict=True):
        assert point == other
        assert gain == pytest.approx(same, rel=1e-4)


def test_the_constraint_keeps_draws_from_chains_that_cost_a_target_its_score(tmp_path: Path) -> None:
    """Of 19 chains the twelve with `tags` are far ahead in the mean, and break the constraint: the other seven are all
    drawn before the space runs out, and without the constraint they are left for the end."""
    gains = {"match": (1.0, 1.0), "tags": (30.0, -10.0)}
    keeping = []
    for number, objective in enumerate(({}, {"no_target_below_baseline": 1.0})):
        search = search_by_stage(tmp_path / str(number), gains, **objective)
        search.run(14)
        keeping.append(sum("tags" not in tasks_of(result) for result in search.results))
    assert keeping[1] == 7
    assert keeping[0] < 7 / 2


@pytest.mark.parametrize(
    ("maximize", "places"),
    [
        ("mean", [0, 13, 12, 25, 15, 7, 33, 24, 19, 18, 31, 30]),
        ("worst_language", [0, 13, 15, 12, 9, 25, 24, 7, 19, 18, 31, 30]),
    ],
)
def test_the_draws_for_a_single_goal_stay_as_they_were(tmp_path: Path, maximize: str, places: list[int]) -> None:
    """A second language, whose scores fall where the first one's rise, makes the two goals differ."""
    search = Searching(plan_in(tmp_path, objective={"languages": "all", "maximize": maximize}), "chain")
    tell = search.sampler.tell

    def tell_both(result: TrialResult) -> None:
        second = tuple(replace(s, language="en", value=70 - 0.5 * (s.value - 50)) for s in result.scores)
        tell(replace(result, scores=result.scores + second))

    search.sampler.tell = tell_both  # type: ignore[method-assign]
    search.run(12)
    chains = search.plan.every_chain()
    assert chains
    assert [chains.index(result.trial.chain) for result in search.results] == places
