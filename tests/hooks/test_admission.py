from pathlib import Path
from typing import Any

import pytest
from litellm.proxy._types import UserAPIKeyAuth

from hooks.admission import Admission
from llmux.config import Config, load_config
from llmux.errors import (
    InsufficientVram,
    InvalidRequest,
    LlmuxError,
    ModelNotFound,
    PermissionDenied,
    WeightsMissing,
    WrongTask,
)
from llmux.request import begin
from vram.arbiter import Arbiter
from vram.device import FixedBudget
from vram.ledger import Ledger
from vram.model import ModelSpec

CONFIG = """\
model_list:
  - {model_name: Chat, litellm_params: {model: llmux/small}}
  - {model_name: Voice, litellm_params: {model: llmux/voice}}
  - {model_name: Ears, litellm_params: {model: llmux/ears}}
  - {model_name: Giant, litellm_params: {model: llmux/giant}}
  - {model_name: Cloud, litellm_params: {model: openai/gpt}}
router_settings: {model_group_alias: {gpt-4: Chat, gpt-5: Cloud, tts-1: Voice}}
llmux:
  budget: 1 GB
  models:
    ears: {task: asr, runtime: transformers, weights: org/small, estimate: 1 MB}
    small: {task: llm, runtime: llama.cpp, weights: org/small, file: small.gguf, estimate: 1 MB}
    voice: {task: tts, runtime: hibari, estimate: 1 MB}
    giant: {task: tts, runtime: hibari, estimate: 2 GB}
"""


class Loads:
    async def load(self, model: str) -> None:
        pass

    async def unload(self, model: str, runtime: None) -> None:
        pass


class NoLoader:
    """Admission loads nothing."""

    async def load(self, model: str) -> None:
        raise AssertionError(model)

    async def unload(self, model: str, runtime: None) -> None:
        raise AssertionError(model)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "models/org/small").mkdir(parents=True)
    (tmp_path / "models/org/small/small.gguf").touch()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "models/org/small" / name).touch()
    return load_config(tmp_path / "config.yaml")


async def listed(key: UserAPIKeyAuth, model: str) -> bool:
    return not key.models or model in key.models


def arbiter_of(config: Config, tmp_path: Path, loader: Loads | NoLoader) -> Arbiter[None]:
    specs = {name: ModelSpec(name, model.task, model.estimate) for name, model in config.settings.models.items()}
    return Arbiter(
        specs,
        FixedBudget(10**9),
        Ledger(tmp_path / "ledger.json", "test"),
        loader,
        max_wait_s={"llm": 20, "asr": 1, "tts": 2},
        queue_per_model=4,
        queue_total=8,
        load_s=60,
    )


@pytest.fixture
def admission(config: Config, tmp_path: Path) -> Admission:
    return Admission(config, arbiter_of(config, tmp_path, NoLoader()), listed, ["Cloud"])


async def ask(admission: Admission, call_type: str, data: dict[str, Any]) -> dict[str, Any]:
    return await admission.async_pre_call_hook(UserAPIKeyAuth(), None, data, call_type)


@pytest.mark.parametrize("call_type", ["acompletion", "atext_completion", "aresponses", "anthropic_messages"])
async def test_a_chat_model_is_admitted_wherever_litellm_chats(admission: Admission, call_type: str) -> None:
    data = {"model": "Chat", "messages": [{"role": "user", "content": "hi"}]}
    assert await ask(admission, call_type, data) is data


@pytest.mark.parametrize(("asked", "noted"), [({"stream": True}, True), ({"stream": False}, False), ({}, False)])
async def test_the_request_knows_whether_its_client_wants_a_stream(
    admission: Admission, asked: dict[str, Any], noted: bool
) -> None:
    request = begin()
    await ask(admission, "acompletion", {"model": "Chat", **asked})
    assert request.streams is noted


async def test_sound_is_no_stream_of_events_whatever_its_client_asks(admission: Admission) -> None:
    request = begin()
    await ask(admission, "aspeech", {"model": "Voice", "stream": True})
    assert not request.streams


async def test_an_alias_is_admitted_as_its_model_is(admission: Admission) -> None:
    assert await ask(admission, "acompletion", {"model": "gpt-4"})
    assert await ask(admission, "acompletion", {"model": "gpt-5"})
    with pytest.raises(WrongTask):
        await ask(admission, "aspeech", {"model": "gpt-4"})


