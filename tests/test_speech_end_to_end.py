"""Speech as its clients meet it: a real gateway, chatterbox's real classes on small random weights, and hibari."""

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import openai
import pytest
import soundfile

from bench import random_chatterbox
from bench.random_chatterbox import Variant
from providers.audio import CONTENT_TYPES, Encoding, decode
from tests.gateway import Gateway

CONFIG = """\
model_list:
  - {{model_name: Chat, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: Voice, litellm_params: {{model: llmux/hibari}}}}
  - {{model_name: Chatterbox, litellm_params: {{model: llmux/default}}}}
  - {{model_name: Multilingual, litellm_params: {{model: llmux/multilingual}}}}
  - {{model_name: Turbo, litellm_params: {{model: llmux/turbo}}}}
llmux:
  budget: 2 GB
  database: none
  models_dir: {models}
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 300 MB}}
    hibari: {{task: tts, runtime: hibari, estimate: 100 MB}}
    default: {{task: tts, runtime: chatterbox, weights: default, estimate: 100 MB, max_concurrency: 4}}
    multilingual:
      {{task: tts, runtime: chatterbox, variant: multilingual, weights: multilingual, estimate: 100 MB,
        max_concurrency: 4}}
    turbo: {{task: tts, runtime: chatterbox, variant: turbo, weights: turbo, estimate: 100 MB, max_concurrency: 4}}
"""

SENTENCE = "On Monday the train leaves London at noon."
VOICES = ("Chatterbox", "Multilingual", "Turbo", "Voice")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("speech")
    models = folder / "models"
    with random_chatterbox.small():
        for variant in get_args(Variant):
            random_chatterbox.write(models / variant, variant)
    (models / "smollm2-135m").symlink_to(demo_models / "smollm2-135m")
    (folder / "voices").mkdir()
    sound = 0.1 * np.random.default_rng(0).normal(size=7 * 24_000)
    soundfile.write(folder / "voices" / "anna.de.flac", sound, 24_000)
    (folder / "voices" / "spy.wav").symlink_to("/etc/hostname")
    (folder / "config.yaml").write_text(CONFIG.format(models=models))
    gateway = Gateway(folder / "config.yaml", module="bench.small_gateway")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> openai.OpenAI:
    return gateway.openai()


def speak(client: openai.OpenAI, model: str, **how: Any) -> Any:
    asked = {"voice": "alloy", "input": SENTENCE, "response_format": "wav", **how}
    return client.audio.speech.create(model=model, **asked)


def loudness_db(sound: Any) -> float:
    return float(10 * np.log10(np.mean(sound**2)))


@pytest.mark.parametrize("model", VOICES)
def test_each_voice_speaks(client: openai.OpenAI, model: str) -> None:
    sound, rate = soundfile.read(io.BytesIO(speak(client, model).content))

    assert rate == 24_000
    assert 0.5 < len(sound) / rate < 6
    assert np.abs(sound).max() > 0.001


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_each_format_is_as_long_and_as_loud_as_the_others(client: openai.OpenAI, encoding: Encoding) -> None:
    reference = np.frombuffer(speak(client, "Voice", response_format="pcm", extra_body={"seed": 1}).content, np.int16)
    answer = speak(client, "Voice", response_format=encoding, extra_body={"seed": 1})
    if encoding == "pcm":
        sound = (np.frombuffer(answer.content, np.int16) / 32768).astype(np.float32)
    else:
        sound = decode(answer.content, 24_000, max_s=60)

    assert answer.response.headers["content-type"] == CONTENT_TYPES[encoding]
    assert len(sound) == pytest.approx(len(reference), abs=0.15 * 24_000)
    assert loudness_db(sound) == pytest.approx(loudness_db(reference / 32768), abs=1)


@pytest.mark.parametrize("model", ["Chatterbox", "Multilingual", "Turbo"])
def test_a_voice_of_the_folder_is_spoken_with(client: openai.OpenAI, model: str) -> None:
    extra = {"language": "en", "seed": 1}
    anna, own = [speak(client, model, voice=voice, extra_body=extra).content for voice in ("anna", "alloy")]

    assert anna != own


