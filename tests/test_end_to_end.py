"""The gateway as its clients meet it: a real process, real sockets, the openai SDK, real small models."""

import io
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import soundfile

from llmux.keys import KeyFile
from tests.gateway import MASTER_KEY, ROOT, Gateway, eventually

SENTENCE = "On Monday the train leaves London at noon."

CONFIG = """\
model_list:
  - {{model_name: Chat, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: Chat-Too, litellm_params: {{model: llmux/smollm2, view: {{enable_thinking: false}}}}}}
  - {{model_name: Ears, litellm_params: {{model: llmux/whisper}}}}
  - {{model_name: Voice, litellm_params: {{model: llmux/hibari}}}}
  - {{model_name: Absent, litellm_params: {{model: llmux/absent}}}}
  - {{model_name: Giant, litellm_params: {{model: llmux/giant}}}}
  - {{model_name: Large, litellm_params: {{model: llmux/large}}}}
  - {{model_name: Broken, litellm_params: {{model: llmux/broken}}}}
llmux:
  budget: 650 MB
  database: none
  models_dir: {models}
  limits: {{request_body: 5 MB, stop_s: 10}}
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 300 MB}}
    whisper: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB}}
    hibari: {{task: tts, runtime: hibari, estimate: 100 MB}}
    absent: {{task: llm, runtime: llama.cpp, weights: some/where, file: not-there.gguf, estimate: 100 MB}}
    giant:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, estimate: 900 GB}}
    large:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 600 MB}}
    broken: {{task: llm, runtime: llama.cpp, weights: whisper-base, file: model.safetensors, estimate: 600 MB}}
"""

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
COUNT: list[Any] = [{"role": "user", "content": "Count from one to one thousand, one number on each line."}]

