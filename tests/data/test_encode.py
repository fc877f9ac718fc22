from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pico import pico_encoder

from tunexfer.data.encode import CHUNK, encode_source
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock

ROWS = {
    "classification": {"text": "the red house", "text_pair": "это дом", "label": 1},
    "tagging": {"tokens": ["the", "สวัสดี", "house"], "tags": [0, 1, 1]},
    "multiple_choice": {"prompt": "red", "options": ["house", "the red tree", "dog !"], "label": 2},
    "extractive_qa": {"question": "dog ?", "context": "red @ Oslo .", "answers": [{"text": "Oslo", "start": 6}]},
    "retrieval": {"text": "это дом", "english": "the house"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(pico_encoder(tmp_path_factory.mktemp("encoder")))


def task(kind: str, **more: object) -> TaskBlock:
    return TaskBlock(kind=kind, files="x", columns={}, labels=["A", "B"], max_length=24, **more)  # type: ignore[arg-type]


def table(kind: str, count: int = 1) -> pa.Table:
    rows = [{"id": str(n), "cluster": str(n), **ROWS[kind]} for n in range(count)]
    return pa.Table.from_pylist(rows, schema=KINDS[kind].schema)


def plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ROWS)
def test_what_is_read_back_is_what_the_kind_encoded(
    kind: str, training: bool, tokenizer: object, tmp_path: Path
) -> None:
    rows = table(kind, 3)
    encoded = encode_source([rows], task(kind), tokenizer, tmp_path / "x", training=training, place="")
    expected = KINDS[kind].encode(rows.to_pylist(), tokenizer, task(kind), training=training)
    assert [{name: plain(value) for name, value in feature.items()} for feature in encoded] == [
        {name: plain(value) for name, value in feature.items()} for feature in expected
    ]
    assert encoded.lengths.tolist() == [
        max(map(len, one["input_ids"])) if kind == "multiple_choice" else len(one["input_ids"]) for one in expected
    ]


def test_the_file_is_mapped_and_not_read(tokenizer: object, tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    encoded = encode_source(
        [table("classification", 500)], task("classification"), tokenizer, tmp_path / "x", training=True, place=""
    )
    assert encoded.value("input_ids", 499).base is not None
    assert pa.total_allocated_bytes() == before


def test_row_numbers_run_on_through_the_chunks(tokenizer: object, tmp_path: Path) -> None:
    encoded = encode_source(
        [table("retrieval", CHUNK + 1)], task("retrieval"), tokenizer, tmp_path / "x", training=False, place=""
    )
    assert [encoded.value("row", place) for place in (0, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1)] == [
        0, CHUNK - 1, CHUNK, CHUNK,
    ]  # fmt: skip


def test_rows_are_encoded_once(tokenizer: object, tmp_path: Path) -> None:
    first = encode_source([table("tagging")], task("tagging"), tokenizer, tmp_path / "x", training=True, place="")
    again = encode_source([table("tagging")], task("tagging"), None, tmp_path / "x", training=True, place="")
    assert plain(again[0]["input_ids"]) == plain(first[0]["input_ids"])
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_pieces_in_use_are_known_without_reading_the_rows(tokenizer: object, tmp_path: Path) -> None:
    kind = "multiple_choice"
    encoded = encode_source([table(kind)], task(kind), tokenizer, tmp_path / "x", training=True, place="")
    assert encoded.token_ids.tolist() == sorted({int(i) for ids in encoded.value("input_ids", 0) for i in ids})


def test_only_rows_to_be_scored_are_kept_as_they_were(tokenizer: object, tmp_path: Path) -> None:
    kind = "retrieval"
    scored = encode_source([table(kind)], task(kind), tokenizer, tmp_path / "s", training=False, place="")
    trained = encode_source([table(kind)], task(kind), tokenizer, tmp_path / "t", training=True, place="")
    assert scored.rows.to_pylist() == table(kind).to_pylist()
    assert len(trained.rows) == 0


def test_rows_that_give_the_model_nothing_are_an_error(tokenizer: object, tmp_path: Path) -> None:
    rows = table("extractive_qa").to_pylist()
    rows[0]["answers"][0]["start"] = 0
    wrong = pa.Table.from_pylist(rows, schema=KINDS["extractive_qa"].schema)
    with pytest.raises(DataError, match="task 'q': none of the 1 rows gives the model anything"):
        encode_source([wrong], task("extractive_qa"), tokenizer, tmp_path / "x", training=True, place="task 'q'")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_of_tables_is_encoded_as_one_table_is(tokenizer: object, tmp_path: Path) -> None:
    rows = table("extractive_qa", 7)
    settings = {"task": task("extractive_qa"), "tokenizer": tokenizer, "training": True, "place": ""}
    whole = encode_source([rows], folder=tmp_path / "whole", **settings)  # type: ignore[arg-type]
    parts = encode_source([rows.slice(0, 3), rows.slice(3)], folder=tmp_path / "parts", **settings)  # type: ignore[arg-type]
    assert len(whole) == len(parts)
    assert all(
        np.array_equal(whole[place][name], parts[place][name]) for place in range(len(whole)) for name in whole[place]
    )
    assert (whole.lengths == parts.lengths).all()
    assert (whole.token_ids == parts.token_ids).all()
    assert whole.row_count == parts.row_count == 7
