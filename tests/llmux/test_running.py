from pathlib import Path
from typing import Any

import httpx
import pytest

from llmux.config import load_config
from llmux.running import NoAnswer, RunningGateway
from llmux.secrets import MASTER_KEY_VARIABLE

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"


def answering(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception) -> list[httpx.Request]:
    asked: list[httpx.Request] = []

    def request(method: str, url: str, *, timeout: float, trust_env: bool, **more: Any) -> httpx.Response:
        asked.append(httpx.Request(method, url, **more))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "request", request)
    return asked


def test_the_gateway_is_asked_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, httpx.Response(200, json={"free_gb": 1.5}))
    assert RunningGateway("http://127.0.0.1:8081", "sk-master").get("/vram", size=2) == {"free_gb": 1.5}
    assert str(asked[0].url) == "http://127.0.0.1:8081/vram?size=2"
    assert asked[0].headers["authorization"] == "Bearer sk-master"


@pytest.mark.parametrize(
    ("answer", "what_to_do"),
    [
        (httpx.ConnectError("refused"), "python -m llmux serve"),
        (httpx.ReadTimeout("late"), "its log"),
        (httpx.Response(401), "LLMUX_MASTER_KEY"),
        (httpx.Response(404), "--port"),
        (httpx.Response(200, text="<html>"), "--port"),
        (httpx.Response(400, json={"error": {"message": "there is one of this name"}}), "there is one of this name"),
    ],
)
def test_where_it_does_not_do_what_is_asked_the_message_says_why(
    monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, what_to_do: str
) -> None:
    answering(monkeypatch, answer)
    with pytest.raises(NoAnswer, match=what_to_do):
        RunningGateway("http://127.0.0.1:8081", "sk-master").post("/key/generate", {})


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "http://127.0.0.1:8090"), ("::1", "http://[::1]:8090"), ("llmux.lan", "http://llmux.lan:8090")],
)
def test_it_is_asked_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, address: str) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, "sk-master-key-of-the-tests")
    (tmp_path / "config.yaml").write_text(SHIPPED.read_text().replace("host: 127.0.0.1", f"host: '{host}'"))
    assert RunningGateway.of(load_config(tmp_path / "config.yaml"), 8090).url == address
