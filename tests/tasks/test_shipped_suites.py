"""The suites that come with tunexfer, against what is documented of their sets and against the benchmark itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tasks.documented import DOCUMENTED, Place, made_up, places, written

from tunexfer.core.scores import Split
from tunexfer.data.canonical import canonical_batches, canonical_rows, canonical_table
from tunexfer.data.hub import hub_rows
from tunexfer.data.origin import Origin
from tunexfer.data.rows import Rows
from tunexfer.data.survey import Tally
from tunexfer.errors import DataError
from tunexfer.export.xtreme_scores import XTREME_TASKS
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import SPLITS, HubRows, Suite, load_suite

INTERMEDIATE = "anli_plus mnli qqp squad_v1 squad_v2 hellaswag ccg cosmos_qa commonsense_qa".split()


ALL = pytest.mark.parametrize("place", places(), ids=lambda place: place.name)


COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def at_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every branch on the hub is at the same commit, and files of it are fetched to a folder that says so."""
    import huggingface_hub

    def dataset_info(self: Any, path: str, *, revision: str | None) -> SimpleNamespace:
        assert revision in (None, "refs/convert/parquet")
        return SimpleNamespace(sha=COMMIT)

    def snapshot_download(path: str, *, repo_type: str, revision: str, allow_patterns: list[str]) -> str:
        return f"/{repo_type}/{path}@{revision}"

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def rows_of(suite: str, tmp_path: Path) -> Rows:
    loaded, folder = load_suite(suite)
    return Rows(loaded, folder, tmp_path)


# Columns


@ALL
def test_every_column_that_is_read_is_documented_with_its_source(place: Place) -> None:
    named = [one for value in place.block.columns.values() for one in (value if isinstance(value, list) else [value])]
    for column in [*named, *place.block.where]:
        assert column.split(".")[0] in place.columns
    assert {column["from"] for column in place.columns.values()} <= set(DOCUMENTED["sources"])


