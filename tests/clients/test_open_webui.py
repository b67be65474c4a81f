"""The real Open WebUI at the real gateway, set up by `llmux connect open-webui`: by its environment and by its API."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from llmux.cli_connect import TOKEN_VARIABLE
from tests.clients.conftest import SENTENCE, connect, connected_environment
from tests.clients.open_webui import VERSIONS, OpenWebUI
from tests.gateway import Gateway

pytestmark = pytest.mark.openwebui


@dataclass(frozen=True)
class SetUp:
    """An Open WebUI that was told of the gateway, and a token of its administrator."""

    version: str
    way: str
    open_webui: OpenWebUI
    token: str


@pytest.fixture(scope="module", params=[(version, way) for version in VERSIONS for way in ("environment", "api")])
def set_up(
    request: pytest.FixtureRequest, config: Path, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SetUp]:
    version, way = request.param
    folder = tmp_path_factory.mktemp(f"open-webui-{version}-{way}")
    environment = connected_environment(config, gateway, folder) if way == "environment" else {}
    open_webui = OpenWebUI(version, folder, environment)
    token = open_webui.sign_up()
    if way == "api":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(TOKEN_VARIABLE, token)
            assert "lists all 4 models" in connect(config, gateway, "--configure", open_webui.url)
    yield SetUp(version, way, open_webui, token)
    open_webui.stop()


def test_it_lists_every_model(set_up: SetUp) -> None:
    with set_up.open_webui.http(set_up.token) as http:
        listed = [model["id"] for model in http.get("/api/models").raise_for_status().json()["data"]]
    assert sorted({*listed} - {"arena-model"}) == ["Ears", "Other", "Small", "Voice"]  # 0.8 has one of its own


def test_a_chat_is_streamed(set_up: SetUp) -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    body = {"model": "Small", "stream": True, "max_tokens": 32, "messages": messages}
    with (
        set_up.open_webui.http(set_up.token) as http,
        http.stream("POST", "/api/chat/completions", json=body) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    words = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ())]
    assert len([word for word in words if word]) > 1
    if set_up.version != "0.8.12":  # whose pages ask, not its API
        assert any(chunk.get("usage") for chunk in chunks), "it asks what the chat used"


def test_a_recording_is_transcribed(set_up: SetUp, recording: Path) -> None:
    files = {"file": ("sentence.wav", recording.read_bytes(), "audio/wav")}
    with set_up.open_webui.http(set_up.token) as http:
        answer = http.post("/api/v1/audio/transcriptions", files=files)
    assert answer.status_code == 200, answer.text
    assert {"Monday", "London"} <= set(re.findall(r"\w+", answer.json()["text"]))


def test_text_is_spoken(set_up: SetUp) -> None:
    with set_up.open_webui.http(set_up.token) as http:
        answer = http.post("/api/v1/audio/speech", json={"input": SENTENCE, "voice": "default", "model": "Voice"})
    assert answer.status_code == 200, answer.text
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert len(samples) / rate > 1


def test_a_title_is_written_by_the_model_of_the_chat(set_up: SetUp, gateway: Gateway) -> None:
    told = "Talk to me."
    body = {"model": "Other", "messages": [{"role": "user", "content": told}]}
    gateway.openai().chat.completions.create(model="Other", messages=[{"role": "user", "content": told}], max_tokens=1)
    with set_up.open_webui.http(set_up.token) as http:
        assert http.post("/api/v1/tasks/title/completions", json=body).status_code == 200
    assert gateway.vram()["models"]["small"]["state"] == "absent"


@pytest.mark.parametrize("set_up", [(version, "api") for version in VERSIONS], indirect=True)
def test_set_up_again_without_speech_it_keeps_its_other_connections(
    set_up: SetUp, config: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, set_up.token)
    with set_up.open_webui.http(set_up.token) as http:
        before = http.get("/openai/config").json()
        another = {"OPENAI_API_BASE_URLS": ["http://127.0.0.1:9/v1", *before["OPENAI_API_BASE_URLS"]]}
        keys = {"OPENAI_API_KEYS": ["another", *before["OPENAI_API_KEYS"]]}
        configs = {"OPENAI_API_CONFIGS": {"0": {"enable": False}, "1": before["OPENAI_API_CONFIGS"]["0"]}}
        http.post("/openai/config/update", json={**before, **another, **keys, **configs}).raise_for_status()
        assert "lists all 2 models" in connect(config, gateway, "--configure", set_up.open_webui.url, "--hide-speech")
        after = http.get("/openai/config").json()
    assert after["OPENAI_API_BASE_URLS"] == ["http://127.0.0.1:9/v1", f"{gateway.url}/v1"]
    assert after["OPENAI_API_KEYS"][0] == "another"
    assert after["OPENAI_API_CONFIGS"]["0"] == {"enable": False}
    assert after["OPENAI_API_CONFIGS"]["1"]["model_ids"] == ["Small", "Other"]
