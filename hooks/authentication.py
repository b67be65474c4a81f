"""Who is asking: the master key, or a named key with the models that it may use."""

import hmac
import logging
from collections.abc import Awaitable, Callable

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

from llmux.errors import Unauthenticated, Unavailable
from llmux.keys import KeyFile
from llmux.request import errors_noted

log = logging.getLogger("llmux")

Authenticate = Callable[[Request, str | None], Awaitable[UserAPIKeyAuth]]


def authentication(master_key: str, keys: KeyFile) -> Authenticate:
    """LiteLLM's `custom_auth`: takes the request and its bearer token; raises Unauthenticated."""

    async def authenticate(request: Request, api_key: str | None) -> UserAPIKeyAuth:
        token = (api_key or "").removeprefix("Bearer ").strip()
        with errors_noted():
            if not token:
                raise Unauthenticated("no API key; send the header Authorization: Bearer <key>")
            if hmac.compare_digest(token.encode(), master_key.encode()):
                return UserAPIKeyAuth(api_key=token, key_alias="master", user_role=LitellmUserRoles.PROXY_ADMIN)
            try:
                named = keys.find(token)
            except ValueError as error:
                log.error("named keys are refused: %s", error)
                raise Unavailable("the gateway cannot read its keys; its log says why") from None
            if named is None:
                raise Unauthenticated("this API key is not known; `python -m llmux keys create NAME` makes one")
            return UserAPIKeyAuth(
                api_key=token,
                key_alias=named.name,
                models=list(named.models),
                user_role=LitellmUserRoles.INTERNAL_USER,
            )

    return authenticate
