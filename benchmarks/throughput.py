"""Rows per second in training and scoring, of every kind of task, against transformers' own examples.

    python benchmarks/throughput.py                                      rows of the starter suite
    python benchmarks/throughput.py --suite my/suite.yaml --data my/data  rows of your own

Both have the same rows, encoder, batch size and threads, in one process, and take turns; ratios are medians over the
turns. The clock runs from rows in memory to a trained model, or to scores: tokenising is in it. `as shipped` is the
example with its own padding, `padded less` pads to the longest row of a batch instead (benchmarks/plain.py). Then the
parts are switched on one after the other, and the second table says what each is worth. Where a suite has no rows to
mine or to guess words in, they are made from its retrieval rows; its passages are made longer by joining them.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import datasets
import numpy as np
import pyarrow as pa
import torch
import transformers
import typer
from numpy.typing import NDArray
from plain import PLAIN, Plain
from transformers import AutoTokenizer

from tunexfer.cli.main import cache_folder
from tunexfer.core.chain import Encoder, Mixture, Source, Stage
from tunexfer.core.graph import Contents
from tunexfer.core.scores import Split
from tunexfer.data.batches import POOL
from tunexfer.data.checkpoint import encoder_content, resolve_encoder
from tunexfer.data.encode import Encoded, encode_source
from tunexfer.data.prepare import Prepared
from tunexfer.data.rows import Rows
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import TaskBlock, load_suite
from tunexfer.training import evaluate
from tunexfer.training.encoder import PlanEncoder
from tunexfer.training.model import Model, new_heads
from tunexfer.training.train import train_stage

TASK, LANGUAGE = "task", "en"
CPU = torch.device("cpu")
Seconds = tuple[float, float]
"""Spent on encoding, and on the rest."""
clock = time.perf_counter
Batches = Iterator[NDArray[np.int64]]


@dataclass(frozen=True)
class Case:
    """A kind's task and the canonical rows to train on and to score; None where the kind has none."""

    task: TaskBlock
    train: pa.Table | None
    test: pa.Table | None


# Rows


def cases(rows: Rows, trained: int, scored: int) -> dict[str, Case]:
    """The suite's first task of each kind, rows of all its languages mixed."""
    found: dict[str, Case] = {}
    for name, task in rows.suite.tasks.items():
        if task.kind not in found:
            train = _mixed(rows, name, "train", trained) if KINDS[task.kind].head else None
            found[task.kind] = Case(rows.task(name), train, _mixed(rows, name, "test", scored))
    if "extractive_qa" in found:
        task, train, test = (own := found["extractive_qa"]).task, own.train, own.test
        longer = task.model_copy(update={"max_length": PLAIN["extractive_qa"].length})
        found["extractive_qa"] = Case(longer, _passages(train), _passages(test))
    pairs = found["retrieval"].test.to_pylist()
    found["mining"] = Case(_made_up("mining"), None, _to_mine(pairs))
    found["masked_lm"] = Case(_made_up("masked_lm"), _texts(pairs, trained), None)
    return {kind: found[kind] for kind in PLAIN}


def _mixed(rows: Rows, name: str, split: Split, count: int) -> pa.Table:
    whole = pa.concat_tables([rows.table(name, language, split) for language in rows.languages(name, split)])
    order = np.random.default_rng(0).permutation(len(whole))[:count]
    ids = pa.array([str(number) for number in range(len(order))])  # parallel rows have the same
    return whole.take(order).set_column(0, "id", ids).combine_chunks()


def _made_up(kind: Any) -> TaskBlock:
    return TaskBlock(kind=kind, files="made up", columns={})


def _passages(rows: pa.Table) -> pa.Table:
    """Each context among up to 24 other short ones, its answers moved along."""
    draw, own = random.Random(0), rows.to_pylist()
    short = [row["context"] for row in own if len(row["context"]) < 100]
    for row in own:
        before, after = (" ".join(draw.sample(short, min(draw.randrange(13), len(short)))) for _ in range(2))
        for answer in row["answers"]:
            answer["start"] += len(before) + 1
        row["context"] = f"{before} {row['context']} {after}"
    return pa.Table.from_pylist(own, rows.schema)


def _to_mine(pairs: list[dict[str, Any]]) -> pa.Table:
    """Of every four pairs the fourth comes apart: two sentences without a translation."""
    made = []
    for number, pair in enumerate(pairs):
        whole = {"id": f"x-{number}", "english_id": f"y-{number}", "tuning": False}
        whole |= {"text": pair["text"], "english": pair["english"]}
        if number % 4 < 3:
            made.append(whole)
        else:
            made += [whole | {"english_id": None, "english": None}, whole | {"id": f"y-{number}", "text": None}]
    return pa.Table.from_pylist(made, KINDS["mining"].schema)


