"""HTTP over real sockets: what is too much or no HTTP is refused in OpenAI's words, and nothing is kept of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from llmux.protocol import HEAD_BYTES, HttpProtocol

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The body and how many headers there were; for /slow the beginning of an answer that goes on with the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-count", b"%d" % len(scope["headers"]))]})
    if scope["path"] == "/slow":
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (message := await receive())["type"] == "http.request":
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
        if not message["more_body"]:
            return


@asynccontextmanager
async def connected() -> AsyncIterator[Streams]:
    config = uvicorn.Config(echo, log_config=None, http=HttpProtocol, lifespan="off")
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: HttpProtocol(config, state, {}), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            for connection in list(state.connections):
                connection.shutdown()
            if state.tasks:
                await asyncio.wait(state.tasks)


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Its head, and what comes until the connection is closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head, await reader.read()


def refusal(head: bytes, body: bytes) -> tuple[int, dict[str, Any]]:
    assert b"content-type: application/json\r\n" in head
    assert b"content-length: %d\r\n" % len(body) in head
    return int(head.split()[1]), json.loads(body)["error"]


REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


async def test_a_request_is_answered() -> None:
    async with connected() as (reader, writer):
        writer.write(REQUEST + b"Content-Length: 2\r\n\r\nHi")
        head, body = await answer(reader)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-count: 3" in head
    assert b"Hi" in body


async def test_a_large_body_is_no_head_however_it_comes() -> None:
    text = b"x" * (4 * HEAD_BYTES)
    async with connected() as (reader, writer):
        writer.write(REQUEST + b"Content-Length: %d\r\n\r\n" % len(text) + text)
        _, whole = await answer(reader)
    async with connected() as (reader, writer):
        writer.write(REQUEST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(4):
            writer.write(b"%x\r\n" % HEAD_BYTES + b"x" * HEAD_BYTES + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        _, parts = await answer(reader)
    assert whole.count(b"x") == parts.count(b"x") == len(text)


ENDLESS = {
    "a path": (b"GET /", b"a"),
    "a header's name": (b"GET / HTTP/1.1\r\n", b"a"),
    "a header": (b"GET / HTTP/1.1\r\nHost: ", b"a"),
    "headers": (b"GET / HTTP/1.1\r\n", b"a: b\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_head_without_end_is_refused(what: str) -> None:
    beginning, more = ENDLESS[what]
    async with connected() as (reader, writer):
        writer.write(beginning + more * ((HEAD_BYTES - len(beginning)) // len(more)))
        await writer.drain()
        writer.write(more * 4)
        status, error = refusal(*await answer(reader))
    assert (status, error["code"]) == (431, "headers_too_large")
    assert "64 KB" in error["message"]


async def test_so_is_a_body_without_end_that_says_nothing() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        await reader.readuntil(b"begun")
        writer.write(b"a: b\r\n" * (HEAD_BYTES // 6 + 1))
        assert b"error" not in await reader.read()


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(sent: bytes) -> None:
    async with connected() as (reader, writer):
        writer.write(sent)
        status, error = refusal(*await answer(reader))
    assert (status, error["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: -2\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ],
)
async def test_a_body_that_may_end_in_two_places_is_refused(framing: bytes) -> None:
    """Or a proxy in front could take the rest for a request of somebody else's."""
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\nHi")
        head, _ = await answer(reader)
    assert head.startswith(b"HTTP/1.1 400 ")


async def test_no_refusal_is_written_into_an_answer_under_way() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reader.readuntil(b"begun")
        writer.write(b"no length\r\n")
        assert b"error" not in await reader.read()
