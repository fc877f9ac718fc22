"""Every shipped space runs from end to end: its small twin, with the four-layer encoder and a few steps.

Rows are real where the collection has them (`tests/mini/collected.py`), else stand-ins (`tests/mini/stand_ins.py`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from mini.twins import ROWS, twin
from rich.console import Console
from search.command import runs

from tunexfer.cli.launch import contents_of, make_executor, prepare_all
from tunexfer.core.files import StudyFolder
from tunexfer.core.scores import FORGETTING
from tunexfer.core.trial import TrialResult
from tunexfer.mlflow.mirror import Mirror
from tunexfer.plan.plan import Plan
from tunexfer.plan.space_file import read_yaml, shipped_spaces
from tunexfer.record.record import Record
from tunexfer.search.loop import SearchLoop, run_here
from tunexfer.store import StageStore

SPACES = ["xtreme_stilts", "xtreme_multitask", "source_language", "mlm_and_translated", "african"]
OWN_RUN = {"multitask"}
"""Runs whole, on the starter suite: it is what `make search` searches."""


def test_every_shipped_space_has_a_twin() -> None:
    assert set(SPACES) | OWN_RUN == set(shipped_spaces())


@pytest.mark.parametrize("space", SPACES)
def test_a_twin_leaves_open_what_its_space_does(space: str, tmp_path: Path, collection: Path | None) -> None:
    small = Plan.load(twin(space, tmp_path, collection), cache=tmp_path)
    shipped = Plan.load(space, cache=tmp_path)
    assert small.space.coordinates == shipped.space.coordinates
    assert [target.name for target in small.baseline[1].targets] == [
        target.name for target in shipped.baseline[1].targets
    ]
    assert small.possible_sources == shipped.possible_sources
    assert small.without_rows == shipped.without_rows


def test_rows_are_real_where_the_collection_has_them_and_say_so_where_not(
    tmp_path: Path, collection: Path | None
) -> None:
    rows = Plan.load(twin("mlm_and_translated", tmp_path, collection), cache=tmp_path).rows
    made_up = {
        source
        for source in (("xnli", "sw"), ("xnli", "ru"), ("wikipedia", "sw"), ("tydiqa", "en"))
        if "stand in for" in str(rows.table(*source, "train").to_pylist())
    }
    real = {("xnli", "sw")} if collection else set()
    assert made_up == {("xnli", "sw"), ("xnli", "ru"), ("wikipedia", "sw"), ("tydiqa", "en")} - real


# Whole searches


class Search:
    """A search on a twin whose jobs run in this process, and what it left."""

    def __init__(self, folder: Path, cache: Path, collection: Path | None) -> None:
        self.folder, self.cache, self.collection = folder, cache, collection

    def run(
        self, space: str, trials: int, epochs: int = 1, settings: Mapping[str, str] | None = None
    ) -> list[TrialResult]:
        """Its trials; each is complete and has each target's score in each language and split that the plan says.

        settings: path in the space -> the value as YAML, for what the space leaves open and few trials would not get to
        """
        plan = Plan.load(
            twin(space, self.folder, self.collection, epochs=epochs),
            {**(settings or {}), "search.trials": str(trials)},
            cache=self.cache,
        )
        prepared = prepare_all(plan, self.cache, Console(quiet=True), quiet=True)
        contents = contents_of(prepared)
        store = self.folder / "store"
        with Record.drive(StudyFolder(self.folder / "runs" / space), plan.as_dict()) as record:
            mirror = Mirror(record, f"sqlite:///{self.folder}/mlflow.db", print).start()
            loop = SearchLoop(plan, record, StageStore(store), contents, [mirror])
            executor = make_executor(prepared, str(store), store_bytes=10**9, device="cpu", threads=1)
            mirror.close(run_here(loop, executor).state)
        assert len(record.complete) == trials
        found = [replace(result, scores=record.scores(result.trial.number)) for result in record.complete]
        for ended in found:
            for target in ended.trial.chain.targets:
                for split in ("validation", "test"):
                    wanted = {one for task, one, part in plan.evaluated if (task, part) == (target.task, split)}
                    scores = ended.main(target.name, split)
                    assert scores.keys() == wanted
                    assert all(0 <= score.value <= 100 for score in scores.values())
        assert found[0].trial.chain.stages == ()
        return found


@pytest.fixture
def search(tmp_path: Path, starter_cache: Path, collection: Path | None) -> Search:
    return Search(tmp_path, starter_cache, collection)


def sources(ended: TrialResult) -> list[str]:
    """What the trial's stage trained on, as `task/language`."""
    return [str(source) for stage in ended.trial.chain.stages for source in stage.mixture.sources]


