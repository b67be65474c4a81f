"""The first keys, made by a LiteLLM of a few lines. tests/test_keys_embedded.py has the real one."""

import json
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from llmux.client_keys import CLIENTS, FILE, make_client_keys, show


class Keys:
    """made: what each key was made with, by its alias. ends_after: how many it makes before it fails"""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.ends_after = len(CLIENTS)

    async def info(self, request: Request) -> Response:
        known = any(entry["key"] == request.query_params["key"] for entry in self.made.values())
        return JSONResponse({}, 200 if known else 404)

    async def generate(self, request: Request) -> Response:
        if len(self.made) == self.ends_after:
            return JSONResponse({}, 500)
        entry = await request.json()
        assert entry["key_alias"] not in self.made
        self.made[entry["key_alias"]] = entry
        return JSONResponse(entry)

    def http(self) -> httpx.AsyncClient:
        routes = [Route("/key/info", self.info), Route("/key/generate", self.generate, methods=["POST"])]
        return httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://litellm")


async def test_each_client_has_a_key_with_its_models_and_the_file_is_private(tmp_path: Path) -> None:
    keys = Keys()
    made = await make_client_keys(keys.http(), tmp_path)
    assert {name: (entry["key"], tuple(entry["models"])) for name, entry in keys.made.items()} == {
        name: (made[name], models) for name, models in CLIENTS.items()
    }
    assert json.loads((tmp_path / FILE).read_text()) == made
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


async def test_they_are_made_once(tmp_path: Path) -> None:
    keys = Keys()
    await make_client_keys(keys.http(), tmp_path)
    keys.made.clear()  # all of them revoked
    assert await make_client_keys(keys.http(), tmp_path) == {}
    assert keys.made == {}


async def test_a_start_that_was_broken_off_is_taken_up_with_the_same_keys(tmp_path: Path) -> None:
    keys = Keys()
    keys.ends_after = 1
    with pytest.raises(httpx.HTTPStatusError):
        await make_client_keys(keys.http(), tmp_path)
    (first,) = keys.made.values()
    keys.ends_after = len(CLIENTS)
    assert (await make_client_keys(keys.http(), tmp_path))[first["key_alias"]] == first["key"]
    assert list(keys.made) == list(CLIENTS)


@pytest.mark.parametrize(("terminal", "shown"), [(True, True), (False, False)])
def test_keys_are_shown_on_a_terminal_and_never_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    show({"Open WebUI": "sk-secret"})
    assert ("sk-secret" in capsys.readouterr().err) is shown
