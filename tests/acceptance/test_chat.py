import json
from typing import Any

import pytest

from acceptance.chat import (
    Event,
    joined,
    judge_answer,
    judge_calls,
    judge_sight,
    judge_stream,
    judge_thoughts,
    judge_usage,
)
from acceptance.check import Failed

ANSWER = {"model": "Chat", "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def test_an_answer_is_from_the_model_and_says_something() -> None:
    assert judge_answer(ANSWER, "Chat") == "Hello."
    for wrong in (
        {**ANSWER, "model": "chat-physical"},
        {**ANSWER, "choices": [{"message": {"content": ""}, "finish_reason": "stop"}]},
        {**ANSWER, "choices": [{"message": {"content": "Hello."}, "finish_reason": None}]},
    ):
        with pytest.raises(Failed):
            judge_answer(wrong, "Chat")


def test_usage_adds_up() -> None:
    assert judge_usage(USAGE, 8) == "5 + 3 tokens"
    for wrong in (None, {**USAGE, "total_tokens": 9}, {**USAGE, "prompt_tokens": 0}, {**USAGE, "completion_tokens": 9}):
        with pytest.raises(Failed):
            judge_usage(wrong, 8)


def chunk(content: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "model": "Chat", "choices": choices, **more}


STREAM = [chunk("one "), chunk("two "), chunk("three"), chunk(finish="stop"), chunk(choices=[], usage=USAGE)]


def events(chunks: list[dict[str, Any]], *, apart_s: float = 0.1, end: str = "[DONE]") -> list[Event]:
    datas = [*map(json.dumps, chunks), end]
    return [Event(1 + number * apart_s, data) for number, data in enumerate(datas)]


def test_a_stream_comes_as_it_is_written() -> None:
    assert judge_stream("text/event-stream; charset=utf-8", events(STREAM), "Chat").startswith("3 pieces")


@pytest.mark.parametrize(
    ("content_type", "sent", "wrong"),
    [
        ("application/json", events(STREAM), "a stream was asked for"),
        ("text/event-stream", [], "does not end with"),
        ("text/event-stream", events(STREAM, end="{}"), "does not end with"),
        ("text/event-stream", events(STREAM, apart_s=0.001), "at one time, at the end"),
        ("text/event-stream", events([chunk("one two three"), *STREAM[3:]]), "in 1 piece"),
        ("text/event-stream", events([*STREAM[:2], chunk("x", id="c2"), *STREAM[3:]]), "several ids"),
        ("text/event-stream", events([*STREAM[:2], chunk("x", model="chat"), *STREAM[3:]]), "another model"),
        ("text/event-stream", events([*STREAM[:3], STREAM[4]]), "why it ends"),
        ("text/event-stream", events(STREAM[:4]), "the usage, without choices"),
        ("text/event-stream", events([*STREAM[:2], {"error": {"code": "load_failed"}}]), "ends with an error"),
    ],
)
def test_any_other_stream_is_a_failure(content_type: str, sent: list[Event], wrong: str) -> None:
    with pytest.raises(Failed, match=wrong):
        judge_stream(content_type, sent, "Chat")


def test_a_model_thinks_where_its_name_says_so_and_only_there() -> None:
    thinking, silent = {"content": "42", "reasoning_content": "17 and 25"}, {"content": "42"}
    assert judge_thoughts(thinking, True) == "thinks: 17 and 25"
    assert judge_thoughts(silent, False) == ""
    for message, wanted in [(thinking, False), (silent, True), ({"content": "<think> 17 and 25"}, False)]:
        with pytest.raises(Failed):
            judge_thoughts(message, wanted)


def call(name: str = "get_weather", arguments: str = '{"city": "Paris"}') -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_call_can_be_carried_out() -> None:
    assert "Paris" in judge_calls([call()], "tool_calls")
    for calls, finish in [
        ([], "stop"),
        ([call()], "stop"),
        ([call("weather")], "tool_calls"),
        ([call(arguments='{"city": "Par')], "tool_calls"),
        ([call(arguments='["Paris"]')], "tool_calls"),
        ([call(arguments='{"city": "Rome"}')], "tool_calls"),
        ([{**call(), "id": ""}], "tool_calls"),
    ]:
        with pytest.raises(Failed):
            judge_calls(calls, finish)


def test_the_calls_of_a_stream_are_put_together_as_sdks_do() -> None:
    first = {"index": 0, **call(arguments='{"city": ')}
    rest = {"index": 0, "function": {"arguments": '"Paris"}'}}
    assert joined([{"content": "Well"}, {"tool_calls": [first]}, {"tool_calls": [rest]}]) == [call()]
    with pytest.raises(Failed, match="twice"):
        joined([{"tool_calls": [first]}, {"tool_calls": [{**rest, "id": "call_1"}]}])
    with pytest.raises(KeyError):
        joined([{"tool_calls": [call()]}])


def test_a_number_is_read_or_not() -> None:
    assert judge_sight("It is 427.", 427) == "reads 427"
    for said in ("I see a number.", "4271", "It is 472"):
        with pytest.raises(Failed, match="the picture shows 427"):
            judge_sight(said, 427)
