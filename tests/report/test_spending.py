"""What a search cost, the tree of its jobs, and how the best score grew."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from made_up_study import MadeUp
from report.frames import chain, stage

from tunexfer import Study
from tunexfer.core.chain import Chain
from tunexfer.core.trial import JobRun, Phase, Trial, TrialResult
from tunexfer.report.figures import svg
from tunexfer.report.section import Section
from tunexfer.report.spending import (
    BY_JOB,
    COST,
    CURVE,
    JOBS,
    MOST_JOBS,
    costs,
    draw_jobs,
    job_runs,
    jobs,
    section,
    spent,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Thirty trials, of which one failed, and two chains with a fresh seed; training takes 0.05 s a step."""
    runs = tmp_path_factory.mktemp("runs")
    return Study.load(MadeUp(trials=30, seeds=1, states=((5, "failed"), (9, "unfinished"))).write(runs))


@pytest.fixture(scope="module")
def made(study: Study) -> Section:
    made = section([study])
    assert made
    return made


def result(number: int, of: Chain, *runs: JobRun, phase: Phase = "search", **more: float) -> TrialResult:
    trial = Trial(number=number, phase=phase, seed=7, point={}, chain=of)
    times = {"started": 0.0, "seconds": 1.0} | more
    return TrialResult(trial=trial, state="complete", jobs=runs, **times)  # type: ignore[arg-type]


def ran(name: str, key: str, *, reused: bool = False, steps: int = 100, kind: str = "train") -> JobRun:
    seconds = 0.0 if reused else steps / 10
    return JobRun(key=key, kind=kind, name=name, reused=reused, steps=steps, seconds=seconds)  # type: ignore[arg-type]


NLI = chain(stage("first", nli_en=1.0), stage("second", qa_en=1.0))
SHARED = [
    result(0, chain(), ran("intent", "i0", steps=80)),
    result(1, NLI, ran("first", "f"), ran("second", "s"), ran("intent", "i1", steps=80)),
    result(
        2, NLI, ran("first", "f", reused=True), ran("second", "s", reused=True), ran("intent", "i2", steps=80),
        ran("intent", "e", kind="evaluate", steps=0),
    ),
    result(3, NLI, ran("first", "f3"), phase="confirm"),
]  # fmt: skip


def test_every_job_hangs_below_the_one_it_starts_from() -> None:
    table = jobs(job_runs(SHARED)).set_index("key")
    assert table["parent"].to_dict() == {"f": "pico", "s": "f", "i1": "s", "i2": "s", "i0": "pico"}
    assert table["depth"].to_dict() == {"f": 0, "s": 1, "i1": 2, "i2": 2, "i0": 0}
    assert table["trials"].to_dict() == {"f": 2, "s": 2, "i1": 1, "i2": 1, "i0": 1}
    assert table["trained"].tolist() == [1] * 5
    assert table.loc["f", ["job", "seconds"]].tolist() == ["first: 100% nli/en; 100 steps, lr 1e-4", 10.0]
    evaluation = job_runs(SHARED).set_index("kind").loc["evaluate"]
    assert evaluation[["parent", "job"]].tolist() == ["i2", "evaluate intent"]


def test_a_target_that_goes_on_from_another_hangs_below_it() -> None:
    plain = chain(targets=("intent", "slots"))
    first, second = plain.targets
    after = Chain(
        suite=plain.suite,
        encoder=plain.encoder,
        stages=(),
        targets=(first, type(second)(task="slots", stage=second.stage, after="intent")),
    )
    table = jobs(job_runs([result(0, after, ran("intent", "i"), ran("slots", "s"))])).set_index("key")
    assert table["parent"].to_dict() == {"i": "pico", "s": "i"}


def test_costs_add_up_what_was_trained_and_leave_out_what_was_reused() -> None:
    table = costs(job_runs(SHARED)).set_index(["kind", "name"])
    assert table.loc[("train", "first")].tolist() == [3, 2, 200, 20.0]
    assert table.loc[("train", "second")].tolist() == [2, 1, 100, 10.0]
    assert table.loc[("train", "intent")].tolist() == [3, 3, 240, 24.0]


def test_trained_and_reused_steps_add_up_to_all_that_the_chains_need(study: Study, made: Section) -> None:
    total = made.tables[COST].iloc[0]
    chains = [result.trial.chain for result in study.ended if result.state == "complete"]
    steps = sum(one.steps for each in chains for one in [*each.stages, *(t.stage for t in each.targets if t.stage)])
    assert total["steps_trained"] + total["steps_reused"] == steps
    assert total["seconds_trained"] == pytest.approx(0.05 * total["steps_trained"])
    assert total["seconds_saved"] == pytest.approx(0.05 * total["steps_reused"])
    assert total[["complete", "failed", "stopped"]].tolist() == [30, 1, 0]
    by_job = made.tables[BY_JOB]
    assert by_job["steps_trained"].sum() == total["steps_trained"]
    assert by_job["seconds_saved"].sum() == pytest.approx(total["seconds_saved"])
    assert set(by_job["name"]) == {"intermediate", "intent", "slots"}


