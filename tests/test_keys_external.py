"""Keys in a database that somebody else looks after, whose address is in the state folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from llmux.client_keys import FILE
from llmux.secrets import DATABASE_URL_VARIABLE, write_private
from tests.database.conftest import new_database, system_binaries, system_postgres
from tests.gateway import Gateway

__all__ = ["new_database", "system_binaries", "system_postgres"]  # fixtures

CONFIG = """\
model_list:
  - {model_name: Chat, litellm_params: {model: llmux/chat}}
llmux:
  budget: 650 MB
  database: external
  models:
    chat: {task: llm, runtime: llama.cpp, weights: org/chat, file: chat.gguf, estimate: 1 MB}
"""


@pytest.fixture
def url(new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(DATABASE_URL_VARIABLE, raising=False)
    return new_database()


@pytest.fixture
def gateway(tmp_path: Path, url: str) -> Iterator[Gateway]:
    write_private(tmp_path / "state" / "database_url", url + "\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    gateway = Gateway(tmp_path / "config.yaml")
    yield gateway
    gateway.stop()


def test_keys_live_there_and_outlive_the_gateway(gateway: Gateway, tmp_path: Path, url: str) -> None:
    client_key = json.loads((tmp_path / "state" / FILE).read_text())["OpenCode"]
    with gateway.http(client_key) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["Chat"]
    assert gateway.stop() == 0
    with psycopg.connect(url) as connection:
        kept = connection.execute('SELECT key_alias FROM "LiteLLM_VerificationToken" ORDER BY 1').fetchall()
    assert [name for (name,) in kept] == ["Open WebUI", "OpenCode", "Remote Whisper clients"]
    password = urlsplit(url).password
    assert password is not None
    assert password not in "".join(gateway.log)
