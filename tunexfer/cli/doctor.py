"""`tunexfer doctor`: checks of the set-up that people get wrong, each with the next move."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from rich.table import Table
from rich.text import Text

from tunexfer.core.chain import Encoder
from tunexfer.core.files import unwritable
from tunexfer.core.phrases import without_passwords
from tunexfer.data.checkpoint import find_encoder
from tunexfer.errors import TunexferError
from tunexfer.mlflow.client import sqlite_file

GIGABYTE = 10**9
LOW_DISK = 20 * GIGABYTE
"""The default size of the stage store."""
TIMEOUT_S = 5
SHORT_SHM = 2 * GIGABYTE
TRAINING_COPIES = 4
"""Weights, gradients and AdamW's two moments, all in fp32."""
STYLES = {"fine": "green", "look": "yellow", "broken": "red"}


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """The set-up that the checks look at."""

    cache: Path
    runs: Path
    tracking_uri: str
    encoder: Encoder


class _Diagnosis(NamedTuple):
    """The result of a check, and the next move if something is to be done."""

    state: Literal["fine", "look", "broken"]
    text: str
    move: str = ""


def fine(text: str, move: str = "") -> _Diagnosis:
    """Diagnose that nothing has to be done."""
    return _Diagnosis("fine", text, move)


def look(text: str, move: str) -> _Diagnosis:
    """Diagnose that searches run, but slower, or that not everything works."""
    return _Diagnosis("look", text, move)


def broken(text: str, move: str) -> _Diagnosis:
    """Diagnose that searches fail."""
    return _Diagnosis("broken", text, move)


def ray_(setup: _Setup) -> _Diagnosis:
    """Ray can be imported, has memory to share between processes, and its sockets' paths aren't too long."""
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return broken("Ray isn't installed", "pip install 'ray[default,tune]'")
    shared = Path("/dev/shm")
    if shared.is_dir() and (free := shutil.disk_usage(shared).free) < SHORT_SHM:
        text = f"Ray {version}, but /dev/shm has {_size(free)} free, so it uses slower files"
        return look(text, "start the container with --shm-size=4g or more")
    temporary = os.environ.get("RAY_TMPDIR", tempfile.gettempdir())
    if len(temporary) > 40:  # a socket's path may have 107 characters, of which Ray needs about 65
        return broken(f"{temporary} is too long for Ray's sockets", "set RAY_TMPDIR to a short path such as /tmp")
    if address := os.environ.get("RAY_ADDRESS"):
        return look(f"Ray {version}; RAY_ADDRESS is {address}", "unset it for searches on this machine alone")
    return fine(f"Ray {version}")


def gpu(setup: _Setup) -> _Diagnosis:
    """The driver, the card and torch go together."""
    import torch

    driver = _run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return fine(f"{names}; torch {torch.__version__}")
    if driver is None:
        return fine("no NVIDIA driver: searches run on CPUs")
    if torch.version.cuda is None:
        return look(f"{driver}, but torch {torch.__version__} is built for CPUs", "install torch with CUDA")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip("-1, "):
        return look(f"{driver}, but CUDA_VISIBLE_DEVICES={hidden!r} hides it", "unset CUDA_VISIBLE_DEVICES")
    text = f"{driver}, but torch {torch.__version__} (CUDA {torch.version.cuda}) can't use it"
    return broken(text, "update the driver, or install torch for the CUDA version that nvidia-smi shows")


def mps(setup: _Setup) -> _Diagnosis:
    """Several jobs on one NVIDIA GPU need its Multi-Process Service to run at the same time."""
    if _run("nvidia-smi", "-L") is None:
        return fine("no NVIDIA GPU, so MPS isn't needed")
    pipe = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    if (pipe / "control").exists():
        return fine(f"MPS runs ({pipe})")
    move = "nvidia-cuda-mps-control -d, before searches with gpus below 1"
    return look("MPS isn't running: jobs that share a GPU take turns on it", move)


