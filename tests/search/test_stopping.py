"""Stopping rules: every rule of the registry, then each rule by hand-made trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunexfer.core.chain import Chain, Encoder, Target
from tunexfer.core.trial import Trial, TrialResult
from tunexfer.plan.space_file import Stop
from tunexfer.search.stopping import RULES, Chance, Rule, Standing, top_k

CHAIN = Chain(suite="toy", encoder=Encoder(name="pico"), stages=(), targets=(Target(task="xnli"), Target(task="tags")))


def ended(number: int, **by_target: float) -> TrialResult:
    trial = Trial(number=number, phase="search", seed=0, point={}, chain=CHAIN)
    return TrialResult(trial=trial, state="complete", started=0.0, seconds=1.0, by_target=by_target)


def standing(chance: float | None = None, others: Any = (), **by_target: float) -> Standing:
    def ask(of: Chain, scores: Mapping[str, float]) -> float | None:
        return chance

    scores = {f"{target}/en": value for target, value in by_target.items()}
    return Standing(chain=CHAIN, scores=scores, by_target=by_target, ended=tuple(others), chance=ask)


class RuleConformance:
    """The claims that hold for every rule."""

    name: ClassVar[str]
    hopeless: ClassVar[Standing]
    """Of a trial that the rule stops."""
    hopeful: ClassVar[Standing]

    def rule(self, **options: Any) -> Rule:
        return RULES[self.name](Stop.model_validate(Stop.read(self.name) | options))

    def test_a_hopeless_trial_is_stopped_with_a_reason_in_words(self) -> None:
        reason = self.rule()(self.hopeless)
        assert reason
        assert " " in reason
        assert not reason.endswith(".")

    def test_a_hopeful_trial_goes_on(self) -> None:
        assert self.rule()(self.hopeful) is None

    def test_a_trial_without_scores_goes_on(self) -> None:
        assert self.rule()(standing(chance=0.0, others=self.hopeless.ended)) is None

    def test_the_same_record_and_scores_give_the_same_answer(self) -> None:
        assert self.rule()(self.hopeless) == self.rule()(self.hopeless)


class TestChance(RuleConformance):
    name = "chance"
    hopeless = standing(chance=0.049, xnli=50.0)
    hopeful = standing(chance=0.05, xnli=50.0)

    def test_a_sampler_without_a_model_stops_nothing(self) -> None:
        assert self.rule()(standing(chance=None, xnli=0.0)) is None

    def test_the_threshold_can_be_set_and_is_in_the_reason(self) -> None:
        reason = self.rule(chance=0.2)(standing(chance=0.123, xnli=50.0))
        assert reason == "its chance to beat the best trial is 12.3 %, below 20 %"

    def test_the_sampler_is_asked_about_the_chain_and_what_it_has_scored(self) -> None:
        asked: list[Any] = []

        def ask(of: Chain, scores: Mapping[str, float]) -> float | None:
            asked.append((of, scores))
            return None

        chance: Chance = ask
        self.rule()(Standing(chain=CHAIN, scores={"xnli/en": 1.0}, by_target={"xnli": 1.0}, ended=(), chance=chance))
        assert asked == [(CHAIN, {"xnli/en": 1.0})]


class TestTopK(RuleConformance):
    name = "top_k"
    hopeless = standing(others=[ended(number, xnli=51.0) for number in range(5)], xnli=50.0)
    hopeful = standing(others=[ended(number, xnli=51.0) for number in range(4)], xnli=50.0)

    def test_nothing_ends_before_enough_targets_are_scored(self) -> None:
        others = [ended(0, xnli=90.0, tags=90.0)]
        assert top_k(1, 2)(standing(others=others, xnli=1.0)) is None
        assert top_k(1, 2)(standing(others=others, xnli=1.0, tags=1.0))

    def test_trials_are_compared_by_the_targets_that_this_one_has_scored(self) -> None:
        others = [ended(0, xnli=40.0, tags=99.0), ended(1, tags=99.0)]
        assert top_k(1, 1)(standing(others=others, xnli=50.0)) is None

    def test_a_tie_with_the_kth_goes_on(self) -> None:
        assert top_k(1, 1)(standing(others=[ended(0, xnli=50.0)], xnli=50.0)) is None


def test_every_rule_but_off_has_its_conformance_tests() -> None:
    tested = {rule.name for rule in RuleConformance.__subclasses__()}
    assert tested | {"off"} == set(RULES)
    assert RULES["off"](Stop())(standing(chance=0.0, others=TestTopK.hopeless.ended, xnli=0.0)) is None