ENDLESS = {"0": -100, "2": -100}
"""Never <|endoftext|>, never <|im_end|>: SmolLM2 goes on until its context is full, or its client leaves."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(folder: Path, demo_models: Path) -> Iterator[Gateway]:
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(models=demo_models))
    gateway = Gateway(config)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> openai.OpenAI:
    return gateway.openai()


@pytest.fixture(scope="module")
def spoken(client: openai.OpenAI) -> bytes:
    return client.audio.speech.create(
        model="Voice", voice="default", input=SENTENCE, response_format="wav", extra_body={"seed": 1}
    ).content


def nothing_held(gateway: Gateway) -> bool:
    return all(model["leases"] == 0 for model in gateway.vram()["models"].values())


def error_of(answer: httpx.Response) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert str(ROOT) not in answer.text
    assert "Traceback" not in answer.text
    return dict(body["error"])


# What there is


def test_models_are_listed_under_their_virtual_names(client: openai.OpenAI) -> None:
    listed = list(client.models.list())
    assert [model.id for model in listed] == ["Chat", "Chat-Too", "Ears", "Voice", "Absent", "Giant", "Large", "Broken"]
    assert {model.owned_by for model in listed} == {"llmux"}
    assert client.models.retrieve("Ears").id == "Ears"


def test_health_needs_no_key_and_tells_what_is_loaded(gateway: Gateway, spoken: bytes) -> None:
    with gateway.http(key=None) as http:
        health = http.get("/health").json()
    assert health["status"] == "ok"
    assert health["loaded_models"]["hibari"] == {"type": "tts", "vram_gb": 0.1}
    assert 0 <= health["available_vram_gb"] <= 0.55


# Chat


def test_chat_answers_with_usage_and_the_name_that_was_asked(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="Chat-Too", messages=HELLO, max_tokens=8, temperature=0)
    assert answer.model == "Chat-Too"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_as_a_plain_answer(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="Chat", messages=HELLO, max_tokens=16, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model="Chat",
            messages=HELLO,
            max_tokens=16,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"Chat"}
    finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert finishes == [plain.choices[0].finish_reason]
    assert chunks[-1].usage is not None
    assert plain.usage is not None
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens


def test_stop_strings_limits_and_seeds_are_honoured(client: openai.OpenAI) -> None:
    def ask(**how: Any) -> Any:
        return client.chat.completions.create(model="Chat", messages=COUNT, **how).choices[0]

    limited = ask(max_tokens=4, temperature=0)
    assert limited.finish_reason == "length"
    whole = ask(max_tokens=24, temperature=0).message.content
    word = whole.split()[2]
    stopped = ask(max_tokens=24, temperature=0, stop=[word])
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == whole[: whole.index(word)]
    warm = {"max_tokens": 12, "temperature": 1.5, "top_p": 0.95}
    assert ask(seed=7, **warm).message.content == ask(seed=7, **warm).message.content


def test_completions_responses_and_messages_come_through_litellms_translation(gateway: Gateway) -> None:
    client = gateway.openai()
    assert client.completions.create(model="Chat", prompt="Hello", max_tokens=4).choices[0].text
    assert client.responses.create(model="Chat", input="Hello", max_output_tokens=16).output_text
    with gateway.http() as http:
        answer = http.post("/v1/messages", json={"model": "Chat", "max_tokens": 8, "messages": HELLO}).json()
    assert answer["content"][0]["text"]


# Ears and voice


@pytest.mark.parametrize(
    ("response_format", "content_type"),
    [
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
    ],
)
def test_speech_comes_in_each_format_with_its_true_type(
    client: openai.OpenAI, response_format: Any, content_type: str
) -> None:
    answer = client.audio.speech.with_raw_response.create(
        model="Voice", voice="alloy", input="Good morning.", response_format=response_format
    )
    assert answer.headers["content-type"].split(";")[0] == content_type
    assert len(answer.content) > 2000


def test_what_was_spoken_is_heard(client: openai.OpenAI, spoken: bytes) -> None:
    samples, rate = soundfile.read(io.BytesIO(spoken))
    assert 1.5 < len(samples) / rate < 6
    text = client.audio.transcriptions.create(model="Ears", file=("speech.wav", spoken)).text
    assert "Monday" in text
    assert "London" in text


def test_text_srt_and_vtt_are_bare_bodies(gateway: Gateway, spoken: bytes) -> None:
    def transcribe(response_format: str) -> httpx.Response:
        with gateway.http() as http:
            return http.post(
                "/v1/audio/transcriptions",
                data={"model": "Ears", "response_format": response_format, "language": "en"},
                files={"file": ("speech.wav", spoken)},
            )

    text = transcribe("text")
    assert text.headers["content-type"].startswith("text/plain")
    assert "London" in text.text
    assert text.text[0] not in '{"'
    assert transcribe("srt").text.startswith("1\n00:00:00,")
    assert transcribe("vtt").text.startswith("WEBVTT\n")
    verbose = transcribe("verbose_json").json()
    assert isinstance(verbose["duration"], float)
    assert verbose["language"] == "english" or verbose["language"] == "en"
    assert verbose["segments"][0]["end"] > 0


# Who may, and what is refused


@pytest.mark.parametrize("header", [None, "Bearer sk-wrong", "Basic dXNlcjpwYXNz", MASTER_KEY])
def test_a_missing_malformed_or_wrong_key_is_a_401_everywhere(gateway: Gateway, header: str | None) -> None:
    with gateway.http(key=None) as http:
        http.headers = httpx.Headers({} if header is None else {"Authorization": header})
        for method, path in [
            ("GET", "/v1/models"),
            ("GET", "/vram"),
            ("POST", "/vram/load"),
            ("GET", "/metrics"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/audio/speech"),
            ("POST", "/v1/messages"),
        ]:
            answer = http.request(method, path, json={"model": "Chat", "messages": HELLO} if method == "POST" else None)
            assert answer.status_code == 401, path
            assert error_of(answer)["type"] == "authentication_error"
        upload = http.post("/v1/audio/transcriptions", data={"model": "Ears"}, files={"file": ("a.wav", b"x")})
        assert upload.status_code == 401


def test_a_named_key_sees_and_uses_its_own_models_only(gateway: Gateway, folder: Path) -> None:
    mine = gateway.openai(KeyFile(folder / "state").create("only chat", ["Chat"]))
    assert [model.id for model in mine.models.list()] == ["Chat"]
    assert mine.models.retrieve("Chat").id == "Chat"
    with pytest.raises(openai.NotFoundError):
        mine.models.retrieve("Voice")
    asked = mine.chat.completions.create(model="Chat", messages=HELLO, max_tokens=2, extra_query={"model": "Chat-Too"})
    assert asked.model == "Chat"  # the query's model wins over the body's in LiteLLM
    assert mine.chat.completions.create(model="Chat", messages=HELLO, max_tokens=2).choices
    for refused in (
        lambda: mine.chat.completions.create(model="Chat-Too", messages=HELLO),
        lambda: mine.audio.speech.create(model="Voice", voice="default", input="no"),
        lambda: mine.chat.completions.create(model="Chat", messages=HELLO, extra_body={"fallbacks": ["Chat-Too"]}),
    ):
        with pytest.raises((openai.PermissionDeniedError, openai.BadRequestError, openai.AuthenticationError)):
            refused()
    KeyFile(folder / "state").revoke("only chat")
    with pytest.raises(openai.AuthenticationError):
        mine.models.list()


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [
        ({"messages": HELLO}, 400, None),
        ({"model": "Nope", "messages": HELLO}, 404, "model_not_found"),
        ({"model": "llmux/smollm2", "messages": HELLO}, 404, "model_not_found"),
        ({"model": "Chat,Chat-Too", "messages": HELLO}, 404, "model_not_found"),
        ({"model": "Voice", "messages": HELLO}, 400, "wrong_task"),
        ({"model": "Absent", "messages": HELLO}, 404, "weights_missing"),
        ({"model": "Giant", "messages": HELLO}, 400, "insufficient_vram"),
        ({"model": "Chat", "messages": HELLO, "num_retries": 3}, 400, None),
        ({"model": "Chat", "messages": HELLO, "api_base": "http://127.0.0.1:1"}, 400, None),
        ({"model": "Chat", "messages": HELLO, "fallbacks": ["Chat-Too"]}, 400, None),
        ({"model": "Chat", "messages": HELLO, "view": {"enable_thinking": True}}, 400, None),
        ({"model": "Chat", "messages": HELLO, "temperature": 9}, 400, None),
        ({"model": "Chat", "messages": "hello"}, 400, None),
        ({"model": "Chat", "messages": []}, 400, None),
        ({"model": "Chat", "messages": [{"role": "user", "content": "word " * 5000}]}, 400, "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_cannot_be_served_is_refused_with_its_reason(
    gateway: Gateway, request_body: dict[str, Any], status: int, code: str | None, stream: bool
) -> None:
    with gateway.http() as http:
        answer = http.post("/v1/chat/completions", json={**request_body, "stream": stream})
    assert answer.status_code == status, answer.text
    assert error_of(answer)["code"] == code


def test_bodies_that_are_no_json_or_too_large_are_refused(gateway: Gateway) -> None:
    with gateway.http() as http:
        broken = http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
        assert (broken.status_code, error_of(broken)["type"]) == (400, "invalid_request_error")
        large = http.post("/v1/chat/completions", json={"model": "Chat", "messages": "x" * 6_000_000})
        assert (large.status_code, error_of(large)["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("sound", [b"", b"this is no sound", b"RIFF\xff\xff\xff\xffWAVEfmt "])
def test_broken_sound_is_a_400_and_loads_nothing(gateway: Gateway, sound: bytes) -> None:
    with gateway.http() as http:
        answer = http.post("/v1/audio/transcriptions", data={"model": "Ears"}, files={"file": ("a.wav", sound)})
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "request_body",
    [
        {"input": "", "voice": "default"},
        {"input": "x" * 5000, "voice": "default"},
        {"input": "hello", "voice": "nobody"},
        {"input": "hello", "voice": "default", "response_format": "midi"},
        {"input": "hello", "voice": "default", "speed": 99},
        {"voice": "default"},
    ],
)
def test_speech_that_cannot_be_made_is_a_400(gateway: Gateway, request_body: dict[str, Any]) -> None:
    with gateway.http() as http:
        answer = http.post("/v1/audio/speech", json={"model": "Voice", **request_body})
    assert answer.status_code == 400, answer.text
    error_of(answer)


@pytest.mark.parametrize("path", ["/", "/ui", "/key/generate", "/config/update", "/health/readiness", "/v1/embeddings"])
def test_litellms_other_routes_are_closed(gateway: Gateway, path: str) -> None:
    with gateway.http() as http:
        answer = http.get(path)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "not_found")


# Many at once, and clients that leave


def test_a_client_that_leaves_frees_its_model(gateway: Gateway, spoken: bytes) -> None:
    def leave(method: str, path: str, **request: Any) -> None:
        with gateway.http() as http, pytest.raises(httpx.ReadTimeout):
            http.request(method, path, timeout=0.3, **request)

    def serves(model: str) -> bool:
        return bool(gateway.vram()["models"][model]["leases"])

    # A plain answer: nothing is sent before the whole is done.
    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(
            leave, "POST", "/v1/chat/completions", json={"model": "Chat", "messages": COUNT, "logit_bias": ENDLESS}
        )
        gone.result()
    eventually(lambda: nothing_held(gateway))
    # A stream, left after its first chunk.
    chat = gateway.openai().chat.completions
    with chat.create(model="Chat", messages=COUNT, stream=True, logit_bias=ENDLESS) as stream:
        next(iter(stream))
        assert serves("smollm2")
    eventually(lambda: not serves("smollm2"))
    # Speech, left after its first bytes.
    long = " ".join([SENTENCE] * 90)
    with (
        gateway.http() as http,
        http.stream("POST", "/v1/audio/speech", json={"model": "Voice", "voice": "default", "input": long}) as answer,
    ):
        next(answer.iter_raw())
    eventually(lambda: nothing_held(gateway))
    # Transcription, left before its first byte.
    samples, rate = soundfile.read(io.BytesIO(spoken))
    recording = io.BytesIO()
    soundfile.write(recording, list(samples) * 30, rate, format="OGG", subtype="VORBIS")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            leave,
            "POST",
            "/v1/audio/transcriptions",
            data={"model": "Ears"},
            files={"file": ("long.ogg", recording.getvalue())},
        ).result()
    eventually(lambda: nothing_held(gateway))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": HELLO, "stream": True}),
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"prompt": "Hello", "stream": True}),
        ("/v1/responses", {"input": "Hello", "stream": True}),
        ("/v1/messages", {"messages": HELLO, "stream": True, "max_tokens": 9}),
    ],
)
def test_a_client_that_leaves_the_queue_is_not_waited_for(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    def waiting() -> int:
        return int(gateway.vram()["waiting"])

    chat = gateway.openai().chat.completions
    with chat.create(model="Chat", messages=COUNT, stream=True, logit_bias=ENDLESS) as ahead:
        next(iter(ahead))
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            sent = json.dumps({"model": "Chat", **body}).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {MASTER_KEY}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
            connection.sendall(head.encode() + sent)
            eventually(lambda: waiting() == 1)
        eventually(lambda: waiting() == 0)
        assert gateway.vram()["models"]["smollm2"]["leases"] == 1, "the one ahead is still served"
    eventually(lambda: nothing_held(gateway))


def test_a_connection_serves_on_after_an_error(gateway: Gateway) -> None:
    with gateway.http() as http:
        for _ in range(3):
            assert http.get("/v1/models/Nobody").status_code == 404
            assert http.get("/health").status_code == 200


@pytest.mark.parametrize("messages", [[{"role": "user", "content": 5}], [{"role": ["user"], "content": "x"}]])
def test_messages_of_another_form_are_a_400(gateway: Gateway, messages: list[Any]) -> None:
    with gateway.http() as http:
        answer = http.post("/v1/chat/completions", json={"model": "Chat", "messages": messages})
    assert answer.status_code == 400, answer.text
    error_of(answer)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/responses", {"input": "Hello"}), ("/v1/messages", {"messages": HELLO, "max_tokens": 9})]
)
def test_an_error_in_another_apis_stream_tells_nothing_of_litellm(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    with gateway.http() as http:
        answer = http.post(path, json={"model": "Chat", "stream": True, "temperature": 9, **body})
    assert "temperature must be a number" in answer.text
    assert "litellm" not in answer.text.lower()


def test_of_32_clients_half_hang_up_and_nothing_stays_held(gateway: Gateway, spoken: bytes) -> None:
    """Each client knows only its own fate; afterwards no lease is held and every model still answers."""
    served, left = [], []
    lock = threading.Lock()

    def patient(number: int) -> None:
        client = gateway.openai()
        if number % 4 == 0:
            text = client.audio.transcriptions.create(model="Ears", file=("speech.wav", spoken)).text
        elif number % 4 == 1:
            text = str(len(client.audio.speech.create(model="Voice", voice="default", input="Yes.").content))
        else:
            answer = client.chat.completions.create(model="Chat", messages=HELLO, max_tokens=4)
            text = answer.choices[0].message.content or "-"
        with lock:
            served.append(text)

    def impatient(number: int) -> None:
        body = {"model": "Chat", "messages": COUNT, "stream": number % 2 == 0}
        with gateway.http() as http:
            try:
                with http.stream("POST", "/v1/chat/completions", json=body, timeout=0.2 + number % 5 / 5) as answer:
                    next(answer.iter_raw(), None)
            except httpx.TimeoutException:
                pass
        with lock:
            left.append(number)

    with ThreadPoolExecutor(32) as pool:
        for task in [pool.submit((patient, impatient)[number % 2], number // 2) for number in range(32)]:
            task.result()
    assert (len(served), len(left)) == (16, 16)
    assert all(served)
    eventually(lambda: nothing_held(gateway))
    assert gateway.vram()["waiting"] == 0
    for number in range(3):
        patient(number)


def test_two_views_of_one_model_load_it_once(gateway: Gateway) -> None:
    client = gateway.openai()

    def loads() -> int:
        return sum("smollm2 loaded" in line for line in gateway.log)

    client.chat.completions.create(model="Chat", messages=HELLO, max_tokens=1)
    before = loads()
    assert before > 0
    client.chat.completions.create(model="Chat-Too", messages=HELLO, max_tokens=1)
    assert loads() == before


# What people see of the arbiter


def test_the_vram_report_is_for_every_key_and_orders_are_for_the_admin(gateway: Gateway, folder: Path) -> None:
    keys = KeyFile(folder / "state")
    with gateway.http(keys.create("looks on")) as all_models, gateway.http(keys.create("chats", ["Chat"])) as one_model:
        report = one_model.get("/vram").json()
        for path in ("/vram/load", "/vram/unload", "/vram/pin"):
            refused = all_models.post(path, json={"model": "hibari"})
            assert (refused.status_code, error_of(refused)["code"]) == (403, "admin_key_needed")
            assert error_of(one_model.post(path, json={"model": "hibari"}))["code"] == "admin_key_needed"
    assert report["budget_gb"] == 0.65
    assert report["device_error"] is None
    assert list(report["models"]) == ["smollm2", "whisper", "hibari", "absent", "giant", "large", "broken"]
    assert report["models"]["absent"]["state"] == "absent"
    assert report["models"]["giant"]["predicted_gb"] == 900.0


def test_the_admin_loads_pins_and_unloads_by_hand(gateway: Gateway) -> None:
    with gateway.http() as http:

        def order(what: str, **body: Any) -> httpx.Response:
            return http.post(f"/vram/{what}", json=body)

        assert order("load", model="hibari").json()["state"] == "resident"
        assert order("pin", model="hibari").json()["pinned"] is True
        assert gateway.vram()["models"]["hibari"]["pinned"] is True
        assert order("pin", model="hibari", pinned=False).json()["pinned"] is False
        assert order("unload", model="hibari").json()["state"] == "absent"
        assert "hibari" not in http.get("/health").json()["loaded_models"]
        assert error_of(order("load", model="giant"))["code"] == "insufficient_vram"
        assert error_of(order("load", model="absent"))["code"] == "weights_missing"
        for what in ("load", "unload", "pin"):
            unknown = order(what, model="Chat")
            assert (unknown.status_code, error_of(unknown)["code"]) == (404, "model_not_found")
            assert order(what).status_code == order(what, model=["hibari"]).status_code == 400
            broken = http.post(f"/vram/{what}", content=b"{", headers={"content-type": "application/json"})
            assert (broken.status_code, error_of(broken)["type"]) == (400, "invalid_request_error")


def test_prometheus_sees_what_the_arbiter_did_with_any_key(gateway: Gateway, folder: Path) -> None:
    named = KeyFile(folder / "state").create("Prometheus")
    gateway.openai().chat.completions.create(model="Chat", messages=HELLO, max_tokens=1)
    with gateway.http(named) as http:
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    seen = answer.text.splitlines()
    assert "llmux_budget_bytes 6.5e+08" in seen
    assert 'llmux_model_resident{model="smollm2"} 1.0' in seen
    assert 'llmux_leases{model="smollm2"} 0.0' in seen
    assert any(line.startswith('llmux_loads_total{model="smollm2"}') for line in seen)
    assert any(line.startswith('llmux_load_seconds_bucket{le="0.5",model="smollm2"}') for line in seen)
    assert any(line.startswith('llmux_wait_seconds_count{model="smollm2"}') for line in seen)
    assert any(line.startswith('llmux_refusals_total{kind="never_fits",model="giant"}') for line in seen)


def test_status_shows_the_running_gateway(gateway: Gateway, folder: Path) -> None:
    command = [sys.executable, "-m", "llmux", "status", "--config", str(folder / "config.yaml")]
    environment = {**os.environ, "LLMUX_MASTER_KEY": MASTER_KEY}
    shown = subprocess.run(
        [*command, "--port", str(gateway.port)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "smollm2" in shown.stdout
    assert "budget 0.65 GB" in shown.stdout
    wrong = subprocess.run(
        [*command, "--port", str(gateway.port)],
        cwd=ROOT,
        env={**environment, "LLMUX_MASTER_KEY": "sk-of-quite-another-gateway"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "LLMUX_MASTER_KEY" in wrong.stderr


def test_a_stream_that_waits_says_so_and_flows_on_or_ends_with_its_error(gateway: Gateway) -> None:
    """Three ask for models that need the room of one that serves: one is served in the end, one leaves, one fails."""
    first_lines: queue.Queue[str] = queue.Queue()

    def ask(model: str, stays: bool = True) -> list[str]:
        body = {"model": model, "messages": HELLO, "max_tokens": 4, "stream": True}
        with gateway.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()
            first_lines.put(first := next(lines))
            return [first, *lines] if stays else []

    hours = {"model": "Voice", "voice": "default", "input": " ".join([SENTENCE] * 90), "response_format": "pcm"}
    with (
        ThreadPoolExecutor(3) as pool,
        gateway.http() as http,
        http.stream("POST", "/v1/audio/speech", json=hours) as unread,  # so it cannot be spoken to the end
    ):
        assert unread.status_code == 200
        busy = http.post("/vram/unload", json={"model": "hibari"})
        assert (busy.status_code, error_of(busy)["code"]) == (503, "model_busy")
        assert int(busy.headers["retry-after"]) > 0
        served, left, failed = (pool.submit(ask, *what) for what in (("Large",), ("Large", False), ("Broken",)))
        for _ in range(3):
            assert first_lines.get(timeout=30).startswith(": waiting, position ")
        left.result()
        eventually(lambda: gateway.vram()["waiting"] == 2)
        models = gateway.vram()["models"]
        assert (models["hibari"]["state"], models["hibari"]["leases"]) == ("busy", 1)
        assert {models[name]["queue"][0]["position"] for name in ("large", "broken")} == {1, 2}
    said = [line for line in served.result() if line and not line.startswith(":")]
    assert json.loads(said[0].removeprefix("data: "))["object"] == "chat.completion.chunk"
    assert said[-1] == "data: [DONE]"
    assert "event: error" not in said
    named, frame, end = [line for line in failed.result() if line and not line.startswith(":")]
    error = json.loads(frame.removeprefix("data: "))["error"]
    assert (named, end) == ("event: error", "data: [DONE]")
    assert (error["type"], error["code"]) == ("invalid_request_error", "load_failed")
    eventually(lambda: nothing_held(gateway))


# The end


def test_it_stops_in_order_with_a_stream_in_flight_and_logged_nothing_private(gateway: Gateway) -> None:
    with ThreadPoolExecutor(1) as pool, gateway.http() as queued:
        chat = gateway.openai().chat.completions
        stream = chat.create(model="Chat", messages=COUNT, stream=True, logit_bias=ENDLESS)
        next(iter(stream))
        waits = pool.submit(queued.post, "/v1/chat/completions", json={"model": "Chat", "messages": HELLO})
        eventually(lambda: gateway.vram()["waiting"] == 1)
        assert gateway.stop() == 0
        refused = waits.result()
        stream.close()
    assert (refused.status_code, error_of(refused)["type"]) == (503, "stopping")
    assert int(refused.headers["retry-after"]) >= 1
    log = "".join(gateway.log)
    assert "Traceback" not in log
    assert MASTER_KEY not in log
    assert "train leaves London" not in log
    assert "Count from one" not in log
    errors = [line for line in gateway.log if "ERROR" in line]  # uvicorn's word for a request that used up stop_s
    assert [line for line in errors if "timeout graceful shutdown exceeded" not in line] == []


def test_the_shipped_configuration_serves_without_any_weights(tmp_path: Path) -> None:
    config = tmp_path / "litellm_config.yaml"
    config.write_text((ROOT / "litellm_config.yaml").read_text())
    gateway = Gateway(config)
    try:
        names = [model.id for model in gateway.openai().models.list()]
        assert len(names) == 16
        with gateway.http() as http:
            assert http.get("/health").json() == {
                "status": "ok",
                "loaded_models": {},
                "available_vram_gb": 16.0,
            }
            for name in names:
                if "cohere" in name:
                    answer = http.post("/v1/audio/transcriptions", data={"model": name}, files={"file": ("a", b"x")})
                elif "Chatterbox" in name:
                    answer = http.post("/v1/audio/speech", json={"model": name, "input": "x", "voice": "default"})
                else:
                    answer = http.post("/v1/chat/completions", json={"model": name, "messages": HELLO})
                assert answer.status_code == 404
                assert error_of(answer)["type"] == "weights_missing"
                assert "python -m llmux weights fetch" in json.dumps(answer.json())
    finally:
        assert gateway.stop() == 0
