"""`llmux acceptance` against a real gateway: what is right passes, and each planted fault fails the check for it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.responses import JSONResponse, PlainTextResponse, Response

from acceptance import chat, vram
from acceptance.check import Case, conclude
from acceptance.gateway import Gateway as Subject
from llmux.cli import main
from llmux.config import load_config
from tests.gateway import MASTER_KEY, Gateway, free_port
from tests.planted import Asked, Fault, Layer, Upstream, no_fault

CONFIG = """\
model_list:
  - {{model_name: SmolLM2, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: Small-Thinking, litellm_params: {{model: llmux/small, view: {{enable_thinking: true}}}}}}
  - {{model_name: Small-Instruct, litellm_params: {{model: llmux/small, view: {{enable_thinking: false}}}}}}
  - {{model_name: Medium, litellm_params: {{model: llmux/medium}}}}
  - {{model_name: Large, litellm_params: {{model: llmux/large}}}}
  - {{model_name: Whisper, litellm_params: {{model: llmux/whisper}}}}
  - {{model_name: Hibari, litellm_params: {{model: llmux/hibari}}}}
llmux:
  budget: {budget}
  database: none
  models_dir: {models}
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 300 MB}}
    small: {{task: llm, runtime: transformers, weights: small, estimate: 200 MB, capabilities: [tools]}}
    medium: {{task: llm, runtime: transformers, weights: small, estimate: 400 MB}}
    large: {{task: llm, runtime: transformers, weights: small, estimate: 600 MB}}
    whisper: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB}}
    hibari: {{task: tts, runtime: hibari, estimate: 100 MB}}
"""
"""The demo's models, and more that chat, so that each row of the table can be shown."""

CHAT = "/v1/chat/completions"
GPU_HERE = Path("/dev/nvidiactl").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Path:
    folder = tmp_path_factory.mktemp("acceptance")
    (folder / "small").mkdir()
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"):
        (folder / "small" / name).touch()
    for path in demo_models.iterdir():
        if path.is_dir():
            (folder / path.name).symlink_to(path)
    for name, budget in [("config.yaml", "720 MB"), ("smaller.yaml", "500 MB")]:
        (folder / name).write_text(CONFIG.format(models=folder, budget=budget))
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(folder / "config.yaml", module="tests.prompted")
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="module")
def layer(gateway: Gateway) -> Iterator[Layer]:
    layer = Layer(gateway, free_port())
    yield layer
    layer.stop()


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever runs as a service on this machine is not looked at, and not restarted."""
    monkeypatch.setenv("PATH", str(tmp_path))


def accept(folder: Path, *arguments: str, config: str = "config.yaml") -> dict[str, Any]:
    """What `llmux acceptance --json` says; the exit code is the one that belongs to it."""
    command = ["acceptance", "--config", str(folder / config), "--admin-key", MASTER_KEY, "--json", *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code in (0, 1), done.output
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["pass"] is (done.exit_code == 0)
    return report


def failures(report: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by the check that found it."""
    return {result["check"]: result["detail"] for result in report["results"] if result["verdict"] == "fail"}


@pytest.mark.parametrize("phase", ["integration", "function", "vram", "performance"])
def test_a_gateway_as_it_should_be_passes(gateway: Gateway, folder: Path, phase: str) -> None:
    arguments = ["--phase", phase, "--url", gateway.url]
    report = accept(folder, *arguments)
    assert failures(report) == {}
    skipped = {result["check"]: result["detail"] for result in report["results"] if result["verdict"] == "skipped"}
    assert all(skipped.values())
    if phase == "function":
        assert set(skipped) == {"sees"}
    if phase == "vram":
        assert skipped == {}
    if phase == "performance" and not GPU_HERE:
        assert report["counts"]["pass"] == 0
        assert "there is no GPU here" in skipped["is fast enough"]


def test_without_a_configuration_the_gateway_says_what_there_is(gateway: Gateway) -> None:
    command = ["acceptance", "--url", gateway.url, "--key", MASTER_KEY, "--phase", "integration", "--phase", "vram"]
    done = CliRunner(env={"LLMUX_MASTER_KEY": None}).invoke(main, [*command, "--json"])
    results = json.loads(done.stdout)["results"]
    assert done.exit_code == 0, done.output
    assert next(each["detail"] for each in results if each["check"] == "lists its models") == "7 names"
    assert {each["verdict"] for each in results if each["phase"] == "vram"} == {"skipped"}


# What can be wrong. Each is (fault, phase, what fails of it)


async def stream_kept_back(asked: Asked, upstream: Upstream) -> Response | None:
    return await upstream.whole(asked) if asked.is_for(CHAT, '"stream":true') else None


