"""A layer before a gateway that does one thing wrong, as a proxy or another version of the gateway might."""

import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.gateway import MASTER_KEY, Gateway

_OF_ONE_CONNECTION = ("accept-encoding", "connection", "content-length", "date", "host", "server", "transfer-encoding")


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def is_for(self, path: str, word: str = "") -> bool:
        """Whether it is for this route, and says this."""
        return self.path == path and word.encode() in self.body


class Upstream:
    """The gateway behind the layer."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = httpx.AsyncClient(base_url=gateway.url, headers={"Accept-Encoding": "identity"}, timeout=300)
        self._heard: dict[bytes, Response] = {}

    async def forward(self, asked: Asked) -> Response:
        """The answer as it comes. What was heard in a recording is remembered until models are moved."""
        if asked.path.startswith("/vram/"):
            self._heard.clear()
        if asked.path != "/v1/audio/transcriptions":
            return await self._forward(asked)
        boundary = asked.headers["content-type"].partition("boundary=")[2]
        form = re.sub(re.escape(boundary).encode() or b"$", b"", asked.body)
        if form not in self._heard:
            self._heard[form] = await self.whole(asked)
        return self._heard[form]

    async def whole(self, asked: Asked) -> Response:
        """The answer, once it is all there."""
        answer = await self._client.request(
            asked.method, asked.path, headers=_passed_on(asked.headers), content=asked.body
        )
        return Response(answer.content, answer.status_code, _passed_on(answer.headers))

    async def unload(self, model: str) -> None:
        await self._client.post(
            "/vram/unload", json={"model": model}, headers={"Authorization": f"Bearer {MASTER_KEY}"}
        )

    async def _forward(self, asked: Asked) -> Response:
        request = self._client.build_request(
            asked.method, asked.path, headers=_passed_on(asked.headers), content=asked.body
        )
        answer = await self._client.send(request, stream=True)

        async def body() -> AsyncIterator[bytes]:
            try:
                async for part in answer.aiter_raw():
                    yield part
            finally:
                await answer.aclose()

        return StreamingResponse(body(), answer.status_code, _passed_on(answer.headers))

    async def close(self) -> None:
        await self._client.aclose()


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION}


Fault = Callable[[Asked, Upstream], Awaitable[Response | None]]
"""What the layer does in place of forwarding; None: it forwards."""


async def no_fault(asked: Asked, upstream: Upstream) -> None:
    return None


class Layer:
    """Listens once this is made. fault: what it does wrong, to be changed at any time"""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.fault: Fault = no_fault
        self._gateway = gateway
        config = uvicorn.Config(self._app, "127.0.0.1", port, log_config=None, interface="asgi3", lifespan="on")
        self._server = uvicorn.Server(config)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._upstream = Upstream(self._gateway)
            await send({"type": "lifespan.startup.complete"})
            self._ready.set()
            await receive()
            await self._upstream.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        request = Request(scope, receive)
        asked = Asked(request.method, request.url.path, dict(request.headers), await request.body())
        response: Any = await self.fault(asked, self._upstream) or await self._upstream.forward(asked)
        await response(scope, receive, send)
