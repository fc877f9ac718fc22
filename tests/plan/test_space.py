"""The grammar of the space file: what can be drawn from it, and how mistakes are reported."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import yaml

from tunexfer.core.chain import Chain, Source
from tunexfer.errors import SpaceError
from tunexfer.plan.draws import at_random
from tunexfer.plan.space import SearchSpace, parse_tree
from tunexfer.tasks.suite import Suite

SUITE = Suite.model_validate(
    {
        "name": "toy",
        "tasks": {
            name: {"kind": kind, "files": f"{name}/{{language}}.{{split}}.jsonl", "columns": {}, "labels": labels}
            for name, kind, labels in [
                ("nli", "classification", ["yes", "no"]),
                ("same", "classification", []),
                ("tags", "tagging", []),
                ("find", "retrieval", []),
            ]
        },
    }
)
ROWS = {("nli", "en"): 300, ("nli", "de"): 100, ("same", "de"): 100, ("tags", "en"): 50}
TARGETS = """
targets:
  - {task: tags, train_language: en, learning_rate: {choice: [2.0e-4, 4.0e-4]}, steps: 8}
  - {task: find}
"""


def space(text: str, baseline: dict[str, Any] | None = None) -> SearchSpace:
    raw = yaml.safe_load(text if "targets" in text else text + TARGETS)
    raw.setdefault("encoder", "some/encoder")
    tree = parse_tree(raw, "toy.yaml")
    return SearchSpace(tree, SUITE, lambda s: ROWS.get((s.task, s.language), 0), baseline or {}, "toy.yaml")


def stage(**values: str) -> str:
    lines = {"tasks": "[nli]", "languages": "[en]", "learning_rate": "1.0e-4", "steps": "6"} | values
    return "stages:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in lines.items())


FIRST = "task: tags, name: first"


def targets(*blocks: str) -> str:
    """Targets that are trained in English for a step."""
    rest = "train_language: en, learning_rate: 0.1, steps: 1"
    return "targets:\n" + "\n".join(f"  - {{{block}, {rest}}}" for block in blocks)


def problems(text: str) -> list[str]:
    try:
        built = space(text)
    except SpaceError as error:
        return error.problems
    return [line for _, found in built.variants if isinstance(found, SpaceError) for line in found.problems]


def test_a_language_that_yaml_reads_as_false_is_one_problem() -> None:
    with pytest.raises(SpaceError) as stages:
        space(stage(languages="[no]") + "\ntargets: [{task: find}]").check()
    with pytest.raises(SpaceError) as in_targets:
        space("targets: [{task: find, languages: [en, no]}]").check()
    places = ["stages[0].languages[0]", "targets[0].languages[1]"]
    assert [[line.split(": ")[0] for line in error.value.problems] for error in (stages, in_targets)] == [
        [f"toy.yaml, {place}"] for place in places
    ]


def test_a_space_without_domains_is_one_chain() -> None:
    built = space(stage() + "\ntargets: [{task: find}]")
    (point,) = built.grid()
    assert point == {}
    chain = built.chain(point)
    assert chain.stages[0].mixture.sources == (Source(task="nli", language="en"),)
    assert chain.targets[0].stage is None


def test_a_grid_of_choices_has_their_product() -> None:
    built = space(stage(tasks="{choice: [nli, same]}", languages="[de]", learning_rate="{choice: [1.0e-4, 3.0e-4]}"))
    assert len(list(built.grid())) == 2 * 2 * 2


def test_what_hangs_on_an_option_not_drawn_does_not_exist() -> None:
    built = space(stage(mixing="{choice: [proportional, {temperature: {T: {choice: [2.0, 5.0]}}}]}"))
    points = list(built.grid())
    inner = "stages[0].mixing.choice[1].temperature.T"
    assert len(points) == (1 + 2) * 2
    assert sum(inner in point for point in points) == 4


def test_an_empty_subset_means_no_stage_and_none_of_its_coordinates() -> None:
    built = space(stage(tasks="{subset: {of: [nli, same], size: [0, 1]}}", languages="{choice: [[de]]}"))
    empty = [point for point in built.grid() if point["stages[0].tasks"] == "none"]
    assert all("stages[0].languages" not in point for point in empty)
    assert all(built.chain(point).stages == () for point in empty)


def test_every_point_is_the_inverse_of_its_chain() -> None:
    built = space(stage(steps="{int_uniform: [2, 9]}", learning_rate="{log_uniform: [1.0e-5, 1.0e-3]}"))
    ask = at_random(0)
    for _ in range(20):
        point, chain = built.sample(ask)
        assert built.chain(point) == chain


def test_a_seed_draws_what_pythons_generator_draws_in_the_order_of_the_file() -> None:
    built = space(
        stage(
            languages="{choice: [[en], [de], [en, de]]}",
            learning_rate="{log_uniform: [1.0e-5, 1.0e-3]}",
            steps="{int_uniform: [2, 9]}",
            mixing="{temperature: {T: {uniform: [1.0, 5.0]}}}",
        )
    )
    rng = random.Random(11)
    assert list(built.sample(at_random(11))[0].items()) == [
        ("stages[0].languages", ["en", "de", "en+de"][rng.randrange(3)]),
        ("stages[0].learning_rate", math.exp(rng.uniform(math.log(1e-5), math.log(1e-3)))),
        ("stages[0].steps", rng.randint(2, 9)),
        ("stages[0].mixing.temperature.T", rng.uniform(1.0, 5.0)),
        ("targets[0].learning_rate", ["0.0002", "0.0004"][rng.randrange(2)]),
    ]


def test_coordinates_are_listed_in_the_order_of_the_file() -> None:
    tasks = "{subset: {of: [nli, same], size: [0, 2]}}"  # the first point has no stage
    built = space(stage(tasks=tasks, languages="[de]", mixing="{shares: {}}", steps="{choice: [5, 6]}"))
    assert list(built.coordinates) == [
        "stages[0].tasks",
        "stages[0].steps",
        "stages[0].mixing.shares[nli/de]",
        "stages[0].mixing.shares[same/de]",
        "targets[0].learning_rate",
    ]


def test_subsets_are_drawn_evenly() -> None:
    built = space(stage(tasks="{subset: {of: [nli, same], size: [0, 2]}}", languages="[de]"))
    ask = at_random(7)
    drawn = [built.sample(ask)[0]["stages[0].tasks"] for _ in range(2000)]
    for subset in ("none", "nli", "same", "nli+same"):  # 500 each, standard deviation 19
        assert abs(drawn.count(subset) - 500) < 80


def test_shares_with_a_step_lie_on_the_grid_of_the_simplex() -> None:
    built = space(stage(tasks="[nli, same]", languages="[de]", mixing="{shares: {step: 0.5}}"))
    shares = {built.chain(point).stages[0].mixture.shares for point in built.grid()}
    assert shares == {(1.0,), (0.5, 0.5)}
    mixtures = {str(built.chain(point).stages[0].mixture) for point in built.grid()}
    assert mixtures == {"100% nli/de", "100% same/de", "50% nli/de + 50% same/de"}


def test_shares_without_a_step_cover_the_whole_simplex_evenly() -> None:
    built = space(stage(tasks="[nli, same]", languages="[de]", mixing="{shares: {}}"))
    ask = at_random(3)
    first = [built.sample(ask)[1].stages[0].mixture.shares[0] for _ in range(2000)]
    assert sum(first) / 2000 == pytest.approx(0.5, abs=0.03)  # uniform on [0, 1]
    assert sum(share < 0.25 for share in first) / 2000 == pytest.approx(0.25, abs=0.04)


def test_shares_by_task_split_a_task_over_its_languages_by_rows() -> None:
    built = space(stage(tasks="[nli, same]", languages="[en, de]", mixing="{shares: {step: 0.5, by: task}}"))
    mixtures = {str(built.chain(point).stages[0].mixture) for point in built.grid()}
    assert "38% nli/en + 12% nli/de + 50% same/de" in mixtures


def test_pairs_without_rows_are_left_out_of_the_mixture() -> None:
    chain = space(stage(tasks="[nli, same]", languages="[en, de]")).sample(at_random(0))[1]
    assert str(chain.stages[0].mixture) == "60% nli/en + 20% nli/de + 20% same/de"


def test_the_baseline_has_no_stage_first_options_and_middles() -> None:
    text = (
        stage()
        + """
