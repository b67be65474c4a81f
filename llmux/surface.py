"""Which of LiteLLM's many routes can be reached: those that llmux is for, and those that the configuration opens."""

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from llmux.errors import NotFound

ROUTES = (
    "/health",
    "/metrics",
    "/vram",
    "/vram/load",
    "/vram/unload",
    "/vram/pin",
    "/v1/models",
    "/v1/models/*",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
)

ADMINISTRATION = (
    "/ui",
    "/ui/*",
    "/key/*",
    "/v2/login",
)
"""What the admin UI and `llmux keys` need, where a database keeps what they do. LiteLLM asks for its admin's key."""


def is_open(path: str, routes: Iterable[str]) -> bool:
    """Whether a path is one of these routes, or below one that ends in /*."""
    return any(path == route or (route.endswith("/*") and path.startswith(route[:-1])) for route in routes)


class Surface:
    """ASGI: answers 404 for every closed route, before anything of LiteLLM's sees the request."""

    def __init__(self, app: ASGIApp, *, opened: Iterable[str] = ()) -> None:
        self._app = app
        self._routes = (*ROUTES, *opened)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or (scope["type"] == "http" and not is_open(scope["path"], self._routes)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            raise NotFound("there is no such route; see GET /v1/models for what is served")
        await self._app(scope, receive, send)
