"""Every kind reads, encodes, decodes and scores rows as its attributes say. A new kind needs a class here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tasks.oracles import ORACLES

from tunexfer.errors import DataError
from tunexfer.report.row_sums import columns_for, row_sums
from tunexfer.tasks.kinds import KINDS, ROWS_SCHEMA
from tunexfer.tasks.kinds.base import IGNORE_INDEX, Kind
from tunexfer.tasks.suite import TaskBlock

LANGUAGE = "en"


class KindConformance:
    """The claims that hold for every kind of task."""

    name: str
    columns: dict[str, Any]
    rows: list[dict[str, Any]]
    """Rows of the data, with gold answers."""
    labels: list[str] = []
    training_columns: set[str] = set()
    """What a feature has beside `row` and `input_ids`, when it is trained on."""

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def block(self) -> TaskBlock:
        fields = {"kind": self.name, "files": "x", "columns": self.columns, "labels": self.labels, "max_length": 24}
        return TaskBlock.model_validate(fields)

    @pytest.fixture
    def read(self) -> list[dict[str, Any]]:
        """The canonical rows."""
        rows: list[dict[str, Any]] = []
        for position, row in enumerate(self.rows):
            canonical = self.kind.read(row, self.block)
            assert canonical is not None
            rows.append({"id": str(position), "cluster": str(position)} | canonical)
        return rows

    def test_it_is_registered_by_its_name(self) -> None:
        assert self.kind.name == self.name
        assert self.kind.hub_task

    def test_its_rows_have_its_schema(self, read: list[dict[str, Any]]) -> None:
        assert {name for row in read for name in row} == set(self.kind.schema.names)
        assert pa.Table.from_pylist(read, schema=self.kind.schema).to_pylist() == read

    def test_a_missing_column_is_an_error_that_names_it(self) -> None:
        needed = next(column for column in self.columns.values() if isinstance(column, str))
        rest = {name: value for name, value in self.rows[0].items() if name != needed}
        with pytest.raises(DataError, match=f"no column '{needed}'"):
            self.kind.read(rest, self.block)

    @pytest.mark.parametrize("training", [True, False])
    def test_features_are_in_the_order_of_the_rows_and_fit(
        self, training: bool, read: list[dict[str, Any]], letters: Any
    ) -> None:
        features = self.kind.encode(read, letters, self.block, training=training)
        numbers = [feature["row"] for feature in features]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(len(read)))
        for feature in features:
            ids = feature["input_ids"]
            assert max(map(len, ids) if isinstance(ids[0], list) else [len(ids)]) <= self.block.max_length
            assert not training or feature.keys() == {"row", "input_ids"} | self.training_columns


class ScoredKindConformance(KindConformance):
    """What holds besides for a kind that can be a target."""

    def predict(self, rows: list[dict[str, Any]], letters: Any, output: Callable[..., Any]) -> pa.Table:
        """Evaluation rows from the outputs that `output` makes of a row, a feature and the block."""
        features = self.kind.encode(rows, letters, self.block, training=False)
        outputs = [output(rows[feature["row"]], feature, self.block) for feature in features]
        predictions = self.kind.predict(rows, features, outputs, self.block, LANGUAGE)
        assert len(predictions) == len(rows)
        own = [prediction for prediction in predictions if prediction]
        assert all(prediction.keys() == {"gold", "prediction"} | self.kind.statistics.keys() for prediction in own)
        return pa.Table.from_pylist(own, schema=ROWS_SCHEMA)

    def guess(self, rows: list[dict[str, Any]], letters: Any) -> pa.Table:
        draw = np.random.default_rng(3)

        def noisy(*arguments: Any) -> Any:
            right = ORACLES[self.name](*arguments)
            return right + draw.normal(size=right.shape, scale=0.4).astype(np.float32)

        return self.predict(rows, letters, noisy)

    def test_perfect_outputs_score_100(self, read: list[dict[str, Any]], letters: Any) -> None:
        table = self.predict(read, letters, ORACLES[self.name])
        assert self.kind.summarise(table) == dict.fromkeys(self.kind.metrics, pytest.approx(100))

    def test_a_metric_is_a_percentage_also_without_rows(self, read: list[dict[str, Any]], letters: Any) -> None:
        table = self.guess(read, letters)
        assert all(0 <= score <= 100 for score in self.kind.summarise(table).values())
        assert self.kind.summarise(table.slice(0, 0)) == dict.fromkeys(self.kind.metrics, 0.0)

    def test_a_metric_of_drawn_rows_is_that_of_their_weighted_sums(
        self, read: list[dict[str, Any]], letters: Any
    ) -> None:
        """A bootstrap sample in two ways: rows repeated, and sums over rows that count repeatedly."""
        table = self.guess(read * 5, letters) if self.name != "mining" else self.guess(read, letters)
        drawn = np.random.default_rng(0).integers(len(table), size=len(table))
        counts = np.bincount(drawn, minlength=len(table))
        for metric in self.kind.metrics:
            columns = [name for name in columns_for([metric]) if name in ROWS_SCHEMA.names]
            arrays = {
                name: table[name].to_numpy(zero_copy_only=False) for name in columns
            }  # numbers of other kinds are NaN
            made = row_sums(metric, {name: _plain(array) for name, array in arrays.items()})
            assert made is not None
            sums, score = made
            assert score(sums @ counts) == pytest.approx(self.kind.summarise(table.take(drawn))[metric])

    def test_features_out_of_order_are_not_scored(self, read: list[dict[str, Any]], letters: Any) -> None:
        if self.kind.head is None:  # decoded all together, whatever their order
            return
        features = self.kind.encode(read, letters, self.block, training=False)[::-1]
        outputs = [ORACLES[self.name](read[feature["row"]], feature, self.block) for feature in features]
        with pytest.raises(AssertionError, match="come before"):
            self.kind.predict(read, features, outputs, self.block, LANGUAGE)


def _plain(array: Any) -> Any:
    return array if array.dtype == object and isinstance(array[0], str) else array.astype(np.float64)


class TestClassification(ScoredKindConformance):
    name = "classification"
    columns = {"text": "a", "text_pair": "b", "label": "y"}
    labels = ["no", "yes"]
    rows = [{"a": "abc", "b": "de", "y": "no"}, {"a": "x" * 40, "b": "y", "y": 1}, {"a": "b", "b": "c", "y": 1}]
    training_columns = {"label"}


class TestMultipleChoice(ScoredKindConformance):
    name = "multiple_choice"
    columns = {"prompt": "q", "options": "o", "label": "y"}
    rows = [{"q": "ab", "o": ["c", "d"], "y": 1}, {"q": "x" * 40, "o": ["e", "f" * 30, "g"], "y": 2}]
    training_columns = {"label"}


class TestExtractiveQA(ScoredKindConformance):
    name = "extractive_qa"
    columns = {"question": "q", "context": "c", "answers": "a"}
    rows = [
        {"q": "who", "c": "abc def", "a": {"text": ["def"], "answer_start": [4]}},
        {"q": "where", "c": "x" * 40 + " yz", "a": [{"text": "yz", "answer_start": 41}]},
    ]
    training_columns = {"start", "end"}


class TestTagging(ScoredKindConformance):
    name = "tagging"
    columns = {"tokens": "w", "tags": "t"}
    labels = ["O", "B-PER", "I-PER"]
    rows = [
        {"w": ["ada", "ran"], "t": ["B-PER", "O"]},
        {"w": ["ab"] * 30, "t": [0, 1, 2] * 10},
        {"w": ["a", "b"], "t": [1, 1]},
    ]
    training_columns = {"labels", "words"}


class TestRetrieval(ScoredKindConformance):
    name = "retrieval"
    columns = {"text": "f", "english": "e"}
    rows = [{"f": "ab", "e": "cd"}, {"f": "ef", "e": "x" * 40}, {"f": "g", "e": "h"}]
    training_columns = {"side"}


class TestMining(ScoredKindConformance):
    name = "mining"
    columns = {"id": "i", "text": "f", "english_id": "j", "english": "e"}
    rows = [{"i": f"de-{n}", "f": letter, "j": f"en-{n}", "e": letter * 2} for n, letter in enumerate("abcdefgh")]
    training_columns = {"side"}


class TestMaskedLM(KindConformance):
    name = "masked_lm"
    columns = {"text": "t"}
    rows = [{"t": "abc"}, {"t": "x" * 40}]
    training_columns = {"special"}

    def test_it_is_trained_on_and_never_scored(self, read: list[dict[str, Any]], letters: Any) -> None:
        assert not self.kind.scored
        features = self.kind.encode(read, letters, self.block, training=True)
        with pytest.raises(NotImplementedError, match="masked_lm is not scored"):
            self.kind.predict(read, features, [np.zeros(1, dtype=np.float32)] * len(features), self.block, LANGUAGE)


def test_every_kind_is_tested() -> None:
    cases = [*KindConformance.__subclasses__(), *ScoredKindConformance.__subclasses__()]
    assert {case.name for case in cases if case is not ScoredKindConformance} == KINDS.keys()


def test_a_suite_with_another_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"there is no kind 'taging', only classification.*Did you mean 'tagging'\?"):
        TaskBlock(kind="taging", files="x", columns={})


def test_the_label_that_the_loss_skips_is_torchs_own() -> None:
    import torch

    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORE_INDEX
