"""Servers that are started to be measured, and ended afterwards."""

import os
import sys
from pathlib import Path

import httpx
import pytest

from bench.server import free_port, running

SERVER = """\
import http.server, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


def test_it_answers_while_it_is_needed_and_no_longer(tmp_path: Path) -> None:
    port = free_port()
    ready = f"http://127.0.0.1:{port}/health"
    command = [sys.executable, "-c", SERVER, str(port)]
    with running(command, ready=ready, log=tmp_path / "log", environment=os.environ) as process:
        assert process.poll() is None
        assert httpx.get(ready, trust_env=False).is_success
    assert process.poll() is not None
    with pytest.raises(httpx.ConnectError):
        httpx.get(ready, trust_env=False)


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    nowhere = f"http://127.0.0.1:{free_port()}"
    with (
        pytest.raises(RuntimeError, match="no such model"),
        running(command, ready=nowhere, log=tmp_path / "log", environment=os.environ),
    ):
        pass
