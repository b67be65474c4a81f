"""Where a client finds the gateway, and whether its key opens it."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from llmux.client_keys import FILE
from llmux.config import Config, load_config
from llmux.connection import Connection
from llmux.secrets import write_private
from tests.gateway import free_port

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"
KEY = "sk-of-the-client-0123456789"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "litellm_config.yaml").write_text(SHIPPED.read_text())
    write_private(tmp_path / "state" / FILE, json.dumps({"OpenCode": KEY}))
    return load_config(tmp_path / "litellm_config.yaml")


def test_it_is_where_the_gateway_listens_with_the_key_of_the_first_start(config: Config) -> None:
    connection = Connection.of(config, "OpenCode", None, None)
    assert (connection.url, connection.key) == ("http://127.0.0.1:8081/v1", KEY)
    assert KEY not in repr(connection)


@pytest.mark.parametrize("url", ["https://llm.example.org", "https://llm.example.org/", "https://llm.example.org/v1/"])
def test_another_address_ends_in_v1_however_it_was_given(config: Config, url: str) -> None:
    assert Connection.of(config, "OpenCode", url, None).url == "https://llm.example.org/v1"


@pytest.mark.parametrize("url", ["llm.example.org", "http://", "ftp://llm.example.org"])
def test_what_is_no_address_is_said(config: Config, url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Connection.of(config, "OpenCode", url, None)


def test_a_key_may_come_from_the_environment(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOTHER", "sk-another")
    assert Connection.of(config, "OpenCode", None, "ANOTHER").key == "sk-another"


def test_a_key_that_is_not_there_is_said(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="holds no key for Open WebUI; make one with `python -m llmux keys create"):
        Connection.of(config, "Open WebUI", None, None)
    monkeypatch.delenv("ANOTHER", raising=False)
    with pytest.raises(ValueError, match="ANOTHER is not set"):
        Connection.of(config, "Open WebUI", None, "ANOTHER")
    (config.state_dir / FILE).unlink()
    with pytest.raises(ValueError, match="the first start makes it"):
        Connection.of(config, "OpenCode", None, None)


class _Gateway(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/v1/models" and self.headers["Authorization"] == f"Bearer {KEY}"
        self.send_response(200 if known else 401 if self.path == "/v1/models" else 200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "Chat"}]}' if self.path == "/v1/models" else b"hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_gateway_that_runs_tells_what_the_key_may_use(url: str) -> None:
    assert Connection(f"{url}/v1", KEY).models() == ["Chat"]


def test_a_gateway_that_does_not_run_tells_nothing() -> None:
    assert Connection(f"http://127.0.0.1:{free_port()}/v1", KEY).models() is None


def test_a_wrong_key_or_another_server_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="refuses this key"):
        Connection(f"{url}/v1", "sk-wrong").models()
    with pytest.raises(ValueError, match="no llmux gateway"):
        Connection(f"{url}/elsewhere/v1", KEY).models()