def _texts(pairs: list[dict[str, Any]], count: int) -> pa.Table:
    """Up to 12 sentences one after the other."""
    draw = random.Random(0)
    own = [{"id": str(n), "text": " ".join(p["text"] for p in draw.sample(pairs, 1 + n % 12))} for n in range(count)]
    return pa.Table.from_pylist(own, KINDS["masked_lm"].schema)


# Ours


class Whole(Prepared):
    """As if texts used every piece of the checkpoint: nothing is trimmed."""

    def pieces(self, keys: Any) -> NDArray[np.int64]:
        return np.arange(len(AutoTokenizer.from_pretrained(self.encoder)))


@dataclass(frozen=True)
class Ours:
    """A case as a trial of tunexfer does it: encode its rows, train one pass over them, or score them."""

    case: Case
    encoder: PlanEncoder
    prepared: Prepared
    """Still without rows."""
    batch_size: int
    freeze: bool

    def train(self, *, trimmed: bool = True, pool: int = POOL) -> Seconds:
        with self._encoded("train", self.case.train) as (prepared, encoded, seconds):
            stage = Stage(
                name=TASK,
                mixture=Mixture(sources=(Source(task=TASK, language=LANGUAGE),), shares=(1.0,)),
                learning_rate=2e-5,
                steps=-(-len(encoded) // self.batch_size),
                batch_size=self.batch_size,
            )
            started = clock()
            with patch("tunexfer.data.batches.POOL", pool):
                train_stage(
                    stage,
                    encoder=self.encoder,
                    recipe=Encoder(name=TASK, pooling="mean", freeze_embeddings=self.freeze),
                    parent=self.encoder.start,
                    prepared=prepared if trimmed else Whole(**vars(prepared)),
                    seed=0,
                    device=CPU,
                )
            return seconds, clock() - started

    def score(self, batches: Callable[[NDArray[np.int64], int], Batches] = evaluate._batches) -> Seconds:
        with self._encoded("test", self.case.test) as (prepared, encoded, seconds):
            started, task = clock(), self.case.task
            heads = new_heads({TASK: task}, self.encoder.module.config, 0) if KINDS[task.kind].head else {}
            lookup = self.encoder.load(self.encoder.start, prepared.all_token_ids, train_words=False)
            scorer = evaluate.Scorer(Model(self.encoder.module, heads, "mean"), lookup, device=CPU, precision="fp32")
            with patch.object(evaluate, "_batches", batches):
                scorer.score(TASK, task, LANGUAGE, "test", encoded)
            return seconds, clock() - started

    def in_order(self, lengths: NDArray[np.int64], pieces: int) -> Batches:
        yield from np.split(np.arange(len(lengths)), range(self.batch_size, len(lengths), self.batch_size))

    def by_length(self, lengths: NDArray[np.int64], pieces: int) -> Batches:
        order = np.argsort(-lengths, kind="stable")
        yield from (order[places] for places in self.in_order(lengths, pieces))

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.prepared.encoder)

    @contextmanager
    def _encoded(self, split: Split, rows: Any) -> Iterator[tuple[Prepared, Encoded, float]]:
        training, tokenizer = split == "train", self._tokenizer
        with tempfile.TemporaryDirectory() as folder:
            place, started = Path(folder) / "rows", clock()
            encoded = encode_source([rows], self.case.task, tokenizer, place, training=training, place=TASK)
            seconds = clock() - started
            folders = {(TASK, LANGUAGE, split): place}
            yield replace(self.prepared, tasks={TASK: self.case.task}, folders=folders, _open={}), encoded, seconds


# Turns

Variants = dict[str, Callable[[], Seconds]]
SHIPPED, LESS, OURS = "as shipped", "padded less", "tunexfer"


def variants(kind: str, ours: Ours, folder: Path) -> tuple[Variants, Variants]:
    """How the case is trained and how it is scored: from the example to tunexfer, one switch after the other."""
    train: Variants = {}
    score: Variants = {}
    for padded in (True, False) if PLAIN[kind].pads else (False,):
        plain = PLAIN[kind](folder, ours.case.task, padded=padded, batch_size=ours.batch_size)
        plain.model.get_input_embeddings().weight.requires_grad = not ours.freeze
        name = SHIPPED if padded or not PLAIN[kind].pads else LESS
        train[name] = partial(plain_training, plain, ours.case.train)
        score[name] = partial(plain_scoring, plain, ours.case.test)
    train |= {
        "our stage": partial(ours.train, trimmed=False, pool=1),
        "vocabulary trimmed": partial(ours.train, pool=1),
        OURS: ours.train,
    }
    score |= {
        "our scorer": partial(ours.score, ours.in_order),
        "by length": partial(ours.score, ours.by_length),
        OURS: ours.score,
    }
    return (train if ours.case.train else {}), (score if ours.case.test else {})


def plain_training(plain: Plain, rows: pa.Table) -> Seconds:
    started = clock()
    features = plain.features(rows, training=True)
    encoded = clock()
    plain.train(features)
    return encoded - started, clock() - encoded


