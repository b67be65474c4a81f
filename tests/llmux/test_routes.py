import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

from llmux.answer import Answer
from llmux.config import Model, load_config
from llmux.errors import InvalidRequest, LlmuxError
from llmux.metrics import ArbiterMetrics
from llmux.routes import Order, PinOrder, health_report, key_of, parse, routes, tell, voices_report
from providers.runtime import Clip
from tests.snapshots import state
from vram.refusal import Busy, NeverFits
from vram.snapshot import Snapshot

CONFIG = """\
model_list:
  - {model_name: Chat, litellm_params: {model: llmux/small}}
llmux:
  budget: 1 GB
  database: none
  models:
    small: {task: tts, runtime: hibari, estimate: 1 MB}
    absent: {task: llm, runtime: llama.cpp, weights: org/absent, file: absent.gguf, estimate: 1 MB}
"""


CLIPS = {"anna": Clip("anna", "voices/anna.wav", "de")}


class FakeArbiter:
    """Does what it is told, or raises `error`. It has the two models of the configuration."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.done: list[tuple[Any, ...]] = []
        self._phase = "absent"
        self._pinned = False

    def snapshot(self) -> Snapshot:
        models = (state("small", phase=self._phase, pinned=self._pinned), state("absent"))
        return Snapshot(10**9, 0, 0, 0, 10**9, models)

    async def load(self, model: str) -> None:
        self._do("load", model)
        self._phase = "resident"

    async def unload(self, model: str) -> None:
        self._do("unload", model)
        self._phase = "absent"

    def pin(self, model: str, pinned: bool) -> None:
        self._do("pin", model, pinned)
        self._pinned = pinned

    def _do(self, *what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)


async def everything(key: UserAPIKeyAuth, model: str) -> bool:
    """A key that may use every model."""
    return True


@pytest.fixture
def arbiter() -> FakeArbiter:
    return FakeArbiter()


@pytest.fixture
def key() -> UserAPIKeyAuth:
    """Whose key the request has."""
    return UserAPIKeyAuth(user_role=LitellmUserRoles.PROXY_ADMIN)


@pytest.fixture
async def http(arbiter: Any, key: UserAPIKeyAuth, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "config.yaml").write_text(CONFIG)
    app = FastAPI()
    app.include_router(
        routes(arbiter, load_config(tmp_path / "config.yaml"), ArbiterMetrics(), everything, ["Chat"], CLIPS, 0)
    )
    app.dependency_overrides[key_of] = lambda: key
    app.add_exception_handler(LlmuxError, tell)
    transport = httpx.ASGITransport(Answer(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def test_health_and_the_vram_report_are_of_this_moment(http: httpx.AsyncClient, arbiter: FakeArbiter) -> None:
    assert (await http.get("/health")).json()["loaded_models"] == {}
    await arbiter.load("small")
    assert list((await http.get("/health")).json()["loaded_models"]) == ["small"]
    assert (await http.get("/vram")).json()["models"]["small"]["state"] == "resident"


async def test_an_order_is_carried_out_and_answered_with_the_models_new_state(
    http: httpx.AsyncClient, arbiter: FakeArbiter
) -> None:
    loaded = (await http.post("/vram/load", json={"model": "small"})).json()
    assert (loaded["model"], loaded["state"]) == ("small", "resident")
    assert (await http.post("/vram/pin", json={"model": "small"})).json()["pinned"] is True
    assert (await http.post("/vram/pin", json={"model": "small", "pinned": False})).json()["pinned"] is False
    assert (await http.post("/vram/unload", json={"model": "small"})).json()["state"] == "absent"
    assert arbiter.done == [("load", "small"), ("pin", "small", True), ("pin", "small", False), ("unload", "small")]


@pytest.mark.parametrize("path", ["/vram/load", "/vram/unload", "/vram/pin"])
async def test_an_order_needs_a_whole_body_and_a_known_model(
    http: httpx.AsyncClient, arbiter: FakeArbiter, path: str
) -> None:
    for content in (b"", b"{", b"[]", b"{}", b'{"model": 1}', b'{"model": "small", "models": []}'):
        answer = await http.post(path, content=content)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    unknown = await http.post(path, json={"model": "Chat"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert arbiter.done == []


@pytest.mark.parametrize("key", [UserAPIKeyAuth(user_role=LitellmUserRoles.INTERNAL_USER), UserAPIKeyAuth()])
@pytest.mark.parametrize("path", ["/vram/load", "/vram/unload", "/vram/pin"])
async def test_a_named_key_may_look_but_not_order(http: httpx.AsyncClient, arbiter: FakeArbiter, path: str) -> None:
    assert (await http.get("/vram")).status_code == 200
    refused = await http.post(path, json={"model": "small"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_needed")
    assert arbiter.done == []


async def test_a_busy_model_stays_and_the_client_may_ask_again(http: httpx.AsyncClient, arbiter: FakeArbiter) -> None:
    arbiter.error = Busy("small", "serves 2 requests")
    refused = await http.post("/vram/unload", json={"model": "small"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["error"]["code"] == "model_busy"
    assert refused.json()["error"]["message"].startswith("small serves 2 requests")


async def test_what_the_arbiter_refuses_is_refused_as_to_any_client(
    http: httpx.AsyncClient, arbiter: FakeArbiter
) -> None:
    arbiter.error = NeverFits("small", 2 * 10**9, 10**9)
    refused = await http.post("/vram/load", json={"model": "small"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "insufficient_vram")


async def test_a_model_without_weights_is_not_loaded(http: httpx.AsyncClient, arbiter: FakeArbiter) -> None:
    refused = await http.post("/vram/load", json={"model": "absent"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "weights_missing")
    assert arbiter.done == []


async def test_metrics_are_prometheus_text(http: httpx.AsyncClient) -> None:
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (Order, {}, "model"),
        (Order, {"model": None}, "model"),
        (Order, {"model": "a", "pinned": True}, "pinned"),
        (PinOrder, {"model": "a", "pinned": "yes"}, "pinned"),
        (PinOrder, {"model": "a", "pinned": 1}, "pinned"),
    ],
)
def test_a_mistake_in_an_order_is_named(kind: type[Order], body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse(kind, json.dumps(body).encode())
    assert raised.value.param == param
    assert param in str(raised.value)


def test_health_tells_what_is_resident_in_gb() -> None:
    models = (state("chat", phase="resident"), state("ears", task="asr", phase="loading"), state("voice"))
    assert health_report(Snapshot(16 * 10**9, 0, 0, 0, 10**10, models)) == {
        "status": "ok",
        "loaded_models": {"chat": {"type": "llm", "vram_gb": 4.0}},
        "available_vram_gb": 10.0,
    }


async def test_speech_models_and_voices_are_listed_as_open_webui_reads_them(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/audio/models")).json() == {"models": [{"id": "Chat", "name": "Chat"}]}
    voices = (await http.get("/v1/audio/voices")).json()["voices"]
    assert voices[0] == {"id": "default", "name": "default", "models": ["Chat"], "language": None}
    assert "heart" in [voice["id"] for voice in voices]


def test_a_voice_is_listed_with_the_models_that_speak_with_it() -> None:
    given = {"task": "tts", "weights": "x", "estimate": "1 MB"}
    models = {
        "A": Model.model_validate({**given, "runtime": "hibari"}),
        "B": Model.model_validate({**given, "runtime": "chatterbox"}),
    }
    report = {voice["id"]: voice for voice in voices_report(models, CLIPS)}

    assert report["default"]["models"] == ["A", "B"]
    assert report["heart"]["models"] == ["A"]
    assert report["anna"] == {"id": "anna", "name": "anna", "models": ["B"], "language": "de"}
