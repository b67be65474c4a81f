"""OpenAI's shapes, of steps that the test makes."""

from collections.abc import Sequence
from typing import Any

import pytest

from llmux.errors import LlmuxError
from providers.completion import Completion
from providers.generation import Step
from providers.markup import ToolCall
from providers.reply import Part, Text
from providers.runtime import FinishReason, TokenLogprob

WARM = TokenLogprob("é", "é".encode(), -0.25, [("é", "é".encode(), -0.25), ("\ufffd", b"\xc3", -1.5)])


def step(
    *parts: Part, reason: FinishReason | None = None, choice: int = 0, logprobs: Sequence[TokenLogprob] = ()
) -> Step:
    return Step(parts, 2, 1, 7, reason, logprobs, 4, choice)


def whole(*steps: Step, choices: int = 1, logprobs: bool = False) -> dict[str, Any]:
    completion = Completion("small", choices, logprobs=logprobs)
    for each in steps:
        completion.add(each)
    return dict(completion.whole().model_dump())


def streamed(*steps: Step, choices: int = 1) -> list[dict[str, Any]]:
    completion = Completion("small", choices, logprobs=True)
    chunks = [chunk for each in steps for chunk in completion.chunks(each)]
    return [chunk.model_dump() for chunk in (*chunks, *completion.last_chunks())]


def test_texts_of_a_kind_are_one_and_each_call_is_there() -> None:
    call = ToolCall("f", '{"a": 1}')
    said = whole(step(Text("Hm", reasoning=True), Text("A")), step(Text("B"), call, reason="tool_calls"))
    (choice,) = said["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("Hm", "AB")
    assert choice["message"]["tool_calls"] == [
        {"id": call.id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert choice["finish_reason"] == "tool_calls"


def test_usage_is_summed_over_steps_and_answers_but_for_the_prompt() -> None:
    usage = whole(step(reason="stop"), step(choice=1), step(reason="stop", choice=1), choices=2)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 6, 13)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


def test_logprobs_tell_text_and_bytes() -> None:
    (choice,) = whole(step(Text("é"), reason="stop", logprobs=[WARM]), logprobs=True)["choices"]
    (token,) = choice["logprobs"]["content"]
    assert (token["token"], token["bytes"], token["logprob"]) == ("é", [195, 169], -0.25)
    assert [(other["token"], other["bytes"]) for other in token["top_logprobs"]] == [
        ("é", [195, 169]),
        ("\ufffd", [195]),
    ]


def test_logprobs_that_were_asked_for_are_there_even_for_nothing() -> None:
    assert whole(step(reason="stop"), logprobs=True)["choices"][0]["logprobs"]["content"] == []


def test_streamed_logprobs_stand_with_text_once() -> None:
    chunks = streamed(
        step(Text("hm", reasoning=True), Text("é"), logprobs=[WARM]), step(reason="stop", logprobs=[WARM])
    )
    told = [
        (choice["delta"].get("content"), len(choice["logprobs"]["content"]))
        for chunk in chunks
        for choice in chunk["choices"]
        if choice.get("logprobs")
    ]
    assert told == [("é", 1), ("", 1)]


def test_each_answer_of_a_stream_has_its_role_its_calls_and_its_end() -> None:
    call = ToolCall("f", "{}")
    chunks = streamed(
        step(call), step(call, choice=1), step(call, reason="tool_calls"), step(reason="length", choice=1), choices=2
    )
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    calls = [(choice["index"], call["index"]) for choice in choices for call in choice["delta"].get("tool_calls") or []]
    assert calls == [(0, 0), (1, 0), (0, 1)]
    roles = [(choice["index"], choice["delta"]["role"]) for choice in choices if choice["delta"].get("role")]
    assert roles == [(0, "assistant"), (1, "assistant")]
    ends = [(choice["index"], choice["finish_reason"]) for choice in choices if choice["finish_reason"]]
    assert ends == [(1, "length"), (0, "tool_calls")], "LiteLLM ends a stream with the first choice"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_an_answer_without_an_end_is_an_error() -> None:
    with pytest.raises(LlmuxError, match="without a reason"):
        whole(step(Text("A")))