async def stream_as_json(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT, '"stream":true'):
        return None
    body = json.loads(asked.body)
    plain = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return await upstream.whole(asked._replace(body=json.dumps(plain).encode()))


async def model_missing(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for("/v1/models"):
        return None
    listed = json.loads(bytes((await upstream.whole(asked)).body))
    return JSONResponse({**listed, "data": listed["data"][:-1]}) if "data" in listed else None


async def health_with_a_key(asked: Asked, upstream: Upstream) -> Response | None:
    locked = asked.is_for("/health") and "authorization" not in asked.headers
    return JSONResponse({"error": {"message": "no key"}}, 401) if locked else None


async def any_key_will_do(asked: Asked, upstream: Upstream) -> Response | None:
    if "authorization" not in asked.headers or asked.path != "/v1/models":
        return None
    return await upstream.whole(asked._replace(headers={"authorization": f"Bearer {MASTER_KEY}"}))


async def traceback_shown(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT) or asked.body != b"{":
        return None
    return PlainTextResponse('Traceback (most recent call last):\n  File "/srv/llmux/gateway.py", line 1', 500)


async def another_task_served(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT, '"Hibari"'):
        return None
    return await upstream.whole(asked._replace(body=asked.body.replace(b'"Hibari"', b'"SmolLM2"')))


async def answers_in_another_name(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT, '"SmolLM2"') or b'"stream":true' in asked.body:
        return None
    answer = await upstream.whole(asked)
    return changed(answer, bytes(answer.body).replace(b'"model":"SmolLM2"', b'"model":"smollm2"'))


async def usage_missing(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT) or b'"stream":true' in asked.body:
        return None
    answer = await upstream.whole(asked)
    return changed(answer, re.sub(rb'"usage":', b'"use":', bytes(answer.body)))


async def view_ignored(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT, "17 + 25") or b"Small-Instruct" not in asked.body:
        return None
    answer = await upstream.whole(asked._replace(body=asked.body.replace(b"Small-Instruct", b"Small-Thinking")))
    return changed(answer, bytes(answer.body).replace(b"Small-Thinking", b"Small-Instruct"))


async def arguments_broken(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for(CHAT, "get_weather"):
        return None
    answer = await upstream.whole(asked)
    return changed(answer, bytes(answer.body).replace(rb"Paris\"}", rb"Paris"))


async def speech_said_to_be_mp3(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for("/v1/audio/speech"):
        return None
    answer = await upstream.whole(asked)
    return changed(answer, bytes(answer.body), "audio/mpeg" if answer.status_code == 200 else None)


async def silence_spoken(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for("/v1/audio/speech"):
        return None
    answer = await upstream.whole(asked)
    return (
        changed(answer, bytes(answer.body)[:44] + bytes(len(answer.body) - 44)) if answer.status_code == 200 else None
    )


async def something_else_heard(asked: Asked, upstream: Upstream) -> Response | None:
    heard = asked.is_for("/v1/audio/transcriptions") and b'name="response_format"\r\n\r\ntext' not in asked.body
    return JSONResponse({"text": "Thank you for watching."}) if heard else None


async def language_ignored(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.is_for("/v1/audio/transcriptions", 'name="language"'):
        return None
    return await upstream.whole(asked._replace(body=asked.body.replace(b'name="language"', b'name="tongue"')))


async def text_wrapped(asked: Asked, upstream: Upstream) -> Response | None:
    bare = asked.is_for("/v1/audio/transcriptions") and b'name="response_format"\r\n\r\ntext' in asked.body
    return JSONResponse({"text": "On Monday the train leaves London at noon."}) if bare else None


async def speech_recognition_evicted_for_chat(asked: Asked, upstream: Upstream) -> Response | None:
    if asked.path == CHAT:
        await upstream.unload("whisper")
    return None


async def view_switched_by_a_load(asked: Asked, upstream: Upstream) -> Response | None:
    if asked.is_for(CHAT, "Small-Instruct"):
        await upstream.unload("small")
    return None


async def retry_after_missing(asked: Asked, upstream: Upstream) -> Response | None:
    if not asked.path.startswith("/vram/"):
        return None
    answer = await upstream.whole(asked)
    if "retry-after" in answer.headers:
        del answer.headers["retry-after"]
    return answer


def changed(answer: Response, body: bytes, content_type: str | None = None) -> Response:
    return Response(body, answer.status_code, media_type=content_type or answer.headers["content-type"])


STREAMS, TOOL, TOOL_STREAM = "streams as it writes", "calls a tool", "calls a tool in a stream"
FAULTS: list[tuple[Fault, str, set[str]]] = [
    (model_missing, "integration", {"lists its models"}),
    (health_with_a_key, "integration", {"tells its health without a key"}),
    (any_key_will_do, "function", {"refuses a missing, a malformed and a wrong key with 401"}),
    (traceback_shown, "function", {"refuses a request that makes no sense with 400, and shows nothing of itself"}),
    (another_task_served, "function", {"refuses a model of another task with 400"}),
    (answers_in_another_name, "function", {"answers in its own name"}),
    (usage_missing, "function", {"tells the usage"}),
    (stream_kept_back, "function", {STREAMS}),
    (stream_as_json, "function", {STREAMS, TOOL_STREAM}),
    (view_ignored, "function", {"thinks, or does not, as its name says"}),
    (arguments_broken, "function", {TOOL, TOOL_STREAM}),
    (speech_said_to_be_mp3, "function", {"speaks: voice default, as wav"}),
    (silence_spoken, "function", {"speaks: voice default, as wav"}),
    (something_else_heard, "function", {"transcribes English", "transcribes German"}),
    (language_ignored, "function", {"transcribes German"}),
    (text_wrapped, "function", {"transcribes into bare text"}),
    (
        speech_recognition_evicted_for_chat,
        "vram",
        {
            "evicts one chat model for another, and no more",
            "evicts all three for a chat model that needs them all",
            "evicts nobody for a chat model that fits beside",
            "evicts one chat model for another beside speech recognition",
            "evicts speech, and no speech recognition, for chat",
        },
    ),
    (view_switched_by_a_load, "vram", {"loads nothing for another name of the same model"}),
    (retry_after_missing, "vram", {"keeps a model that serves, and says when to come back"}),
]


@pytest.mark.parametrize(("fault", "phase", "found"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_a_fault_fails_the_check_for_it_and_no_other(
    layer: Layer, folder: Path, fault: Fault, phase: str, found: set[str]
) -> None:
    layer.fault = fault
    report = accept(folder, "--phase", phase, "--url", layer.url)
    wrong = failures(report)
    assert set(wrong) == found, wrong


class NothingGivenBack:
    """A gateway that goes on for clients that have left."""

    def __init__(self) -> None:
        self._streams = 0

    async def __call__(self, asked: Asked, upstream: Upstream) -> Response | None:
        self._streams += asked.is_for(CHAT, '"stream":true')
        if asked.path != "/vram":
            return None
        answer = await upstream.whole(asked)
        told = json.loads(bytes(answer.body))
        told["models"]["smollm2"]["leases"] = self._streams
        return changed(answer, json.dumps(told).encode())


def test_a_model_that_is_not_given_back_is_found(layer: Layer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_GONE_S", 0.2)
    layer.fault = NothingGivenBack()
    wrong = failures(accept(folder, "--phase", "function", "--url", layer.url))
    assert wrong == {"gives its model back when a client leaves": "it is still held 0.2 s after its client left"}


def test_more_than_the_budget_of_its_configuration_is_found(gateway: Gateway, folder: Path) -> None:
    config = load_config(folder / "smaller.yaml")
    with Subject(gateway.url, MASTER_KEY, admin_key=MASTER_KEY, config=config) as subject:
        result = conclude(Case("vram", vram.loads, "smollm2"), subject)
    assert (result.verdict, result.detail) == ("fail", "its budget is 0.72 GB, and the configuration's 0.5 GB")


# Behind a reverse proxy


async def another_host(asked: Asked, upstream: Upstream) -> Response | None:
    return None if asked.headers["host"] == "llmux.example.org" else PlainTextResponse("no such host", 404)


async def proxy_that_buffers(asked: Asked, upstream: Upstream) -> Response | None:
    return await another_host(asked, upstream) or await upstream.whole(asked)


@pytest.mark.parametrize(
    ("fault", "found"), [(another_host, set()), (proxy_that_buffers, {"streams through the proxy as it writes"})]
)
def test_the_gateway_is_reached_by_its_name_behind_a_proxy(
    layer: Layer, gateway: Gateway, folder: Path, fault: Fault, found: set[str]
) -> None:
    layer.fault = fault
    named = ["--phase", "remote", "--host", "llmux.example.org"]
    for addresses in (["--url", layer.url], ["--url", gateway.url, "--remote", layer.url]):
        report = accept(folder, *named, *addresses)
        wrong = failures(report)
        assert set(wrong) == found, wrong
        assert report["counts"]["skipped"] == 0
    nameless = accept(folder, "--phase", "remote", "--url", gateway.url, "--remote", layer.url)
    assert nameless["counts"]["pass"] == 0


def test_nothing_is_wrong_once_the_fault_is_gone(layer: Layer, folder: Path) -> None:
    layer.fault = no_fault
    assert failures(accept(folder, "--phase", "integration", "--phase", "function", "--url", layer.url)) == {}
