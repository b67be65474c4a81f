"""The real Open WebUI at the real gateway, set up by `llmux connect open-webui`: by its environment and by its API."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner

from llmux.cli import main
from llmux.cli_connect import TOKEN_VARIABLE
from tests.clients.open_webui import VERSIONS, OpenWebUI
from tests.gateway import Gateway

pytestmark = pytest.mark.openwebui

SENTENCE = "On Monday the train leaves London at noon."

CONFIG = """\
model_list:
  - {{model_name: Small, litellm_params: {{model: llmux/small}}}}
  - {{model_name: Other, litellm_params: {{model: llmux/other}}}}
  - {{model_name: Ears, litellm_params: {{model: llmux/ears}}}}
  - {{model_name: Voice, litellm_params: {{model: llmux/voice}}}}
llmux:
  budget: 900 MB  # one of the two that chat, and those for speech
  models_dir: {models}
  models:
    small: &chat
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 8192,
        estimate: 400 MB}}
    other: *chat
    ears: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB}}
    voice: {{task: tts, runtime: hibari, estimate: 100 MB}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Path:
    path = tmp_path_factory.mktemp("gateway") / "config.yaml"
    path.write_text(CONFIG.format(models=demo_models))
    return path


@pytest.fixture(scope="module")
def gateway(config: Path) -> Iterator[Gateway]:
    gateway = Gateway(config)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def recording(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "sentence.wav"
    spoken = gateway.openai().audio.speech.create(
        model="Voice", voice="default", input=SENTENCE, response_format="wav", extra_body={"seed": 1}
    )
    path.write_bytes(spoken.content)
    return path


def connect(config: Path, gateway: Gateway, *options: str) -> str:
    told = ["connect", "open-webui", "--config", str(config), "--url", gateway.url, *options]
    result = CliRunner().invoke(main, told)
    assert result.exit_code == 0, result.output
    return result.output


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
    environment: dict[str, str] = {}
    if way == "environment":
        connect(config, gateway, "--write", str(folder / "open-webui.env"))
        lines = (folder / "open-webui.env").read_text().splitlines()
        environment = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
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
    body = {"model": "Small", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}
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


def test_set_up_again_without_speech_it_keeps_its_other_connections(
    set_up: SetUp, config: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    if set_up.way != "api":
        pytest.skip("its environment has been read by now")
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