def cache(setup: _Setup) -> _Diagnosis:
    """The cache can be written to."""
    return _writable(setup.cache, "set TUNEXFER_CACHE to a folder that you can write to")


def runs(setup: _Setup) -> _Diagnosis:
    """The folder of studies can be written to."""
    return _writable(setup.runs, "give another folder with --runs")


def disk(setup: _Setup) -> _Diagnosis:
    """There is room for the stage store."""
    free = shutil.disk_usage(_existing(setup.cache)).free
    if free < LOW_DISK:
        move = "lower resources.store_gb, delete old stages, or set TUNEXFER_CACHE to another disk"
        return look(f"{_size(free)} free for {setup.cache}; a stage store may take 20 GB", move)
    return fine(f"{_size(free)} free for {setup.cache}")


def locks(setup: _Setup) -> _Diagnosis:
    """The disks of the cache and of the studies have file locks that work; some network disks don't."""
    for folder in (setup.cache, setup.runs):
        place = _existing(folder)
        if not os.access(place, os.W_OK):
            continue  # `cache` and `runs` say so
        with tempfile.TemporaryDirectory(dir=place, prefix=".tunexfer-") as made:
            file = Path(made) / "lock"
            try:
                with FileLock(file, timeout=0):
                    try:
                        with FileLock(file, timeout=0):
                            held_twice = True
                    except Timeout:
                        held_twice = False
            except (OSError, NotImplementedError) as error:
                return broken(f"{place} has no file locks: {error}", "use a local disk, or mount it with locks")
            if held_twice:
                return broken(f"a lock in {place} can be held twice", "use a local disk, or mount it with locks")
    return fine("file locks work")


def mlflow(setup: _Setup) -> _Diagnosis:
    """MLflow's server answers, or its database has the schema of the installed MLflow."""
    version, shown = importlib.metadata.version("mlflow"), without_passwords(setup.tracking_uri)
    if setup.tracking_uri.startswith(("http:", "https:")):
        return _server(setup.tracking_uri, shown, version)
    file = sqlite_file(setup.tracking_uri)
    if file is None or not file.is_file():
        return fine(f"MLflow {version}; {shown} is made by the first search")
    return _schema(file, version)


def _server(uri: str, shown: str, version: str) -> _Diagnosis:
    kept = "results are kept in the study's folder anyway"
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=TIMEOUT_S) as answer:
            theirs = answer.read(40).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        move = "check its address, and MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_USERNAME and _PASSWORD"
        return look(f"{shown} answers with {error.code} {error.reason}; {kept}", move)
    except (OSError, ValueError) as error:
        move = "start it, or correct MLFLOW_TRACKING_URI or --tracking-uri"
        return look(f"no MLflow server at {shown} ({error}); {kept}", move)
    if theirs.split(".")[0] != version.split(".")[0]:
        move = f"install mlflow {theirs.split('.')[0]} here, or update the server"
        return look(f"{shown} runs MLflow {theirs}, and this is {version}", move)
    return fine(f"MLflow {version}; {shown} runs {theirs}")


def _schema(file: Path, version: str) -> _Diagnosis:
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            row = database.execute("select version_num from alembic_version").fetchone()
    except sqlite3.Error as error:
        return broken(f"{file} is no database of MLflow: {error}", "move it away; the next search makes one anew")
    known, newest = _migrations()
    own = row[0] if row else "none"
    if own in newest:
        return fine(f"MLflow {version}; {file} has its schema")
    if own in known:
        move = f"copy the file, then run `mlflow db upgrade sqlite:///{file}`"
        return look(f"{file} has an older schema ({own}) than MLflow {version}", move)
    text = f"{file} has a schema ({own}) that MLflow {version} doesn't know"
    return broken(text, "install the newer MLflow that wrote it, or give another --tracking-uri")