@ALL
def test_rows_as_documented_are_read_and_their_labels_keep_their_meaning(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, names = made_up_rows(place)
    block = place.block.model_copy(update={"labels": place.block.labels or names}) if names else place.block
    origin = Origin(block=block, language="en", written="en", split="train", cache=tmp_path)
    source = through_the_hub(origin, place, made, monkeypatch) if block.hub else made
    coded = replace(origin, block=block.model_copy(update={"codes": {"en": "english"}}))
    tally = Tally()
    schema = KINDS[block.kind].schema
    batches = canonical_batches(canonical_rows(source, coded, place.name, tally), schema)
    table = canonical_table(batches, schema, tally)
    assert table.num_rows == len(made)
    if names and block.kind != "multiple_choice":
        field = "tags" if block.kind == "tagging" else "label"
        read = [label for found in table[field].to_pylist() for label in (found if field == "tags" else [found])]
        assert [block.labels[label] for label in read] == names
    elif names:
        assert table["label"].to_pylist() == list(range(len(names)))


def made_up_rows(place: Place) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each label there is (or one), as the data writes it, and what the labels mean."""
    labels = [column for column in place.columns.values() if written(column["is"])]
    forms = written(labels[0]["is"]) if labels else []
    rows = [
        {name: made_up(column, number) for name, column in place.columns.items()} for number in range(len(forms) or 1)
    ]
    return rows, labels[0].get("means", forms) if labels else []


def through_the_hub(
    origin: Origin, place: Place, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """The rows as they come out where the hub's client has them with the documented types."""
    import datasets

    data = datasets.Dataset.from_list(made)
    for name, column in place.columns.items():
        kind = column["is"]
        inner = kind.get("each", kind) if isinstance(kind, dict) else {}
        if "class" in inner:
            label = datasets.ClassLabel(names=inner["class"])
            data = data.cast_column(name, datasets.List(label) if "each" in kind else label)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    return list(hub_rows(origin))


def test_a_column_that_the_hub_renamed_is_named_with_what_was_found_and_what_to_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    renamed = datasets.Dataset.from_list([{"sentence1": "p", "hypothesis": "h", "gold_label": "neutral"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: renamed)
    with pytest.raises(
        DataError,
        match=r"task 'xnli', facebook/xnli \(sw\), test, row 0: there is no column 'label' for 'label'. "
        r"The data has sentence1, hypothesis, gold_label. Name the right one in `columns: label:`",
    ):
        rows_of("xtreme", tmp_path).table("xnli", "sw", "test")


# What is asked of the hub


def test_each_language_and_split_asks_for_its_config_files_and_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, name: str | None, *, revision: str | None, data_files: Any, split: str, **options: Any):  # type: ignore[no-untyped-def]
        asked.append((path, name, revision, data_files, split, options))
        raise ConnectionError("no network here")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    wanted: list[tuple[str, str, str, Split, tuple[Any, ...]]] = [
        ("xtreme", "udpos", "el", "train", ("google/xtreme", "udpos.Greek", COMMIT, None, "train", {})),
        ("xtreme", "tatoeba", "sw", "test", ("google/xtreme", "tatoeba.swh", COMMIT, None, "validation", {})),
        ("xtreme", "mlqa", "hi", "validation", ("google/xtreme", "MLQA.hi.hi", COMMIT, None, "validation", {})),
        ("xtreme", "xquad", "en", "validation", ("rajpurkar/squad", None, COMMIT, None, "train", {})),
        (
            "xtreme", "wikipedia", "sw", "train",
            (
                f"/dataset/wikimedia/wikipedia@{COMMIT}", None, None, {"train": "20231101.sw/train-00000-of-*.parquet"},
                "train[:10000]", {},
            ),
        ),
        (
            "xtreme", "native_nli", "fa", "validation",
            (
                "csv", None, None,
                {
                    "Val": "https://raw.githubusercontent.com/dml-qom/FarsTail/"
                    "5d6322c40368ea5fab50e406e083e537a7d97817/data/Val-word.csv"
                }, "Val",
                {"sep": "\t"},
            ),
        ),
        (
            "african", "news", "run", "test",
            (
                f"/dataset/andreniyongabo/kinnews_kirnews@{COMMIT}", None, None,
                {"test": "kirnews_cleaned/test/*.parquet"}, "test", {},
            ),
        ),
    ]  # fmt: skip
    for suite, task, language, split, expected in wanted:
        with pytest.raises(DataError, match=r"could not load .*ConnectionError: no network here"):
            rows_of(suite, tmp_path).table(task, language, split)
        assert asked[-1] == expected


# Traps of the sets themselves


def from_the_hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> None:
    import datasets

    data = datasets.Dataset.from_list(rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)


def test_english_tydiqa_is_cut_out_of_the_config_with_all_languages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    question = {"title": "t", "context": "c", "question": "q", "answers": {"text": ["c"], "answer_start": [0]}}
    languages = ["english", "swahili", "arabic", "english"]
    from_the_hub(monkeypatch, [question | {"id": f"{name}-{number}"} for number, name in enumerate(languages)])
    rows = rows_of("xtreme", tmp_path)
    assert rows.table("tydiqa", "en", "test")["id"].to_pylist() == ["english-0", "english-3"]
    assert rows.table("tydiqa", "sw", "test")["id"].to_pylist() == ["swahili-1"]


def as_files(monkeypatch: pytest.MonkeyPatch, folder: Path, file: Path) -> None:
    """The address that a suite names leads to `file`; the reader's options are the suite's."""
    import datasets

    load = datasets.load_dataset

    def instead(path: str, name: str | None, *, data_files: Any, split: str, **options: Any) -> Any:
        return load(path, name, data_files={split: str(file)}, split=split, cache_dir=str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", instead)


def test_questions_of_afriqa_without_a_passage_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first two rows of Yoruba's test, their passage cut short."""
    file = tmp_path / "yor.json"
    file.write_text(
        '{"answer_pivot": {"answer_start": [], "text": ["15,000"]}, "context": null, "id": "0", "question_lang": '
        '"Kini iye awọn osisẹ ileese ajagun ojuoofurufu Naijiria?", "question_translated": "What is the work force '
        'size of the Nigerian Airforce?", "title": null, "answer_lang": "15,000"}\n'
        '{"answer_pivot": {"answer_start": [11], "text": ["21"]}, "context": "married at 21.", "id": "1", '
        '"question_lang": "Ọmọ ọdun melo ni Cosmas Maduka nigbati o fẹ iyawo rẹ Charity?", "question_translated": '
        '"How old was Cosmas Maduka when he married his wife, Charity?", "title": "Cosmas Maduka", '
        '"answer_lang": "21"}\n',
        encoding="utf-8",
    )
    as_files(monkeypatch, tmp_path / "hf", file)
    [row] = rows_of("african", tmp_path).table("afriqa", "yor", "test").to_pylist()
    assert (row["id"], row["context"], row["answers"]) == ("1", "married at 21.", [{"text": "21", "start": 11}])


def test_a_tweet_of_afrisenti_may_say_null(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "pcm_test.tsv"
    file.write_text('ID\ttweet\tlabel\npcm_1\tnull\tneutral\npcm_2\tNA\tnegative\npcm_3\tshe "fine\tpositive\n')
    as_files(monkeypatch, tmp_path / "hf", file)
    table = rows_of("african", tmp_path).table("afrisenti", "pcm", "test")
    assert (table["text"].to_pylist(), table["label"].to_pylist()) == (["null", "NA", 'she "fine'], [1, 2, 0])


def test_buccs_columns_of_languages_hold_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = {"source_sentence": "Ja.\n", "target_sentence": "Yes.\n"}
    from_the_hub(monkeypatch, [pair | {"source_lang": "de-000000007", "target_lang": "en-000000031"}])
    [row] = rows_of("xtreme", tmp_path).table("bucc2018_gold_pairs", "de", "test").to_pylist()
    assert row == {"id": "de-000000007", "cluster": "de-000000007", "text": "Ja.", "english": "Yes."}


def test_pairs_that_people_did_not_agree_on_are_no_part_of_anli_plus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from_the_hub(monkeypatch, [{"premise": "p", "hypothesis": "h", "label": label} for label in (2, -1, 0)])
    table = rows_of("xtreme", tmp_path).table("anli_plus", "en", "validation")
    assert table["label"].to_pylist() == [2, 0] * 3  # the same rows from each of its three sets
    assert table["id"].to_pylist()[:3] == ["1-0", "1-2", "2-0"]


def test_ocnlis_rows_without_consensus_are_left_out_and_its_labels_turned_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = [0, -1, 1, 2]  # neutral, none, entailment, contradiction
    pair = {"sentence1": "p", "sentence2": "h"}
    from_the_hub(monkeypatch, [pair | {"label": label, "idx": number} for number, label in enumerate(written)])
    rows = rows_of("xtreme", tmp_path)
    read = rows.table("native_nli", "zh", "train")
    assert [rows.task("native_nli").labels[label] for label in read["label"].to_pylist()] == [
        "neutral", "entailment", "contradiction",
    ]  # fmt: skip


def test_xtremes_own_xnli_has_all_languages_in_one_config_and_its_labels_as_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The suite takes XNLI from elsewhere; who takes it from here needs the filter."""
    pair = {"sentence1": "p", "sentence2": "h", "gold_label": "neutral"}
    from_the_hub(monkeypatch, [pair | {"language": one} for one in ("en", "sw", "en")])
    block = (
        load_suite("xtreme")[0]
        .task("xnli")
        .model_copy(
            update={
                "hub": HubRows(path="google/xtreme", name="XNLI"),
                "columns": {"text": "sentence1", "text_pair": "sentence2", "label": "gold_label"},
                "where": {"language": "{language}"},
            }
        )
    )
    rows = Rows(Suite(name="own", tasks={"xnli": block}), Path(), tmp_path)
    assert rows.table("xnli", "en", "test")["id"].to_pylist() == ["0", "2"]
    assert rows.table("xnli", "sw", "test")["label"].to_pylist() == [1]


def test_a_translated_file_is_another_language_of_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path))
    assert rows_of("xtreme", tmp_path).languages("qqp", "train") == ["en"]
    file = tmp_path / "translated" / "qqp" / "sw" / "train.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"question1": "Nini?", "question2": "Nini hiki?", "label": 1, "idx": 0}\n')
    rows = rows_of("xtreme", tmp_path)
    assert rows.languages("qqp", "train") == ["en", "sw"]
    [row] = rows.table("qqp", "sw", "train").to_pylist()
    assert (row["text"], rows.task("qqp").labels[row["label"]]) == ("Nini?", "duplicate")


# The benchmark


def test_the_targets_are_tested_in_the_benchmarks_languages(tmp_path: Path) -> None:
    rows = rows_of("xtreme", tmp_path)
    for name, target in XTREME_TASKS.items():
        assert rows.languages(name, "test") == sorted(target.languages)
    assert rows.languages("bucc2018_gold_pairs", "test") == rows.languages("bucc2018", "test")


def test_targets_that_train_can_be_trained_and_chosen_in_english(tmp_path: Path) -> None:
    rows = rows_of("xtreme", tmp_path)
    for task in ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa"):
        assert rows.count(task, "en", "train") > 0
        assert rows.count(task, "en", "validation") > 0
        assert rows.suite.task(task).recipe is not None


def test_parts_of_speech_of_the_release_are_xtremes_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greek without Ancient Greek, which the hub's rows mix into it."""
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path))
    assert rows_of("xtreme", tmp_path).languages("udpos_treebanks", "test") == []
    for name in ("UD_Greek-GDT/el_gdt", "UD_Ancient_Greek-PROIEL/grc_proiel"):
        file = tmp_path / "ud-treebanks-v2.5" / f"{name}-ud-test.conllu"
        file.parent.mkdir(parents=True)
        file.write_text("1\tΝαι\t_\tINTJ\t_\t_\t0\troot\t_\t_\n\n", encoding="utf-8")
    rows = rows_of("xtreme", tmp_path)
    assert sorted(rows.task("udpos_treebanks").codes) == sorted(XTREME_TASKS["udpos"].languages)
    assert rows.languages("udpos_treebanks", "test") == ["el"]
    [row] = rows.table("udpos_treebanks", "el", "test").to_pylist()
    assert (row["tokens"], row["tags"]) == (["Ναι"], [6])


def test_english_rows_are_as_many_as_the_benchmark_counts(tmp_path: Path) -> None:
    rows = rows_of("xtreme", tmp_path)
    counts = {task: [rows.count(task, "en", split) for split in SPLITS] for task in ("xnli", "pawsx", "udpos", "panx")}
    assert counts == {
        "xnli": [392_702, 2_490, 5_010],
        "pawsx": [49_401, 2_000, 2_000],
        "udpos": [21_253, 3_974, 5_440],
        "panx": [20_000, 10_000, 10_000],
    }
    assert rows.count("tydiqa", "en", "train") + rows.count("tydiqa", "en", "validation") == 3_696
    assert rows.count("mlqa", "en", "test") == 11_590
    assert rows.count("anli_plus", "en", "train") == 550_152 + 392_702 + 16_946 + 45_460 + 100_459


def test_tydiqas_languages_add_up_to_its_one_config() -> None:
    counts = load_suite("xtreme")[0].task("tydiqa").rows.values()
    assert [sum(split) for split in zip(*counts, strict=True)] == [49_881, 0, 5_077]


def test_no_row_that_the_benchmark_tests_on_chooses(tmp_path: Path) -> None:
    """XQuAD's tests are SQuAD's development set, TyDi's tests its own: both choose on the end of train."""
    rows = rows_of("xtreme", tmp_path)
    assert rows.languages("xquad", "validation") == ["en"]
    assert rows.count("xquad", "en", "validation") == 1000
    assert rows.count("tydiqa", "sw", "validation") == 370


def test_an_epoch_of_each_intermediate_task_takes_the_published_steps(tmp_path: Path) -> None:
    rows = rows_of("xtreme", tmp_path)
    steps = {}
    for task in INTERMEDIATE:
        recipe = rows.suite.task(task).recipe
        assert recipe is not None
        steps[task] = recipe.steps(rows.count(task, "en", "train"), 32) // recipe.epochs
    assert list(steps.values()) == [34_554, 12_272, 11_371, 2_738, 4_073, 1_248, 1_188, 790, 305]


def test_source_language_is_a_choice_for_every_kind_that_trains(tmp_path: Path) -> None:
    rows = rows_of("xtreme", tmp_path)
    choices = {task: len(rows.languages(task, "train")) for task in ("xnli", "pawsx", "udpos", "panx", "tydiqa")}
    assert choices == {"xnli": 15, "pawsx": 7, "udpos": 30, "panx": 40, "tydiqa": 9}
    assert rows.languages("native_nli", "train") == ["en", "fa", "id", "ja", "ko", "zh"]
    assert rows.languages("kor_nli", "train") == ["ko"]
    assert rows.languages("native_qa", "train") == ["ar", "en", "ja", "th", "zh"]
    assert rows.languages("native_commonsense", "train") == ["en", "ja"]


def test_the_same_task_counts_as_trained_whatever_it_is_called() -> None:
    """Inference is inference, and extractive questions are extractive questions; only names of sets differ."""
    tasks = load_suite("xtreme")[0].tasks
    same: dict[str, list[str]] = {}
    for name, block in tasks.items():
        same.setdefault(block.same_as or name, []).append(name)
    assert {name: others for name, others in same.items() if len(others) > 1} == {
        "xnli": ["xnli", "anli_plus", "mnli", "native_nli", "kor_nli"],
        "xquad": ["xquad", "mlqa", "tydiqa", "squad_v1", "squad_v2", "native_qa"],
        "udpos": ["udpos", "udpos_treebanks"],
        "commonsense_qa": ["commonsense_qa", "native_commonsense"],
    }


def test_kornlis_rows_are_as_many_as_its_paper_counts(tmp_path: Path) -> None:
    rows = rows_of("xtreme", tmp_path)
    assert [rows.count("kor_nli", "ko", split) for split in SPLITS] == [942_854, 2_490, 5_010]


def test_variants_are_not_called_by_the_benchmarks_name() -> None:
    tasks = load_suite("xtreme")[0].tasks
    assert "not XTREME's BUCC" in tasks["bucc2018_gold_pairs"].about
    assert "not XTREME's own files" in tasks["udpos"].about


def test_bucc_without_its_files_says_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path / "archives"))
    with pytest.raises(
        DataError,
        match=r"'bucc2018' has no test rows in 'de': .*archives/bucc2018/de-en/de-en\.training\.de.*TUNEXFER_DATA",
    ):
        rows_of("xtreme", tmp_path).table("bucc2018", "de", "test")


def test_ccg_without_its_files_says_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEXFER_DATA", str(tmp_path / "licensed"))
    with pytest.raises(DataError, match=r"'ccg' takes its labels from .*licensed/ccg/tags_to_id\.json.*TUNEXFER_DATA"):
        rows_of("xtreme", tmp_path).table("ccg", "en", "train")
