"""What every chat model should do: answer, stream, think or not, see, and call tools."""

import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from acceptance import picture
from acceptance.check import Each, Skipped, check, expect
from acceptance.gateway import Gateway

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
COUNT: list[Any] = [{"role": "user", "content": "Count from one to one hundred in words, one number on each line."}]
SUM: list[Any] = [{"role": "user", "content": "What is 17 + 25?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WEATHER: list[Any] = [{"role": "user", "content": "What is the weather in Paris? Look it up."}]

WORDS = 64
"""Tokens of a stream: enough to see that they come one after the other."""

_THOUGHTS = 2048
"""Tokens that a model may think for, before it calls or answers."""

_LEAST_SPREAD = 0.1
"""The part of a stream's time within which its words come, at least. Kept back and sent at once, it is near 0."""

_GONE_S = 5.0
"""Until a model is free of who left: a step of its computation, and what a proxy on the way takes to notice."""


class Event(NamedTuple):
    """A line of a stream, and when it came, in seconds from when the request was sent."""

    at_s: float
    data: str


def judge_answer(answer: Mapping[str, Any], name: str) -> str:
    """What the model said. Raises Failed unless this is an answer."""
    expect(answer["model"] == name, f"the answer is from {answer['model']!r}")
    choice = answer["choices"][0]
    said = choice["message"].get("content") or choice["message"].get("reasoning_content")
    expect(said, "the answer is empty")
    expect(choice["finish_reason"] in ("stop", "length"), f"it ends with {choice['finish_reason']!r}")
    return shortened(str(said))


def judge_usage(usage: Mapping[str, Any] | None, most: int) -> str:
    """Raises Failed unless it tells the tokens of prompt and answer, of which there are at most so many."""
    if not usage:
        expect(False, "the answer does not tell its usage")
        raise AssertionError
    prompt, answer, total = (usage[f"{part}_tokens"] for part in ("prompt", "completion", "total"))
    expect(prompt > 0, f"{prompt} tokens are said to be in the prompt")
    expect(0 < answer <= most, f"{answer} tokens are said to be in the answer, for which {most} were allowed")
    expect(total == prompt + answer, f"{prompt} and {answer} tokens are said to be {total}")
    return f"{prompt} + {answer} tokens"


def judge_stream(content_type: str, events: Sequence[Event], name: str) -> str:
    """Raises Failed unless these are the events of a stream as it is written, with its usage at the end."""
    expect(content_type.startswith("text/event-stream"), f"a stream was asked for, and {content_type!r} came")
    expect(events and events[-1].data == "[DONE]", "the stream does not end with [DONE]")
    chunks = [(event.at_s, json.loads(event.data)) for event in events[:-1]]
    errors = [chunk["error"] for _, chunk in chunks if "error" in chunk]
    expect(not errors, f"the stream ends with an error: {errors[:1]}")
    expect({chunk["object"] for _, chunk in chunks} == {"chat.completion.chunk"}, "it has events that are no chunks")
    expect(len({chunk["id"] for _, chunk in chunks}) == 1, "its chunks have several ids")
    expect({chunk["model"] for _, chunk in chunks} == {name}, "its chunks are from another model")
    written = [at_s for at_s, chunk in chunks if chunk["choices"] and _said(chunk["choices"][0]["delta"])]
    expect(len(written) > 1, f"all of it comes in {len(written)} piece")
    spread = (written[-1] - written[0]) / written[-1]
    expect(spread >= _LEAST_SPREAD, f"its {len(written)} pieces come at one time, at the end")
    finishes = [chunk["choices"][0].get("finish_reason") for _, chunk in chunks if chunk["choices"]]
    expect(sum(finish is not None for finish in finishes) == 1, "it does not say once why it ends")
    last = chunks[-1][1]
    expect(not last["choices"] and last.get("usage"), "its last chunk is not the usage, without choices")
    return f"{len(written)} pieces, the first after {written[0]:.2f} s, the last after {written[-1]:.2f} s"


def _said(delta: Mapping[str, Any]) -> object:
    return delta.get("content") or delta.get("reasoning_content")


def judge_thoughts(message: Mapping[str, Any], wanted: bool) -> str:
    """Raises Failed unless the model thought where its name says so, and only there."""
    thoughts = message.get("reasoning_content")
    if wanted:
        expect(thoughts, "it does not think")
    else:
        expect(not thoughts, "it thinks, which this name is not for")
        expect("<think>" not in (message.get("content") or ""), "it thinks aloud")
    return f"thinks: {shortened(thoughts)}" if thoughts else ""


def judge_calls(calls: Sequence[Mapping[str, Any]] | None, finish_reason: str | None) -> str:
    """Raises Failed unless there is a call of the tool, for Paris, that can be carried out."""
    if not calls:
        expect(False, "it calls no tool")
        raise AssertionError
    function = calls[0]["function"]
    expect(calls[0]["id"] and calls[0]["type"] == "function", "the call has no id, or is of another type")
    expect(function["name"] == "get_weather", f"it calls {function['name']!r}")
    try:
        arguments = json.loads(function["arguments"])
    except json.JSONDecodeError:
        arguments = None
    expect(isinstance(arguments, dict), f"the arguments are no JSON object: {shortened(str(function['arguments']))}")
    expect("paris" in str(arguments.get("city")).lower(), f"it asks for {arguments}")
    expect(finish_reason == "tool_calls", f"it ends with {finish_reason!r}")
    return f"get_weather({arguments})"


def joined(deltas: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls of a stream, put together as SDKs do: by index, id and name said once, arguments piece by piece."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for part in delta.get("tool_calls") or ():
            function = part["function"]
            if part["index"] not in calls:
                calls[part["index"]] = {"id": part["id"], "type": part["type"], "function": {**function}}
            else:
                expect(not part.get("id") and not function.get("name"), "the stream says a call's id or name twice")
                calls[part["index"]]["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]


def judge_sight(said: str, number: int) -> str:
    """Raises Failed unless the number was read off the picture."""
    seen = re.findall(r"\d+", said.replace(" ", "").replace(",", ""))
    expect(str(number) in seen, f"the picture shows {number}; it says: {shortened(said)}")
    return f"reads {number}"


def shortened(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


CHATS = Each(lambda gateway: gateway.names("llm"), "there is no chat model")
VIEWS = Each(
    lambda gateway: [
        each.name for each in gateway.served.values() if each.view and each.view.enable_thinking is not None
    ],
    "no name says whether it thinks",
)
SEEING = Each(lambda gateway: gateway.spokesmen("vision"), "no model is said to have vision")
CALLING = Each(lambda gateway: gateway.spokesmen("tools"), "no model is said to have tools")


def ask(gateway: Gateway, name: str, messages: list[Any], max_tokens: int, **how: Any) -> dict[str, Any]:
    """The whole answer, with no chance in it."""
    answer = gateway.openai.chat.completions.create(
        model=name, messages=messages, max_tokens=max_tokens, temperature=0, **how
    )
    return dict(answer.model_dump())


@check("answers in its own name", each=CHATS)
def answers(gateway: Gateway, name: str) -> str:
    return judge_answer(ask(gateway, name, HELLO, 32), name)


@check("tells the usage", each=CHATS)
def usage(gateway: Gateway, name: str) -> str:
    return judge_usage(ask(gateway, name, HELLO, 8)["usage"], 8)


@check("streams as it writes", each=CHATS)
def streams(gateway: Gateway, name: str) -> str:
    content_type, events = stream(gateway, name, COUNT, WORDS)
    return judge_stream(content_type, events, name)


def stream(
    gateway: Gateway, name: str, messages: list[Any], max_tokens: int, **how: Any
) -> tuple[str, Sequence[Event]]:
    """The Content-Type and the events of a stream."""
    body = {"model": name, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": True, **how}
    body["stream_options"] = {"include_usage": True}
    sent_s = time.monotonic()
    with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            answer.read()
            expect(False, f"refused with {answer.status_code}: {shortened(answer.text, 200)}")
        events = [
            Event(time.monotonic() - sent_s, line.removeprefix("data: "))
            for line in answer.iter_lines()
            if line.startswith("data: ")
        ]
    return answer.headers.get("content-type", ""), events


@check("thinks, or does not, as its name says", each=VIEWS)
def thinks(gateway: Gateway, name: str) -> str:
    view = gateway.served[name].view
    assert view is not None
    return judge_thoughts(ask(gateway, name, SUM, 128)["choices"][0]["message"], bool(view.enable_thinking))


@check("sees", each=SEEING)
def sees(gateway: Gateway, name: str) -> str:
    number = 100 + secrets.randbelow(900)
    content = [
        {"type": "image_url", "image_url": {"url": picture.data_url(number)}},
        {"type": "text", "text": "Which number is in the picture? Answer with the number alone."},
    ]
    answer = ask(gateway, name, [{"role": "user", "content": content}], _THOUGHTS)
    return judge_sight(answer["choices"][0]["message"]["content"] or "", number)


@check("calls a tool", each=CALLING)
def calls(gateway: Gateway, name: str) -> str:
    choice = ask(gateway, name, WEATHER, _THOUGHTS, tools=[TOOL])["choices"][0]
    return judge_calls(choice["message"]["tool_calls"], choice["finish_reason"])


@check("calls a tool in a stream", each=CALLING)
def streams_calls(gateway: Gateway, name: str) -> str:
    _, events = stream(gateway, name, WEATHER, _THOUGHTS, tools=[TOOL])
    choices = [chunk["choices"][0] for chunk in _chunks(events) if chunk.get("choices")]
    finish = next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None)
    return judge_calls(joined(choice["delta"] for choice in choices), finish)


def _chunks(events: Iterable[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.data != "[DONE]"]


@check("gives its model back when a client leaves", each=CHATS)
def gives_back(gateway: Gateway, name: str) -> str:
    def held() -> int:
        return sum(model["leases"] for model in gateway.vram()["models"].values())

    before = held()
    body = {"model": name, "messages": COUNT, "max_tokens": 1024, "temperature": 0, "stream": True}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        expect(answer.status_code == 200, f"refused with {answer.status_code}")
        parts = answer.iter_raw()  # whose end would close the connection
        expect(next(parts, b""), "the stream ends before it begins")
        if held() <= before:
            raise Skipped("its answer was over before its client could leave")
    left_s = time.monotonic()
    while held() > before:
        expect(time.monotonic() - left_s < _GONE_S, f"it is still held {_GONE_S:g} s after its client left")
        time.sleep(0.05)
    return f"after {time.monotonic() - left_s:.1f} s"


CHECKS = (answers, usage, streams, thinks, sees, calls, streams_calls, gives_back)
