"""The admin UI's routes on a real gateway: what each kind of key gets from them, and what other hosts' pages do."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from llmux.administration import ADMINISTRATION, PAGES
from llmux.client_keys import FILE
from tests.gateway import Gateway

CONFIG = """\
model_list:
  - {model_name: Chat, litellm_params: {model: llmux/chat}}
llmux:
  budget: 650 MB
  cors_origins: [https://chat.example.org]
  models:
    chat: {task: llm, runtime: llama.cpp, weights: org/chat, file: chat.gguf, estimate: 1 MB}
"""

DAYS = {"start_date": "2026-01-01 00:00:00", "end_date": "2026-01-02 00:00:00"}
POSTED = ("/session/logout", "/key/block", "/key/delete", "/key/generate", "/key/unblock", "/key/update")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("administration")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    (folder / "config.yaml").write_text(CONFIG)
    gateway = Gateway(folder / "config.yaml")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def client_key(folder: Path, gateway: Gateway) -> str:
    """Of a client that may use every model."""
    return str(json.loads((folder / "state" / FILE).read_text())["Open WebUI"])


@pytest.fixture
def session_key(gateway: Gateway, folder: Path) -> str:
    """What a browser gets for the right password: the key inside of the token."""
    password = (folder / "state" / "ui_password").read_text().strip()
    with gateway.http(key=None) as http:
        token = http.post("/v2/login", json={"username": "admin", "password": password}).json()["token"]
    return str(json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["key"])


def ask(gateway: Gateway, route: str, key: str | None) -> httpx.Response:
    path = route.replace("/*", "/something")
    with gateway.http(key) as http:
        return http.post(path, json={}) if route in POSTED else http.get(path, params=DAYS)


@pytest.mark.parametrize("route", ADMINISTRATION)
def test_only_administrators_get_anything(gateway: Gateway, client_key: str, session_key: str, route: str) -> None:
    assert ask(gateway, route, None).status_code == 401
    assert ask(gateway, route, "sk-unknown").status_code == 401
    refused = ask(gateway, route, client_key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_needed")
    assert ask(gateway, route, session_key).status_code not in (401, 403)


@pytest.mark.parametrize("route", [page for page in PAGES if page != "/v2/login"])
def test_a_page_is_the_same_for_everybody_and_says_nothing_of_this_gateway(
    gateway: Gateway, client_key: str, route: str
) -> None:
    path = route.replace("/*", "/")
    with gateway.http(key=None) as nobody, gateway.http(client_key) as client:
        page = nobody.get(path)
        assert page.content == client.get(path).content
    assert b"Chat" not in page.content
    assert b"sk-" not in page.content


def test_a_page_and_its_files_have_their_types(gateway: Gateway) -> None:
    with gateway.http(key=None) as http:
        page = http.get("/ui/login/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        files = [part.split('"')[0] for part in page.text.split('src="')[1:]]
        assert files
        for file in files:
            answer = http.get(urljoin("/ui/login/", file))
            assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/javascript")
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_guessing_passwords_is_stopped(gateway: Gateway) -> None:
    with gateway.http(key=None) as http:
        tries = [http.post("/v2/login", json={"username": "root", "password": str(n)}) for n in range(8)]
    assert [answer.status_code for answer in tries[:5]] == [401] * 5
    assert tries[-1].status_code == 429
    assert int(tries[-1].headers["retry-after"]) > 60


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/key/generate", "/v2/login"])
@pytest.mark.parametrize("origin", ["https://elsewhere.example.org", "null", "http://localhost:3000"])
def test_a_page_of_another_host_may_ask_for_nothing(gateway: Gateway, path: str, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    with gateway.http(key=None) as http:
        for answer in (http.options(path, headers=asked), http.post(path, headers={"Origin": origin}, json={})):
            assert answer.status_code >= 400
            assert "access-control-allow-origin" not in answer.headers


def test_a_page_of_a_host_that_the_configuration_names_may_call_with_a_key_but_no_cookie(
    gateway: Gateway, client_key: str
) -> None:
    here = "https://chat.example.org"
    with gateway.http(client_key) as http:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        before = http.options("/v1/chat/completions", headers={"Origin": here, **asked})
        listed = http.get("/v1/models", headers={"Origin": here})
        refused = http.post("/v1/chat/completions", headers={"Origin": here}, json={"model": "Nobody", "messages": []})
    assert before.status_code == 200
    for answer in (before, listed, refused):
        assert answer.headers["access-control-allow-origin"] == here
        assert "access-control-allow-credentials" not in answer.headers
    assert refused.status_code >= 400
