"""How a request comes in: no larger than allowed, without a long silence, and only for as long as its client is there.

Starlette tells an application that its client went away only when the application asks. Here somebody always asks:
once the body has arrived, the connection is watched, and when the client leaves, the request's task is cancelled,
whatever it is waiting for.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmux.errors import RequestTimedOut, RequestTooLarge
from llmux.request import errors_noted

SILENCE_S = 60.0
"""Longest wait for the next part of a body."""


class Intake:
    """ASGI: limits the body, and cancels the request of a client that left.

    body_bytes: largest body
    silence_s: longest wait for the next part of one
    """

    def __init__(self, app: ASGIApp, *, body_bytes: int, silence_s: float = SILENCE_S) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = _Connection(receive, send, self._body_bytes, self._silence_s, is_form=_is_form(scope))
        connection.count(next((int(v) for k, v in scope["headers"] if k == b"content-length" and v.isdigit()), 0))
        work = asyncio.ensure_future(self._app(scope, connection.receive, connection.send))
        connection.cancels(work)
        try:
            await work
        except asyncio.CancelledError:
            work.cancel()  # no effect where the departure did it; needed where the server is stopping
            if not connection.departed:
                raise
        finally:
            connection.close()


class _Connection:
    """One request's two directions."""

    def __init__(self, receive: Receive, send: Send, body_bytes: int, silence_s: float, *, is_form: bool) -> None:
        self._is_form = is_form
        self._silence_s = silence_s
        self._receive = receive
        self._send = send
        self._limit = body_bytes
        self._arrived = 0
        self._has_fields = True
        self._answered = False
        self._watch: asyncio.Task[Message] | None = None
        self._work: asyncio.Future[None] | None = None
        self.departed = False

    def cancels(self, work: asyncio.Future[None]) -> None:
        """What to cancel when the client leaves before it was answered."""
        self._work = work

    def count(self, size: int) -> None:
        """Raises RequestTooLarge once more has come than allowed."""
        if size > self._limit:
            with errors_noted():
                raise RequestTooLarge(f"a request may bring at most {self._limit / 1e6:.0f} MB")

    async def receive(self) -> Message:
        if self._watch is not None:
            return await asyncio.shield(self._watch)
        message = await self._next()
        if message["type"] == "http.request":
            body = message.get("body", b"")
            if not self._arrived and not self._is_form:
                self._has_fields = body.strip()[:1] in (b"{", b"")
            self._arrived += len(body)
            self.count(self._arrived)
            if not self._has_fields:  # JSON that is no object: LiteLLM would stumble over it before it looks at the key
                message = {**message, "body": b""}
            if not message.get("more_body"):
                self._watch = asyncio.ensure_future(self._receive())
                self._watch.add_done_callback(self._left)
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._receive()
        except TimeoutError:
            with errors_noted():
                raise RequestTimedOut(f"the request's body did not go on for {self._silence_s:.0f} s") from None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._answered = True  # before sending: the server reports the end of the response as a disconnect
        await self._send(message)

    def _left(self, watch: asyncio.Task[Message]) -> None:
        if self._work is not None and not self._answered and not watch.cancelled():
            self.departed = True
            self._work.cancel()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


def _is_form(scope: Scope) -> bool:
    content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return bool(content_type.lower().startswith((b"multipart/", b"application/x-www-form-urlencoded")))
