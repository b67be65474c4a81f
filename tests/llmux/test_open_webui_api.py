"""What cannot be done at an Open WebUI is said. tests/clients/test_open_webui.py sets up the real one."""

from pathlib import Path

import httpx
import pytest

from llmux.config import load_config
from llmux.connection import Connection
from llmux.open_webui import Setup
from llmux.open_webui_api import OpenWebUI, OpenWebUIError

SETUP = Setup.of(
    load_config(Path(__file__).parents[2] / "litellm_config.yaml"),
    Connection("http://127.0.0.1:8081/v1", "sk-of-open-webui"),
    model=None,
    task_model=None,
    hide_speech=False,
)
FORMS = {
    "/openai/config": {"OPENAI_API_BASE_URLS": [], "OPENAI_API_KEYS": [], "OPENAI_API_CONFIGS": {}},
    "/api/v1/audio/config": {"stt": {}, "tts": {}},
    "/api/v1/tasks/config": {},
    "/api/v1/configs/models": {"DEFAULT_MODELS": None},
}


def answering(status: dict[str, int], written: list[str]) -> httpx.MockTransport:
    """With a status for some paths, 200 for the others."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            written.append(request.url.path)
        assert request.headers["Authorization"] == "Bearer token"
        body = {"data": [{"id": "Chat"}]} if request.url.path == "/api/models" else FORMS.get(request.url.path, {})
        return httpx.Response(status.get(request.url.path, 200), json=body)

    return httpx.MockTransport(answer)


def test_it_is_told_everything_and_tells_what_it_lists() -> None:
    written: list[str] = []
    assert OpenWebUI("http://chat/", "token", answering({}, written)).set_up(SETUP) == ["Chat"]
    assert written == [
        "/openai/config/update",
        "/api/v1/audio/config/update",
        "/api/v1/tasks/config/update",
        "/api/v1/configs/models",
    ]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"/openai/config": 401}, "must be an administrator's"),
        ({"/api/v1/configs/models": 404}, r"no Open WebUI of a version that is known.*models: status 404"),
    ],
)
def test_nothing_is_changed_unless_all_of_it_can_be(status: dict[str, int], said: str) -> None:
    written: list[str] = []
    with pytest.raises(OpenWebUIError, match=said):
        OpenWebUI("http://chat", "token", answering(status, written)).set_up(SETUP)
    assert written == []


@pytest.mark.parametrize("body", [{}, [], None, "text", {"OPENAI_API_BASE_URLS": 5}])
def test_another_server_that_speaks_json_is_told_from_it(body: object) -> None:
    everywhere = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    with pytest.raises(OpenWebUIError, match="no Open WebUI of a version that is known"):
        OpenWebUI("http://chat", "token", everywhere).set_up(SETUP)


def test_an_address_where_nobody_answers_is_said() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(OpenWebUIError, match="no Open WebUI answers at http://chat"):
        OpenWebUI("http://chat", "token", httpx.MockTransport(refuse)).set_up(SETUP)
