"""A Hugging Face hub on loopback, with as much of its protocol as `datasets` and `huggingface_hub` ask for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """Repositories by kind and id (`datasets/owner/name`, `models/owner/name`), each a history of commits."""

    def __init__(self) -> None:
        self.address = ""
        self._commits: dict[tuple[str, str], Files] = {}
        self._branches: dict[tuple[str, str], str] = {}

    def push(self, repository: str, files: Files, branch: str = "main") -> str:
        """Make `files` all that the branch has; returns the commit."""
        content = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())
        commit = hashlib.sha1(json.dumps([repository, branch, content]).encode()).hexdigest()
        self._commits[repository, commit] = files
        self._branches[repository, branch] = commit
        return commit

    def find(self, repository: str, revision: str) -> tuple[str, Files] | None:
        commit = self._branches.get((repository, revision), revision)
        files = self._commits.get((repository, commit))
        return None if files is None else (commit, files)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`/api/<kind>/<owner>/<name>[/revision/<revision>]`, `.../tree/<revision>[/<folder>]`, and files."""
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            self._about("/".join(parts[1:4]), *parts[4:])
            return
        parts = parts if parts[0] == "datasets" else ["models", *parts]
        found = self._revision("/".join(parts[:3]), parts[4] if len(parts) > 4 else "main")
        if found:
            data = found[1].get("/".join(parts[5:]))
            if data is None:
                self._refuse("EntryNotFound", found[0])
            else:
                self._send(data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": found[0]})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """`/api/<kind>/<owner>/<name>/paths-info/<revision>`"""
        parts = [unquote(part) for part in self.path.strip("/").split("/")]
        wanted = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).get("paths", [])
        found = self._revision("/".join(parts[1:4]), parts[5])
        if found:
            folders = {name.rpartition("/")[0] for name in wanted}
            listed = [one for folder in folders for one in _listing(found[1], folder, recursive=False)]
            self._json([one for one in listed if one["path"] in wanted])

    def _about(self, repository: str, what: str = "revision", revision: str = "main", *folder: str) -> None:
        found = self._revision(repository, revision)
        if found and what == "tree":
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            self._json(_listing(found[1], "/".join(folder), recursive))
        elif found:
            siblings = [{"rfilename": name} for name in found[1]]
            self._json({"id": repository.partition("/")[2], "sha": found[0], "siblings": siblings})

    def _revision(self, repository: str, revision: str) -> tuple[str, Files] | None:
        found = self.hub.find(repository, revision)
        if found is None:
            self._refuse("RevisionNotFound" if self.hub.find(repository, "main") else "RepoNotFound")
        return found

    def _refuse(self, code: str, commit: str = "") -> None:
        self._send(b"", {"X-Error-Code": code} | ({"X-Repo-Commit": commit} if commit else {}), status=404)

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """The tests' output is enough."""


def _listing(files: Files, folder: str, recursive: bool) -> list[dict[str, Any]]:
    inside = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        first, *rest = name.removeprefix(inside).split("/") if name.startswith(inside) else [""]
        if rest:
            found[inside + first] = {"type": "directory", "path": inside + first, "oid": "0" * 40, "size": 0}
        if first and (recursive or not rest):
            found[name] = {"type": "file", "path": name, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}
    return list(found.values())
