"""A chunk of text is sent as LiteLLM would send it, and whatever else a chunk has is left to LiteLLM."""

import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.constants import RETURN_RAW_MODEL_NAME_METADATA_KEY
from litellm.types.utils import Delta, ModelResponse, ModelResponseStream, StreamingChoices, Usage

from providers.text_chunk import TextChunk
from providers.text_chunk import text_chunk as chunk_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what pydantic says of LiteLLM's own classes
    from litellm.proxy import proxy_server

    from hooks import text_chunk

IDENTITY = {"id": "chatcmpl-1", "created": 7, "model": "small"}
WRITE, NAME = proxy_server._fast_serialize_simple_model_response_stream, proxy_server._restamp_streaming_chunk_model
LOOK = proxy_server.get_hidden_params_dict


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    text_chunk.install()
    yield
    proxy_server._fast_serialize_simple_model_response_stream = WRITE
    proxy_server._restamp_streaming_chunk_model = NAME
    proxy_server.get_hidden_params_dict = LOOK


def saying(text: str, name: str = "content") -> TextChunk:
    return chunk_of(IDENTITY, {"model_id": "entry"}, 0).saying(name, text)


def written(chunk: ModelResponseStream) -> Any:
    return json.loads(proxy_server._serialize_streaming_chunk(chunk))


@given(st.sampled_from(["content", "reasoning_content"]), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_written_as_litellm_writes_it(name: str, text: str) -> None:
    own = ModelResponseStream(**IDENTITY, choices=[StreamingChoices(index=0, delta=Delta(**{name: text}))])
    assert written(saying(text, name)) == json.loads(own.model_dump_json(exclude_none=True, exclude_unset=True))


def _refused(chunk: TextChunk) -> None:
    chunk.choices[0].delta.content = None
    chunk.choices[0].delta.refusal = "No"


def _ended(chunk: TextChunk) -> None:
    chunk.choices[0].finish_reason = "stop"


def _silent(chunk: TextChunk) -> None:
    chunk.choices = []


def _marked(chunk: TextChunk) -> None:
    chunk.system_fingerprint = "fp"


def _served(chunk: TextChunk) -> None:
    chunk.service_tier = "default"


@pytest.mark.parametrize("change", [_refused, _ended, _silent, _marked, _served])
def test_what_somebody_made_more_of_is_left_to_litellm(change: Callable[[TextChunk], None]) -> None:
    chunk = saying("Hi")
    change(chunk)
    told = written(chunk)
    proxy_server._fast_serialize_simple_model_response_stream = WRITE
    assert told == written(chunk) != written(saying("Hi"))


def test_a_guardrails_word_is_sent_in_place_of_the_models() -> None:
    chunk = saying("secret")
    chunk.choices[0].delta.content = "[masked]"
    assert written(chunk)["choices"][0]["delta"] == {"content": "[masked]"}


def named(chunk: Any, asked: str, looked: bool = False, **more: Any) -> tuple[Any, bool]:
    data: dict[str, Any] = {"model": asked, **more.pop("data", {})}
    made: tuple[Any, bool] = proxy_server._restamp_streaming_chunk_model(
        chunk=chunk,
        requested_model_from_client=asked,
        request_data=data,
        model_mismatch_logged=looked,
        **{"fallback_was_attempted": False, "fallback_model_from_metadata": None, **more},
    )
    return made


@pytest.mark.parametrize("looked", [False, True])
def test_the_client_is_told_its_own_name_and_the_chunk_that_is_kept_the_models(looked: bool) -> None:
    chunk = saying("Hi")
    made, has_looked = named(chunk, "Small", looked)
    assert (made.model, chunk.model, has_looked) == ("Small", "small", True)
    assert made.choices[0].delta.content == "Hi"


def test_a_chunk_with_the_right_name_is_the_same() -> None:
    chunk = saying("Hi")
    assert named(chunk, "small") == (chunk, False)


def test_what_else_litellm_decides_it_decides() -> None:
    raw = {"metadata": {RETURN_RAW_MODEL_NAME_METADATA_KEY: True}}
    assert named(saying("Hi"), "Small", fallback_was_attempted=True, fallback_model_from_metadata="Other")[0].model == (
        "Other"
    )
    assert named(saying("Hi"), "Small", data=raw)[0].model == "small"
    other = ModelResponseStream(**IDENTITY, choices=[StreamingChoices(index=0, delta=Delta(content="Hi"))])
    assert named(other, "Small")[0].model == "Small"


def test_the_usage_is_sent_without_a_choice() -> None:
    silent = [StreamingChoices(index=0, delta=Delta())]
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    chunk, _ = named(ModelResponseStream(**IDENTITY, choices=silent, usage=usage), "Small")
    assert (chunk.model, chunk.choices, chunk.usage) == ("Small", [], usage)


def test_what_litellm_is_told_besides_is_what_it_finds_itself() -> None:
    for chunk in (saying("Hi"), ModelResponseStream(**IDENTITY), ModelResponse(), {"_hidden_params": {"a": 1}}):
        assert proxy_server.get_hidden_params_dict(chunk) == LOOK(chunk)
    assert proxy_server.get_hidden_params_dict(saying("Hi")) == {"model_id": "entry"}


def test_litellm_still_has_what_is_replaced() -> None:
    """When this fails, look at what LiteLLM does now: hooks/text_chunk.py may have become useless, or wrong."""
    assert "get_hidden_params_dict" in proxy_server._get_streaming_fallback_metadata.__code__.co_names
    names = proxy_server.async_data_generator.__code__.co_names
    assert "_restamp_streaming_chunk_model" in names
    assert "_fast_serialize_simple_model_response_stream" in proxy_server._serialize_streaming_chunk.__code__.co_names