@pytest.mark.slow
def test_stilts_runs_all_nine_targets_after_an_intermediate_task(search: Search) -> None:
    baseline, first = search.run("xtreme_stilts", trials=2)
    assert [sources(ended) for ended in (baseline, first)] == [[], ["anli_plus/en"]]
    assert first.trial.chain.stages[0].steps == 3 * ROWS["train"] // 4  # three sets in batches of four, once
    tested = {target.name: len(first.main(target.name, "test")) for target in first.trial.chain.targets}
    assert len(tested) == 9
    assert min(tested.values()) == 1  # German pairs of BUCC
    assert max(tested.values()) > 3


@pytest.mark.slow
def test_multitask_mixes_all_nine_intermediate_tasks_in_one_stage(search: Search) -> None:
    tasks = read_yaml(shipped_spaces()["xtreme_multitask"])["stages"][0]["tasks"]["choice"][-1]
    settings = {"stages[0].tasks": str(tasks), "search.algorithm": "tpe"}
    _, *mixed = search.run("xtreme_multitask", trials=3, settings=settings)
    for ended in mixed:
        assert set(sources(ended)) <= {f"{task}/en" for task in tasks}
    assert any(len(sources(ended)) == 9 for ended in mixed)


@pytest.mark.slow
def test_source_language_is_chosen_by_languages_that_are_no_source(search: Search) -> None:
    file = read_yaml(shipped_spaces()["source_language"])
    choosing = set(file["objective"]["languages"])
    for ended in search.run("source_language", trials=3):
        means = []
        for target in ended.trial.chain.targets:
            validation, test = ended.main(target.name, "validation"), ended.main(target.name, "test")
            means.append(statistics.mean(score.value for score in validation.values()))
            assert validation.keys() <= choosing
            assert {one for one, score in test.items() if not score.unseen} == {target.train_language} & test.keys()
        assert ended.objective == pytest.approx(statistics.mean(means))


@pytest.mark.slow
def test_text_and_translations_are_trained_on_beside_an_english_task_or_instead_of_it(search: Search) -> None:
    _, *four = search.run("mlm_and_translated", trials=5, settings={"stages[0].learning_rate": "1.0e-5"})
    translated = ["xnli/de", "xnli/ru", "xnli/sw"]
    text = [f"wikipedia/{language}" for language in ("en", "de", "ru", "sw")]
    assert [sources(ended) for ended in four] == [["xnli/en"], translated, ["xnli/en", *text], [*translated, *text]]


@pytest.mark.slow
def test_kirundi_goes_on_from_kinyarwanda_and_what_is_forgotten_is_a_score(search: Search) -> None:
    found = search.run("african", trials=3, epochs=4)
    tracked = runs(f"sqlite:///{search.folder}/mlflow.db", "african")
    for ended in found:
        assert {target.name: target.after for target in ended.trial.chain.targets} == {
            "kinnews": None, "kirnews": "kinnews",
        }  # fmt: skip
        before, after = ended.main("kinnews", "test"), ended.main("kirnews", "test")
        forgotten = [one for one in ended.scores if (one.metric, one.split) == (FORGETTING, "test")]
        lost = {score.language: score.value for score in forgotten}
        assert "rw" in lost
        for language, percent in lost.items():
            first = before[language].value
            assert percent == pytest.approx(100 * (first - after[language].value) / first)
            metric = f"forgetting/kinnews/{language}"
            assert tracked[str(ended.trial.number)].data.metrics[metric] == pytest.approx(percent)
        assert [one for one, score in sorted(before.items()) if score.unseen] == ["rn"]
        assert not any(score.unseen for score in after.values())