async def test_a_transcription_may_be_a_stream_of_events_and_says_so_in_a_form(admission: Admission) -> None:
    request = begin()
    await ask(admission, "transcription", {"model": "Ears", "stream": "true"})
    assert request.streams


async def test_a_transcription_may_name_its_model_in_the_query_string(admission: Admission) -> None:
    asked = {"url": "http://127.0.0.1/v1/audio/transcriptions?model=Ears"}
    assert (await ask(admission, "transcription", {"proxy_server_request": asked}))["model"] == "Ears"
    with pytest.raises(InvalidRequest):
        await ask(admission, "aspeech", {"proxy_server_request": asked})


async def test_a_model_of_another_provider_passes(admission: Admission) -> None:
    assert await ask(admission, "acompletion", {"model": "Cloud"})
    hosted = {"type": "allowed_tools", "allowed_tools": {"tools": [{"type": "web_search"}]}}
    assert await ask(admission, "acompletion", {"model": "Cloud", "tools": [], "tool_choice": hosted})


@pytest.mark.parametrize(
    ("call_type", "data", "kind"),
    [
        ("acompletion", {}, InvalidRequest),
        ("acompletion", {"model": ["Chat"]}, InvalidRequest),
        ("acompletion", {"model": "Chatt"}, ModelNotFound),
        ("acompletion", {"model": "llmux/small"}, ModelNotFound),
        ("acompletion", {"model": "Chat,Voice"}, ModelNotFound),
        ("acompletion", {"model": "Voice"}, WrongTask),
        ("atranscription", {"model": "Chat"}, WrongTask),
        ("aembedding", {"model": "Chat"}, WrongTask),
        ("aspeech", {"model": "Giant"}, InsufficientVram),
    ],
)
async def test_what_cannot_be_served_is_refused_before_anything_is_done(
    admission: Admission, call_type: str, data: dict[str, Any], kind: type[LlmuxError]
) -> None:
    with pytest.raises(kind) as raised:
        await ask(admission, call_type, data)
    assert type(raised.value) is kind


async def test_a_key_is_held_to_its_models_wherever_the_name_came_from(admission: Admission) -> None:
    key = UserAPIKeyAuth(models=["Voice"])
    with pytest.raises(PermissionDenied):
        await admission.async_pre_call_hook(key, None, {"model": "Chat"}, "acompletion")
    assert await admission.async_pre_call_hook(key, None, {"model": "Voice"}, "aspeech")


async def test_missing_weights_are_named(admission: Admission, config: Config) -> None:
    (config.models_dir / "org/small/small.gguf").unlink()
    with pytest.raises(WeightsMissing, match=r"org/small/small\.gguf"):
        await ask(admission, "acompletion", {"model": "Chat"})


async def test_the_weights_of_a_model_that_is_loaded_are_not_looked_for(config: Config, tmp_path: Path) -> None:
    arbiter = arbiter_of(config, tmp_path, Loads())
    await arbiter.start()
    await arbiter.load("small")
    (config.models_dir / "org/small/small.gguf").unlink()
    admission = Admission(config, arbiter, listed)
    assert await ask(admission, "acompletion", {"model": "Chat"})
    await arbiter.stop(1)


@pytest.mark.parametrize("messages", ["hi", [], ["hi"], [{"content": "hi"}], [{"role": "user", "content": 5}]])
async def test_messages_of_another_form_are_refused(admission: Admission, messages: Any) -> None:
    with pytest.raises(InvalidRequest, match="message"):
        await ask(admission, "acompletion", {"model": "Chat", "messages": messages})


async def test_what_is_wrong_with_the_body_is_said_before_anything_else(admission: Admission) -> None:
    begin().problem = InvalidRequest("no-log is not for you")
    with pytest.raises(InvalidRequest, match="no-log is not for you"):
        await ask(admission, "acompletion", {"model": "Nobody"})


async def test_what_came_in_a_header_or_a_form_is_refused_like_what_came_in_a_body(admission: Admission) -> None:
    with pytest.raises(InvalidRequest, match="num_retries is decided"):
        await ask(admission, "atranscription", {"model": "Ears", "num_retries": 3})
