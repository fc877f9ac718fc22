"""Rows and an encoder by the hub's real client, from a hub on loopback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub import Hub, serving
from pico import pico_encoder

SET = "datasets/some/nli"
CARD = b"""---
configs:
- config_name: en
  data_files: [{split: test, path: en/test-*.parquet}]
- config_name: sw
  data_files: [{split: test, path: sw/test-*.parquet}]
---
"""
READER = """
import json, sys
from pathlib import Path
from tunexfer.core.chain import Encoder
from tunexfer.data.checkpoint import resolve_encoder
from tunexfer.data.rows import Rows
from tunexfer.errors import TunexferError
from tunexfer.tasks.suite import Suite

for line in sys.stdin:
    asked = json.loads(line)
    cache = Path(sys.argv[1]) / asked.get("cache", "cache")
    try:
        if "encoder" in asked:
            found = {"folder": str(resolve_encoder(Encoder(**asked["encoder"]), cache))}
        else:
            rows = Rows(Suite.model_validate({"name": "own", "tasks": {"nli": asked["task"]}}), cache, cache)
            key = ("nli", asked["language"], "test")
            found = {"known": rows.known(*key), "rows": rows.table(*key).to_pylist(), "content": rows.content(*key)}
            found["address"] = rows.address(*key)
    except TunexferError as error:
        found = {"error": str(error)}
    print(json.dumps(found), flush=True)
"""


class Reader:
    """A process whose hub is elsewhere: the client reads HF_ENDPOINT when it is imported."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def nli(self, language: str = "en", *, cache: str = "cache", **hub: Any) -> dict[str, Any]:
        columns = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
        place = {"path": "some/nli", "name": "{language}"} | hub
        counts = dict.fromkeys(("en", "sw", "fi"), (0, 0, 2))
        task = {"kind": "classification", "hub": place, "columns": columns, "labels": ["no", "yes"], "rows": counts}
        return self.ask(task=task, language=language, cache=cache)


@contextmanager
def reader(folder: Path, address: str, *, offline: bool = False) -> Iterator[Reader]:
    """offline: as the client is told where the network is away, so that it doesn't try for half a minute"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = kept | {"HF_ENDPOINT": address, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env["HF_HUB_OFFLINE"] = str(int(offline))
    command = [sys.executable, "-c", READER, str(folder)]
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=env, **streams) as process:
        yield Reader(process)
        process.stdin.close()  # type: ignore[union-attr]


def parquet(*premises: str) -> bytes:
    """Rows as the hub keeps them: its types are in the file, so that labels have names."""
    import datasets

    label = datasets.ClassLabel(names=["yes", "no"])
    features = datasets.Features(
        {"premise": datasets.Value("string"), "hypothesis": datasets.Value("string"), "label": label}
    )
    rows = {"premise": premises, "hypothesis": ["h"] * len(premises), "label": [0] * len(premises)}
    file = io.BytesIO()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    return file.getvalue()


def push(hub: Hub, word: str) -> str:
    """Two configs on the main branch, and the hub's own conversion of them on another; returns main's commit."""
    rows = {language: parquet(f"{word} {language} 1", f"{word} {language} 2") for language in ("en", "sw")}
    converted = {f"{language}/test/0000.parquet": data for language, data in rows.items()}
    hub.push(SET, converted, "refs/convert/parquet")
    files = {f"{language}/test-00000-of-00001.parquet": data for language, data in rows.items()}
    return hub.push(SET, {"README.md": CARD} | files)


def premises(found: dict[str, Any]) -> list[str]:
    return [row["text"] for row in found["rows"]]


FILES = {"name": None, "revision": "refs/convert/parquet", "files": "{language}/{split}/*.parquet"}


def test_rows_are_those_of_the_commit_that_was_read_first(tmp_path: Path) -> None:
    with serving() as hub:
        old = push(hub, "old")
        with reader(tmp_path, hub.address) as here:
            first = here.nli()
            assert premises(first) == ["old en 1", "old en 2"]
            assert [row["label"] for row in first["rows"]] == [1, 1]  # 0 there, and by its name 1 here
            assert first["address"] == f"some/nli@{old}"
            assert first["known"] is False
            assert premises(here.nli(**FILES)) == ["old en 1", "old en 2"]
            missing = here.nli("fi")["error"]
            assert "could not load some/nli, config fi" in missing
            assert "Check the id, config, revision and split" in missing

            new = push(hub, "new")
            again = here.nli("sw")  # read for the first time, of a set whose commit is settled
            assert premises(again) == ["old sw 1", "old sw 2"]
            assert premises(here.nli("sw", **FILES)) == ["old sw 1", "old sw 2"]
            assert here.nli() == first | {"known": True}
            assert here.nli(revision=old)["content"] == first["content"]
            moved = here.nli(cache="another cache")
            assert (premises(moved), moved["address"]) == (["new en 1", "new en 2"], f"some/nli@{new}")
            assert moved["content"] != first["content"]

    with reader(tmp_path, hub.address, offline=True) as offline:  # the hub is gone
        assert offline.nli("sw") == again | {"known": True}
        assert premises(offline.nli("sw", **FILES)) == ["old sw 1", "old sw 2"]
        assert "could not load some/other, revision main" in offline.nli(path="some/other")["error"]
        # Of two commits the client takes the one it read last, whichever is asked for
        assert premises(offline.nli(revision=new)) == ["new en 1", "new en 2"]
        assert f"cannot be reached, and commit {old} was not downloaded, only another" in offline.nli()["error"]


def test_an_encoder_comes_from_the_hub_and_is_found_again_without_it(tmp_path: Path) -> None:
    made = pico_encoder(tmp_path / "made")
    with serving() as hub:
        hub.push("models/some/encoder", {file.name: file.read_bytes() for file in made.iterdir()} | {"x.bin": b"x"})
        with reader(tmp_path, hub.address) as here:
            found = Path(here.ask(encoder={"name": "some/encoder"})["folder"])
            assert {file.name for file in found.iterdir()} == {file.name for file in made.iterdir()}
            assert (found / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
            refused = here.ask(encoder={"name": "some/encoder", "revision": "v2"})["error"]
            assert "Check the id, the revision and the network" in refused
            hub.push("models/some/binary", {"config.json": b"{}", "x.bin": b"x"})
            assert "there is no *.safetensors" in here.ask(encoder={"name": "some/binary"})["error"]
    with reader(tmp_path, hub.address, offline=True) as offline:
        assert offline.ask(encoder={"name": "some/encoder"})["folder"] == str(found)
