"""What transformers' own examples do with the rows of each kind of task, on rows as tunexfer has them.

run_glue, run_ner, run_swag, run_qa and run_mlm of transformers 5: `Dataset.map`, a Trainer with the example's collator,
`Trainer.predict` and the example's post-processing. There is no example for sentence vectors; theirs is the recipe of
the model card of multilingual-e5. Lengths and padding are the example's own; not `padded` means padded to the longest
of the batch, as its options allow. The counting of hits is borrowed from tunexfer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
import transformers
from datasets import Dataset
from torch.nn.functional import normalize
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.metrics.answers import answer_scores, normaliser
from tunexfer.tasks.metrics.chunks import chunk_counts
from tunexfer.tasks.suite import TaskBlock

Columns = Mapping[str, list[Any]]


class Plain:
    """One kind of task by its example. A subclass gives the model, the encoding and what becomes of the logits."""

    auto: ClassVar[Any]
    pads: ClassVar[bool] = False
    """Whether the example pads every row to its `length` unless told otherwise."""
    length: ClassVar[int] = 512
    """Pieces."""

    def __init__(self, encoder: Path, task: TaskBlock, *, padded: bool, batch_size: int) -> None:
        self.task, self.padded, self.batch_size = task, padded, batch_size
        self.tokenizer = AutoTokenizer.from_pretrained(encoder)
        self.model = self.auto.from_pretrained(encoder, **self.model_options())

    def model_options(self) -> dict[str, Any]:
        return {}

    def encode(self, rows: Columns, training: bool) -> dict[str, list[Any]]:
        raise NotImplementedError

    @cached_property
    def collator(self) -> Callable[[Any], Any]:
        return default_data_collator if self.padded else DataCollatorWithPadding(self.tokenizer)

    def decode(self, rows: Dataset, features: Dataset, found: Any) -> float:
        """found: what `Trainer.predict` gives; returns: a metric of the kind, from 0 to 1"""
        raise NotImplementedError

    def features(self, rows: pa.Table, *, training: bool) -> Dataset:
        return Dataset(rows).map(
            self.encode,
            batched=True,
            fn_kwargs={"training": training},
            remove_columns=rows.column_names,
            new_fingerprint="not looked up",  # else the model is hashed
        )

    @property
    def padding(self) -> str | bool:
        return "max_length" if self.padded else False

    def train(self, features: Dataset) -> None:
        """One pass over the rows."""
        self.trainer(train_dataset=features).train()

    def score(self, rows: pa.Table, features: Dataset) -> float:
        return self.decode(Dataset(rows), features, self.trainer().predict(features))

    def trainer(self, **more: Any) -> Trainer:
        arguments = TrainingArguments(
            tempfile.gettempdir(),
            num_train_epochs=1,
            per_device_train_batch_size=self.batch_size,
            per_device_eval_batch_size=self.batch_size,
            learning_rate=2e-5,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(self.model, arguments, data_collator=self.collator, processing_class=self.tokenizer, **more)
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer


class Glue(Plain):
    auto, pads, length = AutoModelForSequenceClassification, True, 128

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": len(self.task.labels)}

    def encode(self, rows: Columns, training: bool) -> dict[str, list[Any]]:
        texts = (rows["text"], rows["text_pair"]) if rows["text_pair"][0] is not None else (rows["text"],)
        encoded = self.tokenizer(*texts, padding=self.padding, max_length=self.length, truncation=True)
        return {**encoded, "label": rows["label"]}

    def decode(self, rows: Dataset, features: Dataset, found: Any) -> float:
        return float((found.predictions.argmax(axis=1) == found.label_ids).mean())


class Ner(Plain):
    auto = AutoModelForTokenClassification

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": len(self.task.labels)}

    @cached_property
    def collator(self) -> Callable[[Any], Any]:
        return DataCollatorForTokenClassification(self.tokenizer)

    def encode(self, rows: Columns, training: bool) -> dict[str, list[Any]]:
        encoded = self.tokenizer(
            rows["tokens"], padding=self.padding, truncation=True, max_length=self.length, is_split_into_words=True
        )
        labels = []
        for number, tags in enumerate(rows["tags"]):
            before, own = None, []
            for word in encoded.word_ids(number):
                own.append(-100 if word is None or word == before else tags[word])
                before = word
            labels.append(own)
        return {**encoded, "labels": labels}

    def decode(self, rows: Dataset, features: Dataset, found: Any) -> float:
        names, hits = self.task.labels, np.zeros(3)
        for predicted, gold in zip(found.predictions.argmax(axis=2), found.label_ids, strict=True):
            there = [(names[one], names[right]) for one, right in zip(predicted, gold, strict=True) if right != -100]
            hits += chunk_counts([right for _, right in there], [one for one, _ in there])
        return float(2 * hits[0] / max(1, hits[1] + hits[2]))


class Swag(Plain):
    auto = AutoModelForMultipleChoice

    @cached_property
    def collator(self) -> Callable[[Any], Any]:
        return DataCollatorForMultipleChoice(self.tokenizer)

    def encode(self, rows: Columns, training: bool) -> dict[str, list[Any]]:
        prompts = [[prompt] * len(options) for prompt, options in zip(rows["prompt"], rows["options"], strict=True)]
        encoded = self.tokenizer(
            [*chain(*prompts)], [*chain(*rows["options"])], truncation=True, max_length=self.length
        )
        ends = np.cumsum([len(own) for own in prompts]).tolist()
        own = {
            name: [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            for name, values in encoded.items()
        }
        return {**own, "label": rows["label"]}

    def decode(self, rows: Dataset, features: Dataset, found: Any) -> float:
        return float((found.predictions.argmax(axis=1) == found.label_ids).mean())


class Squad(Plain):
    auto, pads, length = AutoModelForQuestionAnswering, True, 384
    overlap, n_best, longest_answer = 128, 20, 30

    def encode(self, rows: Columns, training: bool) -> dict[str, list[Any]]:
        encoded = self.tokenizer(
            [question.lstrip() for question in rows["question"]],
            rows["context"],
            truncation="only_second",
            max_length=self.length,
            stride=self.overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=self.padding,
        )
        row_of, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        made: dict[str, list[Any]] = {**encoded}
        if training:
            spans = [
                self.span(rows["answers"][row], offsets[number], encoded.sequence_ids(number))
                for number, row in enumerate(row_of)
            ]
            return made | {"start_positions": [start for start, _ in spans], "end_positions": [end for _, end in spans]}
        inside = [
            [place if text == 1 else None for place, text in zip(own, encoded.sequence_ids(number), strict=True)]
            for number, own in enumerate(offsets)
        ]
        return made | {"example_id": [rows["id"][row] for row in row_of], "offset_mapping": inside}

    @staticmethod
    def span(answers: list[dict[str, Any]], offsets: list[tuple[int, int]], texts: list[int | None]) -> tuple[int, int]:
        """First and last piece of the answer; 0, the first special piece, where the window doesn't hold it."""
        if not answers:
            return 0, 0
        begin, stop = answers[0]["start"], answers[0]["start"] + len(answers[0]["text"])
        first, last = texts.index(1), len(texts) - 1 - texts[::-1].index(1)
        if not (offsets[first][0] <= begin and offsets[last][1] >= stop):
            return 0, 0
        while first < len(offsets) and offsets[first][0] <= begin:
            first += 1
        while offsets[last][1] >= stop:
            last -= 1
        return first - 1, last + 1

    def decode(self, rows: Dataset, features: Dataset, found: Any) -> float:
        starts, ends = found.predictions
        windows: dict[str, list[int]] = {}
        for number, name in enumerate(features["example_id"]):
            windows.setdefault(name, []).append(number)
        normalise, f1 = normaliser(self.task.answer_language_rules, "en"), 0.0
        for row in rows:
            candidates = []
            for number in windows[row["id"]]:
                offsets = features[number]["offset_mapping"]
                best = [np.argsort(one[number])[: -self.n_best - 1 : -1].tolist() for one in (starts, ends)]
                for start in best[0]:
                    for end in best[1]:
                        if start >= len(offsets) or end >= len(offsets) or not offsets[start] or not offsets[end]:
                            continue
                        if end < start or end - start + 1 > self.longest_answer:
                            continue
                        score = starts[number][start] + ends[number][end]
                        candidates.append((score, offsets[start][0], offsets[end][1]))
            candidates = sorted(candidates, reverse=True)[: self.n_best]
            text = row["context"][candidates[0][1] : candidates[0][2]] if candidates else ""
            f1 += answer_scores(text, [answer["text"] for answer in row["answers"]], normalise)[1]
        return f1 / len(rows)


