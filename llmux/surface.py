"""Which of LiteLLM's many routes can be reached: those that llmux is for, and those that the configuration opens."""

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from llmux.errors import NotFound

ROUTES = (
    "/health",
    "/metrics",
    "/vram",
    "/vram/load",
    "/vram/unload",
    "/vram/pin",
    "/admin/test/performance",
    "/v1/models",
    "/v1/models/*",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/audio/speech",
    "/v1/audio/voices",
    "/v1/audio/models",
)

_READ_QUERY = "/v1/audio/transcriptions"


def is_open(path: str, routes: Iterable[str]) -> bool:
    """Whether a path is one of these routes, or below one that ends in /*."""
    return any(path == route or (route.endswith("/*") and path.startswith(route[:-1])) for route in routes)


def without_model(query: bytes) -> bytes:
    """A query string without its model.

    LiteLLM would serve the query's model, after it has checked whether key, user and team may use the body's.
    """
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([(name, value) for name, value in given if name.lower() != "model"]).encode()


class Surface:
    """ASGI: answers 404 for every closed route, before anything of LiteLLM's sees the request.

    A request for an answer names its model in its body, and nowhere else; but for recordings, some clients say all in
    the query string. hooks/form.py reads it, and LiteLLM does not.
    """

    def __init__(self, app: ASGIApp, *, opened: Iterable[str] = ()) -> None:
        self._app = app
        self._routes = (*ROUTES, *opened)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or (scope["type"] == "http" and not is_open(scope["path"], self._routes)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            raise NotFound("there is no such route; see GET /v1/models for what is served")
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] != _READ_QUERY:
            scope = {**scope, "query_string": without_model(scope["query_string"])}
        await self._app(scope, receive, send)