def plain_scoring(plain: Plain, rows: pa.Table) -> Seconds:
    started = clock()
    features = plain.features(rows, training=False)
    encoded = clock()
    plain.score(rows, features)
    return encoded - started, clock() - encoded


class Taken:
    """What each variant took, turn by turn."""

    def __init__(self, rows: int, own: Variants, turns: int) -> None:
        self.rows = rows
        self.seconds: dict[str, list[Seconds]] = {name: [] for name in own}
        for _ in range(turns):
            for name, run in own.items():
                gc.collect()
                self.seconds[name].append(run())

    def whole(self, name: str) -> list[float]:
        return [sum(one) for one in self.seconds[name]]

    def rate(self, name: str) -> str:
        """Rows per second."""
        return f"{self.rows / statistics.median(self.whole(name)):,.0f}" if name in self.seconds else "–"

    def ratio(self, name: str, other: str) -> str:
        """How many times as fast `name` is as `other`."""
        if name not in self.seconds or other not in self.seconds:
            return "–"
        pairs = zip(self.whole(other), self.whole(name), strict=True)
        return f"{statistics.median(slow / fast for slow, fast in pairs):.2f}"

    def encoded_before(self) -> str:
        return f"{statistics.median(sum(one) / one[1] for one in self.seconds[OURS]):.2f}"


def table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}")
    for line in lines:
        print(f"| {' | '.join(line)} |", flush=True)


def report(doing: str, taken: dict[str, Taken], steps: Sequence[str]) -> None:
    """steps: what is switched on between the example and tunexfer, in order"""
    table(
        f"{doing}: rows per second, and how many times as fast tunexfer is",
        ["kind", SHIPPED, LESS, OURS, f"against {SHIPPED}", f"against {LESS}"],
        [
            [kind, *map(own.rate, (SHIPPED, LESS, OURS)), own.ratio(OURS, SHIPPED), own.ratio(OURS, LESS)]
            for kind, own in taken.items()
        ],
    )
    lines = []
    for kind, own in taken.items():
        first = LESS if LESS in own.seconds else SHIPPED
        chain = [first, *steps, OURS]
        gains = [own.ratio(new, old) for old, new in itertools.pairwise(chain)]
        lines.append([kind, own.ratio(LESS, SHIPPED), *gains, own.encoded_before()])
    last = "batches by pieces" if "by length" in steps else "batches by length"
    table(f"{doing}: what each part is worth", ["kind", LESS, *steps, last, "rows encoded before"], lines)


def main(
    suite: Annotated[str, typer.Option(help="A shipped suite, or a suite file with a task of every kind.")] = "starter",
    data: Annotated[Path | None, typer.Option(help="Folder that the suite's files are below, if not its own.")] = None,
    encoder: Annotated[str, typer.Option(help="As in a space file.")] = "starter-e5-small-4l",
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be given again.")] = None,
    rows: Annotated[int, typer.Option(help="To train on.")] = 128,
    scored: Annotated[int, typer.Option(help="Rows to score.")] = 384,
    batch_size: int = 16,
    threads: int = os.cpu_count() or 1,
    turns: int = 3,
    freeze_embeddings: Annotated[bool, typer.Option(help="Neither side trains the word embeddings.")] = False,
    processor_time: Annotated[bool, typer.Option(help="For a busy machine, with one thread: not by the wall.")] = False,
) -> None:
    global clock
    clock = time.process_time if processor_time else time.perf_counter
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizers'
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    cache = cache_folder()
    loaded, beside = load_suite(suite)
    if data:
        loaded = loaded.model_copy(update={"root": str(data.absolute())})
    folder = resolve_encoder(Encoder(name=encoder), cache)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prepared = Prepared(
        cache=cache,
        encoder=folder,
        padding=tokenizer.pad_token_id,
        mask=tokenizer.mask_token_id,
        contents=Contents(encoder=encoder_content(folder, cache), rows={}, precision="fp32"),
        tasks={},
        folders={},
    )
    module = PlanEncoder(prepared, CPU)
    print(f"{suite}, {encoder}, {rows} rows trained on and {scored} scored, batches of {batch_size}, {threads} threads")
    training: dict[str, Taken] = {}
    scoring: dict[str, Taken] = {}
    for name, case in cases(Rows(loaded, beside, cache), rows, scored).items():
        if kind and name not in kind:
            continue
        size = max(1, batch_size // 4) if name == "masked_lm" else batch_size  # the example's logits are wide
        to_train, to_score = variants(name, Ours(case, module, prepared, size, freeze_embeddings), folder)
        gc.freeze()  # Trainer looks for garbage before each run: at all of torch, if it may
        if to_train:
            training[name] = Taken(len(case.train), to_train, turns)
        if to_score:
            scoring[name] = Taken(len(case.test), to_score, turns)
        print(f"{name}: done", flush=True)
    report("Training", training, ["our stage", "vocabulary trimmed"])
    report("Scoring", scoring, ["our scorer", "by length"])


if __name__ == "__main__":
    typer.run(main)
