"""The chains that a chain with stages is compared with."""

from __future__ import annotations

from dataclasses import replace

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.controls import LONGER, PLACEBO, equal_compute, without_stages


def stage(name: str, task: str, steps: int, learning_rate: float = 1e-3) -> Stage:
    mixture = Mixture(sources=(Source(task=task, language="en"),), shares=(1.0,))
    return Stage(name=name, mixture=mixture, learning_rate=learning_rate, steps=steps)


CHAIN = Chain(
    suite="toy",
    encoder=Encoder(name="pico"),
    stages=(stage("first", "nli", 30, 2e-3), stage("second", "ner", 20)),
    targets=(
        Target(task="intent", stage=stage("intent", "intent", 40)),
        Target(task="slots", stage=stage("slots", "slots", 10), after="intent"),
        Target(task="retrieval"),
    ),
)


def test_the_longer_target_has_the_steps_of_the_stages_on_top_and_what_goes_on_from_it_has_not() -> None:
    longer = equal_compute(CHAIN)[LONGER, "slots"]
    assert longer.stages == ()
    assert [target.stage and target.stage.steps for target in longer.targets] == [40 + 50, 10, None]


def test_a_placebo_has_the_stages_steps_rates_and_batches_on_the_targets_own_rows() -> None:
    placebo = equal_compute(CHAIN)[PLACEBO, "intent"]
    own = CHAIN.targets[0].stage
    assert own
    assert placebo.stages == tuple(replace(stage, mixture=own.mixture) for stage in CHAIN.stages)
    assert placebo.targets == CHAIN.targets[:1]
    assert equal_compute(CHAIN)[PLACEBO, "slots"].targets == CHAIN.targets[:2]  # with the target that it goes on from


def test_nothing_stands_for_a_target_without_training_or_a_chain_without_stages() -> None:
    assert {target for _, target in equal_compute(CHAIN)} == {"intent", "slots"}
    assert equal_compute(without_stages(CHAIN)) == {}
