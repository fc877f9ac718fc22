"""Preparing a plan: everything that its trials read is encoded before the first of them starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tunexfer.core.chain import Encoder, Source
from tunexfer.core.files import write_whole
from tunexfer.core.graph import Contents, Key, fingerprint
from tunexfer.core.scores import Split
from tunexfer.data.checkpoint import (
    check_lengths,
    config_padding,
    depth,
    encoder_content,
    resolve_encoder,
    tokenizer_content,
)
from tunexfer.data.encode import ENCODING_VERSION, Encoded, encode_source
from tunexfer.data.rows import Rows
from tunexfer.data.weights import facts_of, split_encoder
from tunexfer.errors import DataError
from tunexfer.tasks.kinds import KINDS
from tunexfer.tasks.suite import Suite, TaskBlock


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan's data and encoder, as trials need them. Loads from one small file; rows are mapped when used."""

    cache: Path
    encoder: Path
    """Folder of the encoder as transformers saves it."""
    padding: int
    """Id of the padding piece."""
    mask: int | None = None
    """Id of the mask piece; None if no masked language model is trained."""
    contents: Contents
    tasks: dict[str, TaskBlock]
    folders: dict[Key, Path]
    """Folders of encoded rows."""
    _open: dict[Key, Encoded] = field(default_factory=dict, compare=False)

    def encoded(self, task: str, language: str, split: Split) -> Encoded:
        key = (task, language, split)
        if key not in self._open:
            self._open[key] = Encoded(self.folders[key])
        return self._open[key]

    def token_ids(self, keys: Collection[Key]) -> NDArray[np.int64]:
        """Collect the tokenizer's ids that these rows use (the mask's, if they are masked), sorted.

        All ids up to the padding's are among them.
        """
        used = [self.encoded(*key).token_ids for key in keys]
        if any(KINDS[self.tasks[task].kind].masks for task, _, _ in keys):
            used.append(np.array([self.mask]))
        return np.unique(np.concatenate([np.arange(self.padding + 1), *used]))

    @cached_property
    def all_token_ids(self) -> NDArray[np.int64]:
        return self.token_ids(self.folders)

    @property
    def path(self) -> Path:
        """The file that `load` reads."""
        rows = [[*key, content] for key, content in self.contents.rows.items()]
        name = fingerprint([str(self.encoder), self.contents.encoder, self.contents.precision, rows])
        return self.cache / "prepared" / f"{name}.json"

    def save(self) -> None:
        plain = {
            "cache": str(self.cache),
            "encoder": str(self.encoder),
            "padding": self.padding,
            "mask": self.mask,
            "content": self.contents.encoder,
            "precision": self.contents.precision,
            "tasks": {name: block.model_dump() for name, block in self.tasks.items()},
            "rows": [[*key, self.contents.rows[key], str(folder)] for key, folder in self.folders.items()],
        }
        write_whole(self.path, json.dumps(plain, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Prepared:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = {(task, language, cast(Split, split)): rest for task, language, split, *rest in plain["rows"]}
        contents = Contents(
            encoder=plain["content"], rows={key: rest[0] for key, rest in rows.items()}, precision=plain["precision"]
        )
        return cls(
            cache=Path(plain["cache"]),
            encoder=Path(plain["encoder"]),
            padding=plain["padding"],
            mask=plain["mask"],
            contents=contents,
            tasks={name: TaskBlock(**block) for name, block in plain["tasks"].items()},
            folders={key: Path(rest[1]) for key, rest in rows.items()},
        )


def prepare(
    *,
    suite: Suite,
    folder: Path,
    encoder: Encoder,
    sources: Collection[Source],
    evaluated: Collection[Key],
    layers: Collection[tuple[str, int]] = (),
    precision: str,
    cache: Path,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Prepared:
    """Find the encoder, and encode every row that a trial may train on or be scored on, unless it is in the cache.

    folder:       the suite's `root` is relative to it
    layers:       (task, hidden layer) that a trial may take sentence vectors from
    on_progress:  called with the numbers of (task, language, split) that are done and that there are
    raises:       DataError, if rows are missing or don't fit the encoder
    """
    cache = cache.resolve()
    rows = Rows(suite, folder, cache)
    place = resolve_encoder(encoder, cache)
    keys: list[Key] = sorted({*((source.task, source.language, "train") for source in sources), *evaluated})
    tasks = {task: rows.task(task) for task, _, _ in keys}
    check_lengths(place, encoder, tasks)
    _check_layers(layers, depth(place), encoder)
    content = encoder_content(place, cache)
    vocabulary, causal = facts_of(split_encoder(place, content, cache))
    _check_pooling(causal, encoder, tasks)
    tokenizer = None
    tokenizer_hash = tokenizer_content(place, cache)
    pieces = _special_pieces(place, cache, tokenizer_hash)
    padding = _padding(pieces, vocabulary, place)
    contents: dict[Key, str] = {}
    folders: dict[Key, Path] = {}
    for done, key in enumerate(keys):
        contents[key] = rows.content(*key)
        name = fingerprint([contents[key], tokenizer_hash, ENCODING_VERSION])
        folders[key] = cache / "encoded" / name[:2] / name
        if not folders[key].is_dir():
            on_progress(done, len(keys))
            tokenizer = tokenizer or load_tokenizer(place)
            encode_source(
                rows.tables(*key),
                tasks[key[0]],
                tokenizer,
                folders[key],
                training=key[2] == "train",
                place=f"task {key[0]!r}, {key[2]} in {key[1]!r}",
            )
    on_progress(len(keys), len(keys))
    prepared = Prepared(
        cache=cache,
        encoder=place,
        padding=padding,
        mask=_mask(pieces, place) if any(KINDS[task.kind].masks for task in tasks.values()) else None,
        contents=Contents(encoder=content, rows=contents, precision=precision),
        tasks=tasks,
        folders=folders,
    )
    prepared.save()
    return prepared


def _check_layers(layers: Collection[tuple[str, int]], depth: int | None, encoder: Encoder) -> None:
    for task, layer in sorted(layers):
        if depth is not None and layer > depth:
            raise DataError(
                f"target {task!r}: there is no layer {layer} to take sentence vectors from: {encoder.name} has "
                f"{depth}. Write `layer:` from 0, the embeddings, to {depth}, or leave it out for the last."
            )


def _check_pooling(causal: bool, encoder: Encoder, tasks: Mapping[str, TaskBlock]) -> None:
    pooled = [name for name, task in tasks.items() if KINDS[task.kind].head in ("sequence", "choice")]
    if causal and encoder.pooling == "first" and pooled:
        raise DataError(
            f"{encoder.name} is a causal model: its first piece sees nothing but itself, and with `pooling: first` "
            f"that is all that {', '.join(pooled)} would read. Set `pooling: mean` in the space's `encoder:`."
        )


def load_tokenizer(encoder: Path) -> Any:
    """Load the fast tokenizer in an encoder's folder.

    raises: DataError, if transformers can't
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise a dozen unrelated types
        raise DataError(
            f"{encoder}: transformers can't load the tokenizer ({type(error).__name__}: {error})."
        ) from error


class _SpecialPieces(NamedTuple):
    """Ids of special pieces, None where the tokenizer names none, and the highest id of all pieces."""

    padding: int | None
    mask: int | None
    highest: int


def _special_pieces(encoder: Path, cache: Path, tokenizer_hash: str) -> _SpecialPieces:
    """Look them up. They are kept beside the file hashes, so that a prepared plan starts without tokenizer."""
    memo = cache / "hashes" / f"{tokenizer_hash}.special"
    if not memo.is_file():
        tokenizer = load_tokenizer(encoder)
        highest = max(tokenizer.get_vocab().values())
        write_whole(memo, json.dumps([tokenizer.pad_token_id, tokenizer.mask_token_id, highest]))
    return _SpecialPieces(*json.loads(memo.read_text()))


def _padding(pieces: _SpecialPieces, vocabulary: int, encoder: Path) -> int:
    if pieces.highest >= vocabulary:
        raise DataError(
            f"{encoder}: the tokenizer has {pieces.highest + 1} pieces, but the model has embeddings for "
            f"{vocabulary}. Resize it with `resize_token_embeddings` and save it again."
        )
    padding = config_padding(encoder) if pieces.padding is None else pieces.padding
    if padding is None or not 0 <= padding < vocabulary:
        raise DataError(
            f"{encoder}: neither the tokenizer nor config.json names a padding piece. Set `pad_token` in "
            "tokenizer_config.json to a piece that texts don't use."
        )
    return padding


def _mask(pieces: _SpecialPieces, encoder: Path) -> int:
    if pieces.mask is None:
        raise DataError(
            f"{encoder}: its tokenizer has no mask piece, so no masked language model can be trained. "
            "Leave the masked_lm task out, or use another encoder."
        )
    return pieces.mask
