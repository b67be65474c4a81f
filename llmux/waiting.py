"""A stream that waits for its model says so.

At first nothing is sent, so that a refusal still has its status. Then the gateway begins the answer by itself and
sends comments: clients skip them, people who look see them, and no proxy on the way takes the connection for dead.
LiteLLM's answer then flows on in the same stream. An error has no status any more by then, so it is a frame.

For /v1/responses and /v1/messages LiteLLM begins an answer before its model says a word. That beginning is held back
until the model does, so that what goes wrong before keeps its status there, too.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmux import request
from llmux.answer import error_body
from llmux.frame import last_frames
from vram.snapshot import Wait

SILENCE_S = 5.0
"""How long a request waits before its answer begins."""

COMMENT_S = 3.0
"""How often it is told where it stands, from then on."""

_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ],
}


def comment(wait: Wait | None) -> bytes:
    """Where a request stands, as a comment of server-sent events. None: its model serves it, but has said nothing."""
    if wait is None:
        return b": the model is at work\n\n"
    said = ["waiting", f"position {wait.position}"]
    if wait.waiting_for == "eviction":
        said.append("making room")
    elif wait.waiting_for == "load":
        said.append("loading" if wait.load_percent is None else f"loading {wait.load_percent} %")
    if wait.expected_s is not None:
        said.append(f"about {max(1, round(wait.expected_s))} s")
    return f": {', '.join(said)}\n\n".encode()


class Waiting:
    """ASGI: begins the answer of a stream whose model is not ready. All other answers pass as they come.

    sleep: waits for that many seconds
    """

    def __init__(self, app: ASGIApp, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._app = app
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._sleep)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            answer.close()


class _Answer:
    """One answer: begun by LiteLLM, or here when that takes long."""

    def __init__(self, send: Send, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._send = send
        self._sleep = sleep
        self._request = request.current()
        self._at_end: list[Callable[[], None]] = []
        self._request.on_lease = self._asked
        self._request.on_end = self._at_end.append
        self._comments: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        """Held while a comment is sent, which LiteLLM's answer must not interrupt."""
        self._begun = False
        self._held: list[Message] = []
        """What LiteLLM sent while the model was silent."""
        self._failed: int | None = None
        self._body = b""
        self._over = False

    def close(self) -> None:
        """The request is over, and so is all that it asked for: of a stream whose client left before the first word,
        LiteLLM forgets the task that waits for that word.
        """
        self._hush()
        for call in self._at_end:
            call()

    def _hush(self) -> None:
        if self._comments is not None:
            self._comments.cancel()

    def _asked(self, wait: Callable[[], Wait | None], give_back: Callable[[], None]) -> None:
        self._at_end.append(give_back)
        if self._request.streams and self._comments is None:
            self._comments = asyncio.create_task(self._comment(wait), name="comments of a waiting stream")

    async def _comment(self, wait: Callable[[], Wait | None]) -> None:
        await self._sleep(SILENCE_S)
        if wait() is None:
            return
        async with self._turn:
            await self._send(_START)
            self._begun = True
        while True:
            async with self._turn:
                await self._send({"type": "http.response.body", "body": comment(wait()), "more_body": True})
            await self._sleep(COMMENT_S)

    async def send(self, message: Message) -> None:
        """What LiteLLM sends."""
        if self._over:
            return
        if self._request.silent and (self._held or message.get("status", 400) < 400):
            if (error := self._request.error) is not None:
                self._over = True
                start = self._held[0] if self._held else message
                await self._pass({**start, "status": error.status_code})
                await self._pass({"type": "http.response.body", "body": json.dumps(error.body()).encode()})
                return
            if message["type"] == "http.response.start" or message.get("more_body"):
                self._held.append(message)
                return
        held, self._held = self._held, []
        for each in held:
            await self._pass(each)
        await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            async with self._turn:
                self._hush()
            if self._begun:
                self._failed = message["status"] if message["status"] >= 400 else None
                return
        if self._failed is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            error = self._request.error
            told = error.body() if error is not None else error_body(self._failed, self._body)
            await self._send({"type": "http.response.body", "body": last_frames(told["error"])})
