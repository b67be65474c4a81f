from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

from llmux import performance_route as module
from llmux.answer import Answer
from llmux.config import Config, load_config
from llmux.errors import LlmuxError, ModelBusy
from llmux.performance import Timing
from llmux.routes import key_of, tell
from vram.device import NoGpu

CONFIG = """\
model_list:
  - {model_name: Voice, litellm_params: {model: llmux/voice}}
llmux:
  budget: 1 GB
  database: none
  models:
    voice: {task: tts, runtime: hibari, estimate: 1 MB}
    chat: {task: llm, runtime: llama.cpp, weights: org/chat, file: chat.gguf, estimate: 1 MB}
    absent: {task: llm, runtime: llama.cpp, weights: org/absent, file: absent.gguf, estimate: 1 MB}
"""
PATH = "/admin/test/performance"


class FakeLeased:
    """Lends to nobody else meanwhile, or is busy."""

    def __init__(self) -> None:
        self.busy = False
        self.alone: list[str] = []

    async def stream(self, physical: str, work: Callable[[Any], Any], *, alone: bool) -> AsyncGenerator[Any, None]:
        if self.busy:
            raise ModelBusy("requests are being served")
        assert alone
        self.alone.append(physical)
        async for item in work(object()):
            yield item


@pytest.fixture
def leased() -> FakeLeased:
    return FakeLeased()


@pytest.fixture
def gpus() -> list[str]:
    return ["a GPU"]


@pytest.fixture
def key() -> UserAPIKeyAuth:
    return UserAPIKeyAuth(user_role=LitellmUserRoles.PROXY_ADMIN)


@pytest.fixture
async def http(
    leased: Any, gpus: list[str], key: UserAPIKeyAuth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "config.yaml").write_text(CONFIG)
    chat = tmp_path / "models" / "org" / "chat"
    chat.mkdir(parents=True)
    (chat / "chat.gguf").touch()

    async def timed(task: str, runtime: object) -> Timing:
        return Timing(2.0, 8.0 if task == "tts" else 0.0)

    async def on_cpu(model: str, config: Config) -> float:
        return 30.0

    monkeypatch.setattr("llmux.performance.timed", timed)
    monkeypatch.setattr(module, "on_cpu", on_cpu)
    app = FastAPI()
    app.include_router(module.performance_route(leased, load_config(tmp_path / "config.yaml"), lambda: bool(gpus)))
    app.dependency_overrides[key_of] = lambda: key
    app.add_exception_handler(LlmuxError, tell)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Answer(app)), base_url="http://gateway") as client:
        yield client


async def test_a_voice_is_timed_against_the_clock_and_chat_against_the_cpu(
    http: httpx.AsyncClient, leased: FakeLeased
) -> None:
    voice = (await http.post(PATH, json={"physical_model_id": "voice"})).json()
    assert (voice["model"], voice["realtime_factor"], voice["pass"]) == ("voice", 4.0, True)
    chat = (await http.post(PATH, json={"physical_model_id": "chat"})).json()
    assert chat == {"model": "chat", "gpu_seconds": 2.0, "cpu_seconds": 30.0, "speedup": 15.0, "pass": True}
    assert leased.alone == ["voice", "chat"]


async def test_without_a_gpu_it_says_so(http: httpx.AsyncClient, leased: FakeLeased, gpus: list[str]) -> None:
    gpus.clear()
    answer = await http.post(PATH, json={"physical_model_id": "voice"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "gpu_missing")
    assert leased.alone == []


async def test_it_does_not_run_beside_requests(http: httpx.AsyncClient, leased: FakeLeased) -> None:
    leased.busy = True
    answer = await http.post(PATH, json={"physical_model_id": "voice"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_busy")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, None),
        ({"model": "voice"}, 400, None),
        ({"physical_model_id": 1}, 400, None),
        ({"physical_model_id": "Voice"}, 404, "model_not_found"),
        ({"physical_model_id": "absent"}, 404, "weights_missing"),
    ],
)
async def test_a_mistake_is_told(http: httpx.AsyncClient, body: Any, status: int, code: str | None) -> None:
    answer = await http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("key", [UserAPIKeyAuth(user_role=LitellmUserRoles.INTERNAL_USER)])
async def test_it_takes_the_admins_key(http: httpx.AsyncClient, leased: FakeLeased) -> None:
    answer = await http.post(PATH, json={"physical_model_id": "voice"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_needed")
    assert leased.alone == []


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise NoGpu("NVML is not there")

    monkeypatch.setattr(module, "NvmlDevice", none)
    assert not module.has_gpu()
    monkeypatch.setattr(module, "NvmlDevice", object)
    assert module.has_gpu()
