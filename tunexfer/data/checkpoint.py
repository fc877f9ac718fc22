"""Checkpoints of encoders, from an installed package, a local folder or the Hugging Face hub, and their contents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunexfer.core.chain import Encoder
from tunexfer.core.files import sha256, write_whole
from tunexfer.core.graph import fingerprint
from tunexfer.errors import DataError
from tunexfer.tasks.installed import build, encoder_provider
from tunexfer.tasks.suite import TaskBlock, starter_hint

WEIGHTS = ("config.json", "*.safetensors")
SHARDS = "*.safetensors.index.json"
"""Names the files that weights in several files are in."""
LAYERS = ("num_hidden_layers", "n_layers", "num_layers")
"""Names of the number of hidden layers in configs; `n_layers` is DistilBERT's."""
POSITIONS = ("max_position_embeddings", "n_positions")
"""Names of the number of positions in configs; `n_positions` is GPT-2's."""
POSITIONS_AFTER_PADDING = {
    *("camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mluke", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Types of models in transformers whose `create_position_ids_from_input_ids` begins at `padding_idx + 1`."""
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "*.model")


def resolve_encoder(encoder: Encoder, cache: Path) -> Path:
    """Return the folder with the encoder's config, safetensors weights and fast tokenizer.

    cache: where encoders of installed packages are built
    raises: DataError, saying what is missing
    """
    if provider := encoder_provider(encoder.name):
        folder = build(provider, cache)
    else:
        folder = Path(encoder.name).expanduser()
        if not folder.is_dir():
            folder = _download(encoder)
    check_files(folder)
    return folder


def check_files(folder: Path) -> None:
    """Check that an encoder's files are there and whole, as far as that shows without loading them.

    raises: DataError, naming the file
    """
    for needed in ("config.json", "*.safetensors", "tokenizer.json"):
        if not list(folder.glob(needed)):
            raise DataError(
                f"there is no {needed} in {folder}. tunexfer reads an encoder's weights from safetensors and needs a "
                "fast tokenizer; load the model with transformers once and save both with `save_pretrained`, then name "
                "that folder."
            )
    _config(folder)
    for index in folder.glob(SHARDS):
        shards = set(_json(index).get("weight_map", {}).values())
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise DataError(f"{index} names {', '.join(missing)}, which isn't there. Download the encoder again.")
    for file in folder.glob("*.safetensors"):
        _check_safetensors(file)


def _check_safetensors(file: Path) -> None:
    """Compare a file's length with what its header says (https://github.com/huggingface/safetensors, "Format")."""
    try:
        with file.open("rb") as stream:
            header = stream.read(int.from_bytes(stream.read(8), "little"))
        tensors = json.loads(header)
        end = max((own["data_offsets"][1] for name, own in tensors.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(f"{file} is no safetensors file, or only its beginning. Download the encoder again.") from error
    size, expected = file.stat().st_size, 8 + len(header) + end
    if size != expected:
        raise DataError(f"{file} has {size:,} of {expected:,} bytes: it isn't whole. Download the encoder again.")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{file} is not JSON: {error}. Download the encoder again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} has to hold a JSON object. Download the encoder again.")
    return content


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json")


def find_encoder(encoder: Encoder, cache: Path) -> Path | None:
    """Return the folder of `resolve_encoder`, or None if the encoder has to be built or downloaded first."""
    if provider := encoder_provider(encoder.name):
        return provider.find(cache)
    folder = Path(encoder.name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(encoder.name, revision=encoder.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def has_language_head(folder: Path) -> bool:
    """Tell whether the checkpoint was saved with the head of a masked language model, as its config says."""
    config = _config(folder) if (folder / "config.json").is_file() else {}
    return any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in config.get("architectures") or [])


def _download(encoder: Encoder) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(encoder.name, revision=encoder.revision, allow_patterns=[*WEIGHTS, SHARDS, *TOKENIZER])
        )
    except Exception as error:  # the hub's client and the network raise a dozen unrelated types
        raise DataError(
            f"encoder {encoder.name!r} is neither a folder nor provided by an installed package, and it could not be "
            f"downloaded from the Hugging Face hub: {type(error).__name__}: {error}. Check the id, the revision and "
            f"the network; a downloaded encoder is kept.{starter_hint()}"
        ) from error


def encoder_content(folder: Path, cache: Path) -> str:
    """Hash the encoder's weights and tokenizer."""
    return _content(folder, (*WEIGHTS, *TOKENIZER), cache)


def tokenizer_content(folder: Path, cache: Path) -> str:
    """Hash the tokenizer alone: encoded rows depend on nothing else of the encoder."""
    return _content(folder, TOKENIZER, cache)


def _content(folder: Path, patterns: tuple[str, ...], cache: Path) -> str:
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return fingerprint([[file.name, file_hash(file, cache)] for file in files])


def file_hash(file: Path, cache: Path) -> str:
    """Compute the SHA-256 of a file; it is cached until the file's size or modification time changes."""
    status = file.stat()
    memo = cache / "hashes" / fingerprint([str(file.resolve()), status.st_size, status.st_mtime_ns])
    if not memo.is_file():
        write_whole(memo, sha256(file))
    return memo.read_text()


def depth(folder: Path) -> int | None:
    """Read the number of hidden layers from the config; None if it is not under one of the names in `LAYERS`."""
    config = _config(folder)
    return next((config[name] for name in LAYERS if name in config), None)


def longest_input(folder: Path) -> int:
    """Read the maximum number of pieces that the encoder takes, special ones included.

    RoBERTa and its kin count positions from the one after their padding piece's id, so they take fewer pieces than
    they have positions: 512 of 514.
    """
    config, tokenizer = _config(folder), folder / "tokenizer_config.json"
    positions = next((config[name] for name in POSITIONS if config.get(name)), None)
    if positions and config.get("model_type") in POSITIONS_AFTER_PADDING:
        positions -= config.get("pad_token_id", 1) + 1
    named = _json(tokenizer).get("model_max_length") if tokenizer.is_file() else None
    return int(min(limit or 10**6 for limit in (positions, named, 10**6)))


def config_padding(folder: Path) -> int | None:
    """Read the padding piece's id from the config, for tokenizers that name none."""
    return _config(folder).get("pad_token_id")


def check_lengths(folder: Path, encoder: Encoder, tasks: Mapping[str, TaskBlock]) -> None:
    """Check that the encoder takes the longest inputs of these tasks.

    raises: DataError, naming the task
    """
    longest = longest_input(folder)
    for name, task in tasks.items():
        if task.max_length > longest:
            raise DataError(
                f"task {name!r}: max_length is {task.max_length}, but {encoder.name} takes at most {longest} pieces. "
                "Lower it in the suite."
            )
