"""A key's parallel requests (`max_parallel_requests`) are those that have not been answered yet.

LiteLLM frees a request's slot where it logs the request, which is after the client has read its answer, and for sound
that was left or is still being spoken not at all. So it is freed here, just before the last bytes go out.
"""

from collections.abc import Awaitable, Callable

from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.hooks.parallel_request_limiter_v3 import get_or_create_request_stash
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOBODY = UserAPIKeyAuth()
"""Asked for, and not looked at."""


async def free() -> None:
    """Give back what the current request took, if it still has it."""
    from litellm.proxy import proxy_server  # its limiter is made as it starts

    await proxy_server.proxy_logging_obj.arelease_max_parallel_requests_on_disconnect(_NOBODY)


class Slot:
    """ASGI: gives back what a request took of its key's parallel requests."""

    def __init__(self, app: ASGIApp, *, free: Callable[[], Awaitable[None]] = free) -> None:
        self._app = app
        self._free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await self._free()
            await send(message)

        get_or_create_request_stash()  # LiteLLM's tasks of this request write into it, and it is read here
        try:
            await self._app(scope, receive, send_on)
        finally:
            await self._free()
