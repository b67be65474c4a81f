"""LiteLLM's administration from outside: the admin UI's pages for every browser, what they ask for to administrators.

Found by recording what LiteLLM's UI requests for keys, usage, logs and models. What it asks for beside that (news of
LiteLLM, other products of its makers, settings that would overrule litellm_config.yaml) stays closed, and it lives
with that.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmux.answer import presentable
from llmux.errors import AdminKeyNeeded, LlmuxError, PermissionDenied, Unauthenticated, Unavailable
from llmux.litellm_errors import meaning
from llmux.request import errors_noted
from llmux.surface import is_open

PAGES = (
    "/ui",
    "/ui/*",
    "/litellm-asset-prefix/_next/*",
    "/litellm/.well-known/litellm-ui-config",
    "/get_favicon",
    "/get_image",
    "/v2/login",
)
"""What a browser needs before somebody has logged in: the same files for everybody, and the login."""

ADMINISTRATION = (
    "/session/logout",
    "/sso/get/ui_settings",
    "/v2/user/info",
    "/models",
    "/v2/model/info",
    "/v2/team/list",
    "/key/aliases",
    "/key/block",
    "/key/delete",
    "/key/generate",
    "/key/list",
    "/key/unblock",
    "/key/update",
    "/spend/logs/ui",
    "/spend/logs/ui/*",
    "/user/daily/activity/aggregated",
    "/user/daily/activity/aggregated/*",
)
"""What the UI and `llmux keys` ask for."""

SELF_SERVICE = ("/key/info",)
"""What every key may ask about itself. About another one, the route itself asks for an administrator (routes.py)."""

_CONTENT_HASHED = ("/litellm-asset-prefix/_next/static/*",)
"""Files whose names change with their content."""

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",  # each of the UI's pages begins with scripts of its own
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""A page of the UI talks to this gateway and to nobody else, whatever is in it."""


def require_administrator(key: UserAPIKeyAuth) -> None:
    """Raises AdminKeyNeeded for every key but the master key and that of somebody who logged in to the admin UI.

    A key that an administrator made in the UI has the administrator's role. Its kind, which the UI chooses to be
    "AI APIs", limits its routes: such a key is a client's.
    """
    if key.user_role != LitellmUserRoles.PROXY_ADMIN or key.allowed_routes:
        raise AdminKeyNeeded("this takes the master key; `llmux keys master` shows it")


class Administration:
    """ASGI: lets administrators alone pass to ADMINISTRATION, and tells browsers how to treat PAGES.

    LiteLLM asks once more, by rules of its own, which give some of this to any key or to none.

    key_of: whose key a request has; raises LiteLLM's ProxyException for one without a good key
    """

    def __init__(self, app: ASGIApp, key_of: Callable[[Request], Awaitable[UserAPIKeyAuth]]) -> None:
        self._app = app
        self._key_of = key_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if is_open(path, ADMINISTRATION):
                with errors_noted():
                    require_administrator(await self._key(Request(scope)))
                send = _with_headers(send, {"cache-control": "no-store"})
            elif is_open(path, PAGES):
                send = _with_headers(send, page_headers(path))
        await self._app(scope, receive, send)

    async def _key(self, request: Request) -> UserAPIKeyAuth:
        try:
            return await self._key_of(request)
        except ProxyException as error:
            raise _refused(error) from None


def page_headers(path: str) -> dict[str, str]:
    """What a browser is told about one of PAGES."""
    if is_open(path, _CONTENT_HASHED):
        keep = "public, max-age=31536000, immutable"
    else:
        keep = "no-store" if path == "/v2/login" else "no-cache"  # no-cache: may be kept, but is asked after
    return {"cache-control": keep, "content-security-policy": _POLICY, "referrer-policy": "same-origin"}


def _refused(error: ProxyException) -> LlmuxError:
    if (known := meaning(error.code, error.type, error.message)) is not None:
        return known
    kinds = {"401": Unauthenticated, "403": PermissionDenied}
    if (kind := kinds.get(str(error.code))) is not None:
        return kind(presentable(error.message))
    return Unavailable("the gateway cannot look up keys at the moment; try again shortly", retry_after_s=5)


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
