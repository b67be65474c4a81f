import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmux.errors import RequestTimedOut, RequestTooLarge
from llmux.intake import Intake

SCOPE: Scope = {"type": "http", "headers": []}
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


class Client:
    """A connection whose messages the test sends."""

    def __init__(self, *messages: Message) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.outgoing: list[Message] = []
        for message in messages:
            self.incoming.put_nowait(message)

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Message) -> None:
        self.outgoing.append(message)

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})


WHOLE: Message = {"type": "http.request", "body": b"{}", "more_body": False}


async def test_a_client_that_leaves_cancels_whatever_its_request_waits_for() -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = Client(WHOLE)
    request = asyncio.create_task(Intake(app, body_bytes=100)(SCOPE, client.receive, client.send))
    await waiting.wait()
    client.leave()
    await request
    assert ended.is_set()


async def test_the_end_of_an_answer_is_no_departure() -> None:
    finished = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        client.leave()  # what a server reports once the response is complete
        await send({"type": "http.response.body", "body": b"done"})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        finished.set()

    client = Client(WHOLE)
    await Intake(app, body_bytes=100)(SCOPE, client.receive, client.send)
    assert finished.is_set()


async def test_an_application_that_asks_is_told_too() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.body", "body": b""})
        client.leave()
        seen.append((await receive())["type"])

    client = Client(WHOLE)
    await Intake(app, body_bytes=100)(SCOPE, client.receive, client.send)
    assert seen == ["http.disconnect"]


@pytest.mark.parametrize(("headers", "bodies"), [([(b"content-length", b"101")], []), ([], [b"x" * 60, b"x" * 60])])
async def test_a_body_beyond_the_limit_is_refused_announced_or_not(
    headers: list[tuple[bytes, bytes]], bodies: list[bytes]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    client = Client(*({"type": "http.request", "body": body, "more_body": True} for body in bodies))
    with pytest.raises(RequestTooLarge):
        await Intake(app, body_bytes=100)({"type": "http", "headers": headers}, client.receive, client.send)


async def test_a_body_that_stops_coming_is_given_up() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    client = Client({"type": "http.request", "body": b"{", "more_body": True})
    with pytest.raises(RequestTimedOut, match="did not go on"):
        await Intake(app, body_bytes=100, silence_s=0)(SCOPE, client.receive, client.send)


async def test_a_server_that_stops_cancels_the_request() -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = Client(WHOLE)
    request = asyncio.create_task(Intake(app, body_bytes=100)(SCOPE, client.receive, client.send))
    await waiting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await ended.wait()


async def body_of(*messages: Message, content_type: bytes = b"application/json") -> bytes:
    """What the application gets of a body."""
    got = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal got
        while True:
            message = await receive()
            got += message["body"]
            if not message["more_body"]:
                return

    client = Client(*messages)
    scope: Scope = {"type": "http", "headers": [(b"content-type", content_type)]}
    await Intake(app, body_bytes=100)(scope, client.receive, client.send)
    return got


def body(*parts: bytes) -> list[Message]:
    return [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]


@pytest.mark.parametrize("parts", [(b"[]",), (b" 5",), (b'"text"',), (b"null",), (b"[1,", b" {}]")])
async def test_json_that_is_no_object_has_no_fields(parts: tuple[bytes, ...]) -> None:
    assert await body_of(*body(*parts)) == b""


@pytest.mark.parametrize("parts", [(b"{}",), (b'\n{"a":', b" [1]}"), (b"",), (b"{",)])
async def test_an_object_passes_as_it_is(parts: tuple[bytes, ...]) -> None:
    assert await body_of(*body(*parts)) == b"".join(parts)


@pytest.mark.parametrize("content_type", [b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"])
async def test_so_does_a_form(content_type: bytes) -> None:
    assert await body_of(*body(b"--x", b"--"), content_type=content_type) == b"--x--"
