"""What a client may not decide never reaches LiteLLM."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from hooks.overrides import OVERRIDES, Overrides, readable, refuse_overrides
from llmux.errors import InvalidRequest
from llmux.request import begin, current

CHAT = {"model": "Chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("name", sorted(OVERRIDES))
def test_a_client_may_not_decide_where_its_request_goes(name: str) -> None:
    data: Mapping[str, Any] = {"model": "Chat", name: "anything"}
    with pytest.raises(InvalidRequest, match=name):
        refuse_overrides(data)


@pytest.mark.parametrize(
    "name", ["no-log", "cache_hit", "call_type", "litellm_params", "input_cost_per_token", "rpm", "model_info", "self"]
)
def test_nor_what_it_costs_or_whether_it_is_logged(name: str) -> None:
    body, problem = readable(json.dumps({**CHAT, name: True}).encode())
    assert json.loads(body) == CHAT
    assert problem is not None
    assert problem.param == name


@pytest.mark.parametrize("name", ["metadata", "vector_store_request_metadata", "num_ctx", "litellm_call_id "])
def test_what_no_local_model_reads_is_left_out_in_silence(name: str) -> None:
    body, problem = readable(json.dumps({**CHAT, name: {"a": "b"}}).encode())
    assert (json.loads(body), problem) == (CHAT, None)


def test_another_providers_model_is_given_what_only_that_provider_may_know() -> None:
    sent = json.dumps({**CHAT, "guided_json": {}, "metadata": {"a": "b"}}).encode()
    body, problem = readable(sent, ["Chat"])
    assert (json.loads(body), problem) == ({**CHAT, "guided_json": {}}, None)
    assert readable(b'{"model": ["Chat"], "guided_json": {}}', {"Chat"}) == (b'{"model": ["Chat"]}', None)


@pytest.mark.parametrize("more", [{}, {"user": "u", "chat_template_kwargs": {}, "top_k": 3, "stream": True, "seed": 1}])
def test_what_clients_send_passes_as_it_came(more: Mapping[str, Any]) -> None:
    sent = json.dumps({**CHAT, **more}, indent=3).encode()
    assert readable(sent) == (sent, None)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"no JSON",
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_object_is_an_empty_one_with_a_reason(sent: bytes) -> None:
    body, problem = readable(sent)
    assert body == b"{}"
    assert "the body" in str(problem)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1" * 400])
def test_what_only_one_of_litellms_parsers_reads_is_read_here(number: str) -> None:
    body, problem = readable(f'{{"n": {number}, "no-log": true}}'.encode())
    assert b"no-log" not in body
    assert problem is not None


def test_a_name_that_is_written_otherwise_is_the_same_name() -> None:
    body, problem = readable(b'{"no\\u002dlog": true, "model": "Chat"}')
    assert json.loads(body) == {"model": "Chat"}
    assert problem is not None


async def read(path: str, sent: Sequence[bytes], content_type: bytes = b"application/json") -> tuple[bytes, str]:
    """What LiteLLM reads of a body that came in these pieces: the body, and its content type."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        seen.append((body, dict(scope["headers"])[b"content-type"].decode()))

    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": index < len(sent) - 1} for index, piece in enumerate(sent)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-type", content_type)]}
    await Overrides(app)(scope, receive, send)
    return seen[0]


async def test_a_body_in_pieces_is_judged_whole_and_its_problem_noted() -> None:
    begin()
    body, _ = await read("/v1/chat/completions", [b'{"model": "Chat", "no-', b'log": true}'])
    assert json.loads(body) == {"model": "Chat"}
    assert current().problem is not None


@pytest.mark.parametrize("content_type", [b"multipart/form-data; boundary=x", b"text/plain", b"multipart/mixed"])
async def test_what_asks_for_an_answer_is_json_whatever_it_is_called(content_type: bytes) -> None:
    begin()
    assert await read("/v1/messages", [b'{"no-log": true}'], content_type) == (b"{}", "application/json")


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/files"])
async def test_a_form_passes_as_it_came(path: str) -> None:
    sent = [b"--x\r\n", b"no-log"]
    form = b"multipart/form-data; boundary=x"
    assert await read(path, sent, form) == (b"".join(sent), form.decode())


async def test_so_does_what_an_administrator_sends() -> None:
    sent = [b'{"max_budget": 5, "rpm_limit": 1}']
    assert await read("/key/generate", sent) == (sent[0], "application/json")


async def test_a_client_that_leaves_is_seen_to_leave() -> None:
    begin()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/responses", "headers": []}
    await Overrides(app)(scope, receive, send)
