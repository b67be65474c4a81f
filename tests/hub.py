"""A Hugging Face hub over HTTP on 127.0.0.1: repositories, revisions, ranges, ETags, gates, and faults to order."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

TOKEN = "hf_of_somebody_who_accepted"
_LARGE = 1000
"""Bytes from which a file is kept outside git, as by the hub's own LFS."""


@dataclass
class StandIn:
    """What it holds, and what it was asked for.

    repositories: by name and revision, the files
    gated: names that only TOKEN may read
    asked: path and Range of every request for a file's bytes
    damaged: names of files whose last byte is sent wrong
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    url: str = ""

    def publish(self, name: str, files: dict[str, bytes]) -> str:
        """Make this the newest revision of a repository. Returns its commit."""
        content = json.dumps({key: value.hex() for key, value in files.items()}) + str(len(self.of(name)))
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = files
        return commit

    def of(self, name: str) -> dict[str, dict[str, bytes]]:
        return self.repositories.get(name, {})

    def bytes_asked(self, file: str) -> list[str | None]:
        """The Range of each request for a file."""
        return [wanted for path, wanted in self.asked if path.endswith(f"/{file}")]


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def hub() -> Iterator[StandIn]:
    """Within it this process may ask a hub, whatever the environment said as it began."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if found := re.fullmatch(r"/api/(?:models|kernels)/([^/]+/[^/]+)/(revision|tree)/([^/]+)(?:/.*)?", path):
                self.describe(*found.groups())
            elif found := re.fullmatch(r"/api/(?:models|kernels)/([^/]+/[^/]+)/auth-check", path):
                if self.may(found[1]):
                    self.answer(200, b"{}")
            elif found := re.fullmatch(r"/(?:kernels/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.resolve(*found.groups())
            else:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def may(self, name: str) -> bool:
            given = self.headers.get("Authorization")
            if name in stand_in.gated and given != f"Bearer {TOKEN}":
                code = 401 if given is None else 403
                self.answer(code, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"})
                return False
            return True

        def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
            revisions = stand_in.of(name)
            if not revisions:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                return None
            commit = revision if len(revision) == 40 else list(revisions)[-1]
            if commit not in revisions:
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return None
            return commit, revisions[commit]

        def describe(self, name: str, what: str, revision: str) -> None:
            if (found := self.files(name, revision)) is None:
                return
            commit, files = found
            if what == "revision":
                gated = "manual" if name in stand_in.gated else False
                self.answer(200, json.dumps({"id": name, "sha": commit, "gated": gated}).encode())
                return
            tree = []
            for path, content in files.items():
                entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_blob(content)}
                if len(content) >= _LARGE:
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
                tree.append(entry)
            self.answer(200, json.dumps(tree).encode())

        def resolve(self, name: str, revision: str, path: str) -> None:
            if not self.may(name) or (found := self.files(name, revision)) is None:
                return
            wanted = self.headers.get("Range")
            stand_in.asked.append((self.path, wanted))
            commit, files = found
            content = files[path]
            if path in stand_in.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
            headers = {"ETag": f'"{git_blob(content)}"', "X-Repo-Commit": commit}
            if wanted is None:
                self.answer(200, content, headers)
            else:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.answer(206, content[start:], headers)

        def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with patch("huggingface_hub.constants.HF_HUB_OFFLINE", False):
            yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
