"""Servers that are measured beside the gateway."""

import sys
from pathlib import Path

import httpx
import pytest

from bench.chat_servers import _serving
from bench.server import free_port
from llmux.litellm_settings import ENVIRONMENT

SERVER = """\
import http.server, json, os, sys

class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Models).serve_forever()
"""


def test_each_runs_as_its_users_start_it_without_what_llmux_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    with _serving(command, {"PYTHONPATH": "more"}, port, tmp_path / "log") as address:
        environment = httpx.get(f"{address}/v1/models", trust_env=False).json()
    assert not environment.keys() & ENVIRONMENT.keys()
    assert environment["PYTHONPATH"] == "more"
