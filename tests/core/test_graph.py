from dataclasses import replace

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target
from tunexfer.core.graph import Contents, chain_fingerprints
from tunexfer.core.trial import Trial

EN = Source(task="nli", language="en")
STAGE = Stage(name="first", mixture=Mixture(sources=(EN,), shares=(1.0,)), learning_rate=1e-5, steps=10)
TARGET = Target(task="nli", stage=replace(STAGE, name="nli", learning_rate=3e-5))
CHAIN = Chain(suite="s", encoder=Encoder(name="e"), stages=(STAGE,), targets=(TARGET, Target(task="find")))
CONTENTS = Contents(
    encoder="weights",
    precision="fp32",
    rows={("nli", "en", "train"): "a", ("nli", "en", "test"): "b", ("find", "sw", "test"): "c"},
)


def prints(chain: Chain = CHAIN, seed: int = 1, contents: Contents = CONTENTS):  # type: ignore[no-untyped-def]
    return chain_fingerprints(chain, seed=seed, contents=contents)


def test_a_chain_survives_being_written_as_json() -> None:
    assert Chain.from_dict(CHAIN.as_dict()) == CHAIN


def test_what_was_stored_and_recorded_before_is_found_again() -> None:
    # As they were before targets could follow each other: a store and a record of then are still good
    assert prints().stages == ("0d2e04c92c5958948bc155b545e990de",)
    assert prints().targets == ("4dba629e71cec08e72cd239b1d29ec1f", None)
    assert prints().evaluations["nli", "en", "test"] == "9f120a7f59098825155cef1f914be7a6"
    assert prints().evaluations["find", "sw", "test"] == "bc10abe9c017e29a144ea22a321eaf48"
    trial = Trial(number=1, phase="search", seed=1, point={}, chain=CHAIN)
    assert trial.fingerprint == "80979ade3f89170bca2d9ee1f9a7d627"


def test_names_of_stages_and_paths_of_encoders_change_nothing() -> None:
    renamed = replace(CHAIN, stages=(replace(STAGE, name="other"),), encoder=Encoder(name="elsewhere"))
    assert prints(renamed).stages == prints().stages
    assert prints(renamed).targets == prints().targets


def test_what_a_result_depends_on_changes_the_stage_and_all_that_follows() -> None:
    changed = [
        prints(replace(CHAIN, stages=(replace(STAGE, learning_rate=2e-5),))),
        prints(replace(CHAIN, stages=(replace(STAGE, training={"weight_decay": 0.1}),))),
        prints(seed=2),
        prints(contents=replace(CONTENTS, encoder="other weights")),
        prints(contents=replace(CONTENTS, precision="bf16")),
        prints(contents=replace(CONTENTS, rows={**CONTENTS.rows, ("nli", "en", "train"): "edited"})),
        prints(replace(CHAIN, encoder=replace(CHAIN.encoder, freeze_embeddings=True))),
    ]
    for other in changed:
        assert other.stages[0] != prints().stages[0]
        assert other.targets[0] != prints().targets[0]
        assert other.evaluations["find", "sw", "test"] != prints().evaluations["find", "sw", "test"]


def test_trials_that_differ_in_one_target_share_the_rest() -> None:
    other = prints(
        replace(CHAIN, targets=(replace(TARGET, stage=replace(STAGE, name="nli", steps=99)), Target(task="find")))
    )
    assert other.stages == prints().stages
    assert other.evaluations["find", "sw", "test"] == prints().evaluations["find", "sw", "test"]
    assert other.evaluations["nli", "en", "test"] != prints().evaluations["nli", "en", "test"]


def test_only_evaluated_splits_have_an_evaluation() -> None:
    assert set(prints().evaluations) == {("nli", "en", "test"), ("find", "sw", "test")}


def test_a_language_is_unseen_only_where_nothing_trained_the_task_in_it() -> None:
    assert not CHAIN.unseen("nli", "en")
    assert CHAIN.unseen("nli", "sw")
    assert CHAIN.unseen("find", "en")


# One target after another

SW = Source(task="nli", language="sw")
FIRST = Target(task="nli", stage=replace(STAGE, name="first"))
SECOND_STAGE = Stage(name="second", mixture=Mixture(sources=(SW,), shares=(1.0,)), learning_rate=1e-5, steps=10)
SECOND = Target(task="nli", stage=SECOND_STAGE, after="first")
FOLLOWING = replace(CHAIN, stages=(), targets=(FIRST, SECOND))
BOTH = replace(CONTENTS, rows={**CONTENTS.rows, ("nli", "sw", "train"): "d", ("nli", "sw", "test"): "e"})


def test_what_another_target_trained_changes_the_one_after_it() -> None:
    [_, second] = prints(FOLLOWING, contents=BOTH).targets
    longer = replace(FOLLOWING, targets=(replace(FIRST, stage=replace(STAGE, steps=99)), SECOND))
    assert prints(longer, contents=BOTH).targets[1] != second
    alone = replace(FOLLOWING, targets=(FIRST, replace(SECOND, after=None)))
    assert prints(alone, contents=BOTH).targets[1] != second


def test_a_target_after_another_is_not_the_same_as_one_after_a_stage_that_trains_alike() -> None:
    as_stage = replace(FOLLOWING, stages=(STAGE,), targets=(replace(SECOND, after=None),))
    assert prints(as_stage, contents=BOTH).stages[0] == prints(FOLLOWING, contents=BOTH).targets[0]
    assert prints(as_stage, contents=BOTH).targets[0] != prints(FOLLOWING, contents=BOTH).targets[1]  # a new head


def test_the_first_targets_rows_are_scored_a_second_time_by_the_model_that_follows() -> None:
    found = prints(FOLLOWING, contents=BOTH)
    assert set(found.evaluations) == {(name, one, "test") for name in ("first", "second") for one in ("en", "sw")}
    assert set(found.second_evaluations) == {("first", "en", "test"), ("first", "sw", "test")}
    # both targets are of one task, so the second one's own evaluation is the same
    assert found.second_evaluations["first", "en", "test"] == found.evaluations["second", "en", "test"]
    assert prints().second_evaluations == {}


def test_a_language_is_seen_by_those_after_the_target_that_trained_it_and_not_by_those_before() -> None:
    assert FOLLOWING.unseen("first", "sw")
    assert not FOLLOWING.unseen("second", "sw")
    assert not FOLLOWING.unseen("second", "en")
    assert FOLLOWING.unseen("second", "ru")


def test_a_head_that_goes_on_to_another_task_has_seen_what_it_was_trained_in() -> None:
    other = replace(SECOND_STAGE, mixture=Mixture(sources=(Source(task="nli2", language="sw"),), shares=(1.0,)))
    chain = replace(FOLLOWING, targets=(FIRST, Target(task="nli2", stage=other, after="first")))
    assert not chain.unseen("second", "en")
    assert chain.unseen("first", "sw")


def test_what_is_forgotten_is_measured_at_the_end_of_a_line() -> None:
    third = replace(SECOND, stage=replace(SECOND_STAGE, name="third"), after="second")
    chain = replace(FOLLOWING, targets=(FIRST, SECOND, third))
    assert [target.name for target in chain.line("third")] == ["first", "second", "third"]
    assert {name: last.name for name, last in chain.followed.items()} == {"first": "third", "second": "third"}


def test_a_chain_says_after_only_where_it_is_so() -> None:
    assert [target.get("after") for target in FOLLOWING.as_dict()["targets"]] == [None, "first"]
    assert "after" not in FOLLOWING.as_dict()["targets"][0]
    assert Chain.from_dict(FOLLOWING.as_dict()) == FOLLOWING
