"""A chunk of text is to clients what LiteLLM's own is."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

from providers.text_chunk import TextChunk, text_chunk

IDENTITY = {"id": "chatcmpl-1", "created": 7, "model": "small"}
ATTRIBUTES = (
    *("id", "created", "model", "object", "system_fingerprint", "service_tier", "choices", "usage", "citations"),
    *("index", "delta", "finish_reason", "logprobs", "enhancements", "message", "text"),
    *("content", "reasoning_content", "role", "function_call", "tool_calls", "audio", "images", "annotations"),
    *("refusal", "thinking_blocks", "reasoning_items", "provider_specific_fields"),
)


def saying(name: str, text: str) -> TextChunk:
    return text_chunk(IDENTITY, {"model_id": "entry"}, 1).saying(name, text)


@given(st.sampled_from(["content", "reasoning_content"]), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_it_is_written_as_litellms_own(name: str, text: str) -> None:
    own = ModelResponseStream(**IDENTITY, choices=[StreamingChoices(index=1, delta=Delta(**{name: text}))])
    chunk = saying(name, text)
    for options in ({}, {"exclude_none": True}, {"exclude_none": True, "exclude_unset": True}):
        assert json.loads(chunk.model_dump_json(**options)) == json.loads(own.model_dump_json(**options))


@pytest.mark.parametrize("name", ["content", "reasoning_content"])
def test_it_has_the_attributes_of_litellms_own(name: str) -> None:
    own = ModelResponseStream(**IDENTITY, choices=[StreamingChoices(index=1, delta=Delta(**{name: "a"}))])
    chunk = saying(name, "a")
    for asked in ATTRIBUTES:
        for mine, its in (
            (chunk, own),
            (chunk.choices[0], own.choices[0]),
            (chunk.choices[0].delta, own.choices[0].delta),
        ):
            assert hasattr(mine, asked) == hasattr(its, asked), asked
            if asked not in ("choices", "delta"):
                assert getattr(mine, asked, None) == getattr(its, asked, None), asked


@pytest.mark.parametrize("name", ["content", "reasoning_content"])
def test_the_next_one_leaves_it_as_it_was(name: str) -> None:
    first = saying(name, "a")
    second = first.saying(name, "b")
    assert [getattr(each.choices[0].delta, name) for each in (first, second)] == ["a", "b"]
    assert first._hidden_params == second._hidden_params == {"model_id": "entry"}


def test_what_litellm_adds_to_one_is_not_on_another() -> None:
    first = saying("content", "a")
    second = first.saying("content", "b")
    second.served_by = "somebody"
    assert second.served_by == "somebody"
    assert not hasattr(first, "served_by")


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_has_all_of_it(deep: bool) -> None:
    first = saying("content", "a")
    named = first.model_copy(update={"model": "Small"}, deep=deep)
    assert (named.model, first.model, named.choices[0].delta.content) == ("Small", "small", "a")
    assert named._hidden_params == first._hidden_params
    assert pickle.loads(pickle.dumps(first)) == first
