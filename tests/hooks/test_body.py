"""Bodies that LiteLLM would stumble over are told what is wrong with them."""

from typing import Any

import pytest

from hooks.body import refuse_malformed
from llmux.errors import InvalidRequest

HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": HI, "stream": None, "tools": None, "tool_choice": "auto", "user": "u", "metadata": {}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "tools": [{}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
        {"prompt": "Hi", "stream": True},
        {"prompt": ["Hi"], "stream_options": {"include_usage": True}},
        {"input": "Hi", "instructions": "Be brief.", "reasoning": {}, "text": {}, "previous_response_id": None},
        {"input": [{"role": "user", "content": "Hi"}], "background": False},
        {"messages": HI, "system": "Be brief.", "thinking": {"type": "enabled"}, "tool_choice": {"type": "auto"}},
        {"messages": HI, "system": [{"type": "text", "text": "Be brief."}]},
    ],
)
def test_what_can_be_read_passes(body: dict[str, Any]) -> None:
    refuse_malformed(body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", 5),
        ("input", [5]),
        ("instructions", 5),
        ("messages", "Hi"),
        ("messages", {}),
        ("messages", []),
        ("messages", ["Hi"]),
        ("messages", [{"content": "Hi"}]),
        ("messages", [{"role": "user", "content": 5}]),
        ("messages", [{"role": "user", "content": [5]}]),
        ("messages", [{"role": "user", "content": [{"type": "video"}]}]),
        ("messages", [{"role": "assistant", "tool_calls": 5}]),
        ("messages", [{"role": "assistant", "tool_calls": [5]}]),
        ("metadata", 5),
        ("prompt", 5),
        ("prompt", [1, 2, 3]),
        ("prompt", [[1], [2]]),
        ("prompt", ["one", "two"]),
        ("prompt", []),
        ("reasoning", "high"),
        ("response_format", "json"),
        ("stream", "yes"),
        ("stream_options", 5),
        ("system", 5),
        ("system", ["Be brief."]),
        ("text", 5),
        ("thinking", True),
        ("tool_choice", 5),
        ("tools", {}),
        ("tools", ["f"]),
        ("user", 5),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=name.rstrip("s")) as refused:
        refuse_malformed({name: value})
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("name", "value"), [("previous_response_id", "resp_1"), ("conversation", "c"), ("background", True)]
)
def test_what_asks_for_kept_answers_is_refused_instead_of_answered_without_them(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match="is not served") as refused:
        refuse_malformed({"input": "Hi", name: value})
    assert refused.value.param == name


def test_other_routes_have_other_parts() -> None:
    shown = {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}]}
    refuse_malformed(shown, "anthropic_messages")
    with pytest.raises(InvalidRequest, match="parts"):
        refuse_malformed(shown, "acompletion")


@pytest.mark.parametrize(
    ("name", "value"), [("best_of", 2), ("echo", True), ("logprobs", 0), ("logprobs", 3), ("suffix", "}"), ("n", 2)]
)
def test_what_is_not_translated_of_a_completion_is_refused_by_name(name: str, value: object) -> None:
    asked = {"prompt": "a", "stream": True, name: value}
    with pytest.raises(InvalidRequest) as refused:
        refuse_malformed(asked, "atext_completion")
    assert refused.value.param == name


def test_a_completion_may_ask_for_nothing_by_name() -> None:
    asked = {"prompt": "a", "best_of": 1, "echo": False, "logprobs": None, "suffix": "", "n": 3}
    refuse_malformed(asked, "atext_completion")
