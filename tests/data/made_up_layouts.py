"""Folders of data as people have them, made up: the files of each, and what `tunexfer init` has to see in them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = list[dict[str, Any]]
Files = Mapping[str, str | bytes]
WORDS = "river stone bread lamp garden window copper feather island market winter thread".split()
SWAHILI = "mto jiwe mkate taa bustani dirisha shaba unyoya kisiwa soko baridi uzi".split()


@dataclass(frozen=True)
class Layout:
    """A folder, and the one task in it."""

    files: Files
    kind: str
    columns: dict[str, Any]
    train: list[str] = field(default_factory=list)
    """Languages with train rows, as tunexfer writes them."""
    validation: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    doubts: tuple[str, ...] = ()
    """Keys of the task that have to be marked."""


def text(number: int, words: list[str] = WORDS) -> str:
    """A sentence that no other number has."""
    return f"the {words[number % 12]} is near a {words[number // 12 % 12]} and {words[(5 * number + 1) % 12]} {number}"


def reviews(count: int = 24, words: list[str] = WORDS, labels: Iterable[Any] = ("bad", "good")) -> Rows:
    names = list(labels)
    return [{"text": text(n, words), "label": names[n % len(names)]} for n in range(count)]


def pairs(count: int = 24) -> Rows:
    names = ["entailment", "neutral", "contradiction"]
    return [{"premise": text(n), "hypothesis": text(n + 30), "label": names[n % 3]} for n in range(count)]


def questions(count: int = 12) -> Rows:
    rows = []
    for n in range(count):
        context = f"{text(n)} . {text(n + 12)}"
        answers = {"text": [WORDS[n % 12]], "answer_start": [context.index(WORDS[n % 12])]}
        rows.append({"id": f"q{n}", "context": context, "question": f"what is near , number {n} ?", "answers": answers})
    return rows


def sentences(names: bool = True, count: int = 12) -> Rows:
    tags = ["O", "B-LOC", "I-LOC", "O", "B-PER"]
    numbers = {"O": 0, "B-PER": 1, "I-PER": 2, "B-LOC": 3, "I-LOC": 4}
    own = [tags, [*tags, "I-PER"]]
    return [
        {
            "tokens": [WORDS[(n + place) % 12] for place in range(len(own[n % 2]))],
            "ner_tags": own[n % 2] if names else [numbers[tag] for tag in own[n % 2]],
        }
        for n in range(count)
    ]


def jsonl(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: Rows, separator: str = ",", header: bool = True) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
    if header:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return stream.getvalue()


def parquet(rows: Rows, features: Mapping[str, Any] | None = None) -> bytes:
    made = pa.Table.from_pylist(rows)
    if features:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(made, sink)
    return sink.getvalue()


def conll(rows: Rows, between: str = "", separator: str = " ") -> str:
    middle = f"{separator}{between}" if between else ""
    lines = (
        "".join(f"{word}{middle}{separator}{tag}\n" for word, tag in zip(row["tokens"], row["ner_tags"], strict=True))
        for row in rows
    )
    return "\n".join(lines)


def words(rows: Rows) -> str:
    return "".join(" ".join(row["tokens"]) + "\n" for row in rows)


def tags(rows: Rows) -> str:
    return "".join(" ".join(row["ner_tags"]) + "\n" for row in rows)


def zipped(files: Files) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def tarred(files: Files) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else content.encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def conllu(count: int = 8) -> str:
    def line(place: int, n: int) -> str:
        word, tag = WORDS[(n + place) % 12], ["NOUN", "VERB", "DET"][place % 3]
        return f"{place}\t{word}\t{word}\t{tag}\t_\t_\t{place - 1}\tdep\t_\t_\n"

    return "".join(f"# sent_id = {n}\n" + "".join(line(place, n) for place in range(1, 5)) + "\n" for n in range(count))


def squad(rows: Rows) -> str:
    articles = []
    for row in rows:
        answers = [{"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}]
        asked = {"id": row["id"], "question": row["question"], "answers": answers}
        articles.append({"title": "a", "paragraphs": [{"context": row["context"], "qas": [asked]}]})
    return json.dumps({"version": "1.1", "data": articles})


def splits(
    form: str, make: Callable[[Rows], str | bytes], rows: Rows, names: str = "train dev test"
) -> dict[str, str | bytes]:
    """A file a split; rows are shared out, so that no two splits have one in common."""
    own = names.split()
    size = len(rows) // len(own)
    return {form.format(split=split): make(rows[place * size :][:size]) for place, split in enumerate(own)}


REVIEW = {"text": "text", "label": "label"}
NLI = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
NER = {"tokens": "tokens", "tags": "ner_tags"}
QA = {"question": "question", "context": "context", "answers": "answers"}
ALL = {"train": ["en"], "validation": ["en"], "test": ["en"]}
SENTIMENT = ["bad", "good"]
ENTAILMENT = ["contradiction", "entailment", "neutral"]
LOCATIONS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
SPLIT_FILES = splits("{split}.jsonl", jsonl, reviews(36))
SWAHILI_REVIEWS = reviews(12, SWAHILI)
NUMBERS = {"text_pair": "column2", "text": "column1", "label": "column3"}

LAYOUTS: dict[str, Layout] = {
    "a file a split": Layout(SPLIT_FILES, "classification", REVIEW, **ALL, labels=SENTIMENT, doubts=("rows",)),
    "splits called valid and training": Layout(
        splits("{split}.jsonl", jsonl, reviews(36), "training valid test"),
        "classification", REVIEW, **ALL, labels=SENTIMENT, doubts=("rows",),
    ),
    "a folder a language": Layout(
        splits("en/{split}.jsonl", jsonl, reviews(36)) | {"sw/test.jsonl": jsonl(SWAHILI_REVIEWS)},
        "classification", REVIEW, ["en"], ["en"], ["en", "sw"], SENTIMENT,
    ),
    "a folder a split": Layout(
        splits("{split}/en.jsonl", jsonl, reviews(36)) | {"test/sw.jsonl": jsonl(SWAHILI_REVIEWS)},
        "classification", REVIEW, ["en"], ["en"], ["en", "sw"], SENTIMENT,
    ),
    "a file a language": Layout(
        {"en.jsonl": jsonl(reviews()), "sw.jsonl": jsonl(SWAHILI_REVIEWS)},
        "classification", REVIEW, [], [], ["en", "sw"], SENTIMENT, ("splits",),
    ),
    "language and split in a name": Layout(
        splits("reviews_en_{split}.csv", table, reviews(36)) | {"reviews_sw_test.csv": table(SWAHILI_REVIEWS)},
        "classification", REVIEW, ["en"], ["en"], ["en", "sw"], SENTIMENT,
    ),
    "split and language in a name": Layout(
        splits("{split}-eng_Latn.tsv", lambda rows: table(rows, "\t"), reviews(36))
        | {"test-swh_Latn.tsv": table(SWAHILI_REVIEWS, "\t")},
        "classification", REVIEW, ["en"], ["en"], ["en", "sw"], SENTIMENT,
    ),
    "codes of three letters": Layout(
        splits("hau/{split}.jsonl", jsonl, reviews(36)) | {"pcm/test.jsonl": jsonl(SWAHILI_REVIEWS)},
        "classification", REVIEW, ["ha"], ["ha"], ["ha", "pcm"], SENTIMENT,
    ),
    "languages in the test names alone": Layout(
        splits("{split}.tsv", lambda rows: table(rows, "\t"), reviews(24), "train dev")
        | {"test-de.tsv": table(SWAHILI_REVIEWS, "\t"), "test-sw.tsv": table(SWAHILI_REVIEWS, "\t")},
        "classification", REVIEW, ["en"], ["en"], ["de", "sw"], SENTIMENT, ("rows",),
    ),
    "a table without a header": Layout(
        splits("{split}.tsv", lambda rows: table(rows, "\t", header=False), reviews(36)),
        "classification", {"text": "column1", "label": "column2"}, **ALL, labels=SENTIMENT,
        doubts=("read", "rows", "columns"),
    ),
    "pairs without a header": Layout(
        splits("{split}.tsv", lambda rows: table(rows, "\t", header=False), pairs(36)),
        "classification", NUMBERS, **ALL, labels=ENTAILMENT, doubts=("read", "rows", "columns"),
    ),
    "semicolons": Layout(
        splits("{split}.csv", lambda rows: table(rows, ";"), reviews(36)),
        "classification", REVIEW, **ALL, labels=SENTIMENT, doubts=("rows",),
    ),
    "quotes and commas in a CSV": Layout(
        splits("{split}.csv", table, [row | {"text": f'"{row["text"]}", she said'} for row in reviews(36)]),
        "classification", REVIEW, **ALL, labels=SENTIMENT, doubts=("rows",),
    ),
    "premises and hypotheses": Layout(
        splits("xnli/en/{split}.jsonl", jsonl, pairs(36)) | {"xnli/sw/test.jsonl": jsonl(pairs(12))},
        "classification", NLI, ["en"], ["en"], ["en", "sw"], ENTAILMENT,
    ),
    "two sentences, labels as numbers": Layout(
        splits("en/{split}.jsonl", jsonl, [
            {"sentence1": text(n), "sentence2": text(n + 40), "label": n % 2, "idx": n} for n in range(36)
        ]),
        "classification", {"text": "sentence1", "text_pair": "sentence2", "label": "label", "id": "idx"}, **ALL,
        labels=["0", "1"], doubts=("labels",),
    ),
    "labels with a gap for no gold": Layout(
        splits("en/{split}.jsonl", jsonl, [
            {"premise": row["premise"], "hypothesis": row["hypothesis"],
             "gold_label": "-" if n % 7 == 5 else row["label"]}
            for n, row in enumerate(pairs(36))
        ]),
        "classification", NLI | {"label": "gold_label"}, **ALL, labels=ENTAILMENT,
    ),
    "a column of languages": Layout(
        splits("{split}.jsonl", jsonl, [
            row | {"lang": ["en", "sw"][n // 3 % 2]} for n, row in enumerate(reviews(36))
        ]),
        "classification", REVIEW, ["en", "sw"], ["en", "sw"], ["en", "sw"], SENTIMENT,
    ),
    "columns of languages and splits in one file": Layout(
        {"all.csv": table([
            row | {"language": ["en", "sw"][n % 2], "split": ["train", "train", "dev", "dev", "test", "test"][n % 6]}
            for n, row in enumerate(reviews(72, labels=["bad", "bad", "good", "good", "bad", "good", "good", "bad"]))
        ])},
        "classification", REVIEW, ["en", "sw"], ["en", "sw"], ["en", "sw"], SENTIMENT,
    ),
    "NER, tags as names": Layout(
        splits("ner/en/{split}.jsonl", jsonl, sentences(count=24)) | {"ner/de/test.jsonl": jsonl(sentences(count=5))},
        "tagging", NER, ["en"], ["en"], ["de", "en"], LOCATIONS,
    ),
    "NER, tags as numbers": Layout(
        splits("en/{split}.jsonl", jsonl, sentences(names=False, count=24)),
        "tagging", NER, **ALL, labels=["O", "B-1", "I-1", "B-2", "I-2"], doubts=("labels",),
    ),
    "NER in a Parquet file that names its tags": Layout(
        splits("en/{split}-00000-of-00001.parquet", lambda rows: parquet(rows, {
            "ner_tags": {"feature": {"names": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], "_type": "ClassLabel"},
                         "_type": "Sequence"},
        }), sentences(names=False, count=24)),
        "tagging", NER, **ALL, labels=["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    ),
    "CoNLL in text files": Layout(
        splits("{split}.txt", conll, sentences(count=24)),
        "tagging", {"tokens": "tokens", "tags": "tags"}, **ALL, labels=LOCATIONS, doubts=("rows",),
    ),
    "CoNLL in four columns": Layout(
        splits("eng.{split}", lambda rows: "-DOCSTART- -X- -X- O\n\n" + conll(rows, "NN I-NP"), sentences(count=24)),
        "tagging", {"tokens": "tokens", "tags": "tags"}, **ALL, labels=LOCATIONS, doubts=("columns",),
    ),
    "CoNLL with tabs": Layout(
        splits("{split}/en.conll", lambda rows: conll(rows, separator="\t"), sentences(count=24)),
        "tagging", {"tokens": "tokens", "tags": "tags"}, **ALL, labels=LOCATIONS,
    ),
    "CoNLL-U": Layout(
        {f"{code}_x-ud-{split}.conllu": conllu() for code, split in (("en", "dev"), ("en", "test"), ("fi", "test"))}
        | {"en_x-ud-train.conllu": conllu(20)},
        "tagging", {"tokens": "tokens", "tags": "pos_tags"}, ["en"], ["en"], ["en", "fi"], ["DET", "NOUN", "VERB"],
        ("columns",),
    ),
    "nested SQuAD": Layout(
        splits("{split}-v1.1.json", squad, questions(24), "train dev"),
        "extractive_qa", QA, ["en"], ["en"], [], doubts=("rows",),
    ),
    "SQuAD a language": Layout(
        {"xquad.en.json": squad(questions()), "xquad.de.json": squad(questions())},
        "extractive_qa", QA, [], [], ["de", "en"], doubts=("splits",),
    ),
    "questions in JSON lines": Layout(
        splits("en/{split}.jsonl", jsonl, questions(36), "train validation test"), "extractive_qa", QA, **ALL,
    ),
    "options in columns": Layout(
        splits("en/{split}.jsonl", jsonl, [
            {"premise": text(n), "question": ["cause", "effect"][n % 2], "choice1": text(n + 1), "choice2": text(n + 2),
             "label": n % 2} for n in range(36)
        ]),
        "multiple_choice", {"prompt": ["premise", "question"], "options": ["choice1", "choice2"]}, **ALL,
    ),
    "options in a list, the answer as a letter": Layout(
        splits("en/{split}.jsonl", jsonl, [
            {"question": text(n), "choices": {"text": [text(n + 1), text(n + 2)], "label": ["A", "B"]},
             "answerKey": "AB"[n % 2]} for n in range(36)
        ]),
        "multiple_choice", {"prompt": "question", "options": "choices.text", "label": "answerKey"}, **ALL,
        labels=["A", "B"],
    ),
    "pairs of translations": Layout(
        {"tatoeba/swa/test.jsonl": jsonl([
            {"source_sentence": text(n, SWAHILI), "target_sentence": text(n)} for n in range(24)
        ])},
        "retrieval", {"text": "source_sentence", "english": "target_sentence"}, [], [], ["sw"],
    ),
    "translations side by side in a table": Layout(
        {"swa/dev.tsv": table([{"sw": text(n, SWAHILI), "en": text(n)} for n in range(24)], "\t")},
        "retrieval", {"text": "sw", "english": "en"}, [], ["sw"], [],
    ),
    "Tatoeba's files": Layout(
        {f"tatoeba.{code}-eng.{side}": "".join(f"{text(n, words)}\n" for n in range(12))
         for code in ("deu", "swh") for side, words in ((code, SWAHILI), ("eng", WORDS))},
        "retrieval", {"text": "text", "english": "english"}, [], [], ["de", "sw"], doubts=("splits",),
    ),
    "parallel text, a file a language": Layout(
        {f"{split}.{code}": "".join(f"{text(n + shift, words)}\n" for n in range(12))
         for split, shift in (("dev", 0), ("test", 40)) for code, words in (("en", WORDS), ("sw", SWAHILI))},
        "retrieval", {"text": "text", "english": "english"}, [], ["sw"], ["sw"], doubts=("rows",),
    ),
    "gzip": Layout(
        splits("en/{split}.jsonl.gz", lambda rows: gzip.compress(jsonl(rows).encode()), reviews(36)),
        "classification", REVIEW, **ALL, labels=SENTIMENT,
    ),
    "bzip2": Layout(
        splits("en/{split}.csv.bz2", lambda rows: bz2.compress(table(rows).encode()), reviews(36)),
        "classification", REVIEW, **ALL, labels=SENTIMENT,
    ),
    "shards of Parquet": Layout(
        {f"sw/train-0000{n}-of-00002.parquet": parquet(reviews(36)[n::2]) for n in range(2)}
        | {"sw/test-00000-of-00001.parquet": parquet([row | {"text": row["text"] + " !"} for row in reviews(36)])},
        "classification", REVIEW, ["sw"], ["sw"], ["sw"], SENTIMENT, ("validation_from_train",),
    ),
    "an array of objects": Layout(
        splits("en/{split}.json", lambda rows: json.dumps(rows, indent=1), reviews(36)),
        "classification", REVIEW, **ALL, labels=SENTIMENT,
    ),
    "running text": Layout(
        {"train.sw.txt": "".join(f"{text(n, SWAHILI)}\n" for n in range(24))},
        "masked_lm", {"text": "text"}, ["sw"], [], [],
    ),
    "a language told by its letters": Layout(
        splits("{split}.jsonl", jsonl, [row | {"text": f"река и хлеб {n}"} for n, row in enumerate(reviews(36))]),
        "classification", REVIEW, ["ru"], ["ru"], ["ru"], SENTIMENT, ("rows",),
    ),
    "words and tags in files of their own": Layout(
        splits("{split}.words", words, sentences(count=24)) | splits("{split}.tags", tags, sentences(count=24)),
        "tagging", {"tokens": "tokens", "tags": "tags"}, **ALL, labels=LOCATIONS, doubts=("files", "rows"),
    ),
    "words and tags, a folder a language": Layout(
        splits("en/{split}/seq.in", words, sentences(count=24))
        | splits("en/{split}/seq.out", tags, sentences(count=24))
        | {"de/test/seq.in": words(sentences(count=5)), "de/test/seq.out": tags(sentences(count=5))},
        "tagging", {"tokens": "tokens", "tags": "tags"}, ["en"], ["en"], ["de", "en"], LOCATIONS, ("files",),
    ),
    "a ZIP archive": Layout(
        {"news.zip": zipped(splits("{split}/en.csv", table, reviews(36)) | {"test/sw.csv": table(SWAHILI_REVIEWS)}
                            | {"__MACOSX/test/._sw.csv": "?"})},
        "classification", REVIEW, ["en"], ["en"], ["en", "sw"], SENTIMENT,
    ),
    "an archive a language": Layout(
        {"en.tar.gz": tarred(splits("{split}.jsonl", jsonl, reviews(36))),
         "sw.tar.gz": tarred({"test.jsonl": jsonl(SWAHILI_REVIEWS)})},
        "classification", REVIEW, ["en"], ["en"], ["en", "sw"], SENTIMENT,
    ),
    "an archive a split": Layout(
        splits("{split}.jsonl.zip", lambda rows: zipped({"rows.jsonl": jsonl(rows)}), reviews(36)),
        "classification", REVIEW, **ALL, labels=SENTIMENT, doubts=("rows",),
    ),
    "files beside the data": Layout(
        splits("en/{split}.jsonl", jsonl, reviews(36))
        | {"README.md": "# Mine\n", "LICENSE": "MIT", ".hidden/en/test.jsonl": "?"},
        "classification", REVIEW, **ALL, labels=SENTIMENT,
    ),
}  # fmt: skip


def write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