def _migrations() -> tuple[set[str], set[str]]:
    """Return the schemas that the installed MLflow knows, and the newest: the one that no other comes after.

    They are read from the text of its migrations, because importing them takes MLflow ten seconds.
    """
    folder = Path(str(importlib.metadata.distribution("mlflow").locate_file("mlflow/store/db_migrations/versions")))
    text = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    known, earlier = (
        set(re.findall(rf"^{name} = [\"'](\w+)", text, re.MULTILINE)) for name in ("revision", "down_revision")
    )
    return known, known - earlier


def hub(setup: _Setup) -> _Diagnosis:
    """The Hugging Face hub can be reached."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return look("HF_HUB_OFFLINE is set: only what was downloaded before can be used", "unset HF_HUB_OFFLINE")
    parts = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return fine(f"{parts.hostname}, through the proxy that HTTPS_PROXY names (not tried)")
    if problem := _unreachable(parts.hostname or "", parts.port or 443):
        move = "check the network or HTTPS_PROXY; or use local files and folders, and set HF_HUB_OFFLINE=1"
        return look(f"{parts.hostname} can't be reached: {problem}", move)
    return fine(f"{parts.hostname} answers")


def memory(setup: _Setup) -> _Diagnosis:
    """The encoder can be fine-tuned in the memory that there is: weights, gradients and AdamW's moments."""
    folder = find_encoder(setup.encoder, setup.cache)
    if folder is None:
        move = "none: the first search downloads it"
        return fine(f"{setup.encoder.name} isn't on this machine yet", move)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not size:
        return broken(f"{folder} has no safetensors weights", "save the model with `save_pretrained`")
    needed, there = TRAINING_COPIES * size, _memory()
    text = f"{setup.encoder.name} takes about {_size(needed)} per job to fine-tune; there are {_size(there)}"
    if needed > there:
        return broken(text, "use a smaller encoder, or freeze_embeddings: true")
    if 2 * needed > there:
        return look(text, "one job at a time: --concurrent 1")
    return fine(text)


CHECKS: dict[str, Callable[[_Setup], _Diagnosis]] = {
    "Ray": ray_,
    "GPU": gpu,
    "MPS": mps,
    "cache": cache,
    "runs": runs,
    "disk": disk,
    "locks": locks,
    "MLflow": mlflow,
    "hub": hub,
    "memory": memory,
}


def diagnose(*, cache: Path, runs: Path, tracking_uri: str, encoder: Encoder) -> dict[str, _Diagnosis]:
    """Run every check. One that fails itself is broken."""
    setup = _Setup(cache=cache, runs=runs, tracking_uri=tracking_uri, encoder=encoder)
    return {name: _checked(check, setup) for name, check in CHECKS.items()}


def _checked(check: Callable[[_Setup], _Diagnosis], setup: _Setup) -> _Diagnosis:
    try:
        return check(setup)
    except (ImportError, OSError, TunexferError) as error:
        return broken(f"{type(error).__name__}: {error}", "correct this, then run `tunexfer doctor` again")


def diagnosis_table(found: dict[str, _Diagnosis]) -> Table:
    table = Table(title=f"Python {platform.python_version()} on {platform.platform(terse=True)}", title_justify="left")
    for head in ("check", "state", "found", "next move"):
        table.add_column(head, overflow="fold")
    for name, diagnosis in found.items():
        table.add_row(name, Text(diagnosis.state, STYLES[diagnosis.state]), Text(diagnosis.text), Text(diagnosis.move))
    return table


def _writable(folder: Path, move: str) -> _Diagnosis:
    reason = unwritable(folder)
    return broken(reason, move) if reason else fine(str(folder))


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _unreachable(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        return str(error)
    return None


def _run(*command: str) -> str | None:
    """Return the first line that a command prints; None if it isn't there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), "").strip()


def _memory() -> int:
    """Bytes of memory of the GPU if there is one, else of the machine or the container."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    limits: Iterable[Path] = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    own = [int(text) for file in limits if file.is_file() and (text := file.read_text().strip()).isdecimal()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *own])


def _size(count: int) -> str:
    return f"{count / GIGABYTE:.1f} GB"