def test_the_words_say_how_much_was_saved(made: Section) -> None:
    total = made.tables[COST].iloc[0]
    share = total["steps_reused"] / (total["steps_reused"] + total["steps_trained"])
    assert f"Sharing saved {total['steps_reused']:,} steps ({share:.0%} of all)" in made.words[0]


def test_a_bushy_tree_is_drawn_with_the_jobs_of_the_most_trials() -> None:
    """Forty stages of 25 trials each: those that have no room are counted."""
    results = [result(n, chain(stage("first", nli_en=1.0)), ran("first", f"f{n % 40}")) for n in range(1000)]
    text = svg(draw_jobs(jobs(job_runs(results))))
    drawn = re.findall(r">(\d+)</text>", text)
    assert drawn == ["25"] * MOST_JOBS
    assert f"{40 - MOST_JOBS} more" in text


def test_every_job_that_is_drawn_is_in_the_table(made: Section) -> None:
    text = svg(made.figures[JOBS])
    table = made.tables[JOBS]
    counts = [int(count) for count in re.findall(r">(\d+)</text>", text)]
    assert sorted(counts, reverse=True) == table["trials"].tolist()[: len(counts)]
    assert len(counts) == min(MOST_JOBS, len(table))
    assert set(made.alts) == set(made.figures) == {JOBS, CURVE}


def test_the_best_score_so_far_goes_by_the_order_in_which_trials_ended() -> None:
    def at(
        number: int, objective: float | None, started: float, seconds: float, *runs: JobRun, phase: Phase = "search"
    ):  # type: ignore[no-untyped-def]
        return result(number, chain(), *runs, phase=phase, objective=objective, started=started, seconds=seconds)  # type: ignore[arg-type]

    curve = spent(
        [
            at(0, 50.0, 0.0, 10.0, ran("intent", "a", steps=100), phase="baseline"),
            at(1, 53.0, 10.0, 50.0, ran("intent", "b", steps=200)),
            at(2, None, 11.0, 5.0, ran("intent", "c", steps=10)),
            at(3, 52.0, 12.0, 6.0, ran("intent", "d", steps=20), ran("intent", "a", steps=80, reused=True)),
            at(4, 60.0, 90.0, 5.0, ran("intent", "e", steps=300), phase="confirm"),
        ]
    )
    assert curve["trial"].tolist() == [0, 2, 3, 1]  # ended at 10, 16, 18 and 60 s
    assert curve["best"].tolist() == [50.0, 50.0, 52.0, 53.0]
    assert curve["steps"].tolist() == [100, 110, 130, 330]
    assert curve["steps_unshared"].tolist() == [100, 110, 210, 410]
    assert curve["seconds"].tolist() == [10.0, 15.0, 21.0, 71.0]


def test_every_point_of_the_curve_is_in_its_table(study: Study, made: Section) -> None:
    pd.testing.assert_frame_equal(made.tables[CURVE].drop(columns="study"), spent(study.ended))
    assert made.tables[CURVE]["objective"].notna().sum() == 28  # 30 of the search: one failed and one has no end


def test_every_number_in_the_words_is_in_the_tables(study: Study, tmp_path: Path) -> None:
    """Seconds may be minutes or hours, shares percent."""
    found = section([study, Study.load(MadeUp(name="other", trials=5).write(tmp_path))])
    assert found
    values = found.tables[COST].select_dtypes("number").to_numpy().ravel().tolist()
    known = {f"{value:,.0f}" for value in values} | {f"{100 * value:.0f}" for value in values}
    known |= {f"{value / 60:.0f} min" for value in values} | {f"{value / 3600:.1f} h" for value in values}
    numbers = re.findall(r"\d(?:[\d,.]*\d)?(?: min| h\b)?", " ".join(found.words))
    assert len(numbers) == 2 * 6
    assert set(numbers) <= known
    assert [words.split(":")[0] for words in found.words] == [study.name, "other"]
    assert {f"{JOBS} (other)", f"{CURVE} (other)"} <= set(found.figures)
    assert all(set(table["study"]) == {study.name, "other"} for table in found.tables.values())


def test_a_study_in_which_nothing_has_ended_has_no_cost_yet(tmp_path: Path) -> None:
    nothing = MadeUp(trials=2, states=((0, "unfinished"), (1, "unfinished"))).write(tmp_path)
    assert section([Study.load(nothing)]) is None


def test_a_study_in_which_all_failed_still_has_its_cost(tmp_path: Path) -> None:
    failed = MadeUp(trials=2, states=((0, "failed"), (1, "failed"))).write(tmp_path)
    found = section([Study.load(failed)])
    assert found
    assert found.tables[COST]["failed"].tolist() == [2]
    assert CURVE not in found.figures