class Mlm(Plain):
    """`padded` stands for the example's default here: texts joined and cut into blocks of `length` without padding.

    Else each text is a row, as with `line_by_line`.
    """

    auto, pads, length = AutoModelForMaskedLM, True, 128

    @cached_property
    def collator(self) -> Callable[[Any], Any]:
        return DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=0.15)

    def encode(self, rows: Columns, training: bool) -> dict[str, list[Any]]:
        if not self.padded:
            return dict(
                self.tokenizer(rows["text"], truncation=True, max_length=self.length, return_special_tokens_mask=True)
            )
        encoded = self.tokenizer(rows["text"], return_special_tokens_mask=True)
        joined = {name: [*chain(*values)] for name, values in encoded.items()}
        whole = len(joined["input_ids"]) // self.length * self.length
        return {
            name: [own[start : start + self.length] for start in range(0, whole, self.length)]
            for name, own in joined.items()
        }


class Vectors(Plain):
    """Mean vectors of sentences in batches as they come, then tunexfer's search: only the vectors are compared."""

    auto = AutoModel

    def features(self, rows: pa.Table, *, training: bool) -> Dataset:
        """Nothing is encoded ahead; one feature for each sentence there is."""
        return Dataset.from_list(
            [
                {"row": number, "side": side, "sentence": row[field]}
                for number, row in enumerate(rows.to_pylist())
                for side, field in enumerate(("text", "english"))
                if row[field]
            ]
        )

    @torch.inference_mode()
    def score(self, rows: pa.Table, features: Dataset) -> float:
        self.model.eval()
        vectors: list[Any] = []
        for start in range(0, len(features), self.batch_size):
            sentences = features[start : start + self.batch_size]["sentence"]
            batch = self.tokenizer(
                sentences, max_length=self.length, padding=True, truncation=True, return_tensors="pt"
            )
            hidden = self.model(**batch).last_hidden_state
            hidden = hidden.masked_fill(~batch["attention_mask"][..., None].bool(), 0.0)
            vectors.extend(normalize(hidden.sum(dim=1) / batch["attention_mask"].sum(dim=1)[..., None]).numpy())
        kind, own = KINDS[self.task.kind], rows.to_pylist()
        found = [one for one in kind.predict(own, features.to_list(), vectors, self.task, "en") if one]
        return kind.summarise({name: [one[name] for one in found] for name in found[0]})[kind.main_metric]


PLAIN: dict[str, type[Plain]] = {
    "classification": Glue,
    "tagging": Ner,
    "multiple_choice": Swag,
    "extractive_qa": Squad,
    "retrieval": Vectors,
    "mining": Vectors,
    "masked_lm": Mlm,
}