def test_the_sdk_reads_the_events(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="Turbo", voice="alloy", input=SENTENCE, stream_format="sse", response_format="mp3"
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    sound = b"".join(base64.b64decode(event["audio"]) for event in events if event["type"] == "speech.audio.delta")
    assert len(decode(sound, 24_000, max_s=60)) > 12_000
    assert events[-1]["type"] == "speech.audio.done"


def test_voices_and_speech_models_are_listed_for_whoever_has_a_key(gateway: Gateway) -> None:
    with gateway.http() as http:
        voices = {voice["id"]: voice for voice in http.get("/v1/audio/voices").json()["voices"]}
        models = [model["id"] for model in http.get("/v1/audio/models").json()["models"]]
    with gateway.http(key=None) as http:
        assert http.get("/v1/audio/voices").status_code == 401

    assert models == ["Voice", "Chatterbox", "Multilingual", "Turbo"]
    assert voices["anna"] == {
        "id": "anna",
        "name": "anna",
        "models": ["Chatterbox", "Multilingual", "Turbo"],
        "language": "de",
    }
    assert voices["default"]["models"] == models
    assert "spy" not in voices


@pytest.mark.parametrize(
    ("model", "wrong", "says"),
    [
        ("Turbo", {"voice": "../anna"}, "default, anna"),
        ("Turbo", {"voice": "spy"}, "default, anna"),
        ("Turbo", {"response_format": "ogg"}, "mp3, opus, aac, flac, wav, pcm"),
        ("Turbo", {"extra_body": {"language": "de"}}, "there are en"),
        ("Turbo", {"extra_body": {"exaggeration": 1}}, "temperature only"),
        ("Multilingual", {"extra_body": {"language": "ja"}}, "GPL-3.0"),
        ("Multilingual", {"extra_body": {"cfg_weight": 7}}, "from 0 to 1"),
        ("Voice", {"input": "x" * 5_000}, "at most 4096"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    client: openai.OpenAI, model: str, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        speak(client, model, **wrong)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"input": "\xff"}', b'{"speed": NaN}'])
def test_a_body_that_is_no_json_is_a_400(gateway: Gateway, body: bytes) -> None:
    with gateway.http() as http:
        answer = http.post("/v1/audio/speech", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("text", ["😀", "A", "**", "https://example.com/a?b=c", "3.14 € & 50%", "```\nx = 1\n```"])
def test_no_text_is_too_strange(client: openai.OpenAI, text: str) -> None:
    assert len(speak(client, "Multilingual", input=text).content) > 1_000


def test_two_requests_of_a_call_and_the_chat_beside_them_all_come_whole(gateway: Gateway) -> None:
    text = f"{SENTENCE} {SENTENCE} Good."

    def chat() -> int:
        stream = gateway.openai().chat.completions.create(
            model="Chat", messages=[{"role": "user", "content": "Count."}], max_tokens=24, stream=True
        )
        return sum(1 for chunk in stream if chunk.choices)

    def voice(seed: int) -> bytes:
        return bytes(speak(gateway.openai(), "Voice", input=text, extra_body={"seed": seed}).content)

    alone = [voice(1), voice(2)]
    with ThreadPoolExecutor(3) as threads:
        talking = threads.submit(chat)
        together = list(threads.map(voice, (1, 2)))
        assert talking.result() > 1
    assert together == alone


def test_who_hangs_up_gives_the_model_back(gateway: Gateway) -> None:
    body = {"model": "Chatterbox", "voice": "alloy", "input": f"{SENTENCE} " * 20, "response_format": "pcm"}
    with gateway.http() as http, http.stream("POST", "/v1/audio/speech", json=body) as answer:
        next(answer.iter_raw())
    with httpx.Client() as patient:
        assert patient.get(f"{gateway.url}/health").status_code == 200
    # the next one is served although twenty sentences were asked for
    assert speak(gateway.openai(), "Chatterbox", input="Yes.").content
