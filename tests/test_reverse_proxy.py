"""The gateway behind Caddy, with the Caddyfile that deploy/ ships: streams and long waits come through as they are."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway import MASTER_KEY, ROOT, Gateway, free_port

CONFIG = """\
model_list:
  - {{model_name: Chat, litellm_params: {{model: llmux/chat}}}}
  - {{model_name: Voice, litellm_params: {{model: llmux/voice}}}}
llmux:
  budget: 350 MB
  database: none
  models_dir: {models}
  limits: {{stop_s: 5}}
  models:
    chat:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 4096,
        estimate: 300 MB}}
    voice: {{task: tts, runtime: hibari, estimate: 100 MB}}
"""

COUNT: list[Any] = [{"role": "user", "content": "Count from one to one thousand, one number on each line."}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Iterator[Gateway]:
    config = tmp_path_factory.mktemp("proxied") / "config.yaml"
    config.write_text(CONFIG.format(models=demo_models))
    gateway = Gateway(config)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of Caddy's; the gateway stands behind it."""
    port = free_port()
    caddy = subprocess.Popen(
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(ROOT / "deploy" / "caddy" / "Caddyfile")],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path_factory.mktemp("caddy")),
            "LLMUX_HOST": f"http://127.0.0.1:{port}",
            "LLMUX_BACKEND": gateway.url.removeprefix("http://"),
            "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert caddy.stderr is not None
    for line in caddy.stderr:
        if "serving initial configuration" in line:
            break
    reader = threading.Thread(target=caddy.stderr.read, daemon=True)  # or its pipe fills up
    reader.start()
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:
        yield client
    caddy.terminate()
    caddy.wait(timeout=30)
    reader.join(timeout=10)
    caddy.stderr.close()


def test_v1_and_health_come_through_and_nothing_else(proxy: httpx.Client) -> None:
    assert proxy.get("/health").json()["status"] == "ok"
    assert [model["id"] for model in proxy.get("/v1/models").json()["data"]] == ["Chat", "Voice"]
    for path in ("/vram", "/metrics", "/ui", "/key/list", "/admin/test/performance"):
        answer = proxy.get(path)
        assert (answer.status_code, answer.content) == (404, b"")


def stream(proxy: httpx.Client, **how: Any) -> Any:
    return proxy.stream(
        "POST", "/v1/chat/completions", json={"model": "Chat", "messages": COUNT, "stream": True, **how}
    )


def test_a_stream_comes_while_the_model_still_writes(proxy: httpx.Client, gateway: Gateway) -> None:
    with stream(proxy, max_tokens=3000, logit_bias={"0": -100, "2": -100}) as answer:
        pieces = (json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: {"))
        next(piece for piece in pieces if piece["choices"][0]["delta"].get("content"))
        assert gateway.vram()["models"]["chat"]["leases"] == 1


def test_a_long_wait_for_the_model_is_bridged_and_the_answer_comes(proxy: httpx.Client, gateway: Gateway) -> None:
    hours = {"model": "Voice", "voice": "default", "input": "Good morning. " * 250, "response_format": "pcm"}
    with gateway.http() as http, http.stream("POST", "/v1/audio/speech", json=hours) as unread:
        assert unread.status_code == 200  # and so it cannot be spoken to the end, which leaves no room for Chat
        with stream(proxy, max_tokens=4) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith(": waiting, position 1")
            unread.close()
            assert list(lines)[-2:] == ["data: [DONE]", ""]


def test_speech_is_whole_behind_the_proxy(proxy: httpx.Client) -> None:
    body = {"model": "Voice", "voice": "default", "input": "Good morning.", "response_format": "wav"}
    answer = proxy.post("/v1/audio/speech", json=body)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.content[:4] == b"RIFF"


def test_behind_the_proxy_a_performance_test_is_the_machines_own_affair(proxy: httpx.Client, gateway: Gateway) -> None:
    order = {"physical_model_id": "not-there"}
    assert proxy.post("/admin/test/performance", json=order).status_code == 404
    with gateway.http() as http:
        known = http.post("/admin/test/performance", json=order)
    assert (known.status_code, known.json()["error"]["code"]) == (404, "model_not_found")
    with gateway.http(key="sk-wrong") as http:
        assert http.post("/admin/test/performance", json=order).status_code == 401
