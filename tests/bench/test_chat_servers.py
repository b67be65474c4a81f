"""Servers that are started to be measured, and ended afterwards."""

import sys
from pathlib import Path

import httpx
import pytest

from bench.chat_servers import _free_port, _serving

SERVER = """\
import http.server, sys

class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Models).serve_forever()
"""


def test_it_answers_while_it_is_needed_and_no_longer(tmp_path: Path) -> None:
    port = _free_port()
    with _serving([sys.executable, "-c", SERVER, str(port)], {}, port, tmp_path / "log") as address:
        assert httpx.get(f"{address}/v1/models", trust_env=False).is_success
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/v1/models", trust_env=False)


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(RuntimeError, match="no such model"),
        _serving(command, {}, _free_port(), tmp_path / "log"),
    ):
        pass