targets:
  - {task: tags, train_language: en, learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}, steps: {choice: [8, 4]}}
"""
    )
    point, chain = space(text).baseline()
    assert chain.stages == ()
    assert chain.targets[0].stage is not None
    assert chain.targets[0].stage.learning_rate == pytest.approx(math.sqrt(1e-5 * 1e-3))
    assert point["targets[0].steps"] == "8"


def test_the_baseline_can_be_given() -> None:
    point, _ = space(stage(), {"targets[0].learning_rate": 4.0e-4}).baseline()
    assert point["targets[0].learning_rate"] == "0.0004"
    for given, problem in [
        ({"targets[0].rate": 1.0}, r"toy.yaml, baseline: 'targets\[0\].rate' is no coordinate. Did you mean"),
        ({"targets[0].learning_rate": 0.1}, r"toy.yaml, baseline, targets\[0\].learning_rate: '0.1' is not one of"),
    ]:
        with pytest.raises(SpaceError, match=problem):
            space(stage(), given).baseline()
    text = "targets: [{task: tags, train_language: en, learning_rate: {uniform: [0.1, 0.2]}, steps: 1}]"
    with pytest.raises(SpaceError, match=r"expected a number, got '1e-1'. YAML needs the point: 1.0e-1"):
        space(text, {"targets[0].learning_rate": "1e-1"}).baseline()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (stage(tasks="[nil]"), "toy.yaml, stages[0].tasks[0]: there is no task 'nil'. Did you mean 'nli'?"),
        (stage(learning_rate="5e-6"), "stages[0].learning_rate: expected a number, got the text '5e-6'"),
        (stage(learning_rate="5e-6"), "YAML needs the point: 5.0e-6"),
        (stage(languages="[no]"), "stages[0].languages[0]: expected text, got false. YAML reads `no`, `off` and"),
        (stage(learning_rate="{choice: [1.0e-4, 7]}"), "stages[0].learning_rate: input should be less than 1, got '7'"),
        (stage(learning_rat="1.0e-4"), "stages[0].learning_rat: there is no such key. Did you mean 'learning_rate'?"),
        (stage(learning_rate="{log_uniform: [0, 1]}"), "`log_uniform` needs a low above 0"),
        (stage(learning_rate="{uniform: [0.3, 0.1]}"), "low below high"),
        (stage(steps="{int_uniform: [1.5, 3]}"), "two whole numbers"),
        (stage(tasks="{subset: {of: [nli], size: [0, 2]}}"), "within 0 and 1"),
        (stage(tasks="{choice: []}"), "at least one option"),
        (stage(mixing="{shares: {step: 0.3}}"), "must divide 1 evenly"),
        (stage(mixing="{fixed: {same: 1.0}}"), "no share for 'nli'"),
        (stage(mixing="{proportional: {cap: 9}, fixed: {nli: 1.0}}"), "mixing: takes one of temperature, proportional"),
        (stage(tasks="[same]"), "same has no training rows in en, so this point has nothing to train on"),
        (stage(tasks="[find]"), "find is retrieval, which has nothing to train on"),
        (stage() + "\ntraining: {seed: 3}", "training.seed: tunexfer sets this itself"),
        (stage() + "\ntraining: {weight_decai: 0.1}", "no such field. Did you mean 'weight_decay'?"),
        ("targets: [{task: find, steps: 5}]", "targets[0].steps: retrieval has nothing to train"),
        ("targets: [{task: tags}]", "tags is fine-tuned, so it needs train_language, learning_rate, steps"),
        ("targets: [{task: tags, train_language: sw, learning_rate: 0.1, steps: 1}]", "no training rows in 'sw'"),
        ("targets: [{task: find}, {task: find}]", "more than once"),
        ("targets: [{task: find, name: other}]", "targets[0].name: retrieval has nothing to train"),
        (targets("task: tags, name: nli"), "targets[0].name: 'nli' is another task of the suite"),
        (targets("task: tags, name: a/b"), "targets[0].name: string should match"),
        (stage(name="a//b"), "stages[0].name: 'a//b' can't be a name"),
        (targets("task: tags", "task: tags"), "targets[1]: 'tags' is there more than once"),
        (targets(FIRST, "task: tags, after: fist"), "targets[1].after: there is no target 'fist' before this one."),
        (targets(FIRST, "task: tags, after: fist"), "Did you mean 'first'?"),
        (targets(FIRST, "task: tags, after: tags"), "targets[1].after: a target can't continue from itself"),
        (targets("task: tags, after: first", FIRST), "targets[0].after: 'first' comes later"),
        (targets("task: find", "task: tags, after: find"), "find is retrieval, which trains no model to continue from"),
        (targets("task: nli", "task: tags, after: nli"), "nli is classification and tags tagging, so its head doesn't"),
        (targets("task: nli", "task: same, after: nli"), "nli and same differ in their labels or the order of these"),
        (targets(FIRST, "task: tags, after: first", "task: tags, name: third, after: first"), "only one target can"),
    ],
)
def test_each_mistake_is_named_with_its_place_and_the_next_move(text: str, said: str) -> None:
    assert any(said in line for line in problems(text)), problems(text)


def test_a_task_can_be_a_target_twice_and_the_second_continue_from_the_first() -> None:
    text = targets(FIRST, "task: tags, after: first")
    first, second = space(text).sample(at_random(0))[1].targets
    assert (first.name, first.task, first.after) == ("first", "tags", None)
    assert (second.name, second.task, second.after) == ("tags", "tags", "first")


def test_whether_a_target_continues_from_another_can_be_searched() -> None:
    text = targets(FIRST, "task: tags, after: {choice: [null, first]}")
    assert {chain.targets[1].after for _, chain in map(space(text).sample, map(at_random, range(9)))} == {None, "first"}
    assert space(text).baseline()[1].targets[1].after is None


def test_a_mistake_in_the_last_option_of_the_last_choice_is_found() -> None:
    text = stage(tasks="{choice: [nli, same, nli_]}", languages="[de]", steps="{choice: [5, 6, 0]}")
    assert len(problems(text)) == 2
    assert any("'nli_'" in line for line in problems(text))
    assert any("stages[0].steps" in line for line in problems(text))


def test_a_grid_over_a_continuous_coordinate_is_refused() -> None:
    built = space(stage(learning_rate="{uniform: [0.1, 0.2]}"))
    with pytest.raises(SpaceError, match=r"stages\[0\].learning_rate is continuous"):
        list(built.grid())


def test_a_point_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match="not of this space"):
        space(stage()).chain({"targets[0].learning_rate": "0.5"})


# What the suite recommends


def recommended(**recipes: dict[str, Any]) -> Suite:
    """The toy suite with recipes for some of its tasks."""
    blocks = SUITE.model_dump()
    for task, recipe in recipes.items():
        blocks["tasks"][task]["recipe"] = recipe
    return Suite.model_validate(blocks)


def chain_in(suite: Suite, text: str) -> Chain:
    """The one chain of a space without domains."""
    tree = parse_tree({"encoder": "some/encoder"} | yaml.safe_load(text), "toy.yaml")
    sizes = lambda source: ROWS.get((source.task, source.language), 0)  # noqa: E731
    return SearchSpace(tree, suite, sizes, {}, "toy.yaml").sample(at_random(0))[1]


NLI = {"learning_rate": 1e-5, "epochs": 2, "batch_size": 32}
TAGS = {"learning_rate": 2e-5, "epochs": 10, "batch_size": 16}


def test_a_target_takes_what_the_space_leaves_out_from_its_task() -> None:
    chain = chain_in(recommended(tags=TAGS), "targets: [{task: tags, train_language: en}]")
    stage = chain.targets[0].stage
    assert stage is not None
    assert (stage.learning_rate, stage.batch_size, stage.steps) == (2e-5, 16, 10 * 4)  # 50 rows are 4 batches of 16


def test_what_the_space_says_goes_before_the_suites_recipe() -> None:
    text = "targets: [{task: tags, train_language: en, batch_size: 25, learning_rate: 0.1}]"
    stage = chain_in(recommended(tags=TAGS), text).targets[0].stage
    assert stage is not None
    assert (stage.learning_rate, stage.batch_size, stage.steps) == (0.1, 25, 10 * 2)
    stage = chain_in(recommended(tags=TAGS), text.replace("batch_size: 25", "steps: 7")).targets[0].stage
    assert stage is not None
    assert (stage.batch_size, stage.steps) == (16, 7)


def test_a_stage_of_several_tasks_trains_for_the_sum_of_their_steps() -> None:
    text = "stages: [{tasks: [nli, same], languages: [en, de]}]\ntargets: [{task: find}]"
    [stage] = chain_in(recommended(nli=NLI, same=NLI), text).stages
    assert stage.steps == 2 * 13 + 2 * 4  # 400 rows of nli in both languages and 100 of same, in batches of 32
    assert stage.learning_rate == 1e-5


@pytest.mark.parametrize(
    "mixing", ["{proportional: {cap: 90}}", "{temperature: {T: 2.0, cap: 90}}", "{shares: {step: 0.5, cap: 90}}"]
)
def test_rows_above_a_cap_do_not_make_a_stage_longer(mixing: str) -> None:
    text = f"stages: [{{tasks: [nli, same], languages: [en, de], mixing: {mixing}}}]\ntargets: [{{task: find}}]"
    tree = parse_tree({"encoder": "some/encoder"} | yaml.safe_load(text), "toy.yaml")
    built = SearchSpace(tree, recommended(nli=NLI, same=NLI), lambda s: ROWS.get((s.task, s.language), 0), {}, "toy")
    found = {
        chain.stages[0].mixture.tasks: chain.stages[0].steps
        for _, chain in built.variants
        if not isinstance(chain, SpaceError)
    }
    assert found[("nli", "same")] == 2 * 6 + 2 * 3  # 180 rows of nli in two languages and 90 of same, in batches of 32


def test_a_cap_is_a_number_of_rows() -> None:
    assert any("`cap` is a number of rows, got 'all'" in one for one in problems(stage(mixing="{shares: {cap: all}}")))


def test_a_stage_whose_tasks_recommend_different_rates_has_to_say_one() -> None:
    text = "stages: [{tasks: [nli, same], languages: [en, de]}]\ntargets: [{task: find}]"
    with pytest.raises(SpaceError, match=r"stages\[0\]: nli \+ same is fine-tuned, so it needs learning_rate$"):
        chain_in(recommended(nli=NLI, same=TAGS), text)
    with pytest.raises(SpaceError, match="needs learning_rate, steps"):
        chain_in(recommended(nli=NLI), text)
