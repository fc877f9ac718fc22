"""Jobs of chains: which there are, what their keys depend on, and the keys themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.graph import Contents, Job, ancestors, jobs_of, needed
from tunexfer.core.trial import Trial

EN = Source(task="nli", language="en")
STAGE = Stage(name="first", mixture=Mixture(sources=(EN,), shares=(1.0,)), learning_rate=1e-5, steps=10)
TARGET = Target(task="nli", stage=replace(STAGE, name="nli", learning_rate=3e-5))
RETRIEVAL = Target(task="find")
CHAIN = Chain(suite="s", encoder=Encoder(name="e"), stages=(STAGE,), targets=(TARGET, RETRIEVAL))
CONTENTS = Contents(
    encoder="weights",
    precision="fp32",
    rows={
        ("nli", "en", "train"): "a",
        ("nli", "en", "test"): "b",
        ("nli", "de", "validation"): "v",
        ("find", "sw", "test"): "c",
        ("tags", "en", "train"): "t",
        ("tags", "en", "test"): "u",
    },
)
MIXED = replace(
    STAGE, mixture=Mixture(sources=(EN, Source(task="tags", language="en")), shares=(0.25, 0.75)), batch_size=16
)
SECOND = Target(task="nli", stage=replace(STAGE, name="again", steps=5), after="nli")
TAGS = Target(
    task="tags",
    stage=Stage(
        name="tags",
        mixture=Mixture(sources=(Source(task="tags", language="en"),), shares=(1.0,)),
        learning_rate=1e-4,
        steps=7,
    ),
    after="nli",
)

GOLDEN: dict[str, tuple[Chain, int]] = {
    "a stage, a target, retrieval": (CHAIN, 1),
    "another seed": (CHAIN, 2),
    "no stage": (replace(CHAIN, stages=()), 1),
    "two stages": (replace(CHAIN, stages=(STAGE, replace(STAGE, name="second", steps=20))), 1),
    "a mixture in batches of 16": (replace(CHAIN, stages=(MIXED,)), 1),
    "training fields": (replace(CHAIN, stages=(replace(STAGE, training={"weight_decay": 0.1}),)), 1),
    "mean pooling": (replace(CHAIN, encoder=Encoder(name="e", pooling="mean")), 1),
    "frozen embeddings": (replace(CHAIN, encoder=Encoder(name="e", freeze_embeddings=True)), 1),
    "a layer": (replace(CHAIN, targets=(replace(RETRIEVAL, layer=8),)), 1),
    "a target after another": (replace(CHAIN, targets=(TARGET, SECOND)), 1),
    "a target after one of another task": (replace(CHAIN, targets=(TARGET, TAGS)), 1),
    "nothing to train": (replace(CHAIN, stages=(), targets=(RETRIEVAL,)), 1),
}
"""A dozen chains, with their seeds."""


def jobs(chain: Chain = CHAIN, seed: int = 1, contents: Contents = CONTENTS) -> tuple[Job, ...]:
    return jobs_of(chain, seed=seed, contents=contents)


def keys(chain: Chain = CHAIN, seed: int = 1, contents: Contents = CONTENTS) -> dict[str, str]:
    return {f"{job.kind} {job.name}": job.key for job in jobs(chain, seed, contents)}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_release_keeps_the_keys_of_what_was_stored_or_raises_their_version(name: str) -> None:
    chain, seed = GOLDEN[name]
    assert [job.key[:10] for job in jobs(chain, seed)] == KEYS[name]


def test_a_chain_survives_being_written_as_json() -> None:
    assert Chain.from_dict(CHAIN.as_dict()) == CHAIN


def test_a_trials_fingerprint_is_that_of_version_0_1() -> None:
    trial = Trial(number=1, phase="search", seed=1, point={}, chain=CHAIN)
    assert trial.fingerprint == "80979ade3f89170bca2d9ee1f9a7d627"


def test_parents_come_before_their_children() -> None:
    for chain, seed in GOLDEN.values():
        seen: set[str] = set()
        for job in jobs(chain, seed):
            assert set(job.parents) <= seen
            seen.add(job.key)


def test_each_model_is_evaluated_once_in_all_languages_validation_first() -> None:
    stage, training, evaluation, retrieval = jobs()
    assert [stage.kind, training.kind, evaluation.kind, retrieval.kind] == ["train", "train", "evaluate", "evaluate"]
    assert training.parents == (stage.key,)
    assert evaluation.parents == (training.key,)
    assert retrieval.parents == (stage.key,)
    assert evaluation.rows == (("nli", "de", "validation"), ("nli", "en", "test"))


def test_a_target_that_another_goes_on_from_is_evaluated_again_by_the_last_model() -> None:
    *_, first, second_training, second, again = jobs(replace(CHAIN, targets=(TARGET, SECOND)))
    assert (first.name, second.name, again.name, again.by) == ("nli", "again", "nli", "again")
    assert second_training.head == "nli"
    assert again.parents == (second_training.key,)
    assert again.rows == first.rows


def test_what_a_job_costs_is_counted_in_rows() -> None:
    counted = replace(CONTENTS, counts={("nli", "en", "test"): 100, ("nli", "de", "validation"): 20})
    stage, _, evaluation, retrieval = jobs(contents=counted)
    assert (stage.row_count, evaluation.row_count, retrieval.row_count) == (10 * 32, 120, 0)
    assert [job.key for job in jobs(contents=counted)] == [job.key for job in jobs()]


def test_names_of_stages_and_paths_of_encoders_are_not_in_a_key() -> None:
    renamed = replace(CHAIN, stages=(replace(STAGE, name="other"),), encoder=Encoder(name="elsewhere"))
    assert [job.key for job in jobs(renamed)] == [job.key for job in jobs()]


@pytest.mark.parametrize(
    "changed",
    [
        lambda: keys(replace(CHAIN, stages=(replace(STAGE, learning_rate=2e-5),))),
        lambda: keys(replace(CHAIN, stages=(replace(STAGE, batch_size=16),))),
        lambda: keys(replace(CHAIN, stages=(replace(STAGE, training={"weight_decay": 0.1}),))),
        lambda: keys(seed=2),
        lambda: keys(contents=replace(CONTENTS, encoder="other weights")),
        lambda: keys(contents=replace(CONTENTS, precision="bf16")),
        lambda: keys(contents=replace(CONTENTS, rows={**CONTENTS.rows, ("nli", "en", "train"): "edited"})),
        lambda: keys(replace(CHAIN, encoder=replace(CHAIN.encoder, freeze_embeddings=True))),
    ],
)
def test_what_a_stage_depends_on_changes_its_key_and_all_that_follow(changed: Callable[[], dict[str, str]]) -> None:
    now = {name: key for name, key in changed().items() if name != "train first"}
    before = {name: key for name, key in keys().items() if name != "train first"}
    assert now.keys() == before.keys()
    assert all(now[name] != before[name] for name in now)


def test_trials_that_differ_in_one_target_share_the_rest() -> None:
    other = keys(replace(CHAIN, targets=(replace(TARGET, stage=replace(STAGE, name="nli", steps=99)), RETRIEVAL)))
    same = {name for name, key in keys().items() if other[name] == key}
    assert same == {"train first", "evaluate find"}


def test_other_test_rows_change_their_evaluation_alone() -> None:
    edited = keys(contents=replace(CONTENTS, rows={**CONTENTS.rows, ("nli", "en", "test"): "edited"}))
    assert {name for name, key in keys().items() if edited[name] != key} == {"evaluate nli"}


def test_a_target_that_goes_on_with_a_head_is_not_a_stage_with_a_new_one() -> None:
    follows = jobs(replace(CHAIN, stages=(), targets=(TARGET, SECOND)))[2]
    as_stage = jobs(replace(CHAIN, stages=(TARGET.stage,), targets=(replace(SECOND, after=None),)))[1]  # type: ignore[arg-type]
    assert follows.parents == as_stage.parents
    assert follows.key != as_stage.key


def _has(*there: str) -> Callable[[str], bool]:
    return lambda key: key in there


def test_only_what_an_evaluation_lacks_is_needed() -> None:
    stage, training, evaluation, retrieval = jobs()
    assert needed(jobs(), _has()) == [stage, training, evaluation, retrieval]
    assert needed(jobs(), _has(evaluation.key, retrieval.key)) == []
    assert needed(jobs(), _has(evaluation.key)) == [stage, retrieval]
    assert needed(jobs(), _has(training.key, retrieval.key)) == [evaluation]
    assert needed(jobs(), _has(stage.key)) == [training, evaluation, retrieval]


def test_a_job_that_two_targets_share_is_needed_once() -> None:
    twice = replace(CHAIN, targets=(TARGET, replace(TARGET, stage=replace(TARGET.stage, name="twin"))))  # type: ignore[type-var]
    assert [job.kind for job in needed(jobs(twice), _has())] == ["train", "train", "evaluate"]


def test_the_ancestors_of_a_job_are_its_line_of_models() -> None:
    stage, training, evaluation, retrieval = jobs()
    assert ancestors(evaluation, jobs()) == (stage, training)
    assert ancestors(retrieval, jobs()) == (stage,)
    assert ancestors(stage, jobs()) == ()


def test_rows_by_name_tell_the_same_jobs_apart() -> None:
    named = Contents(encoder="e", precision="fp32")
    first, second = jobs(contents=named), jobs(replace(CHAIN, stages=(MIXED,)), contents=named)
    assert first[0].key != second[0].key
    assert first[0].key == jobs(contents=named)[0].key


def test_the_dashboard_names_a_job_by_what_it_does() -> None:
    line: list[Any] = [str(job) for job in jobs(replace(CHAIN, targets=(TARGET, SECOND)))]
    assert line == [
        "train first: 100% nli/en, lr 1e-5",
        "train nli: 100% nli/en, lr 3e-5",
        "evaluate nli",
        "train again: 100% nli/en, lr 1e-5",
        "evaluate again",
        "evaluate nli after again",
    ]


KEYS: dict[str, list[str]] = {
    "a stage, a target, retrieval": ["4a2064e380", "b2ae1c27f2", "89f9e3ca75", "94b291468b"],
    "another seed": ["b8ac93e688", "ca91102e3a", "1bb20e2505", "7aa3f4b5c5"],
    "no stage": ["78ca877b0a", "409b182191", "c6bab25ae4"],
    "two stages": ["4a2064e380", "6a081dcf27", "ced82a02b9", "a863705da5", "09f8d039aa"],
    "a mixture in batches of 16": ["eb2ec315d6", "a8d1b913ff", "ed3d6db27f", "c964710570"],
    "training fields": ["960e307c76", "6a8174f128", "14ea317a33", "da9130647a"],
    "mean pooling": ["e5615c6180", "4ea451b6f7", "f5753665b9", "711aceb2b7"],
    "frozen embeddings": ["044686d229", "94252c3019", "86274a2b14", "291c299e77"],
    "a layer": ["4a2064e380", "0f82509610"],
    "a target after another": [
        "4a2064e380",
        "b2ae1c27f2",
        "89f9e3ca75",
        "a8d1d7fadc",
        "1171796a27",
        "1171796a27",
    ],
    "a target after one of another task": [
        "4a2064e380",
        "b2ae1c27f2",
        "89f9e3ca75",
        "96882cc9e1",
        "547177779d",
        "1e9f3ca86f",
    ],
    "nothing to train": ["c6bab25ae4"],
}
