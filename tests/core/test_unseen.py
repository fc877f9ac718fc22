"""Which languages a chain's scores may be called zero-shot in."""

from __future__ import annotations

from tunexfer.core.chain import Chain, Encoder, Mixture, Source, Stage, Target

SAME = {"mnli": "xnli", "native_nli": "xnli"}
"""As a suite's `same_as:` has it."""


def stage(*sources: str, name: str = "stage") -> Stage:
    pairs = tuple(Source(task=task, language=language) for task, language in (one.split("/") for one in sources))
    mixture = Mixture(sources=pairs, shares=tuple(1 / len(pairs) for _ in pairs))
    return Stage(name=name, mixture=mixture, learning_rate=1e-5, steps=1)


def chain(*stages: Stage) -> Chain:
    """Before English xnli and pawsx."""
    targets = tuple(Target(task=task, stage=stage(f"{task}/en", name=task)) for task in ("xnli", "pawsx"))
    return Chain(suite="toy", encoder=Encoder(name="e"), stages=stages, targets=targets)


def test_a_stage_on_the_same_task_under_another_name_makes_its_languages_seen() -> None:
    found = chain(stage("native_nli/zh"))
    assert found.unseen("xnli", "zh")  # by the names alone
    assert not found.unseen("xnli", "zh", SAME)
    assert found.unseen("xnli", "de", SAME)
    assert found.unseen("pawsx", "zh", SAME)


def test_it_does_so_the_other_way_round_and_between_two_that_are_the_same_as_a_third() -> None:
    of_native = Target(task="native_nli", stage=stage("native_nli/en", name="native"))
    for trained in ("xnli/zh", "mnli/zh"):
        found = Chain(suite="toy", encoder=Encoder(name="e"), stages=(stage(trained),), targets=(of_native,))
        assert not found.unseen("native", "zh", SAME)
        assert found.unseen("native", "de", SAME)


def test_text_in_a_language_does_not_make_a_task_seen_in_it() -> None:
    assert chain(stage("xnli/en", "wikipedia/zh")).unseen("xnli", "zh", SAME)
