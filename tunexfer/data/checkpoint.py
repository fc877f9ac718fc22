"""Checkpoints of encoders, from an installed package, a local folder or the Hugging Face hub, and their contents."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tunexfer.core.chain import Encoder
from tunexfer.core.files import write_whole
from tunexfer.core.graph import fingerprint
from tunexfer.errors import DataError
from tunexfer.tasks.installed import build, encoder_provider
from tunexfer.tasks.suite import starter_hint

WEIGHTS = ("config.json", "*.safetensors")
LAYERS = ("num_hidden_layers", "n_layers", "num_layers")
"""Names of the number of hidden layers in configs; `n_layers` is DistilBERT's."""
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
    for needed in ("config.json", "*.safetensors", "tokenizer.json"):
        if not list(folder.glob(needed)):
            raise DataError(
                f"encoder {encoder.name!r}: there is no {needed} in {folder}. tunexfer reads weights from safetensors "
                "and needs a fast tokenizer; load the model with transformers once and save both with "
                "`save_pretrained`, then name that folder."
            )
    return folder


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
    """Whether the checkpoint was saved with the head of a masked language model, as its config says."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in config.get("architectures") or [])


def _download(encoder: Encoder) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(encoder.name, revision=encoder.revision, allow_patterns=[*WEIGHTS, *TOKENIZER]))
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
        with file.open("rb") as stream:
            write_whole(memo, hashlib.file_digest(stream, "sha256").hexdigest())
    return memo.read_text()


def depth(folder: Path) -> int | None:
    """Read the number of hidden layers from the config; None if it is not under one of the names in `LAYERS`."""
    config: dict[str, int] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return next((config[name] for name in LAYERS if name in config), None)


def longest_input(folder: Path) -> int:
    """Read the maximum number of pieces that the encoder takes, special ones included."""
    limits = [10**6]
    for file, field in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        if (folder / file).is_file():
            limits.append(json.loads((folder / file).read_text(encoding="utf-8")).get(field) or 10**6)
    return int(min(limits))
