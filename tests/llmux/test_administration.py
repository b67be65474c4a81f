from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

from llmux.administration import ADMINISTRATION, PAGES, Administration, require_administrator
from llmux.answer import Answer
from llmux.errors import AdminKeyNeeded
from llmux.surface import ROUTES, is_open

ADMIN = UserAPIKeyAuth(user_role=LitellmUserRoles.PROXY_ADMIN)


class Keys:
    """Whose key a request has: `owner`, or else a refusal of LiteLLM's with this status."""

    def __init__(self) -> None:
        self.owner: UserAPIKeyAuth | None = ADMIN
        self.status = 401
        self.said = "Authentication Error, no."
        self.type = "auth_error"

    async def of(self, request: Request) -> UserAPIKeyAuth:
        if self.owner is None:
            raise ProxyException(self.said, self.type, None, self.status)
        return self.owner


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
async def http(keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()

    @app.get("/{path:path}")
    async def anything(path: str) -> str:
        return "LiteLLM answers"

    transport = httpx.ASGITransport(Answer(Administration(app, keys.of)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def status_and_code(http: httpx.AsyncClient, path: str) -> tuple[int, Any]:
    answer = await http.get(path)
    return answer.status_code, answer.json()["error"]["code"] if answer.is_error else None


@pytest.mark.parametrize("path", ["/key/list", "/key/generate", "/v2/model/info", "/spend/logs/ui/a-request"])
async def test_administration_is_for_administrators(http: httpx.AsyncClient, keys: Keys, path: str) -> None:
    assert await status_and_code(http, path) == (200, None)
    keys.owner = UserAPIKeyAuth(user_role=LitellmUserRoles.INTERNAL_USER)
    assert await status_and_code(http, path) == (403, "admin_key_needed")
    keys.owner = UserAPIKeyAuth()
    assert await status_and_code(http, path) == (403, "admin_key_needed")
    keys.owner = None
    assert (await http.get(path)).status_code == 401


@pytest.mark.parametrize(("status", "told"), [(401, 401), (403, 403), (500, 503)])
async def test_a_key_that_litellm_refuses_is_refused(
    http: httpx.AsyncClient, keys: Keys, status: int, told: int
) -> None:
    keys.owner, keys.status = None, status
    answer = await http.get("/key/list")
    assert answer.status_code == told
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in answer.headers) is (told == 503)


@pytest.mark.parametrize(
    ("kind", "said", "code"),
    [
        ("token_not_found_in_db", "Authentication Error, Received API Key = sk-...body", "invalid_api_key"),
        ("auth_error", "Authentication Error, Key is blocked. Received API Key = sk-...body", "api_key_blocked"),
    ],
)
async def test_why_a_key_is_refused_is_told_as_on_every_other_route(
    http: httpx.AsyncClient, keys: Keys, kind: str, said: str, code: str
) -> None:
    keys.owner, keys.type, keys.said = None, kind, said
    answer = await http.get("/key/list")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert "Received API Key" not in answer.text


@pytest.mark.parametrize("path", ["/ui/", "/v2/login", "/v1/models", "/health"])
async def test_of_everything_else_no_administrators_key_is_asked(
    http: httpx.AsyncClient, keys: Keys, path: str
) -> None:
    keys.owner = None
    assert (await http.get(path)).status_code == 200


def test_a_key_for_clients_is_no_administrators_whoever_owns_it() -> None:
    require_administrator(ADMIN)
    for_clients = UserAPIKeyAuth(user_role=LitellmUserRoles.PROXY_ADMIN, allowed_routes=["llm_api_routes"])
    with pytest.raises(AdminKeyNeeded):
        require_administrator(for_clients)


async def test_a_page_may_ask_this_gateway_alone_and_stand_in_no_frame(http: httpx.AsyncClient) -> None:
    policy = (await http.get("/ui/api-keys/")).headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize(
    ("path", "keep"),
    [
        ("/ui/", "no-cache"),
        ("/litellm-asset-prefix/_next/static/chunks/1edfvwc5.js", "public, max-age=31536000, immutable"),
        ("/v2/login", "no-store"),
        ("/key/generate", "no-store"),
    ],
)
async def test_a_browser_keeps_what_cannot_change_and_nothing_that_is_secret(
    http: httpx.AsyncClient, path: str, keep: str
) -> None:
    assert (await http.get(path)).headers["cache-control"] == keep


async def test_the_routes_of_clients_are_as_they_were(http: httpx.AsyncClient) -> None:
    headers = (await http.get("/v1/models")).headers
    assert "cache-control" not in headers
    assert "content-security-policy" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/config/update",
        "/credentials",
        "/model/new",
        "/team/new",
        "/user/new",
        "/user/update",
        "/key/regenerate",
        "/key/list/x",
        "/get/ui_settings",
        "/update/ui_settings",
        "/login",
        "/sso/key/generate",
        "/public/litellm_blog_posts",
        "/get/latest_release_info",
        "/health/license",
        "/health/readiness/details",
    ],
)
def test_what_the_ui_lives_without_is_closed(path: str) -> None:
    assert not is_open(path, (*ROUTES, *PAGES, *ADMINISTRATION))
